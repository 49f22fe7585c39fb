//! What a dump shows of worker processes, and which of their failures the pool's hook is told.

use std::sync::mpsc;
use std::time::Duration;

use concurrent_futures::dump::Awaited;
use concurrent_futures::{
    Error, ExecutorState, ParentPool, ProcessPoolExecutor, Shutdown, TaskFuture, call,
};
use serde::{Deserialize, Serialize, Serializer};

use crate::support::within_limit;
use crate::tools::{Gate, LONG, Reports, builder, end, hold, occupy, occupy_all, pool};

fn square(n: u64) -> u64 {
    n * n
}

fn crash() {
    std::process::abort();
}

fn panics() {
    panic!("no such file");
}

/// Looks until it is so; nothing tells of it.
fn eventually(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

/// Has 64 MiB in RAM, and spends CPU time.
fn fill() -> usize {
    let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
    memory.iter().map(|byte| usize::from(*byte)).sum()
}

fn fill_and_crash() {
    if fill() > 0 {
        crash();
    }
}

fn lose_another() -> String {
    let pool = ParentPool::current().unwrap();
    match pool.submit(call!(fill_and_crash())).result() {
        Err(Error::WorkerLost(lost)) => format!("{:?} {:?}", lost.cpu_time, lost.peak_memory),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_process_has_used_is_shown_while_it_lives_and_when_it_is_lost() {
    within_limit(|| {
        let pool = pool(1);
        assert_eq!(pool.submit(call!(fill())).result().unwrap(), 64 << 20);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let dump = pool.dump();
        let worker = &dump.workers[0];
        assert!(worker.peak_memory > Some(64 << 20), "{worker:?}");
        assert!(worker.cpu_time > Some(Duration::ZERO), "{worker:?}");
        let text = dump.to_string();
        assert!(text.contains(" of CPU time, up to "), "{text}");
        gate.open();
        held.result().unwrap();
        let error = pool.submit(call!(fill_and_crash())).result().unwrap_err();
        let Error::WorkerLost(lost) = &error else { panic!("{error:?}") };
        assert!(lost.peak_memory > Some(64 << 20), "{lost:?}");
        assert!(lost.cpu_time > Some(Duration::ZERO), "{lost:?}");
        assert!(error.to_string().contains("; it had used up to "), "{error}");
        // Also where a task of the pool is told.
        let told = pool.submit(call!(lose_another())).result().unwrap();
        assert!(told.starts_with("Some(") && told.contains(" Some("), "{told}");
        end(&pool);
    });
}

#[test]
fn processes_and_their_tasks_are_named() {
    within_limit(|| {
        let pool = builder(2).name("render").queue_capacity(50).build().unwrap();
        assert_eq!((pool.dump().pool.as_str(), pool.dump().workers.len()), ("render", 0));
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        let queued: Vec<_> =
            (0..20).map(|n| pool.task().label("square").submit(call!(square(n)))).collect();
        let dump = pool.dump();
        assert!(matches!(dump.state, ExecutorState::Open));
        let mut pids: Vec<_> = dump.workers.iter().filter_map(|worker| worker.pid).collect();
        let mut running: Vec<_> = dump.workers.iter().map(|worker| worker.tasks[0].id).collect();
        let (mut expected, mut ids) = (pool.worker_pids(), vec![held[0].id(), held[1].id()]);
        pids.sort();
        running.sort();
        expected.sort();
        ids.sort();
        assert_eq!((&pids, &running), (&expected, &ids));
        for worker in &dump.workers {
            assert!(worker.name.starts_with("render_") && !worker.is_leaving);
            let task = &worker.tasks[0];
            assert_eq!((worker.tasks.len(), task.attempt, task.stop_requested), (1, 1, false));
            assert!(task.waits_for.is_empty() && task.elapsed < LONG);
        }
        assert_eq!((dump.queue.count, dump.queue.looked_at), (20, 20));
        let next: Vec<_> = dump.queue.next.iter().map(|task| task.id).collect();
        assert_eq!(next, queued[..10].iter().map(TaskFuture::id).collect::<Vec<_>>());
        assert_eq!(dump.queue.oldest, dump.queue.next.first().map(|task| task.elapsed));
        let text = dump.to_string();
        assert!(text.contains(&format!(", process {}: task ", pids[0])), "{text}");
        assert!(text.contains("queued: 20 tasks of at most 50, the oldest for "), "{text}");
        assert!(text.contains("  20 with the label \"square\"\n"), "{text}");
        // One that is asked to stop.
        assert!(!held[0].cancel());
        let dump = pool.dump();
        let mut tasks = dump.workers.iter().flat_map(|worker| &worker.tasks);
        assert!(tasks.all(|task| task.stop_requested == (task.id == held[0].id())));
        gate.open();
        for (n, future) in (0..).zip(queued) {
            assert_eq!(future.result().unwrap(), n * n);
        }
        drop(held);
        end(&pool);
        assert!(matches!(pool.dump().state, ExecutorState::Ended));
    });
}

/// Submits to its own pool, and waits for it.
fn waits(started: Reports, gate: Gate) -> u32 {
    let pool = ParentPool::current().unwrap();
    pool.submit(call!(hold(started, gate, 7))).result().unwrap()
}

#[test]
fn a_task_that_waits_for_its_own_pool_says_for_which() {
    within_limit(|| {
        let pool = pool(1);
        let (started, gate) = (Reports::new(), Gate::new());
        let outer = pool.submit(call!(waits(started.clone(), gate.clone())));
        started.wait_for(1);
        let dump = pool.dump();
        assert_eq!((dump.workers.len(), dump.spares()), (2, 1), "{dump}");
        let tasks: Vec<_> = dump.workers.iter().flat_map(|worker| &worker.tasks).collect();
        let of_outer = tasks.iter().find(|task| task.id == outer.id()).unwrap();
        let inner = tasks.iter().find(|task| task.id != outer.id()).unwrap();
        assert_eq!(of_outer.waits_for, [Awaited::Task(inner.id)]);
        assert!(inner.waits_for.is_empty());
        gate.open();
        assert_eq!(outer.result().unwrap(), 7);
        end(&pool);
    });
}

#[test]
fn a_task_that_runs_again_says_so() {
    within_limit(|| {
        let pool = pool(1);
        let (attempts, gate) = (Reports::new(), Gate::new());
        let job = call!(hold(attempts.clone(), gate.clone(), 1));
        let future = pool.task().retries(1).submit(job);
        let first = attempts.wait_for(1)[0];
        assert_eq!(pool.dump().workers[0].tasks[0].attempt, 1);
        let pid = rustix::process::Pid::from_raw(first as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        attempts.wait_for(2);
        let dump = pool.dump();
        let task = dump.workers.iter().flat_map(|worker| &worker.tasks).next().unwrap();
        assert_eq!((task.id, task.attempt), (future.id(), 2));
        assert!(dump.to_string().contains(", attempt 2"), "{dump}");
        gate.open();
        assert_eq!(future.result().unwrap(), 1);
        end(&pool);
    });
}

// ---- Failures that nobody has seen ----

/// A pool, and what its hook is told: label and error.
fn told(max_workers: usize) -> (ProcessPoolExecutor, mpsc::Receiver<(String, String)>) {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let pool = builder(max_workers)
        .name("told")
        .on_unobserved_failure(move |failure| {
            assert_eq!(failure.pool, "told");
            let label = failure.label.unwrap_or_default().to_owned();
            tell.lock().unwrap().send((label, format!("{:?}", failure.error))).unwrap();
        })
        .build()
        .unwrap();
    (pool, told)
}

#[derive(Clone, Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("out of paper"))
    }
}

fn take(_: Unwritable) {}

fn give() -> Unwritable {
    Unwritable
}

#[test]
fn unobserved_failures_are_told() {
    within_limit(|| {
        let (pool, told) = told(1);
        let next = || told.recv().unwrap();
        pool.task().label("panic").submit(call!(panics())).detach();
        let (label, error) = next();
        assert_eq!(label, "panic");
        assert!(error.ends_with(": no such file"), "{error}");
        pool.task().label("crash").submit(call!(crash())).detach();
        let (label, error) = next();
        assert_eq!(label, "crash");
        assert!(error.contains("was ended by SIGABRT"), "{error}");
        pool.task().label("arguments").submit(call!(take(Unwritable))).detach();
        assert_eq!(next().0, "arguments");
        pool.task().label("value").submit(call!(give())).detach();
        assert_eq!(next().0, "value");
        // When the future is dropped later.
        let future = pool.submit(call!(panics()));
        eventually(|| future.is_done());
        assert!(told.try_recv().is_err());
        drop(future);
        assert!(told.try_recv().is_ok());
        // A time limit, which ends the worker as well.
        let (started, gate) = (Reports::new(), Gate::new());
        let job = call!(hold(started.clone(), gate.clone(), 0));
        pool.task().timeout(Duration::ZERO).submit(job).detach();
        assert!(next().1.contains("while the task was running"));
        end(&pool);
        pool.submit(call!(square(1))).detach();
        assert!(next().1.contains("the executor is shut down"));
        assert!(told.try_recv().is_err());
    });
}

#[test]
fn what_was_seen_or_withdrawn_is_not_told() {
    within_limit(|| {
        let (pool, told) = told(1);
        assert!(pool.submit(call!(panics())).result().is_err());
        let (seen, sees) = mpsc::channel();
        let future = pool.submit(call!(panics()));
        future.add_done_callback(move |result| seen.send(result.is_err()).unwrap());
        drop(future);
        assert_eq!(sees.recv(), Ok(true));
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        drop(pool.submit(call!(panics())));
        pool.task().queue_timeout(Duration::ZERO).submit(call!(panics())).detach();
        assert!(pool.submit(call!(panics())).kill());
        pool.submit(call!(panics())).detach(); // cancelled by the shutdown
        let closing = pool.shutdown(Shutdown::CancelQueued);
        gate.open();
        held.result().unwrap();
        closing.result().unwrap();
        assert!(told.try_recv().is_err());
    });
}

/// The thread that reads for all pools does not wait for a hook.
#[test]
fn a_slow_hook_holds_up_no_task() {
    within_limit(|| {
        let (go_on, gate) = mpsc::channel::<()>();
        let (told, seen) = mpsc::channel();
        let both = std::sync::Mutex::new((gate, told));
        let pool = builder(1)
            .on_unobserved_failure(move |_| {
                let both = both.lock().unwrap();
                both.0.recv().unwrap();
                both.1.send(()).unwrap();
            })
            .build()
            .unwrap();
        pool.submit(call!(panics())).detach();
        pool.submit(call!(crash())).detach();
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        (0..2).for_each(|_| go_on.send(()).unwrap());
        (0..2).for_each(|_| seen.recv().unwrap());
        end(&pool);
    });
}

#[test]
fn what_was_killed_with_its_future_is_not_told() {
    within_limit(|| {
        let (pool, told) = told(1);
        let gate = Gate::new();
        drop(occupy(&pool, &gate).kill_on_drop());
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        end(&pool);
        assert!(told.try_recv().is_err());
    });
}

#[test]
fn the_chunks_of_a_map_have_its_label() {
    fn item((started, gate): (Reports, Gate)) {
        started.add(1);
        gate.wait();
    }
    fn nested(items: Vec<(Reports, Gate)>) {
        let pool = ParentPool::current().unwrap();
        pool.map(item, items).label("inner rows").chunk_size(1).result().unwrap();
    }
    within_limit(|| {
        let pool = pool(2);
        for is_nested in [false, true] {
            let (started, gate) = (Reports::new(), Gate::new());
            let items = vec![(started.clone(), gate.clone()); 2];
            let run = pool.clone();
            let maps = std::thread::spawn(move || match is_nested {
                false => drop(run.map(item, items).label("rows").chunk_size(1).result().unwrap()),
                true => run.submit(call!(nested(items))).result().unwrap(),
            });
            started.wait_for(2);
            let text = pool.dump().to_string();
            let label = if is_nested { "\"inner rows\"" } else { "\"rows\"" };
            assert_eq!(text.matches(label).count(), 2, "{text}");
            gate.open();
            maps.join().unwrap();
        }
        end(&pool);
    });
}
