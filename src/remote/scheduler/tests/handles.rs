//! Tasks that have handles: where these are, and for how long.

use std::sync::{Arc, OnceLock};

use super::{Fate, Options, Script, Simulation, is_lost, is_value};
use crate::codec::Encoded;
use crate::codec::handle::Descriptor;
use crate::remote::frame::Content;
use crate::sys;

fn descriptor() -> Descriptor {
    Descriptor::from(sys::memory_file(0).unwrap())
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
    let (first, _) = simulation.send_behind(Fate::Returns, 1_000, &[]);
    let (second, handle) = simulation.submit_handle(Fate::Returns, 1_000, 0);
    let behind = simulation.submit_all(3, 1);
    {
        let state = simulation.pool.state();
        assert!(!state.tasks[&first].is_queued() && state.tasks[&second].is_queued());
    }
    simulation.run_until_started(second);
    assert!(simulation.is_done(first) && is_alone(&handle), "what runs has the only copy");
    simulation.end();
    assert!(simulation.world.lock().order.is_sorted());
    assert!(behind.into_iter().chain([second]).all(|task| is_value(&simulation.outcome(task))));
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
