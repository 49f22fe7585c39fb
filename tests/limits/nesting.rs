//! Waiting inside of jobs: it never deadlocks the pool, never runs a stranger's task on top of a
//! waiting one, and leaves the pool at its size.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use concurrent_futures::{
    Completer, Error, ReturnWhen, TaskFuture, ThreadPoolExecutor, as_completed, wait,
};
use futures::FutureExt;
use futures::executor::{block_on, block_on_stream};

use crate::support::{Counter, Gate, POOL_SIZES, occupy, pool, scaled, within_limit};
use crate::{Random, until_quiet};

const WORKERS: [usize; 3] = [1, 2, 4];

fn pool_with_stack(max_workers: usize, stack_size: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().max_workers(max_workers).stack_size(stack_size).build().unwrap()
}

/// Waits until the pool is back at its size, idle.
fn until_at_its_size(pool: &ThreadPoolExecutor) {
    until_quiet(pool);
    while pool.metrics().workers > pool.max_workers() {
        std::thread::yield_now();
    }
    until_quiet(pool);
}

/// The pool runs at most `max_workers` jobs at a time, and as many as that.
fn assert_size_unchanged(pool: &ThreadPoolExecutor) {
    until_at_its_size(pool);
    let workers = pool.max_workers();
    let (gate, running, most) = (Gate::new(), Counter::new(), Arc::new(AtomicUsize::new(0)));
    let now = Arc::new(AtomicUsize::new(0));
    let jobs: Vec<_> = (0..4 * workers)
        .map(|_| {
            let (gate, running) = (gate.clone(), running.clone());
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            pool.submit(move || {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                running.add();
                gate.wait();
                now.fetch_sub(1, SeqCst);
            })
        })
        .collect();
    running.wait_for(workers);
    // One too many would start now: each of these jobs had its chance with the submissions.
    for _ in 0..100 {
        std::thread::yield_now();
    }
    let metrics = pool.metrics();
    assert_eq!(metrics.workers, workers, "workers beyond the pool's size: {metrics:?}");
    gate.open();
    for job in jobs {
        job.result().unwrap();
    }
    assert_eq!(most.load(SeqCst), workers);
}

/// A promise, and the other end of it kept alive.
fn never() -> (Completer<()>, TaskFuture<()>) {
    TaskFuture::promise()
}

// ---- Depth ----

fn fibonacci(pool: &ThreadPoolExecutor, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (left, right) = (pool.clone(), pool.clone());
    let a = pool.submit(move || fibonacci(&left, n - 1));
    let b = pool.submit(move || fibonacci(&right, n - 2));
    a.result().unwrap() + b.result().unwrap()
}

#[test]
fn fibonacci_with_both_halves_submitted() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let inner = pool.clone();
            let (n, value) = if cfg!(miri) { (8, 21) } else { (18, 2584) };
            assert_eq!(pool.submit(move || fibonacci(&inner, n)).result().unwrap(), value);
            assert_size_unchanged(&pool);
        }
    });
}

