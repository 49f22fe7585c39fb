//! Threads that the system refuses, by a limit on how many a user may have.

use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, ProcessPoolExecutor, ReturnWhen, Shutdown, TaskFuture, ThreadPoolExecutor, as_completed,
    call, task, wait,
};
use futures::executor::{block_on, block_on_stream};
use futures::{FutureExt, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::program::alone;
use crate::support::{Counter, Gate, occupy, pool};

/// No wait takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(60);

/// The limit does not bind a privileged user, and counts the threads of all of a user's programs. So
/// the program goes on as a user of its own, and can't go back.
fn be_unprivileged() {
    let user = 400_000 + std::process::id();
    // SAFETY: calls without memory. Those that fail leave a program that is unprivileged already.
    unsafe {
        libc::setgid(user);
        libc::setuid(user);
        // What the kernel takes away from a program that changes its user.
        libc::prctl(libc::PR_SET_DUMPABLE, 1);
    }
}

fn allow_threads(most: Option<u64>) {
    let maximum = getrlimit(Resource::Nproc).maximum;
    setrlimit(Resource::Nproc, Rlimit { current: most.or(maximum), maximum }).unwrap();
    let thread = thread::Builder::new().spawn(|| ());
    assert_eq!(thread.is_ok(), most != Some(1), "the limit does as it should");
    let _ = thread.map(thread::JoinHandle::join);
}

/// From now on the system refuses every further thread.
fn refuse_threads() {
    allow_threads(Some(1));
}

fn grant_threads() {
    allow_threads(None);
}

/// Waits until the only job of `pool` waits for something.
fn until_it_blocks(pool: &ThreadPoolExecutor) {
    let blocks = || {
        let workers = pool.dump().workers;
        workers.iter().any(|worker| worker.tasks.iter().any(|task| !task.waits_for.is_empty()))
    };
    while !blocks() {
        thread::yield_now();
    }
}

#[test]
fn a_job_runs_in_place_what_it_waits_for_while_threads_are_refused() {
    alone("threads::a_job_runs_in_place_what_it_waits_for_while_threads_are_refused", || {
        be_unprivileged();
        let pool = pool(1);
        let inner = pool.clone();
        let job = pool.submit(move || {
            refuse_threads();
            let deeper = inner.clone();
            let nested = inner.submit(move || deeper.submit(|| 7).result().unwrap());
            assert_eq!(nested.result().unwrap(), 7);
            inner.map(|n| 2 * n, 0..1_000u64).result().unwrap()
        });
        assert_eq!(job.result().unwrap()[999], 1_998);
        // The pool is as it was.
        assert_eq!(pool.submit(|| 9).result().unwrap(), 9);
        grant_threads();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

#[test]
fn a_wait_goes_on_until_there_is_a_thread_again() {
    let waits: [fn(ThreadPoolExecutor); 8] = [
        // With a limit it never runs the task in place.
        |pool| assert_eq!(pool.submit(|| 7).result_timeout(HANG).unwrap().unwrap(), 7),
        |pool| assert_eq!(block_on(pool.submit(|| 7)).unwrap(), 7),
        |pool| {
            let some = (0..10).map(|n| pool.submit(move || n));
            assert_eq!(wait(some, ReturnWhen::AllCompleted).result().done.len(), 10);
        },
        |pool| {
            let some = (0..10).map(|n| pool.submit(move || n));
            assert_eq!(block_on(wait(some, ReturnWhen::FirstError)).done.len(), 10);
        },
        |pool| {
            let some = (0..10).map(|n| pool.submit(move || n));
            assert_eq!(block_on_stream(as_completed(some)).count(), 10);
        },
        |pool| {
            assert_eq!(
                block_on(pool.map(|n| n, 0..9).into_future()).unwrap(),
                (0..9).collect::<Vec<_>>()
            )
        },
        |pool| assert_eq!(block_on_stream(pool.map(|n| n, 0..9).buffer_size(2)).count(), 9),
        |pool| assert_eq!(block_on(pool.map(|n| n, 0..9).unordered().count()), 9),
    ];
    alone("threads::a_wait_goes_on_until_there_is_a_thread_again", || {
        be_unprivileged();
        for wait in waits {
            let pool = pool(1);
            let inner = pool.clone();
            let job = pool.submit(move || {
                refuse_threads();
                wait(inner);
            });
            until_it_blocks(&pool);
            grant_threads();
            job.result().unwrap();
        }
    });
}

/// What the job waits for comes only after that, and no task is submitted once there are threads.
#[test]
fn a_task_that_comes_while_all_workers_wait_gets_its_thread_later() {
    alone("threads::a_task_that_comes_while_all_workers_wait_gets_its_thread_later", || {
        be_unprivileged();
        let pool = pool(1);
        let (completer, promise) = TaskFuture::promise();
        let job = pool.submit(move || promise.result());
        until_it_blocks(&pool);
        refuse_threads();
        let completes = pool.submit(move || completer.complete(Ok(7)));
        grant_threads();
        assert_eq!(job.result().unwrap().unwrap(), 7);
        completes.result().unwrap();
    });
}

/// The same where another executor has parked the job: it polls again only if its waker is woken.
#[test]
fn a_task_that_comes_while_all_workers_wait_on_other_executors_gets_its_thread_later() {
    struct Wakes(Counter);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.add();
        }
    }

    const NAME: &str = "threads::a_task_that_comes_while_all_workers_wait_on_other_executors_gets_its_thread_later";
    alone(NAME, || {
        be_unprivileged();
        let pool = pool(1);
        let (completer, mut promise) = TaskFuture::promise();
        let parked = Gate::new();
        let parks = parked.clone();
        let mut job = pool.submit(move || {
            let wakes = Counter::new();
            let waker = Waker::from(Arc::new(Wakes(wakes.clone())));
            loop {
                let before = wakes.get();
                if let Poll::Ready(result) = promise.poll_unpin(&mut Context::from_waker(&waker)) {
                    return result;
                }
                parks.open();
                wakes.wait_for(before + 1);
            }
        });
        parked.wait();
        refuse_threads();
        let completes = pool.submit(move || completer.complete(Ok(7)));
        grant_threads();
        let result = job.result_timeout(HANG / 2).expect("the job hangs");
        assert_eq!(result.unwrap().unwrap(), 7);
        completes.result().unwrap();
    });
}

#[test]
fn the_workers_that_there_are_do_the_work_of_one_that_is_refused() {
    alone("threads::the_workers_that_there_are_do_the_work_of_one_that_is_refused", || {
        be_unprivileged();
        let (pool, gate) = (pool(4), Gate::new());
        let busy = occupy(&pool, &gate);
        refuse_threads();
        let others: Vec<_> = (0..10).map(|n| pool.submit(move || n)).collect();
        gate.open();
        busy.result().unwrap();
        let done = others.into_iter().map(|future| future.result().unwrap());
        assert!(done.eq(0..10));
        assert_eq!(pool.metrics().workers, 1);
        grant_threads();
    });
}

#[test]
fn a_pool_without_any_worker_is_broken_by_the_system_s_reason() {
    alone("threads::a_pool_without_any_worker_is_broken_by_the_system_s_reason", || {
        be_unprivileged();
        refuse_threads();
        let error = pool(1).submit(|| 7).result().unwrap_err();
        assert!(matches!(error, Error::BrokenPool(_)), "{error:?}");
        assert!(format!("{error:?}").contains("refused to start a worker thread"), "{error:?}");
        grant_threads();
    });
}

/// Has the thread that keeps the time stay: as long as the pool and its future are there, it has a limit.
fn keep_the_time() -> (ThreadPoolExecutor, Gate, TaskFuture<()>) {
    let (keeps, gate) = (pool(1), Gate::new());
    let held = gate.clone();
    let started = Gate::new();
    let has_started = started.clone();
    let limited = keeps.task().timeout(Duration::from_secs(3600)).submit(move || {
        has_started.open();
        held.wait();
    });
    started.wait();
    (keeps, gate, limited)
}

#[test]
fn a_task_of_a_pool_without_any_worker_waits_for_a_while_for_a_thread() {
    alone("threads::a_task_of_a_pool_without_any_worker_waits_for_a_while_for_a_thread", || {
        be_unprivileged();
        let (_keeps, gate, limited) = keep_the_time();
        refuse_threads();
        let waits = pool(1);
        let tasks: Vec<_> = (0..10).map(|n| waits.submit(move || n)).collect();
        assert!(tasks.iter().all(|task| !task.is_done()));
        assert_eq!(waits.metrics().workers, 0);
        grant_threads();
        for (n, task) in (0..).zip(tasks) {
            assert_eq!(task.result().unwrap(), n);
        }
        // A shortage that stays is told.
        refuse_threads();
        let error = pool(1).submit(|| 7).result().unwrap_err();
        assert!(format!("{error:?}").contains("refused to start a worker thread"), "{error:?}");
        grant_threads();
        gate.open();
        limited.result().unwrap();
    });
}

/// A worker that no task needs is no reason to break the pool.
#[test]
fn workers_that_are_refused_to_a_builder_start_with_a_task() {
    alone("threads::workers_that_are_refused_to_a_builder_start_with_a_task", || {
        be_unprivileged();
        refuse_threads();
        let builder = ThreadPoolExecutor::builder().max_workers(2).min_workers(2);
        let pool = builder.build().unwrap();
        assert_eq!(pool.metrics().workers, 0);
        grant_threads();
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);
        assert_eq!(pool.metrics().workers, 1);
        assert!(pool.shutdown_blocking(Shutdown::Drain).unwrap().ended);
    });
}

fn long(bytes: usize) -> Vec<u8> {
    vec![1; bytes]
}

/// An address without a file, which a program without privileges may have no place for.
fn address(name: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(name).unwrap()
}

/// Returns once the listener has taken the connection and closed it.
fn long_later(name: String) -> Vec<u8> {
    let mut gate = UnixStream::connect_addr(&address(&name)).unwrap();
    let _end = gate.read(&mut [0]);
    long(100_000)
}

/// Long results are for helper threads. Without any they are decoded by the thread that reads.
#[test]
fn a_process_pool_does_without_helper_threads_for_a_while() {
    alone("threads::a_process_pool_does_without_helper_threads_for_a_while", || {
        be_unprivileged();
        let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
        assert_eq!(pool.submit(call!(long(1))).result().unwrap(), [1]);
        let where_decoded = || {
            let (tell, told) = mpsc::channel();
            let name = format!("concurrent-futures-{}", std::process::id());
            let gate = UnixListener::bind_addr(&address(&name)).unwrap();
            let future = pool.submit(call!(long_later(name)));
            future.add_done_callback(move |result| {
                assert!(result.is_ok());
                tell.send(thread::current().name().map(str::to_owned)).unwrap();
            });
            drop(gate.accept().unwrap());
            assert_eq!(future.result().unwrap().len(), 100_000);
            told.recv().unwrap().unwrap()
        };
        refuse_threads();
        assert_eq!(where_decoded(), "process-pool-io");
        grant_threads();
        assert!(where_decoded().starts_with("pool-"));
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

/// The limits of a wait need no thread of their own.
#[test]
fn waits_come_back_at_their_limits_without_a_thread_that_keeps_the_time() {
    const LIMIT: Duration = Duration::from_millis(30);
    alone("threads::waits_come_back_at_their_limits_without_a_thread_that_keeps_the_time", || {
        be_unprivileged();
        let (pool, gate) = (pool(1), Gate::new());
        let busy = occupy(&pool, &gate);
        refuse_threads();
        let (_completer, promise) = TaskFuture::<u8>::promise();
        let parts = wait([promise], ReturnWhen::AllCompleted).timeout(LIMIT).result();
        let parts = block_on(wait(parts.not_done, ReturnWhen::AllCompleted).timeout(LIMIT));
        assert_eq!(parts.not_done.len(), 1);
        let late = block_on_stream(as_completed(parts.not_done).timeout(LIMIT)).next().unwrap();
        assert_eq!(late.unwrap_err().unfinished, 1);
        let is_late = |result| matches!(result, Err(Error::TimedOut { .. }));
        assert!(is_late(pool.map(|n| n, 0..9).timeout(LIMIT).result()));
        assert!(is_late(block_on(pool.map(|n| n, 0..9).timeout(LIMIT).into_future())));
        let report = pool.shutdown(Shutdown::Drain).deadline(LIMIT).result().unwrap();
        assert_eq!(report.running.len(), 1);
        let report = block_on(pool.shutdown(Shutdown::Drain).deadline(LIMIT));
        assert_eq!(report.running.len(), 1);
        gate.open();
        busy.result().unwrap();
        grant_threads();
    });
}

#[test]
fn a_task_whose_limit_can_not_be_kept_does_not_run() {
    alone("threads::a_task_whose_limit_can_not_be_kept_does_not_run", || {
        be_unprivileged();
        let (pool, gate) = (pool(1), Gate::new());
        let busy = occupy(&pool, &gate);
        refuse_threads();
        let ran = Arc::new(AtomicUsize::new(0));
        let count = || {
            let ran = Arc::clone(&ran);
            move || ran.fetch_add(1, SeqCst)
        };
        let unkept = |result: Result<usize, Error>| {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::NoTimer(_)), "{error:?}");
            assert!(format!("{error:?}").contains("Resource temporarily unavailable"), "{error:?}");
        };
        // Known at the submission, and at the start.
        let waits = pool.task().queue_timeout(HANG).submit(count());
        assert!(waits.is_done());
        unkept(waits.result());
        let runs = pool.task().timeout(HANG).submit(count());
        gate.open();
        busy.result().unwrap();
        unkept(runs.result());
        let future = pool.task().timeout(HANG).submit_future(async { 1 });
        unkept(future.result());
        assert_eq!(ran.load(SeqCst), 0);
        let report = pool.metrics();
        assert_eq!((report.completed, report.failed, report.cancelled), (1, 2, 1));
        // Asked for again.
        grant_threads();
        assert_eq!(pool.task().timeout(HANG).submit(count()).result().unwrap(), 0);
        let late = pool.task().timeout(Duration::from_millis(1)).submit(|| {
            while !task::stop_requested() {
                thread::yield_now();
            }
        });
        assert!(matches!(late.result(), Err(Error::TimedOut { started: true, .. })));
    });
}

/// What belongs to the end of such a task may wait for the same pool: a spare takes the worker's place.
#[test]
fn the_end_of_a_task_whose_limit_can_not_be_kept_may_wait_for_its_pool() {
    struct WaitsInDrop(ThreadPoolExecutor);

    impl Drop for WaitsInDrop {
        fn drop(&mut self) {
            grant_threads();
            assert_eq!(block_on(self.0.submit(|| 7)).unwrap(), 7);
            refuse_threads();
        }
    }

    alone("threads::the_end_of_a_task_whose_limit_can_not_be_kept_may_wait_for_its_pool", || {
        be_unprivileged();
        let (pool, gate) = (pool(1), Gate::new());
        let busy = occupy(&pool, &gate);
        let captured = WaitsInDrop(pool.clone());
        let unkept = pool.task().timeout(HANG).submit(move || drop(captured));
        let (inner, (tell, told)) = (pool.clone(), mpsc::channel());
        unkept.add_done_callback(move |_| {
            grant_threads();
            tell.send(block_on(inner.submit(|| 8))).unwrap();
        });
        refuse_threads();
        gate.open();
        busy.result().unwrap();
        assert_eq!(told.recv_timeout(HANG).expect("the callback hangs").unwrap(), 8);
        assert!(matches!(unkept.result(), Err(Error::NoTimer(_))));
    });
}

/// The pool had other workers, which went on, so the refusal has ended nothing.
#[test]
fn a_map_that_a_shutdown_cuts_off_is_cancelled_also_if_a_thread_was_refused_before() {
    const NAME: &str =
        "threads::a_map_that_a_shutdown_cuts_off_is_cancelled_also_if_a_thread_was_refused_before";
    alone(NAME, || {
        be_unprivileged();
        let (pool, gate) = (pool(2), Gate::new());
        let busy = occupy(&pool, &gate);
        refuse_threads();
        let waits = pool.submit(|| 7);
        let map = pool.map(|n| n, 0..1_000).buffer_size(1).start();
        gate.open();
        busy.result().unwrap();
        assert_eq!(waits.result().unwrap(), 7);
        pool.shutdown_blocking(Shutdown::CancelQueued).unwrap();
        assert_eq!(pool.metrics().workers, 0);
        let error = block_on_stream(map).find_map(Result::err).unwrap();
        assert!(matches!(error, Error::Cancelled), "{error:?}");
        grant_threads();
    });
}

fn for_ever() {
    loop {
        thread::park();
    }
}

/// The thread that reads for the pool keeps its limits meanwhile.
#[test]
fn limits_in_worker_processes_hold_without_a_thread_that_keeps_the_time() {
    alone("threads::limits_in_worker_processes_hold_without_a_thread_that_keeps_the_time", || {
        be_unprivileged();
        let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
        let limit = Duration::from_millis(50);
        pool.submit(call!(long(1))).result().unwrap();
        refuse_threads();
        let waits = pool.task().queue_timeout(limit);
        let runs = pool.task().timeout(2 * limit).submit(call!(for_ever()));
        let waits = waits.submit(call!(for_ever()));
        assert!(matches!(waits.result(), Err(Error::TimedOut { started: false, .. })));
        assert!(matches!(runs.result(), Err(Error::TimedOut { started: true, .. })));
        grant_threads();
        block_on(pool.kill_workers());
    });
}

fn seven() -> u32 {
    7
}

/// What was given to its builder is dropped, and makes another one.
#[test]
fn a_pool_of_processes_that_can_not_read_is_refused_without_a_deadlock() {
    struct MakesAPool;

    impl Drop for MakesAPool {
        fn drop(&mut self) {
            grant_threads();
            let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
            assert_eq!(pool.submit(call!(seven())).result().unwrap(), 7);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    }

    alone("threads::a_pool_of_processes_that_can_not_read_is_refused_without_a_deadlock", || {
        be_unprivileged();
        let maximum = getrlimit(Resource::Nproc).maximum;
        let mut most = std::fs::read_dir("/proc/self/task").unwrap().count() as u64;
        // Room for the process that starts workers, and for no thread: the user may have others.
        for _ in 0..1_000 {
            let held = Arc::new(MakesAPool);
            let builder = ProcessPoolExecutor::builder().max_workers(1);
            let builder = builder.on_unobserved_failure(move |_| drop(held.clone()));
            setrlimit(Resource::Nproc, Rlimit { current: Some(most), maximum }).unwrap();
            match builder.build() {
                Err(error) if format!("{error:?}").contains("the thread that reads") => return,
                Err(_) => most += 1,
                Ok(_) => most -= 1,
            }
        }
        panic!("it is never the thread that is refused");
    });
}
