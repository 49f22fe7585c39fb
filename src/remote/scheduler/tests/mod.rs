//! The scheduler over the loopback: what it decides, one thing at a time, and then random programs. In the
//! test's process alone, as the loopback's workers are simulated.

mod asked;
mod counts;
#[cfg(all(target_os = "linux", not(miri)))]
mod handles;
mod maps;
mod min_workers;
mod nesting;
mod programs;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use super::config::Config;
use super::loopback::{Fate, Loopback, LoopbackHub, Script, World};
use super::worker::Sent;
use crate::core::{OnUnobserved, Options, TaskId};
use crate::error::Error;
use crate::instruments::Instruments;
use crate::lifecycle::Accepting;
use crate::reactor::UserCode;
use crate::remote::frame::{Content, Frame, Header, Kind};
use crate::remote::submission::{Counted, ReplySink, Submission};
use crate::shutdown::Shutdown;
use crate::sync::Mutex;
use crate::trace::TaskTrace;

/// What came of a task: the kind of its reply, or the error.
type Outcome = Result<Kind, Error>;

type Outcomes = Arc<Mutex<BTreeMap<u64, Vec<Outcome>>>>;

type State = super::state::State<Loopback>;

struct Simulation {
    world: Arc<World>,
    pool: Arc<Pool<Loopback>>,
    outcomes: Outcomes,
}

struct Sink {
    number: u64,
    outcomes: Outcomes,
}

impl ReplySink for Sink {
    fn takes_long(&self, _: usize) -> bool {
        false
    }

    fn complete(
        self: Box<Self>,
        reply: Result<Frame, Error>,
        _: &TaskTrace,
        account: &dyn Fn(Counted),
    ) {
        account(Counted::of(reply.as_ref().is_ok_and(|frame| frame.header.kind == Kind::Value)));
        let outcome = reply.map(|frame| frame.header.kind);
        self.outcomes.lock().entry(self.number).or_default().push(outcome);
    }
}

/// The seeds of a test: so many, or as many as the variable `TEST_SEEDS` says. A seed gives the same run
/// each time, so few tell of a change, and many are for a change of what they are about.
fn seeds(few: u64) -> Range<u64> {
    let number = std::env::var("TEST_SEEDS").map(|number| number.parse().expect("a number"));
    0..number.unwrap_or(if cfg!(miri) { few.div_ceil(100) } else { few })
}