/// Counts the threads that are there.
#[derive(Default)]
struct Threads {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Counted(Arc<Threads>);

impl Threads {
    /// Counts this thread until it ends.
    fn enter(self: Arc<Self>) {
        thread_local! {
            static COUNTED: RefCell<Option<Counted>> = const { RefCell::new(None) };
        }
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        COUNTED.set(Some(Counted(self)));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

#[test]
fn fibonacci_takes_at_most_a_thread_for_each_level_and_worker() {
    within_limit(|| {
        for stack_size in [64 * 1024, 2 * 1024 * 1024] {
            let threads = Arc::new(Threads::default());
            let counted = Arc::clone(&threads);
            let enter = move || -> Result<(), std::convert::Infallible> {
                Arc::clone(&counted).enter();
                Ok(())
            };
            let builder = ThreadPoolExecutor::builder().max_workers(2).stack_size(stack_size);
            let pool = builder.initializer(enter).build().unwrap();
            let inner = pool.clone();
            let (n, value) = if cfg!(miri) { (8, 21) } else { (15, 610) };
            assert_eq!(pool.submit(move || fibonacci(&inner, n)).result().unwrap(), value);
            let most = threads.most.load(SeqCst);
            assert!((1..=2 * (n as usize - 1)).contains(&most), "{most} threads");
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn fibonacci_on_small_stacks() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool_with_stack(workers, 256 * 1024);
            let inner = pool.clone();
            let (n, value) = if cfg!(miri) { (8, 21) } else { (16, 987) };
            assert_eq!(pool.submit(move || fibonacci(&inner, n)).result().unwrap(), value);
            assert_size_unchanged(&pool);
        }
    });
}

fn chain(pool: &ThreadPoolExecutor, links: u64) -> u64 {
    if links == 0 {
        return 0;
    }
    let inner = pool.clone();
    1 + pool.submit(move || chain(&inner, links - 1)).result().unwrap()
}

#[test]
fn a_chain_of_10_000_tasks_does_not_overflow_the_stack() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let inner = pool.clone();
            let n = scaled(10_000) as u64;
            assert_eq!(pool.submit(move || chain(&inner, n)).result().unwrap(), n);
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn a_chain_submitted_in_advance_does_not_overflow_the_stack() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let gate = Gate::new();
            let held: Vec<_> = (0..workers).map(|_| occupy(&pool, &gate)).collect();
            // The last one is waited for first, and each waits for the one before it.
            let mut last = pool.submit(|| 0u64);
            let n = scaled(10_000);
            for _ in 0..n {
                last = pool.submit(move || last.result().unwrap() + 1);
            }
            let all = pool.submit(move || last.result());
            gate.open();
            assert_eq!(all.result().unwrap().unwrap(), n as u64);
            for job in held {
                job.result().unwrap();
            }
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn deep_nesting_on_small_stacks() {
    within_limit(|| {
        for stack_size in [128 * 1024, 256 * 1024] {
            let pool = pool_with_stack(1, stack_size);
            let inner = pool.clone();
            let n = scaled(2_000) as u64;
            assert_eq!(pool.submit(move || chain(&inner, n)).result().unwrap(), n);
            assert_size_unchanged(&pool);
        }
    });
}

// ---- The spare worker ----

#[test]
fn a_job_may_wait_for_a_promise_that_another_job_completes() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for _ in 0..scaled(50) {
                let waiters: Vec<_> = (0..workers)
                    .map(|n| {
                        let (completer, promise) = TaskFuture::promise();
                        let waiter = pool.submit(move || promise.result().unwrap());
                        (waiter, completer, n)
                    })
                    .collect();
                for (waiter, completer, n) in waiters {
                    let complete = pool.submit(move || completer.complete(Ok(n)));
                    assert_eq!(waiter.result().unwrap(), n);
                    complete.result().unwrap();
                }
            }
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn a_job_may_wait_for_a_task_that_runs_on_another_worker() {
    within_limit(|| {
        let pool = pool(2);
        let gate = Gate::new();
        let running = occupy(&pool, &gate);
        let waiter = pool.submit(move || running.result());
        // Both places are taken, one of them by a job that waits: the spare runs this.
        let opened = pool.submit(move || gate.open());
        opened.result().unwrap();
        waiter.result().unwrap().unwrap();
        assert_size_unchanged(&pool);
    });
}

#[test]
fn two_pools_may_wait_for_each_others_tasks() {
    fn bounce(here: &ThreadPoolExecutor, there: &ThreadPoolExecutor, depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let (a, b) = (there.clone(), here.clone());
        1 + there.submit(move || bounce(&a, &b, depth - 1)).result().unwrap()
    }

    within_limit(|| {
        for workers in WORKERS {
            let (first, second) = (pool(workers), pool(workers));
            let bounced: Vec<_> = (0..4)
                .map(|_| {
                    let (a, b) = (first.clone(), second.clone());
                    first.submit(move || bounce(&a, &b, 50))
                })
                .collect();
            for future in bounced {
                assert_eq!(future.result().unwrap(), 50);
            }
            assert_size_unchanged(&first);
            assert_size_unchanged(&second);
        }
    });
}

#[test]
fn result_timeout_inside_of_a_job() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let inner = pool.clone();
            let job = pool.submit(move || {
                let mut queued = inner.submit(|| 7);
                let value = queued.result_timeout(Duration::from_secs(3600)).unwrap().unwrap();
                let (completer, mut promise) = TaskFuture::promise();
                for limit in [Duration::ZERO, Duration::from_millis(1)] {
                    assert!(promise.result_timeout(limit).is_none());
                }
                completer.complete(Ok(value + 1));
                promise.result_timeout(Duration::from_secs(3600)).unwrap().unwrap()
            });
            assert_eq!(job.result().unwrap(), 8);
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn blocking_on_futures_inside_of_a_job() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let inner = pool.clone();
            let submit = move |n: usize| inner.submit(move || n);
            let job = pool.submit(move || {
                let one = block_on(submit(1)).unwrap();
                let all = (0..10).map(&submit);
                let all = block_on(wait(all, ReturnWhen::AllCompleted));
                assert_eq!((all.done.len(), all.not_done.len()), (10, 0));
                let all = wait((0..10).map(&submit), ReturnWhen::AllCompleted).result();
                assert_eq!((all.done.len(), all.not_done.len()), (10, 0));
                let first = wait((0..10).map(&submit), ReturnWhen::FirstCompleted).result();
                assert!(!first.done.is_empty());
                let mut seen: Vec<_> = block_on_stream(as_completed((0..10).map(&submit)))
                    .map(|(index, value)| {
                        assert_eq!(index, value.unwrap());
                        index
                    })
                    .collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..10).collect::<Vec<_>>());
                one
            });
            assert_eq!(job.result().unwrap(), 1);
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn a_job_that_waits_again_and_again_finds_a_worker_each_time() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            // Each wait needs a spare, which retires after it: a wait that begins while it does
            // must not count on it.
            let jobs: Vec<_> = (0..workers)
                .map(|_| {
                    let inner = pool.clone();
                    pool.submit(move || {
                        for n in 0..scaled(2_000) {
                            assert_eq!(block_on(inner.submit(move || n)).unwrap(), n);
                        }
                    })
                })
                .collect();
            for job in jobs {
                job.result().unwrap();
            }
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
#[cfg(feature = "tokio")]
fn blocking_with_the_runtimes_handle_inside_of_a_job() {
    within_limit(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let runtime = runtime.unwrap();
        for workers in WORKERS {
            let pool = ThreadPoolExecutor::builder()
                .max_workers(workers)
                .runtime(runtime.handle().clone())
                .build()
                .unwrap();
            let inner = pool.clone();
            let job = pool.submit(move || {
                tokio::runtime::Handle::current().block_on(async {
                    let a = inner.submit(|| 1).await.unwrap();
                    let b = inner.submit(|| 2).await.unwrap();
                    a + b
                })
            });
            assert_eq!(job.result().unwrap(), 3);
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn blocking_on_several_futures_of_which_one_is_ready() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for _ in 0..scaled(20) {
                let inner = pool.clone();
                let job = pool.submit(move || {
                    let (completer, ready) = TaskFuture::promise();
                    completer.complete(Ok(1));
                    let queued = inner.submit(|| 2);
                    // The ready one is polled last, the whole is still pending after that.
                    let (queued, ready) = block_on(futures::future::join(queued, ready));
                    queued.unwrap() + ready.unwrap()
                });
                assert_eq!(job.result().unwrap(), 3);
            }
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn blocking_on_many_futures_at_a_time() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for _ in 0..scaled(20) {
                let inner = pool.clone();
                let job = pool.submit(move || {
                    let all = (0..20).map(|n| inner.submit(move || n));
                    block_on(futures::future::try_join_all(all)).unwrap().into_iter().sum::<u32>()
                });
                assert_eq!(job.result().unwrap(), 190);
            }
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn a_wait_that_is_given_up_takes_the_place_back_with_the_end_of_the_job() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for _ in 0..scaled(20) {
                pool.submit(|| {
                    let (_completer, mut promise) = never();
                    assert!((&mut promise).now_or_never().is_none());
                })
                .result()
                .unwrap();
            }
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn a_poll_in_a_callback_does_not_lend_the_workers_place_for_ever() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for _ in 0..scaled(20) {
                let gate = Gate::new();
                let held = occupy(&pool, &gate);
                let (_completer, mut promise) = never();
                held.add_done_callback(move |_| {
                    assert!((&mut promise).now_or_never().is_none());
                });
                gate.open();
                held.result().unwrap();
            }
            assert_size_unchanged(&pool);
        }
    });
}

