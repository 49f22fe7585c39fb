//! A run of slots in a `Vec`'s memory, which can be cut into parts and put together again: the workers write
//! their results where they are to be in the end, and read the items of a `Vec` where they are. The only
//! `unsafe` code of maps. In the consumer's process.
//!
//! 1. A segment is the sole owner of its slots `start..limit`: no other segment of the same
//!    memory has one of them. `cut` gives some away, `append` may take over those of a neighbour.
//! 2. Of these, `start..end` hold values, and the others none. What reads or drops a value moves
//!    `start` or `end` first, so no value is met twice, also after a panic.
//! 3. The memory is a `Vec` that never has a value of its own: its length is 0 as long as
//!    segments share it. Nobody reads or writes through it; the last segment frees it.
//! 4. `base` is what `as_mut_ptr` gave before the `Vec` was shared, and the `Vec` does not grow.

#![allow(unsafe_code)]

use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::panic::drop_quietly;

pub(super) struct Segment<T> {
    memory: Arc<Vec<T>>,
    base: NonNull<T>,
    start: usize,
    end: usize,
    limit: usize,
}

// SAFETY: by rule 1 a segment is the sole owner of its values, and by rule 3 the shared `Vec` has
// none; so sending a segment sends its values, as sending a `Vec` does.
unsafe impl<T: Send> Send for Segment<T> {}

// SAFETY: what can be done through a shared reference is to ask for lengths.
unsafe impl<T: Sync> Sync for Segment<T> {}

impl<T> Segment<T> {
    pub(super) fn empty() -> Self {
        Self::from(Vec::new())
    }

    pub(super) fn with_capacity(slots: usize) -> Self {
        Self::from(Vec::with_capacity(slots)).first(slots)
    }

    /// Makes a segment without values; `None` if there is not so much memory.
    pub(super) fn try_with_capacity(slots: usize) -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(slots).ok()?;
        Some(Self::from(memory).first(slots))
    }

    /// Limits the segment to `slots`, without those that the allocator gave on top.
    fn first(mut self, slots: usize) -> Self {
        self.limit = self.limit.min(slots);
        self
    }

    /// Returns the number of values.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Returns the number of values that there could be.
    pub(super) fn slots(&self) -> usize {
        self.limit - self.start
    }

    /// Takes the first `slots` slots, with the values in them; all, if there are no more.
    pub(super) fn cut(&mut self, slots: usize) -> Self {
        let at = self.start + slots.min(self.slots());
        let front = Self {
            memory: Arc::clone(&self.memory),
            base: self.base,
            start: self.start,
            end: self.end.min(at),
            limit: at,
        };
        self.start = at;
        self.end = self.end.max(at);
        front
    }

    /// Pushes all of `values`, for which there is room. If they panic, those before stay.
    ///
    /// # Panics
    ///
    /// If there are more values than slots.
    #[inline]
    pub(super) fn fill(&mut self, values: impl Iterator<Item = T>) {
        /// The end in a place of its own, which the compiler can keep in a register.
        struct Filling<'a> {
            end: &'a mut usize,
            now: usize,
        }
        impl Drop for Filling<'_> {
            fn drop(&mut self) {
                *self.end = self.now;
            }
        }
        let (base, limit) = (self.base, self.limit);
        let mut filling = Filling { now: self.end, end: &mut self.end };
        for value in values {
            assert!(filling.now < limit, "a segment does not grow by itself");
            // SAFETY: the slot is this segment's and has no value (rules 1 and 2).
            unsafe { base.add(filling.now).write(value) };
            filling.now += 1;
        }
    }

    /// Moves all values of `other` behind those of this segment. They stay where they are if
    /// that is right behind.
    pub(super) fn append(&mut self, other: &mut Self) {
        // Without free slots in between, which would part the values.
        let is_neighbour = Arc::ptr_eq(&self.memory, &other.memory)
            && self.end == other.start
            && self.limit == other.start;
        if is_neighbour {
            self.end = other.end;
            self.limit = other.limit;
            other.start = other.limit;
            other.end = other.limit;
            return;
        }
        let count = other.len();
        if count > self.limit - self.end {
            let mut all = mem::replace(self, Self::empty()).into_vec();
            all.reserve(count);
            *self = Self::from(all);
        }
        let from = mem::replace(&mut other.start, other.end);
        // SAFETY: the values are in `other`'s slots and no longer its own, and there are as many
        // slots of this segment without values (rules 1 and 2), so the two do not overlap.
        unsafe {
            let to = self.base.add(self.end);
            ptr::copy_nonoverlapping(other.base.add(from).as_ptr(), to.as_ptr(), count);
        }
        self.end += count;
    }

    /// The values as a `Vec`; without moving them, if this is the only segment in its memory and
    /// they are at its beginning.
    pub(super) fn into_vec(mut self) -> Vec<T> {
        // Any other segment of the memory, also an empty one, makes this a copy.
        if let (0, Some(memory)) = (self.start, Arc::get_mut(&mut self.memory)) {
            let mut values = mem::take(memory);
            let count = mem::take(&mut self.end);
            // SAFETY: the first `count` slots have values (rule 2), and nobody else has this
            // memory any more: this segment has given up its values, and there is no other.
            unsafe { values.set_len(count) };
            return values;
        }
        let mut values = Self::with_capacity(self.len());
        values.append(&mut self);
        values.into_vec()
    }
}

