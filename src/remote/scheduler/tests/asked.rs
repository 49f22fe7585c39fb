//! Withdrawals that the transport can't decide at once: each order of the worker's answer, its reply and
//! its loss.

use super::{Fate, Simulation, is_lost, is_value};
use crate::error::Error;

/// One worker, and a transport that asks it for each task that is to be withdrawn.
fn simulation(seed: u64) -> Simulation {
    let simulation = Simulation::new(seed, |config| config.max_workers = 1);
    simulation.world.lock().asks = 1;
    simulation
}

impl Simulation {
    fn run_until_answered(&self, answers: usize) {
        while self.world.lock().answers.len() < answers {
            assert!(self.world.step(&self.pool), "it is never answered");
        }
    }

    fn answers(&self) -> Vec<(u64, bool)> {
        self.world.lock().answers.clone()
    }
}

#[test]
fn a_task_that_its_worker_withdraws_is_cancelled() {
    let simulation = simulation(30);
    let (first, behind) = simulation.send_behind(Fate::Returns, 1_000, &[5, 5]);
    assert!(!simulation.pool.withdraw(behind[0], true), "it is not known yet");
    assert!(!simulation.pool.withdraw(behind[0], true), "nor now");
    simulation.run_until_done(behind[0]);
    assert!(!simulation.is_done(first), "the answer does not wait for the task that runs");
    assert!(matches!(simulation.outcome(behind[0]), Err(Error::Cancelled)));
    simulation.end();
    assert_eq!(simulation.answers(), [(behind[0], true)], "it is asked once");
    assert_eq!(simulation.starts(behind[0]), 0);
    assert!(is_value(&simulation.outcome(first)) && is_value(&simulation.outcome(behind[1])));
    assert_eq!(simulation.pool.metrics().cancelled, 1);
}

#[test]
fn a_reply_counts_that_comes_after_the_answer_no() {
    let simulation = simulation(31);
    let (first, _) = simulation.send_behind(Fate::Returns, 1_000, &[]);
    assert!(!simulation.pool.withdraw(first, true));
    simulation.run_until_answered(1);
    assert!(!simulation.is_done(first));
    simulation.end();
    assert_eq!(simulation.answers(), [(first, false)]);
    assert!(is_value(&simulation.outcome(first)));
}

/// The slot is used again before the answer is there; with every other seed by a task that is to be
/// withdrawn as well.
#[test]
fn a_reply_counts_that_comes_before_the_answer_no() {
    let mut reply_was_first = 0;
    for seed in 0..50 {
        let simulation = simulation(seed);
        let (first, behind) = simulation.send_behind(Fate::Returns, 1, &[5; 100]);
        let slot_of = |task| {
            let state = simulation.pool.state();
            let mut sent = state.workers.values().flat_map(|worker| &worker.sent);
            sent.find(|sent| sent.number == task).map(|sent| sent.slot)
        };
        let slot = slot_of(first);
        assert!(!simulation.pool.withdraw(first, true));
        simulation.run_until_done(first);
        let mut cancelled = None;
        if simulation.answers().is_empty() {
            reply_was_first += 1;
            cancelled = behind.iter().copied().find(|task| slot_of(*task) == slot);
            assert!(cancelled.is_some(), "seed {seed}: the slot is not used again");
        }
        cancelled = cancelled.filter(|_| seed % 2 == 0);
        if let Some(task) = cancelled {
            assert!(!simulation.pool.withdraw(task, true), "seed {seed}");
        }
        simulation.end();
        assert_eq!(simulation.answers()[0], (first, false), "seed {seed}");
        for task in behind.into_iter().chain([first]) {
            let outcome = simulation.outcome(task);
            let is_right = match cancelled {
                Some(it) if it == task => matches!(outcome, Err(Error::Cancelled)),
                _ => is_value(&outcome),
            };
            assert!(is_right, "seed {seed}: task {task}: {outcome:?}");
            assert_eq!(simulation.starts(task), u32::from(cancelled != Some(task)));
        }
    }
    assert!(reply_was_first > 0);
}

