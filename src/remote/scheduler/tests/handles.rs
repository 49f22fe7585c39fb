//! Tasks that have handles: where these are, and for how long.

use std::sync::{Arc, OnceLock};

use super::{Fate, Options, Script, Simulation, is_lost, is_value};
use crate::codec::Encoded;
use crate::codec::handle::Descriptor;
use crate::remote::frame::{Content, Kind};
use crate::sys;

fn descriptor() -> Descriptor {
    Descriptor::new(sys::memory_file(0).unwrap().into())
}

fn content(descriptor: &Descriptor) -> Content {
    let values = Encoded { descriptors: vec![Arc::clone(descriptor)], ..Encoded::default() };
    Content { code: None, values }
}

/// A content with a handle, the same each time.
pub(super) fn any_content() -> Content {
    static SAME: OnceLock<Descriptor> = OnceLock::new();
    content(SAME.get_or_init(descriptor))
}

impl Simulation {
    fn submit_handle(&self, fate: Fate, micros: u32, retries: u32) -> (u64, Descriptor) {
        let descriptor = descriptor();
        let options = Options { retries, ..Options::default() };
        let script = Script { fate, micros, level: 0 };
        (self.submit_content(script, options, content(&descriptor)), descriptor)
    }
}

/// Returns whether the pool has let go of a descriptor.
fn is_alone(descriptor: &Descriptor) -> bool {
    Arc::strong_count(descriptor) == 1
}

#[test]
fn a_task_with_a_handle_lies_behind_no_other() {
    let simulation = Simulation::new(60, |config| config.max_workers = 1);
    simulation.submit_all(100, 4);
    simulation.run(); // now the worker is known to be quick
    simulation.submit_all(1, 1);
    let ahead = simulation.submit_all(3, 1_000);
    let (second, handle) = simulation.submit_handle(Fate::Returns, 1_000, 0);
    let behind = simulation.submit_all(3, 1);
    simulation.run_until_started(ahead[0]);
    {
        let is_queued = |task: &u64| simulation.pool.state().tasks[task].is_queued();
        assert!(!ahead.iter().any(is_queued), "others lie behind the first one");
        assert!(is_queued(&second) && behind.iter().all(is_queued));
    }
    simulation.run_until_started(second);
    assert!(is_alone(&handle), "what runs has the only copy");
    simulation.end();
    assert!(simulation.world.lock().order.is_sorted());
    let mut all = ahead.into_iter().chain(behind).chain([second]);
    assert!(all.all(|task| is_value(&simulation.outcome(task))));
}

#[test]
fn a_task_that_may_run_again_keeps_its_handle_until_it_may_not() {
    let simulation = Simulation::new(61, |config| config.max_workers = 1);
    let (task, handle) = simulation.submit_handle(Fate::Dies, 50, 1);
    simulation.run_until_started(task);
    assert!(!is_alone(&handle));
    while simulation.starts(task) < 2 {
        assert!(simulation.world.step(&simulation.pool));
    }
    assert!(is_alone(&handle));
    simulation.end();
    assert!(is_lost(&simulation.outcome(task)));
}

#[test]
fn a_task_whose_worker_dies_before_it_begins_is_lost_with_its_handle() {
    for retries in [0, 1] {
        let simulation = Simulation::new(62, |config| config.max_workers = 1);
        simulation.submit_all(1, 1);
        simulation.run();
        let worker = *simulation.pool.state().workers.keys().next().unwrap();
        let (task, handle) = simulation.submit_handle(Fate::Returns, 50, retries);
        assert_eq!(is_alone(&handle), retries == 0);
        simulation.world.lock().die(worker, false);
        let behind = simulation.submit_all(3, 1);
        simulation.end();
        let outcome = simulation.outcome(task);
        assert!(if retries == 0 { is_lost(&outcome) } else { is_value(&outcome) }, "{outcome:?}");
        assert_eq!(simulation.starts(task), retries);
        assert!(behind.into_iter().all(|task| is_value(&simulation.outcome(task))));
    }
}

