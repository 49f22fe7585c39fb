//! Those who watch a task from beside its future: handles that wait for its end, and tokens that wait for a
//! stop request. They lie with the callbacks, so that a task without any has no place for them.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::cell::TaskRef;
use super::listener::{Listener, Watchers};
use super::outcome::{callbacks_in, tell};
use super::stop_flag::StopFlag;
use super::waiters::Place;
use crate::panic::KeptWaker;

impl TaskRef {
    /// Calls `f` with the task's watchers, under their lock.
    fn watchers<R>(&self, f: impl FnOnce(&mut Watchers) -> R) -> R {
        let state = &self.header().state;
        let (answer, left) = {
            let watchers = &mut callbacks_in(self.header()).0.lock().watchers;
            let answer = f(watchers);
            // Left by a publisher that set `DONE` while the slot was taken for the watchers.
            let is_done = state.look().is_done();
            let listener =
                is_done.then(|| std::mem::replace(&mut watchers.listener, Listener::None));
            (answer, listener)
        };
        if let (Some(listener), Some(kind)) = (left, state.look().kind()) {
            tell(listener, kind);
        }
        answer
    }

    /// Ready once the task is done; until then the waker is left. O(1).
    pub(crate) fn poll_done(&self, place: &mut Place, waker: &Waker) -> Poll<()> {
        let is_done = || self.header().state.look().is_done();
        if is_done() {
            return Poll::Ready(());
        }
        let waker = KeptWaker::new(waker);
        let (polled, unused) = self.watchers(|watchers| {
            // Under the lock, under which the publisher takes the waiters.
            if is_done() {
                (Poll::Ready(()), Some(waker))
            } else {
                (Poll::Pending, watchers.waiters.leave(place, waker))
            }
        });
        drop(unused);
        polled
    }

    /// The future with this place waits no longer for the end.
    pub(crate) fn give_up_done(&self, place: Place) {
        let waker = self.watchers(|watchers| watchers.waiters.give_up(place));
        drop(waker);
    }

    /// Returns the stop request of the task, as tokens see it.
    pub(crate) fn stop_flag(&self) -> Arc<StopFlag> {
        self.watchers(|watchers| {
            let flag = Arc::clone(watchers.stop.get_or_insert_default());
            // A request that came before the watchers were there has told nobody.
            if self.header().state.look().is_stop_requested() {
                flag.raise();
            }
            flag
        })
    }

    /// Tells the tokens of a stop request, which has been made.
    #[cold]
    pub(super) fn tell_of_stop(&self) {
        let flag = self.watchers(|watchers| watchers.stop.clone());
        if let Some(flag) = flag {
            flag.set();
        }
    }
}