impl<T> From<Vec<T>> for Segment<T> {
    fn from(mut values: Vec<T>) -> Self {
        let (end, limit) = (values.len(), values.capacity());
        // SAFETY: the first 0 values are there. The segment owns the others from now on.
        unsafe { values.set_len(0) };
        // SAFETY: a `Vec`'s pointer is never null.
        let base = unsafe { NonNull::new_unchecked(values.as_mut_ptr()) };
        Self { memory: Arc::new(values), base, start: 0, end, limit }
    }
}

impl<T> Iterator for Segment<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let at = self.start;
        self.start += 1;
        // SAFETY: the slot has a value, which is not this segment's any more (rule 2).
        Some(unsafe { self.base.add(at).read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

/// The values are the user's. Each is dropped by itself: two that panic would abort the process
/// otherwise.
impl<T> Drop for Segment<T> {
    fn drop(&mut self) {
        if mem::needs_drop::<T>() {
            self.for_each(drop_quietly);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    impl<T> Segment<T> {
        fn push(&mut self, value: T) {
            self.fill(std::iter::once(value));
        }
    }

    fn filled<T>(slots: usize, values: impl IntoIterator<Item = T>) -> Segment<T> {
        let mut segment = Segment::with_capacity(slots);
        values.into_iter().for_each(|value| segment.push(value));
        segment
    }

    #[test]
    fn parts_that_are_filled_are_one_again_without_moving() {
        let mut rest = Segment::with_capacity(10);
        let base = rest.base;
        let mut parts: Vec<_> = [3, 0, 4, 2, 1].map(|slots| rest.cut(slots)).into();
        assert_eq!((rest.slots(), rest.len()), (0, 0));
        drop(rest);
        for (n, part) in parts.iter_mut().enumerate().rev() {
            while part.len() < part.slots() {
                part.push(format!("{n}"));
            }
        }
        let mut all = parts.remove(0);
        for mut part in parts {
            all.append(&mut part);
            assert_eq!((part.slots(), part.len()), (0, 0));
        }
        let all = all.into_vec();
        assert_eq!(all.concat(), "0002222334");
        assert_eq!(all.as_ptr(), base.as_ptr().cast_const());
    }

    #[test]
    fn what_is_no_neighbour_is_moved() {
        let mut all = filled(3, [Box::new(0)]);
        all.append(&mut filled(2, [1, 2].map(Box::new))); // fits
        all.append(&mut filled(2, [3, 4].map(Box::new))); // does not
        let mut halves = filled(4, [5, 6].map(Box::new));
        let mut half = halves.cut(2);
        half.next();
        all.append(&mut half);
        all.append(&mut halves); // empty
        // Behind an empty slot there is no neighbour.
        let mut behind = Segment::with_capacity(4);
        let mut before = behind.cut(2);
        before.push(Box::new(7));
        behind.push(Box::new(8));
        before.append(&mut behind);
        assert_eq!(before.len(), 2);
        all.append(&mut before);
        assert_eq!(all.into_vec(), [0, 1, 2, 3, 4, 6, 7, 8].map(Box::new));
    }

    #[test]
    fn a_cut_takes_slots_with_and_without_values() {
        let mut rest = filled(6, 0..4);
        let mut front = rest.cut(3);
        assert_eq!((front.slots(), front.len(), rest.slots(), rest.len()), (3, 3, 3, 1));
        assert_eq!(front.by_ref().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(front.next(), None);
        let middle = rest.cut(2);
        assert_eq!((middle.slots(), middle.len(), rest.slots(), rest.len()), (2, 1, 1, 0));
        let mut none = rest.cut(0);
        rest.append(&mut none);
        assert_eq!((none.slots(), rest.slots()), (0, 1)); // still there
        assert_eq!(rest.cut(5).slots(), 1); // all there is
        assert_eq!(middle.into_vec(), [3]);
    }

    #[test]
    fn a_part_of_a_vec_becomes_a_vec() {
        let mut rest = Segment::from(vec![Rc::new(1), Rc::new(2), Rc::new(3)]);
        let front = rest.cut(1);
        assert_eq!(rest.into_vec(), [2, 3].map(Rc::new)); // not at the beginning
        assert_eq!(front.into_vec(), [Rc::new(1)]);
        let mut shared = Segment::from(vec![1, 2]);
        let front = shared.cut(1);
        assert_eq!((front.into_vec(), shared.into_vec()), (vec![1], vec![2]));
    }

    #[test]
    fn values_without_size_are_counted() {
        let mut segment = Segment::with_capacity(5);
        let mut front = segment.cut(2);
        for _ in 0..2 {
            front.push(());
        }
        segment.push(());
        front.append(&mut segment);
        assert_eq!(front.len(), 3);
        assert_eq!(front.into_vec().len(), 3);
    }

    #[test]
    #[should_panic(expected = "does not grow")]
    fn a_value_without_a_slot_is_refused() {
        let mut rest = Segment::with_capacity(2);
        let mut front = rest.cut(1);
        front.push(0);
        front.push(1); // would be a slot of the rest
    }

    #[test]
    fn more_memory_than_there_is_is_refused() {
        assert!(Segment::<u64>::try_with_capacity(usize::MAX / 8).is_none());
        assert_eq!(Segment::<u64>::try_with_capacity(3).map(|segment| segment.slots()), Some(3));
    }

    /// Counts its drops, and panics in some of them.
    struct Counted<'a>(&'a AtomicUsize, bool);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
            assert!(!self.1, "in a drop");
        }
    }

    #[test]
    fn each_value_is_dropped_once() {
        let drops = AtomicUsize::new(0);
        let counted = |panics| Counted(&drops, panics);
        let mut segment = filled(8, [false, false, true, true, false].map(counted));
        drop(segment.next());
        assert_eq!(drops.get(), 1);
        drop(segment.cut(1));
        assert_eq!(drops.get(), 2);
        drop(segment); // two panics, neither of which gets here
        assert_eq!(drops.get(), 5);
    }

    trait Get {
        fn get(&self) -> usize;
    }

    impl Get for AtomicUsize {
        fn get(&self) -> usize {
            self.load(Relaxed)
        }
    }

    /// Threads that fill, read, cut and join parts of one memory at the same time.
    #[test]
    fn threads_work_on_their_own_parts() {
        const VALUES: usize = if cfg!(miri) { 60 } else { 10_000 };
        for round in 0..if cfg!(miri) { 2 } else { 50 } {
            let drops = AtomicUsize::new(0);
            let mut values: Segment<(usize, Counted<'_>)> =
                filled(VALUES, (0..VALUES).map(|n| (n, Counted(&drops, false))));
            let mut place = Segment::with_capacity(VALUES);
            let results: Vec<_> = std::thread::scope(|scope| {
                let mut threads = Vec::new();
                while !values.is_empty() {
                    let count = 1 + (threads.len() * 7 + round) % (VALUES / 4);
                    let (mut values, mut place) = (values.cut(count), place.cut(count));
                    threads.push(scope.spawn(move || {
                        let mut filled = place.cut(0);
                        while place.slots() > 0 {
                            let mut part = place.cut(3);
                            values.by_ref().take(3).for_each(|(n, _)| part.push(Box::new(n)));
                            filled.append(&mut part);
                        }
                        filled
                    }));
                }
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            drop(place);
            let mut all = Segment::empty();
            results.into_iter().for_each(|mut part| all.append(&mut part));
            assert!(all.into_vec().into_iter().map(|n| *n).eq(0..VALUES));
            assert_eq!(drops.get(), VALUES);
        }
    }
}