impl Simulation {
    fn new(seed: u64, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            max_workers: 2,
            min_workers: 0,
            max_waiting: 32,
            name: "w".to_owned(),
            initializer: None,
            finalizer: None,
            max_tasks_per_worker: None,
            queue_capacity: None,
            idle_timeout: None,
            on_unobserved: OnUnobserved::default(),
            instruments: Instruments::new("w"),
        };
        change(&mut config);
        let world = World::new(seed);
        let hub = LoopbackHub(Arc::clone(&world));
        let pool = Pool::new(config, Loopback(Arc::clone(&world)), hub);
        Self { world, pool, outcomes: Outcomes::default() }
    }

    fn submit_with(&self, fate: Fate, micros: u32, options: Options) -> u64 {
        self.submit_script(Script { fate, micros, level: 0 }, options)
    }

    fn submit_script(&self, script: Script, options: Options) -> u64 {
        self.submit_content(script, options, Content::default())
    }

    fn submit_content(&self, script: Script, options: Options, content: Content) -> u64 {
        let number = TaskId::next().get();
        let sink = Box::new(Sink { number, outcomes: Arc::clone(&self.outcomes) });
        let room = self.pool.room();
        assert!(room.is_none_or(|room| room.take().is_ok()), "the queue is full");
        let accepted = self.pool.push(Submission {
            number,
            kind: Kind::Call,
            content,
            sink,
            options,
            holds_room: room.is_some(),
            detail: script.to_detail(),
            trace: TaskTrace::none(),
            context: None,
        });
        assert!(accepted.is_ok());
        number
    }

    fn submit(&self, fate: Fate, micros: u32) -> u64 {
        self.submit_with(fate, micros, Options::default())
    }

    /// Submits tasks that return after so many microseconds.
    fn submit_all(&self, count: usize, micros: u32) -> Vec<u64> {
        (0..count).map(|_| self.submit(Fate::Returns, micros)).collect()
    }

    fn run(&self) {
        self.world.run(&self.pool);
    }

    fn run_some(&self, events: u64) {
        for _ in 0..events {
            self.world.step(&self.pool);
        }
    }

    /// Lets things happen until the task has been started.
    fn run_until_started(&self, task: u64) {
        while !self.world.lock().starts.contains_key(&task) {
            assert!(self.world.step(&self.pool), "it is never started");
        }
    }

    /// Submits tasks of which the first runs for so long, and the others are sent ahead to its worker, if
    /// there is one.
    fn send_behind(&self, fate: Fate, micros: u32, behind: &[u32]) -> (u64, Vec<u64>) {
        self.submit_all(100, 4);
        self.run(); // now the worker is known to be quick
        self.submit(Fate::Returns, 1);
        let first = self.submit(fate, micros);
        let behind = behind.iter().map(|micros| self.submit(Fate::Returns, *micros)).collect();
        self.run_until_started(first);
        (first, behind)
    }

    fn run_until_done(&self, task: u64) {
        while !self.is_done(task) {
            assert!(self.world.step(&self.pool), "it is never done");
        }
    }

    fn is_done(&self, task: u64) -> bool {
        self.outcomes.lock().contains_key(&task)
    }

    /// Closes the pool and lets it end.
    fn end(&self) {
        self.pool.close(Shutdown::Drain);
        self.run();
        assert!(self.pool.state().is_over, "the pool has not ended");
    }

    /// Takes the outcome of a task that is done.
    fn outcome(&self, task: u64) -> Outcome {
        let mut all = self.outcomes.lock().remove(&task).expect("it is done");
        assert_eq!(all.len(), 1, "it is done once");
        all.remove(0)
    }

    /// Returns whether a task may be submitted, as far as its queue has a bound.
    fn has_room(&self) -> bool {
        self.pool.room().is_none_or(|room| room.left() > 0)
    }

    /// Checks that the count of queued tasks is right.
    fn check_queued(&self) {
        let state = self.pool.state();
        let queued = state.tasks.values().filter(|task| task.is_queued()).count();
        assert_eq!(state.queued, queued);
    }

    fn starts(&self, task: u64) -> u32 {
        self.world.lock().starts.get(&task).copied().unwrap_or(0)
    }
}

fn is_value(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(Kind::Value))
}

fn is_lost(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Error::WorkerLost(_)))
}

#[test]
fn each_task_runs_once_and_the_pool_ends() {
    let simulation = Simulation::new(1, |_| ());
    let tasks = simulation.submit_all(100, 50);
    simulation.end();
    for task in tasks {
        assert!(is_value(&simulation.outcome(task)));
        assert_eq!(simulation.starts(task), 1);
    }
    let metrics = simulation.pool.metrics();
    assert_eq!((metrics.submitted, metrics.completed, metrics.workers), (100, 100, 0));
    assert_eq!(simulation.world.lock().most_workers, 2);
}

#[test]
fn quick_tasks_are_sent_ahead_and_slow_ones_are_not() {
    for (micros, deepest) in [(4, 20..=64), (100, 2..=3), (5_000, 1..=1)] {
        let simulation = Simulation::new(2, |config| config.max_workers = 1);
        simulation.submit_all(300, micros);
        simulation.run();
        let depth = simulation.world.lock().deepest;
        assert!(deepest.contains(&depth), "{depth} tasks of {micros} us");
    }
}

