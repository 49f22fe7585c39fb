//! Wakers of futures that wait for the same event.

use crate::panic::KeptWaker;

/// The place of one future among those who wait; `None`: it does not wait.
pub(crate) type Place = Option<(u64, usize)>;

/// Waiters for one event: one waker for each future, that of its last poll. O(1) for each.
///
/// Behind a lock; wakers that leave are user code, and are woken or dropped once it is released.
#[derive(Default)]
pub(crate) struct Waiters {
    /// The number of a future, which is not used again, and its waker.
    wakers: Vec<Option<(u64, KeptWaker)>>,
    free: Vec<usize>,
    next: u64,
}

impl Waiters {
    /// Leaves the waker in the future's place; the answer is the one that was there.
    pub(crate) fn leave(&mut self, place: &mut Place, waker: KeptWaker) -> Option<KeptWaker> {
        let before = self.take(*place);
        let index = match before {
            Some((index, _)) => index,
            None => self.free.pop().unwrap_or_else(|| {
                self.wakers.push(None);
                self.wakers.len() - 1
            }),
        };
        self.next += 1;
        *place = Some((self.next, index));
        self.wakers[index] = Some((self.next, waker));
        before.map(|(_, waker)| waker)
    }

    /// The future waits no longer.
    pub(crate) fn give_up(&mut self, place: Place) -> Option<KeptWaker> {
        let (index, waker) = self.take(place)?;
        self.free.push(index);
        if self.free.len() == self.wakers.len() {
            // The memory goes back as well: a crowd may have waited.
            (self.wakers, self.free) = (Vec::new(), Vec::new());
        }
        Some(waker)
    }

    /// Takes all of them, at the event, in the order of their last polls.
    pub(crate) fn take_all(&mut self) -> Vec<KeptWaker> {
        self.free = Vec::new();
        let wakers = std::mem::take(&mut self.wakers);
        let mut wakers: Vec<_> = wakers.into_iter().flatten().collect();
        wakers.sort_unstable_by_key(|(number, _)| *number);
        wakers.into_iter().map(|(_, waker)| waker).collect()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wakers.iter().flatten().count()
    }

    /// Empties the place, unless its waker has been taken before.
    fn take(&mut self, place: Place) -> Option<(usize, KeptWaker)> {
        let (number, index) = place?;
        let (_, waker) = self.wakers.get_mut(index)?.take_if(|(there, _)| *there == number)?;
        Some((index, waker))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn waker() -> KeptWaker {
        KeptWaker::new(Waker::noop())
    }

    #[test]
    fn a_place_is_of_one_future() {
        let mut waiters = Waiters::default();
        let (mut one, mut other) = (None, None);
        assert!(waiters.leave(&mut one, waker()).is_none());
        assert!(waiters.leave(&mut one, waker()).is_some(), "of the poll before");
        assert_eq!(waiters.take_all().len(), 1);
        assert!(waiters.leave(&mut other, waker()).is_none());
        assert!(waiters.give_up(one).is_none(), "the place is another's by now");
        assert!(waiters.leave(&mut one, waker()).is_none());
        assert_eq!(waiters.take_all().len(), 2);
    }

    #[test]
    fn those_that_are_gone_leave_nothing_behind() {
        let mut waiters = Waiters::default();
        let mut kept = None;
        waiters.leave(&mut kept, waker());
        for _ in 0..100 {
            let mut places = [None; 3];
            places.iter_mut().for_each(|place| drop(waiters.leave(place, waker())));
            places.into_iter().for_each(|place| drop(waiters.give_up(place)));
        }
        assert_eq!(waiters.wakers.len(), 4);
        waiters.give_up(kept);
        assert_eq!((waiters.wakers.capacity(), waiters.free.capacity()), (0, 0));
    }
}
