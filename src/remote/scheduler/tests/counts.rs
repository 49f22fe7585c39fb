//! The pool's counts: queued tasks, room in the queue, starts, and the tasks of a worker.

use super::{Fate, Simulation, is_value};
use crate::core::Options;
use crate::lifecycle::Accepting;
use crate::room::Room;

/// Its worker is lost when it is known that it has started, and the kill is yet to come.
#[test]
fn a_task_that_is_queued_again_while_it_is_killed_leaves_the_queue() {
    let simulation = Simulation::new(15, |config| config.max_workers = 1);
    let killed =
        simulation.submit_with(Fate::Dies, 5, Options { retries: 1, ..Options::default() });
    let behind = simulation.submit_all(2, 5_000);
    simulation.run_until_started(killed);
    while simulation.pool.state().tasks[&killed].options.retries > 0 {
        assert!(simulation.world.step(&simulation.pool), "its worker is never lost");
    }
    assert!(simulation.pool.state().tasks[&killed].is_queued());
    drop(simulation.pool.state().remove(killed));
    simulation.check_queued();
    simulation.end();
    assert!(behind.into_iter().all(|task| is_value(&simulation.outcome(task))));
}

#[test]
fn a_task_that_is_killed_before_its_start_is_known_gives_its_room_back() {
    let simulation = Simulation::new(16, |config| {
        config.max_workers = 1;
        config.queue_capacity = Some(200);
    });
    let (first, behind) = simulation.send_behind(Fate::Returns, 1, &[1_000]);
    simulation.run_until_started(behind[0]);
    assert!(!simulation.is_done(first), "its reply is on the way");
    assert!(simulation.pool.kill(behind[0]));
    simulation.end();
    assert_eq!(simulation.pool.room().map(Room::left), Some(200));
}

#[test]
fn a_task_that_another_worker_has_taken_over_is_counted_as_started_once() {
    let simulation = Simulation::new(17, |_| ());
    simulation.submit_all(100, 5); // so that tasks are sent ahead
    simulation.run();
    simulation.submit_all(2, 5); // so that the workers are busy
    let slow = simulation.submit(Fate::Returns, 3_000);
    simulation.submit_all(60, 100);
    simulation.run_until_started(slow);
    simulation.end();
    let metrics = simulation.pool.metrics();
    assert_eq!(metrics.queue_time.count(), metrics.submitted);
}

#[test]
fn a_worker_that_takes_over_has_no_more_tasks_than_it_may_have() {
    for limit in 20..60 {
        let simulation = Simulation::new(18, |config| config.max_tasks_per_worker = Some(limit));
        simulation.submit_all(30, 5); // so that tasks are sent ahead
        simulation.run();
        simulation.submit_all(2, 5); // so that the workers are busy
        simulation.submit(Fate::Returns, 3_000);
        simulation.submit_all(60, 5);
        simulation.end();
        let most = simulation.world.lock().orders.values().map(Vec::len).max();
        assert_eq!(most, Some(limit));
    }
}
