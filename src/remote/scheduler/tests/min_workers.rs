//! Workers that are there without a task.

use std::sync::Arc;
use std::time::Duration;

use super::{Config, Fate, Simulation};
use crate::executor_state::ExecutorState;
use crate::lifecycle::Accepting;
use crate::shutdown::Shutdown;

/// A pool as its builder leaves it.
fn built(seed: u64, change: impl FnOnce(&mut Config)) -> Simulation {
    let simulation = Simulation::new(seed, |config| {
        (config.min_workers, config.max_workers) = (2, 4);
        change(config);
    });
    let mut state = simulation.pool.state();
    simulation.pool.dispatch(&mut state);
    assert_eq!(state.working(), config_min(&simulation));
    simulation.pool.release(state);
    simulation.run();
    simulation
}

fn config_min(simulation: &Simulation) -> usize {
    simulation.pool.config.min_workers
}

fn workers(simulation: &Simulation) -> Vec<u32> {
    simulation.pool.state().workers.keys().copied().collect()
}

fn lose_one(simulation: &Simulation) {
    let first = workers(simulation)[0];
    simulation.world.lock().die(first, false);
    simulation.run();
    assert!(!workers(simulation).contains(&first));
}

#[test]
fn workers_that_are_lost_without_a_task_are_replaced() {
    let simulation = built(31, |_| ());
    let before = workers(&simulation);
    for _ in 0..4 {
        lose_one(&simulation);
        assert_eq!(workers(&simulation).len(), 2);
    }
    assert!(before.iter().all(|number| !workers(&simulation).contains(number)));
    simulation.submit_all(10, 5);
    simulation.end();
}

/// They have done nothing, but not in vain.
#[test]
fn workers_that_die_while_they_are_dismissed_do_not_break_the_pool() {
    let simulation = built(36, |config| {
        (config.min_workers, config.max_workers) = (5, 5);
        config.finalizer = Some(Arc::default());
    });
    simulation.pool.close(Shutdown::Drain);
    for number in workers(&simulation) {
        simulation.world.lock().die(number, false);
    }
    simulation.run();
    assert_eq!(simulation.world.lock().finalized, 0, "they die before they are told");
    assert!(matches!(simulation.pool.executor_state(), ExecutorState::Ended));
    assert_eq!(simulation.pool.metrics().workers_lost, 0);
}

/// Else the pool would start processes for ever.
#[test]
fn workers_that_die_of_their_start_break_the_pool() {
    let simulation = built(32, |_| ());
    for _ in 0..5 {
        assert!(simulation.pool.check_open().is_ok());
        lose_one(&simulation);
    }
    let error = simulation.pool.check_open().unwrap_err();
    assert!(format!("{error:?}").contains("before their first task"), "{error:?}");
}

#[test]
fn workers_that_have_lived_for_long_have_not_died_of_their_start() {
    let simulation = built(33, |_| ());
    for _ in 0..20 {
        simulation.world.lock().now += Duration::from_secs(1);
        lose_one(&simulation);
    }
    assert!(simulation.pool.check_open().is_ok());
    assert_eq!(workers(&simulation).len(), 2);
    simulation.end();
}

#[test]
fn the_idle_timeout_leaves_the_smallest_number_of_workers() {
    for micros in [0, 50] {
        let simulation =
            built(34, |config| config.idle_timeout = Some(Duration::from_micros(micros)));
        for _ in 0..10 {
            simulation.submit_all(8, 5_000);
            simulation.run_some(20);
            assert!(workers(&simulation).len() >= 2);
            simulation.run();
            assert_eq!(workers(&simulation).len(), 2);
        }
        simulation.end();
    }
}

#[test]
fn a_worker_that_has_had_its_tasks_is_replaced_without_another_one() {
    let simulation = built(35, |config| config.max_tasks_per_worker = Some(1));
    let before = workers(&simulation);
    simulation.submit_all(2, 5);
    simulation.run();
    assert_eq!(workers(&simulation).len(), 2);
    assert!(before.iter().all(|number| !workers(&simulation).contains(number)));
    simulation.end();
}

#[test]
fn refused_starts_break_no_pool_without_tasks() {
    let simulation = Simulation::new(36, |config| config.min_workers = 2);
    simulation.world.lock().refusals = 1; // all
    let mut state = simulation.pool.state();
    simulation.pool.dispatch(&mut state);
    simulation.pool.release(state);
    simulation.run_some(100);
    assert!(simulation.pool.check_open().is_ok());
    assert!(simulation.pool.state().starts.current_try() > 10);
    simulation.world.lock().refusals = 0;
    simulation.run();
    assert_eq!(workers(&simulation).len(), 2);
    simulation.submit(Fate::Returns, 5);
    simulation.end();
}

#[test]
fn a_pool_that_is_closed_starts_no_worker_without_a_task() {
    let simulation = built(37, |_| ());
    simulation.end();
    assert_eq!(workers(&simulation).len(), 0);
}
