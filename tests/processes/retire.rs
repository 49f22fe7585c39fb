//! Workers that take no further task: by `task::retire_worker`, and after a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use concurrent_futures::{
    Error, InlineExecutor, ParentPool, ProcessPoolExecutor, ThreadPoolExecutor, call, task,
};
use futures::StreamExt;
use futures::executor::block_on;

use crate::over_pools;
use crate::support::within_limit;
use crate::tools::{Gate, Reports, assert_panicked, builder, end, own_pid, pool};

/// Its process, the number of tasks that have run there, and whether that ends.
fn run_here(is_last: bool) -> (u32, u32, bool) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    (process::id(), COUNT.fetch_add(1, Relaxed), is_last && task::retire_worker())
}

#[test]
fn a_worker_that_retires_begins_with_nothing_more() {
    over_pools(|pool| {
        const TASKS: usize = 300;
        // Quick ones, so that workers have several at a time.
        let is_last = |n: usize| n % 10 == 9;
        let tasks: Vec<_> = (0..TASKS).map(|n| pool.submit(call!(run_here(is_last(n))))).collect();
        let mut ran = BTreeMap::<u32, Vec<(u32, bool)>>::new();
        for (n, task) in tasks.into_iter().enumerate() {
            let (pid, count, retires) = task.result().unwrap();
            assert_eq!(retires, is_last(n));
            ran.entry(pid).or_default().push((count, retires));
        }
        for ran in ran.values_mut() {
            ran.sort_unstable();
            assert!(ran[..ran.len() - 1].iter().all(|(_, retires)| !retires), "{ran:?}");
        }
        assert!(ran.len() >= TASKS / 10);
        let metrics = pool.metrics();
        assert_eq!((metrics.completed, metrics.failed), (TASKS as u64, 0));
        assert_eq!((metrics.submitted, metrics.workers_lost), (TASKS as u64, 0));
    });
}

#[test]
fn tasks_behind_one_whose_worker_retires_keep_their_order() {
    fn report(order: Reports, n: u32) -> bool {
        order.add(n);
        n % 5 == 4 && task::retire_worker()
    }
    within_limit(|| {
        let pool = pool(1);
        let order = Reports::new();
        let tasks: Vec<_> =
            (0..100).map(|n| pool.submit(call!(report(order.clone(), n)))).collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.result().unwrap(), n % 5 == 4);
        }
        assert!(order.get().into_iter().eq(0..100), "each once, and in order");
        end(&pool);
    });
}

#[test]
fn a_worker_that_retires_still_has_its_place_until_it_has_replied() {
    fn hold(started: Reports, gate: Gate) -> u32 {
        assert!(task::retire_worker());
        assert!(task::retire_worker(), "again");
        started.add(process::id());
        gate.wait();
        process::id()
    }
    over_pools(|pool| {
        // Quick ones, after which a worker would be sent several at a time.
        let quick: Vec<_> = (0..100).map(|_| pool.submit(call!(own_pid()))).collect();
        quick.into_iter().for_each(|task| assert!(task.result().is_ok()));
        let (started, gate) = (Reports::new(), Gate::new());
        let count = pool.max_workers();
        let held: Vec<_> =
            (0..count).map(|_| pool.submit(call!(hold(started.clone(), gate.clone())))).collect();
        started.wait_for(count);
        let mut next = pool.submit(call!(own_pid()));
        assert!(next.result_timeout(Duration::from_millis(50)).is_none(), "all places are taken");
        assert_eq!(pool.metrics().workers, count);
        gate.open();
        let held: BTreeSet<_> = held.into_iter().map(|task| task.result().unwrap()).collect();
        assert!(!held.contains(&next.result().unwrap()));
        assert_eq!(pool.metrics().workers_lost, 0);
    });
}

/// An item, and how it ran: as [`run_here`] says.
type Ran = (u32, (u32, u32, bool));

fn report_and_retire_at_7_and_13((ran, n): (Reports, u32)) -> Ran {
    ran.add(n);
    (n, run_here(n == 7 || n == 13))
}

#[track_caller]
fn assert_each_ran_once(ran: &Reports, results: &[Ran]) {
    assert!(results.iter().map(|(n, _)| *n).eq(0..20));
    let mut ran = ran.get();
    ran.sort_unstable();
    assert!(ran.into_iter().eq(0..20));
    for last in [7, 13] {
        // Small chunks may come to their worker in another order.
        let (_, (pid, count, retires)) = results[last];
        let is_later = |(_, (other, later, _)): &Ran| *other == pid && *later > count;
        assert!(retires && !results.iter().any(is_later), "{last}: {results:?}");
    }
}

