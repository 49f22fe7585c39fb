//! What the suite of Python's `concurrent.futures` checks, as tests of the process pool: sections 1,
//! 3, 4, 8 and 9 of the conformance list, and what futures and limits of process tasks do.
//!
//! A test is named after the id of the behaviour: `ex_` is what every executor does, `pp_` is the
//! process pool, `dl_` is what must not dead-lock, `in_` is the initializer, `sd_` is the end. What
//! does not depend on the kind of pool runs over processes in `conformance` and `lifecycle`. Where
//! the types of Rust leave nothing to test, a comment stands in the test's place.
//!
//! Where ours differs from Python's on purpose: a cancelled future is done at once; what can't be
//! encoded or decoded fails that task alone; a worker that dies fails only the task that it ran.

#![cfg(all(feature = "process", target_os = "linux"))]

mod dl;
mod dump;
mod ex;
mod fu;
mod init;
mod limits;
mod mixed;
mod order;
mod pp;
#[path = "../lifecycle/program.rs"]
mod program;
mod program_end;
mod reading;
mod sd;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
mod tools;

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
