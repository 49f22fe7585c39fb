//! Unobserved failures are told to the pool's hook, once each, and no others are.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, ReturnWhen, Shutdown, TaskFuture, ThreadPoolBuilder, ThreadPoolExecutor, as_completed,
    wait,
};
use futures::executor::block_on;

use crate::support::{Gate, POOL_SIZES, within_limit};
use crate::tools::{eventually, occupy_all, soon};

/// What the hook was told: the number of the task, its label, the error's text.
type Told = (String, Option<String>, String);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Told>>>);

impl Log {
    fn builder(&self, workers: usize) -> ThreadPoolBuilder {
        let log = self.clone();
        ThreadPoolExecutor::builder().max_workers(workers).name("told").on_unobserved_failure(
            move |failure| {
                assert_eq!(failure.pool, "told");
                let (id, label) = (failure.id.to_string(), failure.label.map(str::to_owned));
                log.0.lock().unwrap().push((id, label, format!("{:?}", failure.error)));
            },
        )
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The only one since the last look.
    #[track_caller]
    fn only(&self) -> Told {
        let mut told = self.take();
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    }
}

/// All that was submitted before has ended, with its hooks.
fn settle(pool: &ThreadPoolExecutor) {
    pool.shutdown_blocking(Shutdown::Drain).unwrap();
}

fn fail() {
    panic!("no such file");
}

#[test]
fn a_detached_failure_is_told_on_the_worker() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let log = Log::default();
            let pool = log.builder(workers).build().unwrap();
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let future = pool.task().label("thumb").submit(fail);
            let id = future.id().to_string();
            future.detach();
            pool.submit(|| ()).detach();
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());
            settle(&pool);
            let (told, label, error) = log.only();
            assert_eq!((told, label.as_deref()), (id, Some("thumb")));
            assert!(error.ends_with(": no such file"), "{error}");
        }
    });
}

#[test]
fn a_failed_future_that_is_dropped_is_told_where_that_happens() {
    within_limit(|| {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let pool = ThreadPoolExecutor::builder()
            .on_unobserved_failure(move |failure| {
                tell.lock().unwrap().send((failure.id, thread::current().id())).unwrap();
            })
            .build()
            .unwrap();
        let future = pool.submit(fail);
        eventually(|| future.is_done());
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty), "it may still be looked at");
        let id = future.id();
        drop(future);
        assert_eq!(told.try_recv(), Ok((id, thread::current().id())));
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
    });
}

#[test]
fn a_failure_that_is_seen_is_kept_from_the_hook() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let log = Log::default();
            let pool = log.builder(workers).build().unwrap();
            assert!(soon(pool.submit(fail)).is_err());
            assert!(block_on(pool.submit(fail)).is_err());
            // A callback, before and after the end.
            let (seen, sees) = mpsc::channel();
            for early in [true, false] {
                let future = pool.submit(fail);
                if !early {
                    eventually(|| future.is_done());
                }
                let seen = seen.clone();
                future.add_done_callback(move |result| seen.send(result.is_err()).unwrap());
                drop(future);
                assert_eq!(sees.recv(), Ok(true));
            }
            // What a set has handed over.
            let parts = wait([pool.submit(fail)], ReturnWhen::AllCompleted).result();
            drop(parts);
            let mut done = as_completed([pool.submit(fail)]);
            assert!(block_on(done.next()).is_some_and(|(_, result)| result.is_err()));
            settle(&pool);
            assert_eq!(log.take(), []);
        }
    });
}

#[test]
fn what_a_set_has_not_handed_over_is_told() {
    within_limit(|| {
        let log = Log::default();
        let pool = log.builder(1).build().unwrap();
        let (end, never) = TaskFuture::promise();
        let failed = pool.submit(fail);
        eventually(|| failed.is_done());
        drop(as_completed([failed]));
        assert_eq!(log.take().len(), 1);
        let failed = pool.submit(fail);
        eventually(|| failed.is_done());
        drop(wait([never, failed], ReturnWhen::AllCompleted));
        assert_eq!(log.take().len(), 1);
        end.complete(Ok(()));
    });
}

#[test]
fn what_is_withdrawn_has_not_failed() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let log = Log::default();
            let pool = log.builder(workers).build().unwrap();
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            drop(pool.submit(fail));
            assert!(pool.submit(fail).cancel());
            let late = pool.task().queue_timeout(Duration::ZERO).submit(fail);
            late.detach();
            pool.submit(fail).detach(); // cancelled by the shutdown
            pool.submit_future(std::future::pending::<()>()).detach();
            let map = pool.map(|_| fail(), 0..3).start();
            let end = pool.shutdown(Shutdown::CancelQueued);
            drop(map);
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());
            block_on(end);
            assert_eq!(log.take(), []);
        }
    });
}