#[test]
fn tasks_are_started_in_the_order_of_their_submission() {
    let simulation = Simulation::new(3, |config| config.max_workers = 1);
    let tasks = simulation.submit_all(200, 10);
    simulation.run();
    assert_eq!(simulation.world.lock().order, tasks);
}

#[test]
fn a_task_is_withdrawn_or_has_started() {
    let simulation = Simulation::new(4, |config| config.max_workers = 1);
    let tasks = simulation.submit_all(50, 10);
    simulation.run_until_started(tasks[10]);
    let (first, last) = (tasks[10], tasks[49]);
    assert!(!simulation.pool.withdraw(first, true), "it runs");
    assert!(simulation.pool.withdraw(last, true), "it waits");
    let ahead: Vec<bool> =
        tasks[11..40].iter().map(|task| simulation.pool.withdraw(*task, false)).collect();
    simulation.run();
    for (task, is_withdrawn) in tasks[11..40].iter().zip(ahead) {
        assert_eq!(simulation.starts(*task), u32::from(!is_withdrawn));
    }
    assert_eq!(simulation.starts(last), 0);
    assert!(is_value(&simulation.outcome(first)));
    simulation.end();
}

#[test]
fn an_idle_worker_takes_what_another_one_has_not_begun() {
    for asks in [0, 1] {
        let simulation = Simulation::new(5, |_| ());
        simulation.world.lock().asks = asks;
        simulation.submit_all(100, 5); // so that tasks are sent ahead
        simulation.run();
        simulation.submit_all(2, 5); // so that the workers are busy
        let slow = simulation.submit(Fate::Returns, 400_000);
        let others = simulation.submit_all(60, 5);
        simulation.run_until_started(slow);
        for _ in 0..100_000 {
            if others.iter().all(|task| simulation.outcomes.lock().contains_key(task)) {
                break;
            }
            assert!(simulation.world.step(&simulation.pool));
        }
        assert!(!simulation.outcomes.lock().contains_key(&slow), "the others do not wait for it");
        simulation.end();
        assert_eq!(simulation.world.lock().starts.values().max(), Some(&1));
    }
}

#[test]
fn a_death_fails_the_task_that_ran_and_no_other() {
    let simulation = Simulation::new(6, |config| config.max_workers = 1);
    let before = simulation.submit_all(20, 5);
    let deadly = simulation.submit(Fate::Dies, 5);
    let behind = simulation.submit_all(20, 5);
    simulation.end();
    assert!(is_lost(&simulation.outcome(deadly)));
    assert!(simulation.world.lock().order.is_sorted(), "what was taken back keeps its order");
    for task in before.into_iter().chain(behind) {
        assert!(is_value(&simulation.outcome(task)));
        assert_eq!(simulation.starts(task), 1);
    }
    assert_eq!(simulation.pool.metrics().workers_lost, 1);
}

#[test]
fn a_lost_task_is_tried_again_before_those_that_wait() {
    let simulation = Simulation::new(7, |config| config.max_workers = 1);
    let deadly =
        simulation.submit_with(Fate::Dies, 5, Options { retries: 2, ..Options::default() });
    let behind = simulation.submit_all(3, 3_000);
    simulation.end();
    // Until it is known how a worker has died, the next one begins with what comes next.
    let expected = [deadly, behind[0], deadly, behind[1], deadly, behind[2]];
    assert_eq!(simulation.world.lock().order, expected);
    let Err(Error::WorkerLost(lost)) = simulation.outcome(deadly) else { panic!("it is lost") };
    assert_eq!(lost.earlier.len(), 2);
}

#[test]
fn a_killed_task_is_cancelled_and_its_worker_replaced() {
    let simulation = Simulation::new(8, |config| config.max_workers = 1);
    let killed = simulation.submit(Fate::Returns, 1_000_000);
    let behind = simulation.submit(Fate::Returns, 5);
    simulation.run_until_started(killed);
    assert!(simulation.pool.kill(killed));
    assert!(!simulation.pool.kill(killed), "that is final");
    simulation.end();
    assert!(!simulation.outcomes.lock().contains_key(&killed), "who has killed it knows");
    assert!(is_value(&simulation.outcome(behind)));
    assert_eq!(simulation.world.lock().spawned, 2);
}