/// Each level polls something that never ends, then waits for a queued task of its own.
fn poll_and_wait(pool: &ThreadPoolExecutor, depth: u32) -> u32 {
    if depth == 0 {
        return 0;
    }
    let (_completer, mut promise) = never();
    assert!((&mut promise).now_or_never().is_none());
    let inner = pool.clone();
    1 + pool.submit(move || poll_and_wait(&inner, depth - 1)).result().unwrap()
}

#[test]
fn a_worker_counts_once_as_waiting_however_many_of_its_jobs_wait() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for _ in 0..scaled(20) {
                let inner = pool.clone();
                let job = pool.submit(move || poll_and_wait(&inner, 20));
                assert_eq!(job.result().unwrap(), 20);
            }
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn a_panic_in_a_task_run_in_place_is_that_tasks_alone() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let inner = pool.clone();
            let job = pool.submit(move || {
                let failing = inner.submit(|| -> u32 { panic!("inner") });
                assert!(matches!(failing.result(), Err(Error::Panicked(_))));
                inner.submit(|| 3).result().unwrap()
            });
            assert_eq!(job.result().unwrap(), 3);
            let inner = pool.clone();
            let unwinding = pool.submit(move || {
                let _left = inner.submit(|| 1);
                let (_completer, mut promise) = never();
                assert!((&mut promise).now_or_never().is_none());
                panic!("outer, while its place is lent out");
            });
            let outcome: Result<(), Error> = unwinding.result();
            assert!(matches!(outcome, Err(Error::Panicked(_))));
            assert_size_unchanged(&pool);
        }
    });
}

