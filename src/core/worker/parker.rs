//! Waiting for a future by blocking the thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use super::context;
use super::waits::Awaited;

struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Release) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    /// The parker of a wait that is over, for the next one: most threads that wait, wait often.
    static SPARE: RefCell<Option<Arc<Parker>>> = const { RefCell::new(None) };
}

/// Polls until ready or until `deadline`, then once more, and parks this thread in between. On a
/// worker the place is lent out meanwhile, and dumps show what is `awaited`.
#[cfg_attr(debug_assertions, track_caller)]
pub(crate) fn block_on<R>(
    awaited: impl Fn() -> Awaited,
    deadline: Option<Instant>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
) -> Option<R> {
    // A wait within a poll finds no spare and makes its own. A waker of an earlier wait may still
    // set the flag: that costs one poll.
    let parker = SPARE.try_with(RefCell::take).ok().flatten().unwrap_or_else(|| {
        Arc::new(Parker { thread: std::thread::current(), woken: AtomicBool::new(false) })
    });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let answer = loop {
        // A plain store loses no wake: a poll that stays pending takes a lock, or swaps a word,
        // that the waking thread takes or swaps before its wake.
        parker.woken.store(false, Release);
        if let Poll::Ready(value) = poll(&mut cx) {
            break Some(value);
        }
        #[cfg(all(feature = "tokio", debug_assertions))]
        super::runtime_poll::report();
        context::about_to_block(&awaited);
        // `park` may also return for another reason than a wake-up, so the flag decides.
        while !parker.woken.load(Acquire) {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            // At each turn, since a thread may be refused, or granted, while this one is parked.
            match left.into_iter().chain(context::seek_spare()).min() {
                None => std::thread::park(),
                Some(limit) => std::thread::park_timeout(limit),
            }
        }
        // The deadline has come. What is polled may have a limit at the same moment, and be ready
        // by that.
        if !parker.woken.load(Acquire) {
            break match poll(&mut cx) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            };
        }
    };
    // Not between two polls: a wake-up that was for nothing does not change who has the place.
    context::resumed();
    let _ = SPARE.try_with(|spare| spare.replace(Some(parker)));
    answer
}
