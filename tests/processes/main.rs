//! What the suite of Python's `concurrent.futures` checks, as tests of the process pool, and what
//! futures and limits of process tasks do.
//!
//! A test's comment begins with the id of its behaviour in `docs/behaviours.md`: EX is what every
//! executor does, FU is one future, PP is the process pool, DL is what must not dead-lock, IN is
//! the initializer, SD is the end. What does not depend on the kind of pool runs over processes in
//! `conformance` and `lifecycle`. Where the types of Rust leave nothing to test, a comment stands
//! in the test's place.
//!
//! Where ours differs from Python's on purpose: a cancelled future is done at once; what can't be
//! encoded or decoded fails that task alone; a worker that dies fails only the task that it ran.

#![cfg(all(feature = "process", target_os = "linux"))]

mod deadlocks;
mod dump;
mod errors;
mod executor;
mod finalizer;
mod future;
mod init;
mod limits;
mod map_context;
mod mixed;
mod order;
#[path = "../lifecycle/program.rs"]
mod program;
mod program_end;
mod reading;
mod retire;
mod shutdown;
mod stop_tokens;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod workers;

use std::future::Future;

use concurrent_futures::ProcessPoolExecutor;

use support::{POOL_SIZES, on_runtimes, within_limit};

/// Runs a test over the pool with one worker and with several.
fn over_pools(check: impl Fn(&ProcessPoolExecutor) + Send + 'static) {
    within_limit(move || {
        for max_workers in POOL_SIZES {
            let pool = tools::pool(max_workers);
            check(&pool);
            tools::end(&pool);
        }
    });
}

/// As [`over_pools`], for an async test on both kinds of runtime.
fn over_pools_async<F, Fut>(check: F)
where
    F: Fn(ProcessPoolExecutor) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    on_runtimes(move || {
        let check = check.clone();
        async move {
            for max_workers in POOL_SIZES {
                let pool = tools::pool(max_workers);
                check(pool.clone()).await;
                tools::ended(&pool).await;
            }
        }
    });
}