// ---- Strangers ----

thread_local! {
    /// The families of the tasks on this thread's stack.
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// What all jobs of a test share.
#[derive(Default)]
struct Families {
    strangers: AtomicUsize,
    ran_in_place: AtomicUsize,
    computing: AtomicUsize,
    most_computing: AtomicUsize,
    threads: Mutex<HashSet<std::thread::ThreadId>>,
}

impl Families {
    /// Runs `job` as a task of `family`, and looks at what is below it.
    fn run<R>(&self, family: usize, job: impl FnOnce() -> R) -> R {
        let below = STACK.with_borrow_mut(|stack| {
            let below = stack.last().copied();
            stack.push(family);
            below
        });
        match below {
            None => {}
            Some(below) if below == family => {
                self.ran_in_place.fetch_add(1, SeqCst);
            }
            Some(_) => {
                self.strangers.fetch_add(1, SeqCst);
            }
        }
        self.threads.lock().unwrap().insert(std::thread::current().id());
        let result = job();
        STACK.with_borrow_mut(Vec::pop);
        result
    }

    /// A task that waits for nothing.
    fn leaf(&self, family: usize, random: &mut Random) {
        self.run(family, || {
            // On a waiter's stack it is the waiter that computes, which may be one too many.
            let counts = STACK.with_borrow(|stack| stack.len() == 1);
            if counts {
                let now = self.computing.fetch_add(1, SeqCst) + 1;
                self.most_computing.fetch_max(now, SeqCst);
            }
            random.disturb();
            if counts {
                self.computing.fetch_sub(1, SeqCst);
            }
        });
    }
}

/// A job that waits for tasks of its family, in every way there is.
fn parent(
    pool: &ThreadPoolExecutor,
    families: &Arc<Families>,
    family: usize,
    depth: u32,
    mut random: Random,
) {
    families.run(family, || {
        for round in 0..4 {
            let spawn = |random: &mut Random| {
                let (pool, families) = (pool.clone(), Arc::clone(families));
                let mut random = Random::new(random.below(1 << 40));
                move || {
                    if depth == 0 {
                        families.leaf(family, &mut random);
                    } else {
                        parent(&pool, &families, family, depth - 1, random);
                    }
                }
            };
            let tasks: Vec<_> = (0..3).map(|_| pool.submit(spawn(&mut random))).collect();
            random.disturb();
            match (round + random.below(5)) % 5 {
                0 => tasks.into_iter().for_each(|task| task.result().unwrap()),
                1 => {
                    for mut task in tasks {
                        while task.result_timeout(Duration::from_millis(50)).is_none() {}
                    }
                }
                2 => {
                    let parts = wait(tasks, ReturnWhen::AllCompleted).result();
                    assert_eq!(parts.done.len(), 3);
                }
                3 => assert_eq!(block_on_stream(as_completed(tasks)).count(), 3),
                _ => {
                    for task in tasks {
                        block_on(task).unwrap();
                    }
                }
            }
        }
    });
}

#[test]
fn a_worker_never_runs_a_strangers_task_on_top_of_a_waiting_one() {
    within_limit(|| {
        for workers in WORKERS {
            for seed in 0..scaled(10) as u64 {
                let pool = pool(workers);
                let families = Arc::new(Families::default());
                let jobs: Vec<_> = (0..8)
                    .map(|family| {
                        let (inner, families) = (pool.clone(), Arc::clone(&families));
                        let random = Random::new(100 * seed + family as u64);
                        pool.submit(move || parent(&inner, &families, family, 1, random))
                    })
                    .collect();
                for job in jobs {
                    job.result().unwrap();
                }
                assert_eq!(families.strangers.load(SeqCst), 0, "seed {seed}");
                assert!(families.ran_in_place.load(SeqCst) > 0);
                let most = families.most_computing.load(SeqCst);
                assert!(most <= workers, "{most} computed at a time on {workers}, seed {seed}");
                assert_size_unchanged(&pool);
            }
        }
    });
}

#[test]
fn a_waiting_job_runs_only_the_task_that_it_waits_for() {
    within_limit(|| {
        let pool = pool(1);
        let families = Arc::new(Families::default());
        let (inner, of_job) = (pool.clone(), Arc::clone(&families));
        let gate = Gate::new();
        let wait = gate.clone();
        let job = pool.submit(move || {
            of_job.run(0, || {
                wait.wait(); // for the strangers to be queued, before and after the own task
                let families = Arc::clone(&of_job);
                let own = inner.submit(move || families.leaf(0, &mut Random::new(1)));
                let of_stranger = Arc::clone(&of_job);
                let late = inner.submit(move || of_stranger.leaf(99, &mut Random::new(1)));
                own.result().unwrap();
                assert!(!late.is_done());
                late
            })
        });
        let strangers: Vec<_> = (1..20)
            .map(|family| {
                let families = Arc::clone(&families);
                pool.submit(move || families.leaf(family, &mut Random::new(1)))
            })
            .collect();
        gate.open();
        job.result().unwrap().result().unwrap();
        for stranger in strangers {
            stranger.result().unwrap();
        }
        assert_eq!(families.strangers.load(SeqCst), 0);
        assert_eq!(families.ran_in_place.load(SeqCst), 1);
        // In place there was no need of a spare.
        assert_eq!(families.threads.lock().unwrap().len(), 1);
    });
}

#[test]
fn jobs_that_compute_are_never_more_than_max_workers() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let families = Arc::new(Families::default());
            // Waiters come and go all the time, so spares do too.
            let waiters: Vec<_> = (0..scaled(50))
                .map(|n| {
                    let (completer, promise) = TaskFuture::promise();
                    let waiter = pool.submit(move || promise.result());
                    let of_leaf = Arc::clone(&families);
                    let leaves: Vec<_> = (0..10)
                        .map(|m| {
                            let families = Arc::clone(&of_leaf);
                            pool.submit(move || families.leaf(n, &mut Random::new(m)))
                        })
                        .collect();
                    let complete = pool.submit(move || completer.complete(Ok(())));
                    (waiter, leaves, complete)
                })
                .collect();
            for (waiter, leaves, complete) in waiters {
                waiter.result().unwrap().unwrap();
                leaves.into_iter().for_each(|leaf| leaf.result().unwrap());
                complete.result().unwrap();
            }
            let most = families.most_computing.load(SeqCst);
            assert!((1..=workers).contains(&most), "{most} on {workers}");
            assert_size_unchanged(&pool);
        }
    });
}