#[test]
fn the_death_of_a_worker_is_an_answer() {
    let simulation = simulation(33);
    let (first, behind) = simulation.send_behind(Fate::Returns, 1_000, &[5, 5, 5]);
    for task in [first, behind[1]] {
        assert!(!simulation.pool.withdraw(task, true));
    }
    let workers: Vec<u32> = simulation.pool.state().workers.keys().copied().collect();
    simulation.world.lock().die(workers[0], true);
    simulation.end();
    assert!(simulation.answers().is_empty());
    assert!(is_lost(&simulation.outcome(first)), "it had started");
    assert!(matches!(simulation.outcome(behind[1]), Err(Error::Cancelled)));
    assert_eq!(simulation.starts(behind[1]), 0);
    assert!(is_value(&simulation.outcome(behind[0])) && is_value(&simulation.outcome(behind[2])));
}

#[test]
fn a_task_that_its_worker_gives_back_is_the_next_one() {
    let simulation = simulation(34);
    let behind = [5_000; 8];
    let (waiting, behind) = simulation.send_behind(Fate::Waits, 1_000_000, &behind);
    assert_eq!(simulation.pool.state().queued, 0, "all were sent ahead");
    let later = simulation.submit_all(3, 5_000);
    simulation.end();
    let answers: Vec<_> = behind.iter().rev().map(|task| (*task, true)).collect();
    assert_eq!(simulation.answers()[..8], answers);
    let order = simulation.world.lock().order.clone();
    let place = order.iter().position(|task| *task == waiting).unwrap();
    // The worker that stands in has begun before the answers are there.
    let expected: Vec<u64> = [&later[..1], &behind, &later[1..]].concat();
    assert_eq!(order[place + 1..], expected);
}

/// To end a task is more than to take it back.
#[test]
fn a_task_that_is_asked_back_can_be_cancelled() {
    let simulation = simulation(35);
    let (waiting, behind) = simulation.send_behind(Fate::Waits, 1_000_000, &[5_000; 3]);
    while simulation.pool.state().workers.values().all(|worker| worker.asked.is_empty()) {
        assert!(simulation.world.step(&simulation.pool), "it is never asked");
    }
    assert!(!simulation.pool.withdraw(behind[1], true));
    simulation.end();
    assert!(matches!(simulation.outcome(behind[1]), Err(Error::Cancelled)));
    for task in [waiting, behind[0], behind[2]] {
        assert!(is_value(&simulation.outcome(task)));
    }
}

#[test]
fn a_task_that_is_killed_costs_its_worker_only_if_it_has_started() {
    let simulation = simulation(36);
    let (first, behind) = simulation.send_behind(Fate::Returns, 1_000_000, &[5, 5]);
    assert!(simulation.pool.kill(behind[0]));
    simulation.run_until_answered(1);
    assert!(simulation.pool.kill(first));
    simulation.end();
    assert_eq!(simulation.answers()[..2], [(behind[0], true), (first, false)]);
    assert_eq!(simulation.world.lock().spawned, 2);
    assert_eq!((simulation.starts(first), simulation.starts(behind[0])), (1, 0));
    assert!(!simulation.is_done(first) && !simulation.is_done(behind[0]), "who kills knows");
    assert!(is_value(&simulation.outcome(behind[1])));
}

#[test]
fn a_refused_start_is_an_answer() {
    let mut unanswered = 0;
    for seed in 0..50 {
        let simulation = simulation(seed);
        simulation.world.lock().refusals = 1;
        let task = simulation.submit(Fate::Returns, 5);
        let is_asked = !simulation.pool.state().workers.is_empty();
        if is_asked {
            assert!(!simulation.pool.withdraw(task, true));
            simulation.run();
            assert!(matches!(simulation.outcome(task), Err(Error::Cancelled)), "seed {seed}");
            unanswered += usize::from(simulation.answers().is_empty());
        }
    }
    assert!(unanswered > 0, "the refusal never came first");
}