#[test]
fn a_start_that_is_refused_costs_no_task_with_a_handle() {
    for seed in 0..50 {
        let simulation = Simulation::new(seed, |_| ());
        simulation.world.lock().refusals = 3;
        let tasks: Vec<_> =
            (0..4).map(|_| simulation.submit_handle(Fate::Returns, 50, 0)).collect();
        simulation.end();
        for (task, handle) in tasks {
            let outcome = simulation.outcome(task);
            assert!(is_value(&outcome) && is_alone(&handle), "seed {seed}: {outcome:?}");
        }
    }
}

/// The initializer may take long, or fail.
#[test]
fn behind_the_initializer_a_task_keeps_its_handle() {
    let simulation = Simulation::new(64, |config| {
        config.max_workers = 1;
        config.initializer = Some(Arc::default());
    });
    let (task, handle) = simulation.submit_handle(Fate::Returns, 50, 0);
    while simulation.world.lock().spawned == 0 {
        assert!(simulation.world.step(&simulation.pool));
    }
    assert!(!is_alone(&handle), "the worker may still be lost before the task begins");
    while !is_alone(&handle) {
        assert!(simulation.world.step(&simulation.pool));
    }
    assert!(!simulation.is_done(task));
    simulation.end();
    assert!(is_value(&simulation.outcome(task)));
}

#[test]
fn a_worker_that_is_stopped_keeps_the_task_whose_handle_it_has() {
    let simulation = Simulation::new(65, |config| config.max_workers = 1);
    simulation.submit_all(1, 1);
    simulation.run();
    let worker = *simulation.pool.state().workers.keys().next().unwrap();
    let (task, handle) = simulation.submit_handle(Fate::Returns, 50, 0);
    let stop = |is_stopped| {
        let mut state = simulation.pool.state();
        simulation.pool.on_stopped(&mut state, worker, is_stopped);
        simulation.pool.release(state);
    };
    stop(true);
    assert!(is_alone(&handle) && !simulation.pool.state().tasks[&task].is_queued());
    stop(false);
    simulation.end();
    assert!(is_value(&simulation.outcome(task)));
    assert_eq!(simulation.starts(task), 1);
}

impl Simulation {
    fn told(&self, of: Kind) -> Vec<(u32, u64)> {
        let told = self.world.lock().told.clone();
        let is_it = |(worker, kind, number)| (kind == of).then_some((worker, number));
        told.into_iter().filter_map(is_it).collect()
    }
}

#[test]
fn each_worker_keeps_what_it_was_sent_until_the_last_handle_is_gone() {
    let simulation = Simulation::new(66, |config| config.max_workers = 1);
    let handle = descriptor();
    handle.keep_as((0, 7));
    let submit = |handle: &Descriptor| {
        let script = Script { fate: Fate::Returns, micros: 10, level: 0 };
        simulation.submit_content(script, Options::default(), content(handle));
        simulation.run();
    };
    submit(&handle);
    submit(&handle);
    assert_eq!(simulation.told(Kind::Keep), [(0, 7)], "once");
    // The same memory, known by another descriptor.
    let again = descriptor();
    again.keep_as((0, 7));
    submit(&again);
    drop(handle);
    simulation.run();
    assert_eq!(simulation.told(Kind::Forget), []);
    drop(again);
    assert_eq!(simulation.told(Kind::Forget), [], "by the thread that reads");
    simulation.run();
    assert_eq!(simulation.told(Kind::Forget), [(0, 7)]);
    assert!(simulation.pool.state().workers.values().all(|worker| worker.kept.is_empty()));
    let last = descriptor();
    last.keep_as((0, 8));
    submit(&last);
    simulation.end();
    let pool = Arc::downgrade(&simulation.pool);
    drop(simulation);
    assert!(pool.upgrade().is_none());
    drop(last);
}

#[test]
fn the_last_handle_may_go_with_a_task_under_the_pool_s_lock() {
    let simulation = Simulation::new(67, |config| config.max_workers = 1);
    simulation.submit_all(1, 1);
    simulation.run();
    let handle = descriptor();
    handle.keep_as((0, 7));
    let script = Script { fate: Fate::Returns, micros: 10, level: 0 };
    let retried = Options { retries: 1, ..Options::default() };
    simulation.submit_content(script, retried, content(&handle));
    drop(handle);
    assert_eq!(simulation.told(Kind::Keep).len(), 1);
    simulation.run();
    assert_eq!(simulation.told(Kind::Forget).len(), 1);
    simulation.end();
}