#[test]
fn the_items_behind_one_whose_worker_retires_run_elsewhere() {
    within_limit(|| {
        for chunk in [1, 4, 20] {
            let pool = pool(1);
            let ran = Reports::new();
            let items = (0..20).map({
                let ran = ran.clone();
                move |n| (ran.clone(), n)
            });
            let map = pool.map(report_and_retire_at_7_and_13, items).chunk_size(chunk);
            assert_each_ran_once(&ran, &map.result().unwrap());
            let metrics = pool.metrics();
            assert_eq!((metrics.failed, metrics.cancelled, metrics.workers_lost), (0, 0, 0));
            end(&pool);
        }
    });
}

fn map_below(ran: Reports) -> Vec<Ran> {
    let items = (0..20).map(move |n| (ran.clone(), n));
    let map = ParentPool::current().unwrap().map(report_and_retire_at_7_and_13, items);
    map.chunk_size(20).result().unwrap()
}

#[test]
fn the_same_in_a_map_of_a_task() {
    within_limit(|| {
        let pool = pool(1);
        let ran = Reports::new();
        let results = pool.submit(call!(map_below(ran.clone()))).result().unwrap();
        assert_each_ran_once(&ran, &results);
        end(&pool);
    });
}

static TOTAL: Mutex<u32> = Mutex::new(0);

/// Fails wherever it has panicked before.
fn count(n: u32) -> u32 {
    let mut total = TOTAL.lock().unwrap();
    *total += 1;
    assert!(n % 10 != 3, "three");
    n
}

#[test]
fn a_worker_in_which_a_job_has_panicked_is_replaced() {
    within_limit(|| {
        for size in [1, 3] {
            let pool = builder(size).replace_worker_after_panic(true).build().unwrap();
            let tasks: Vec<_> = (0..100).map(|n| pool.submit(call!(count(n)))).collect();
            for (n, task) in (0..).zip(tasks) {
                match task.result() {
                    Ok(value) => assert_eq!(value, n),
                    failed => {
                        assert_panicked(&failed, "three");
                        assert_eq!(n % 10, 3);
                    }
                }
            }
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.failed, metrics.workers_lost), (90, 10, 0));
            end(&pool);
        }
    });
}

#[test]
fn a_worker_in_which_an_item_has_panicked_is_replaced() {
    within_limit(|| {
        for chunk in [1, 7, 100] {
            let pool = builder(2).replace_worker_after_panic(true).build().unwrap();
            let map = pool.map(count, 0..50).chunk_size(chunk);
            let results: Vec<_> = block_on(map.collect());
            for (n, result) in (0..).zip(&results) {
                match result {
                    Ok(value) => assert_eq!(*value, n),
                    failed => {
                        assert_panicked(failed, "three");
                        assert_eq!(n % 10, 3);
                    }
                }
            }
            assert_eq!((results.len(), pool.metrics().workers_lost), (50, 0));
            end(&pool);
        }
    });
}

#[test]
fn without_the_setting_a_worker_goes_on_after_a_panic() {
    within_limit(|| {
        let pool = pool(1);
        assert_panicked(&pool.submit(call!(count(3))).result(), "three");
        let Err(Error::Panicked(poisoned)) = pool.submit(call!(count(4))).result() else {
            panic!()
        };
        assert!(poisoned.message().contains("Poison"), "{poisoned}");
        end(&pool);
    });
}

#[test]
fn nothing_but_a_job_of_a_worker_process_can_retire_a_worker() {
    fn in_initializer() -> Result<(), String> {
        if task::retire_worker() { Err("it would have".to_owned()) } else { Ok(()) }
    }
    fn on_another_thread() -> bool {
        std::thread::spawn(task::retire_worker).join().unwrap()
    }
    within_limit(|| {
        assert!(!task::retire_worker());
        assert!(!ThreadPoolExecutor::new().submit(task::retire_worker).result().unwrap());
        assert!(!InlineExecutor::new().submit(task::retire_worker).result().unwrap());
        let pool = builder(1).initializer(call!(in_initializer())).build().unwrap();
        let pid = pool.submit(call!(own_pid())).result().unwrap();
        assert!(!pool.submit(call!(on_another_thread())).result().unwrap());
        assert_eq!(pool.submit(call!(own_pid())).result().unwrap(), pid);
        end(&pool);
        let _: ProcessPoolExecutor = pool;
    });
}