#[test]
fn a_task_that_is_killed_when_its_reply_is_on_the_way_costs_no_worker() {
    let simulation = Simulation::new(14, |config| config.max_workers = 1);
    let (killed, behind) = simulation.send_behind(Fate::Returns, 1, &[1_000, 5]);
    simulation.run_until_started(behind[0]);
    assert!(!simulation.is_done(killed), "its reply is on the way");
    assert!(simulation.pool.kill(killed));
    simulation.end();
    assert!(!simulation.is_done(killed), "who has killed it knows");
    assert!(behind.into_iter().all(|task| is_value(&simulation.outcome(task))));
    assert_eq!(simulation.world.lock().spawned, 1);
}

#[test]
fn a_time_limit_counts_from_the_start() {
    let simulation = Simulation::new(9, |config| config.max_workers = 1);
    let limit = Some(Duration::from_millis(10));
    let limited = |micros| {
        let options = Options { timeout: limit, ..Options::default() };
        simulation.submit_with(Fate::Returns, micros, options)
    };
    let first = limited(9_000);
    let second = limited(9_000);
    let third = limited(11_000);
    simulation.end();
    assert!(is_value(&simulation.outcome(first)) && is_value(&simulation.outcome(second)));
    assert!(matches!(simulation.outcome(third), Err(Error::TimedOut { started: true, .. })));
}

#[test]
fn a_worker_whose_task_waits_does_not_count() {
    let simulation = Simulation::new(10, |config| config.max_workers = 1);
    let waiting = simulation.submit(Fate::Waits, 100_000);
    let other = simulation.submit(Fate::Returns, 10);
    simulation.end();
    assert!(is_value(&simulation.outcome(waiting)) && is_value(&simulation.outcome(other)));
    let inner = simulation.world.lock();
    assert_eq!(inner.spawned, 2, "one stands in for the one that waits");
    assert_eq!(inner.order, [waiting, other]);
}

#[test]
fn a_worker_that_retires_is_replaced() {
    let simulation = Simulation::new(11, |config| {
        config.max_workers = 1;
        config.max_tasks_per_worker = Some(3);
    });
    simulation.submit_all(9, 5);
    simulation.end();
    assert_eq!(simulation.world.lock().spawned, 3);
}

#[test]
fn workers_that_are_dismissed_run_the_finalizer_and_others_do_not() {
    let simulation = |seed| {
        Simulation::new(seed, |config| {
            config.max_workers = 3;
            config.max_tasks_per_worker = Some(3);
            config.finalizer = Some(Arc::default());
        })
    };
    for seed in 0..100 {
        let drained = simulation(seed);
        drained.submit_all(30, 5);
        drained.end();
        let world = drained.world.lock();
        assert_eq!(world.finalized, world.spawned, "seed {seed}");

        let killed = simulation(seed);
        killed.submit_all(2, 5);
        killed.run();
        assert_eq!(killed.world.lock().finalized, 0, "seed {seed}");
        killed.pool.kill_workers();
        killed.run();
        assert_eq!(killed.world.lock().finalized, 0, "seed {seed}");
    }
}

#[test]
fn no_two_workers_have_an_index() {
    for seed in 0..100 {
        let simulation = Simulation::new(seed, |config| config.max_tasks_per_worker = Some(2));
        simulation.submit_all(50, 100);
        simulation.world.lock().latency = Duration::from_millis(1);
        while simulation.world.step(&simulation.pool) {
            let state = simulation.pool.state();
            let mut indices: Vec<u32> = state.workers.values().map(|worker| worker.index).collect();
            indices.sort_unstable();
            indices.dedup();
            assert_eq!(indices.len(), state.workers.len(), "seed {seed}");
            // A worker takes the lowest place that is free.
            let highest = indices.last().map_or(0, |index| *index as usize);
            assert!(highest < simulation.world.lock().most_workers, "seed {seed}");
        }
        simulation.end();
    }
}