#[test]
fn a_time_limit_that_passes_unseen_is_told_once() {
    within_limit(|| {
        for detached_first in [true, false] {
            let log = Log::default();
            let pool = log.builder(1).build().unwrap();
            let gate = Gate::new();
            let wait = gate.clone();
            let job = move || {
                wait.wait();
                panic!("later than anybody cares");
            };
            let future: TaskFuture<()> = pool.task().timeout(Duration::ZERO).submit(job);
            if detached_first {
                future.detach();
                eventually(|| !log.0.lock().unwrap().is_empty());
            } else {
                eventually(|| future.is_done());
                assert_eq!(log.take(), []);
                drop(future);
            }
            let (_, _, error) = log.only();
            assert!(error.contains("while the task was running"), "{error}");
            gate.open();
            settle(&pool);
            assert_eq!(log.take(), [], "the panic comes too late to be a failure");
        }
    });
}

#[test]
fn an_unobserved_refusal_is_told() {
    within_limit(|| {
        let log = Log::default();
        let pool = log.builder(1).queue_capacity(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        let queued = pool.submit(|| ());
        pool.task().label("shed").submit(|| ()).detach();
        let (_, label, error) = log.only();
        assert_eq!(label.as_deref(), Some("shed"));
        assert!(error.contains("the queue is full"), "{error}");
        drop(pool.submit_future(async {}));
        assert_eq!(log.take().len(), 1);
        assert!(soon(pool.submit(|| ())).is_err()); // seen
        drop(pool.try_submit(|| ())); // has its own answer
        assert_eq!(log.take(), []);
        gate.open();
        held.into_iter().for_each(|future| soon(future).unwrap());
        soon(queued).unwrap();
        settle(&pool);
        pool.submit(|| ()).detach();
        assert!(log.only().2.contains("the executor is shut down"));
    });
}

#[test]
fn tasks_of_a_pool_that_breaks_are_told() {
    within_limit(|| {
        let log = Log::default();
        let gate = Gate::new();
        let wait = gate.clone();
        let pool = log
            .builder(1)
            .initializer(move || {
                wait.wait();
                Err::<(), _>("no licence")
            })
            .build()
            .unwrap();
        pool.submit(|| ()).detach();
        pool.submit_future(async {}).detach();
        // Its drivers are nobody's tasks.
        let map = pool.map(|n| n, 0..3).start();
        gate.open();
        assert!(matches!(map.result(), Err(Error::BrokenPool(_))));
        settle(&pool);
        let told = log.take();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|(_, _, error)| error.contains("no licence")));
    });
}

#[test]
fn an_async_body_that_panics_is_told() {
    within_limit(|| {
        let log = Log::default();
        let pool = log.builder(1).build().unwrap();
        let (end, future) = TaskFuture::<()>::promise();
        let task = pool.task().label("stream").submit_future(async move {
            let _ = future.await;
            fail();
        });
        eventually(|| task.is_running());
        task.detach();
        end.complete(Ok(()));
        settle(&pool);
        assert_eq!(log.only().1.as_deref(), Some("stream"));
    });
}

#[test]
fn a_hook_that_panics_or_submits_harms_nothing() {
    within_limit(|| {
        let handle = Arc::new(Mutex::new(None::<ThreadPoolExecutor>));
        let (own, seen) = (Arc::clone(&handle), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&seen);
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .on_unobserved_failure(move |_| {
                let pool = own.lock().unwrap().clone().unwrap();
                let mut count = count.lock().unwrap();
                *count += 1;
                if *count < 10 {
                    pool.submit(fail).detach();
                }
                assert!(pool.dump().max_workers == 1, "no lock is held");
                drop(count);
                panic!("the hook itself");
            })
            .build()
            .unwrap();
        *handle.lock().unwrap() = Some(pool.clone());
        pool.submit(fail).detach();
        eventually(|| *seen.lock().unwrap() == 10);
        assert_eq!(soon(pool.submit(|| 6 * 7)).unwrap(), 42);
        assert_eq!(pool.metrics().failed, 10);
        handle.lock().unwrap().take();
    });
}

#[test]
fn without_a_hook_nothing_is_told() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        pool.submit(fail).detach();
        assert_eq!(soon(pool.submit(|| 6 * 7)).unwrap(), 42);
        settle(&pool);
        pool.submit(fail).detach();
    });
}
