//! Counts the threads of a pool, to the very end of each.

use std::cell::RefCell;

use concurrent_futures::{ThreadPoolBuilder, ThreadPoolExecutor};

use crate::support::Counter;

/// What a pool's threads have done. A thread has ended when its thread-locals have been dropped,
/// which is the last that it does; a `join` of it returns after that.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    pub(crate) begun: Counter,
    pub(crate) ended: Counter,
}

struct AtEnd(Box<dyn FnOnce()>);

thread_local! {
    static AT_END: RefCell<Vec<AtEnd>> = const { RefCell::new(Vec::new()) };
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        std::mem::replace(&mut self.0, Box::new(|| ()))();
    }
}

/// Runs `f` at the end of this thread, from the destructor of a thread-local. What was given last
/// runs first, so the count of `counted` comes at the very end.
pub(crate) fn at_thread_end(f: impl FnOnce() + 'static) {
    AT_END.with_borrow_mut(|all| all.insert(0, AtEnd(Box::new(f))));
}

/// Builds a pool whose threads are counted.
pub(crate) fn counted(builder: ThreadPoolBuilder) -> (ThreadPoolExecutor, Threads) {
    let threads = Threads::default();
    let counts = threads.clone();
    let initializer = move || {
        counts.begun.add();
        let ended = counts.ended.clone();
        at_thread_end(move || ended.add());
    };
    (builder.initializer(initializer).build().unwrap(), threads)
}

/// As `counted`, with the defaults but for the size.
pub(crate) fn counted_pool(max_workers: usize) -> (ThreadPoolExecutor, Threads) {
    counted(ThreadPoolExecutor::builder().max_workers(max_workers))
}
