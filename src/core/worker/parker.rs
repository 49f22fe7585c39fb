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

/// Polls until ready or until `deadline`, then once more, and parks this thread in between. On a worker the
/// place is lent out meanwhile, and dumps show what is `awaited`.
pub(crate) fn block_on<R>(
    awaited: impl Fn() -> Awaited,
    deadline: Option<Instant>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
) -> Option<R> {
    let parker = SPARE.try_with(RefCell::take).ok().flatten().unwrap_or_else(|| {
        Arc::new(Parker { thread: std::thread::current(), woken: AtomicBool::new(false) })
    });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let answer = loop {
        parker.woken.store(false, Release);
        if let Poll::Ready(value) = poll(&mut cx) {
            break Some(value);
        }
        context::about_to_block(&awaited);
        // `park` may also return for another reason than a wake-up, so the flag decides.
        while !parker.woken.load(Acquire) {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            match left.into_iter().chain(context::seek_spare()).min() {
                None => std::thread::park(),
                Some(limit) => std::thread::park_timeout(limit),
            }
        }
        if !parker.woken.load(Acquire) {
            break match poll(&mut cx) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            };
        }
    };
    context::resumed();
    let _ = SPARE.try_with(|spare| spare.replace(Some(parker)));
    answer
}