#[test]
fn a_thousand_waiting_jobs_all_get_a_spare_and_leave_none() {
    within_limit(|| {
        let pool = pool_with_stack(1, 64 * 1024);
        let (waiting, n) = (Counter::new(), scaled(1000));
        let (completers, waiters): (Vec<_>, Vec<_>) = (0..n)
            .map(|_| {
                let (completer, promise) = TaskFuture::promise();
                let waiting = waiting.clone();
                let waiter = pool.submit(move || {
                    waiting.add();
                    promise.result()
                });
                (completer, waiter)
            })
            .unzip();
        waiting.wait_for(n); // on one worker and its spares
        assert_eq!(pool.metrics().running, n);
        completers.into_iter().for_each(|completer: Completer<()>| completer.complete(Ok(())));
        for waiter in waiters {
            waiter.result().unwrap().unwrap();
        }
        assert_size_unchanged(&pool);
    });
}

// ---- The stack ----

const KIB: usize = 1024;

/// Runs `f` with so many bytes of the stack in use.
#[inline(never)]
fn with_stack_used<const BYTES: usize>(f: impl FnOnce()) {
    let mut bytes = [1u8; BYTES];
    std::hint::black_box(&mut bytes);
    f();
    std::hint::black_box(&mut bytes);
}

/// Jobs that use 900 KiB each and wait for the next; the last one needs most of a stack.
fn deep(pool: &ThreadPoolExecutor, jobs: usize) {
    if jobs == 0 {
        return with_stack_used::<{ 1_900 * KIB }>(|| ());
    }
    with_stack_used::<{ 900 * KIB }>(|| {
        let inner = pool.clone();
        pool.submit(move || deep(&inner, jobs - 1)).result().unwrap();
    });
}

#[test]
fn a_job_in_place_has_the_stack_that_it_has_elsewhere() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for jobs in 0..6 {
                let inner = pool.clone();
                pool.submit(move || deep(&inner, jobs)).result().unwrap();
            }
            assert_size_unchanged(&pool);
        }
    });
}