#[test]
fn refused_starts_are_tried_again_and_break_the_pool_only_if_no_worker_lives() {
    for seed in 0..50 {
        let simulation = Simulation::new(seed, |_| ());
        simulation.world.lock().refusals = 2;
        let tasks = simulation.submit_all(20, 1_000);
        simulation.run();
        let inner = simulation.world.lock();
        let is_broken = inner.spawned == 0;
        drop(inner);
        for task in tasks {
            match simulation.outcome(task) {
                Ok(Kind::Value) => assert!(!is_broken, "seed {seed}"),
                Err(Error::BrokenPool(_)) => assert!(is_broken, "seed {seed}"),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
    let simulation = Simulation::new(0, |_| ());
    simulation.world.lock().refusals = 1;
    let task = simulation.submit(Fate::Returns, 1);
    simulation.run();
    assert!(matches!(simulation.outcome(task), Err(Error::BrokenPool(_))));
    simulation.end();
}

/// Has each worker die at its start, until the task is done.
fn end_each_worker(simulation: &Simulation, task: u64, was_killed: bool) -> Outcome {
    while !simulation.outcomes.lock().contains_key(&task) {
        let workers: Vec<u32> = simulation.pool.state().workers.keys().copied().collect();
        for number in workers {
            simulation.world.lock().die(number, was_killed);
        }
        assert!(simulation.world.step(&simulation.pool), "it is never done");
    }
    assert_eq!(simulation.starts(task), 0);
    simulation.outcome(task)
}

#[test]
fn a_task_that_workers_die_of_before_its_start_is_lost_and_no_other() {
    let simulation = Simulation::new(12, |config| config.max_workers = 1);
    let task = simulation.submit(Fate::Returns, 5);
    let behind = simulation.submit(Fate::Returns, 5);
    assert!(is_lost(&end_each_worker(&simulation, task, false)));
    assert_eq!(simulation.world.lock().spawned, 4, "the fourth is for the task behind");
    simulation.end();
    assert!(is_value(&simulation.outcome(behind)));
}

#[test]
fn workers_that_are_killed_at_their_start_break_the_pool() {
    let simulation = Simulation::new(13, |config| config.max_workers = 1);
    let task = simulation.submit(Fate::Returns, 5);
    let outcome = end_each_worker(&simulation, task, true);
    assert!(matches!(outcome, Err(Error::BrokenPool(_))), "{outcome:?}");
    assert_eq!(simulation.world.lock().spawned, 5);
    simulation.end();
}

#[test]
fn every_way_to_end_ends() {
    for how in 0..4 {
        let simulation = Simulation::new(20 + how, |_| ());
        let tasks = simulation.submit_all(30, 2_000);
        simulation.run_until_started(tasks[1]);
        match how {
            0 => simulation.pool.close(Shutdown::Drain),
            1 => simulation.pool.close(Shutdown::CancelQueued),
            2 => simulation.pool.kill_workers(),
            _ => simulation.pool.terminate_workers(Duration::from_millis(1)),
        }
        simulation.run();
        assert!(simulation.pool.state().is_over, "way {how}");
        let is_expected = |outcome: &Outcome| match how {
            0 => is_value(outcome),
            1 => is_value(outcome) || matches!(outcome, Err(Error::Cancelled)),
            _ => is_value(outcome) || is_lost(outcome) || matches!(outcome, Err(Error::Cancelled)),
        };
        for task in tasks {
            let outcome = simulation.outcome(task);
            assert!(is_expected(&outcome), "way {how}: {outcome:?}");
        }
    }
}

impl Simulation {
    /// Has the pool take in a frame, as if the worker had sent it.
    fn take_in(&self, worker: u32, kind: Kind) {
        let header = Header { kind, slot: 0, number: 0, detail: 0 };
        let frame = Frame::of(header, Vec::new());
        let first = self.pool.received(worker, &mut vec![(None, frame)], false, None);
        first.into_iter().for_each(UserCode::run);
    }

    /// Lets things happen until one more task is started, and returns that.
    fn run_until_next_start(&self) -> u64 {
        let before = self.world.lock().order.len();
        while self.world.lock().order.len() == before {
            assert!(self.world.step(&self.pool), "none is started");
        }
        self.world.lock().order[before]
    }

    /// Submits tasks, and lets things happen until the first worker has several at a time.
    fn submit_until_deep(&self, options: &Options) -> Vec<u64> {
        let submit = |_| self.submit_with(Fate::Returns, 20, options.clone());
        let tasks = (0..60).map(submit).collect();
        while self.pool.state().worker(0).is_none_or(|it| it.sent.len() <= 5) {
            self.world.step(&self.pool);
        }
        tasks
    }
}

#[test]
fn what_a_worker_that_retires_has_not_begun_goes_to_another_one_in_order() {
    for seed in 0..20 {
        let simulation = Simulation::new(seed, |config| config.max_workers = 1);
        let tasks = simulation.submit_until_deep(&Options::default());
        simulation.take_in(0, Kind::Retires);
        {
            let state = simulation.pool.state();
            assert_eq!(state.sent_ahead(0).count(), 0);
            assert!(state.worker(0).is_some_and(|worker| worker.room() == 0 && !worker.is_killed));
        }
        simulation.run();
        let world = simulation.world.lock();
        assert_eq!(world.order, tasks, "each once, and in order");
        assert_eq!(world.spawned, 2);
        drop(world);
        assert_eq!(simulation.pool.metrics().workers_lost, 0);
        simulation.end();
    }
}

#[test]
fn a_worker_that_dies_when_it_retires_takes_the_task_that_it_has_begun_and_no_other() {
    for seed in 0..20 {
        let simulation = Simulation::new(seed, |config| config.max_workers = 1);
        let tasks = simulation.submit_until_deep(&Options::default());
        let running = simulation.run_until_next_start();
        simulation.take_in(0, Kind::Retires);
        simulation.world.lock().die(0, false);
        simulation.end();
        for task in &tasks {
            let outcome = simulation.outcome(*task);
            assert!(
                if *task == running { is_lost(&outcome) } else { is_value(&outcome) },
                "seed {seed}"
            );
        }
        let world = simulation.world.lock();
        assert_eq!(world.order, tasks, "each once, and in order");
        assert_eq!((world.spawned, simulation.pool.metrics().workers_lost), (2, 1));
    }
}

/// A worker that sends nonsense is not believed what it has sent before, so several of its tasks are lost.
#[test]
fn lost_tasks_of_one_worker_are_tried_again_in_order() {
    let mut most_lost = 0;
    for seed in 0..20 {
        let simulation = Simulation::new(seed, |config| config.max_workers = 1);
        let options = Options { retries: 1, ..Options::default() };
        let tasks = simulation.submit_until_deep(&options);
        simulation.world.lock().latency = Duration::from_millis(1);
        (0..3).for_each(|_| _ = simulation.run_until_next_start());
        let begun = simulation.world.lock().order.clone();
        let lost: Vec<u64> =
            begun.iter().copied().filter(|task| !simulation.is_done(*task)).collect();
        most_lost = most_lost.max(lost.len());
        simulation.take_in(0, Kind::Call);
        simulation.end();
        assert!(tasks.iter().all(|task| is_value(&simulation.outcome(*task))), "seed {seed}");
        let order = simulation.world.lock().order.split_off(begun.len());
        let again: Vec<u64> = order.into_iter().filter(|task| begun.contains(task)).collect();
        assert_eq!(again, lost, "seed {seed}");
    }
    assert!(most_lost > 2);
}
