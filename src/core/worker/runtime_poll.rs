//! Reports of waits that block a runtime of tokio: in debug builds, on stderr, once for each line of code.

use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::task::coop;

use crate::panic::quietly;

/// tokio counts a budget in a `u8`.
const MORE_THAN_A_BUDGET: usize = 256;

/// Reports the caller, if this thread, which it is about to block, polls for a runtime.
#[track_caller]
pub(crate) fn report() {
    static REPORTED: Mutex<BTreeSet<Location<'static>>> = Mutex::new(BTreeSet::new());
    let here = *Location::caller();
    if is_in_poll() && REPORTED.lock().unwrap_or_else(PoisonError::into_inner).insert(here) {
        // stderr may be gone.
        quietly(|| {
            eprintln!(
                "concurrent-futures: {here} blocks a thread while tokio polls a future on it, which holds up other tasks; \
                 use `.await`, or block inside of `spawn_blocking`"
            );
        });
    }
}

/// Returns whether a runtime of tokio polls a future on this thread.
///
/// Each poll has a budget; there is none outside, and none in `spawn_blocking`, `block_in_place` and `unconstrained`.
/// A budget is known by its end: this uses it up, and then restores it.
fn is_in_poll() -> bool {
    if Handle::try_current().is_err() {
        return false;
    }
    let mut cx = Context::from_waker(Waker::noop());
    // Restores the budget when it is dropped.
    let mut restores = None;
    for _ in 0..MORE_THAN_A_BUDGET {
        // Looked at first: a poll that finds none would leave the waker with the runtime.
        if !coop::has_budget_remaining() {
            return true;
        }
        match coop::poll_proceed(&mut cx) {
            Poll::Ready(taken) if restores.is_none() => restores = Some(taken),
            Poll::Ready(taken) => taken.made_progress(),
            Poll::Pending => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Handle};
    use tokio::task::{LocalSet, block_in_place, coop, spawn_blocking, spawn_local, yield_now};

    use super::is_in_poll;

    /// Looked at twice, since a look leaves no trace.
    fn is_blocked() -> bool {
        let answers = [is_in_poll(), is_in_poll()];
        assert_eq!(answers[0], answers[1]);
        answers[0]
    }

    async fn check() {
        assert!(is_blocked());
        let spawned = tokio::spawn(async {
            let first = is_blocked();
            yield_now().await;
            first && is_blocked()
        });
        assert!(spawned.await.unwrap());
        assert!(!spawn_blocking(is_blocked).await.unwrap());
        assert!(!coop::unconstrained(async { is_blocked() }).await);
        let nested = spawn_blocking(|| Handle::current().block_on(async { is_blocked() }));
        assert!(nested.await.unwrap());
        let handle = Handle::current();
        let entered = std::thread::spawn(move || {
            let _entered = handle.enter(); // as for a job
            is_blocked()
        });
        assert!(!entered.join().unwrap());
        let local = LocalSet::new();
        assert!(
            local.run_until(async { spawn_local(async { is_blocked() }).await.unwrap() }).await
        );
        assert_eq!(budget_after(0).await, budget_after(3).await);
    }

    /// Returns the rest of a poll's budget after `looks` looks.
    async fn budget_after(looks: usize) -> usize {
        let spawned = tokio::spawn(async move {
            coop::consume_budget().await;
            for _ in 0..looks {
                assert!(is_blocked());
            }
            let mut left = 0;
            while coop::has_budget_remaining() {
                coop::consume_budget().await;
                left += 1;
            }
            assert!(is_blocked() && !coop::has_budget_remaining());
            left
        });
        spawned.await.unwrap()
    }

    #[test]
    fn a_poll_is_known_from_what_else_a_runtime_runs() {
        assert!(!is_blocked());
        let current = Builder::new_current_thread().build().unwrap();
        current.block_on(check());
        let multi = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        multi.block_on(check());
        let on_worker = multi.block_on(multi.spawn(async {
            let outside = block_in_place(is_blocked);
            (outside, is_blocked())
        }));
        assert_eq!(on_worker.unwrap(), (false, true));
    }
}
