//! The pool of the whole program. Each test is a program of its own, since each has one such pool.

#[path = "lifecycle/program.rs"]
mod program;

use concurrent_futures::{Error, ExecutorState, Shutdown, ThreadPoolExecutor};
use futures::executor::block_on;

/// Runs `main` as a program.
fn alone(name: &str, main: impl FnOnce()) {
    if let Some(ended) = program::run(name, 0, main) {
        ended.well();
    }
}

#[test]
fn the_global_pool_is_made_once_with_one_worker_per_cpu() {
    alone("the_global_pool_is_made_once_with_one_worker_per_cpu", || {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| std::ptr::from_ref(ThreadPoolExecutor::global()) as usize)
            })
            .collect();
        let pool = ThreadPoolExecutor::global();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), std::ptr::from_ref(pool) as usize);
        }
        assert_eq!(pool.max_workers(), num_cpus::get());
        assert_eq!(pool.dump().pool, "global");
        assert_eq!(pool.submit(|| 6 * 7).result().unwrap(), 42);
        match ThreadPoolExecutor::builder().build_global() {
            Err(error @ Error::InvalidSetting { setting: "build_global", .. }) => {
                assert!(error.to_string().contains("before the first use"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_program_may_say_how_its_global_pool_is() {
    alone("a_program_may_say_how_its_global_pool_is", || {
        let builder = || ThreadPoolExecutor::builder().max_workers(3).name("own");
        assert!(builder().max_workers(0).build_global().is_err()); // which leaves it open
        let pool = builder().build_global().unwrap();
        assert!(std::ptr::eq(pool, ThreadPoolExecutor::global()));
        assert_eq!((pool.max_workers(), &*pool.dump().pool), (3, "own"));
        assert!(builder().build_global().is_err());
    });
}

#[test]
fn a_shutdown_leaves_the_global_pool_open_and_says_so() {
    alone("a_shutdown_leaves_the_global_pool_open_and_says_so", || {
        let pool = ThreadPoolExecutor::global();
        let reports = [
            pool.shutdown_blocking(Shutdown::CancelQueued).unwrap(),
            block_on(pool.shutdown(Shutdown::Drain)),
            pool.submit(|| {
                let global = ThreadPoolExecutor::global();
                global.shutdown_blocking(Shutdown::Drain).unwrap()
            })
            .result()
            .unwrap(),
        ];
        assert!(reports.iter().all(|report| !report.ended), "{reports:?}");
        drop(pool.clone());
        assert!(matches!(pool.state(), ExecutorState::Open));
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);

        let other = ThreadPoolExecutor::new();
        assert!(other.shutdown_blocking(Shutdown::Drain).unwrap().ended);
    });
}

#[test]
#[cfg(feature = "tokio")]
fn jobs_of_the_global_pool_see_the_runtime_of_their_submitter_and_not_of_whoever_was_first() {
    let name =
        "jobs_of_the_global_pool_see_the_runtime_of_their_submitter_and_not_of_whoever_was_first";
    alone(name, || {
        let seen = || tokio::runtime::Handle::try_current().ok().map(|handle| handle.id());
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let in_it = runtime.block_on(async { ThreadPoolExecutor::global().submit(seen).await });
            assert_eq!(in_it.unwrap(), Some(runtime.handle().id()));
        }
        assert_eq!(ThreadPoolExecutor::global().submit(seen).result().unwrap(), None);
    });
}
