//! Those who watch a task from beside its future: handles that wait for its end, and tokens that wait for a
//! stop request. They lie with the callbacks, so that a task that nobody watches has no place for them.

use std::sync::Arc;

use super::cell::TaskRef;
use super::listener::Listener;
use super::outcome::tell;
use super::stop_flag::StopFlag;

/// The watchers of a task, its future's listener among them. Behind the lock of its callbacks.
pub(super) struct Watchers {
    pub(super) listener: Listener,
    /// The stop request, once a token was made.
    stop: Option<Arc<StopFlag>>,
}

impl Watchers {
    pub(super) fn new(listener: Listener) -> Self {
        Self { listener, stop: None }
    }
}

impl TaskRef {
    /// Calls `f` with the task's watchers, under their lock.
    fn watchers<R>(&self, f: impl FnOnce(&mut Watchers) -> R) -> R {
        let mut f = Some(f);
        let mut answer = None;
        let left = self.with_watchers(&mut |watchers| {
            answer = f.take().map(|f| f(watchers));
            // Left by a publisher that set `DONE` while the slot was taken for the watchers.
            let is_done = self.header().state.look().is_done();
            if is_done {
                std::mem::replace(&mut watchers.listener, Listener::None)
            } else {
                Listener::None
            }
        });
        if let Some(kind) = self.header().state.look().kind() {
            tell(left, kind);
        }
        match answer {
            Some(answer) => answer,
            None => unreachable!("`with_watchers` calls it once"),
        }
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
