//! Tasks that submit others to their own pool and wait for them.

use std::time::Duration;

use super::{Fate, Options, Script, Simulation, is_value, seeds};
use crate::error::Error;
use crate::function::Checked;
use crate::reactor::UserCode;
use crate::remote::frame::{FOR_OTHERS, Frame, Header, Kind, UNTIL};
use crate::remote::options_codec::{self, HAS_OPTIONS};

/// The number of tasks of one that nests.
fn tasks_of(level: u16) -> usize {
    if level < 2 { 1 } else { 1 + tasks_of(level - 1) + tasks_of(level - 2) }
}

/// Runs a task that nests, and returns the largest number of workers that there were at a time.
fn most_workers(seed: u64, max_workers: usize, fate: Fate, level: u16) -> usize {
    let simulation = Simulation::new(seed, |config| config.max_workers = max_workers);
    simulation.world.lock().latency = Duration::from_micros([1, 20, 200][seed as usize % 3]);
    let micros = [1, 20, 100][seed as usize / 3 % 3];
    let task = simulation.submit_script(Script { fate, micros, level }, Options::default());
    simulation.run();
    assert!(is_value(&simulation.outcome(task)), "seed {seed}");
    let inner = simulation.world.lock();
    let starts: Vec<u32> = inner.starts.values().copied().collect();
    assert_eq!(starts, vec![1; tasks_of(level)], "seed {seed}");
    let most = inner.most_workers;
    drop(inner);
    let left = simulation.pool.metrics().workers;
    assert!(left <= max_workers, "seed {seed}: {left} workers are left");
    simulation.end();
    most
}

/// Fibonacci's number of 15 by tasks that wait for others needs at most 14 workers for each place.
fn check_fibonacci(max_workers: usize) {
    let level = if cfg!(miri) { 6 } else { 15 };
    // Each latency with each duration.
    let nests = seeds(9).map(|seed| (seed, Fate::Nests));
    for (seed, fate) in nests.chain(seeds(3).map(|seed| (seed, Fate::NestsAndJoins))) {
        let most = most_workers(seed, max_workers, fate, level);
        let bound = usize::from(level - 1) * max_workers;
        assert!(most <= bound, "seed {seed}: {most} workers, {fate:?}");
    }
}

#[test]
fn two_places_need_twice_the_depth_of_workers() {
    check_fibonacci(2);
}

#[test]
fn four_places_need_four_times_the_depth_of_workers() {
    check_fibonacci(4);
}

#[test]
fn eight_places_need_eight_times_the_depth_of_workers() {
    check_fibonacci(8);
}

#[test]
fn one_place_needs_a_worker_for_each_level() {
    for seed in seeds(50) {
        assert_eq!(most_workers(seed, 1, Fate::Nests, 10), 10, "seed {seed}");
    }
}

#[test]
fn refused_starts_break_the_pool_if_all_workers_wait_for_queued_tasks() {
    let simulation = Simulation::new(31, |config| config.max_workers = 1);
    let script = Script { fate: Fate::Nests, micros: 1, level: 5 };
    let nested = simulation.submit_script(script, Options::default());
    simulation.run_until_started(nested);
    simulation.world.lock().refusals = 1;
    let queued = simulation.submit(Fate::Returns, 1);
    simulation.run();
    assert!(is_value(&simulation.outcome(nested)), "it is told of its children's errors");
    let outcome = simulation.outcome(queued);
    let Err(Error::BrokenPool(cause)) = outcome else { panic!("{outcome:?}") };
    let (text, waits) =
        (cause.cause().to_string(), "could not be started, and all others wait for tasks");
    assert!(text.contains(waits), "{text}");
    simulation.end();
}

impl Simulation {
    /// Has the worker that runs `parent` submit calls that take this long, in microseconds. Returns their
    /// numbers. The worker calls them 1, 2, and so on.
    fn submit_children(&self, parent: u64, micros: &[u32]) -> Vec<u64> {
        for (request, micros) in (1..).zip(micros) {
            let script = Script { fate: Fate::Returns, micros: *micros, level: 0 };
            let (slot, detail) = (Kind::Call as u16, script.to_detail());
            self.say(parent, Header { kind: Kind::Submit, slot, number: request, detail });
        }
        let state = self.pool.state();
        let calls = &state.worker(self.worker_of(&state, parent)).unwrap().calls;
        calls.iter().map(|(_, child)| *child).collect()
    }

    /// Has the worker that runs `parent` tell that this waits for a call.
    fn wait_for(&self, parent: u64, request: u64, until: bool) {
        let (kind, detail) = (Kind::Waits, if until { UNTIL } else { 0 });
        self.say(parent, Header { kind, slot: 0, number: request, detail });
    }

    /// Has the worker that runs `task` tell that this waits for other processes.
    fn wait_for_others(&self, task: u64) {
        self.say(task, Header { kind: Kind::Waits, slot: 0, number: 0, detail: FOR_OTHERS });
    }

    fn go_on(&self, task: u64) {
        self.say(task, Header { kind: Kind::GoesOn, slot: 0, number: 0, detail: 0 });
    }

    fn say(&self, parent: u64, header: Header) {
        self.say_with(parent, header, Vec::new());
    }

    fn say_with(&self, parent: u64, header: Header, values: Vec<u8>) {
        let worker = self.worker_of(&self.pool.state(), parent);
        let call = (header.kind == Kind::Submit).then_some(Ok(Checked::Known));
        let frame = (call, Frame::of(header, values));
        let first = self.pool.received(worker, &mut vec![frame], false, None);
        first.into_iter().for_each(UserCode::run);
    }

    fn worker_of(&self, state: &super::State, task: u64) -> u32 {
        let is_its = |sent: &super::Sent| sent.number == task;
        let worker = state.workers.iter().find(|(_, worker)| worker.sent.iter().any(is_its));
        *worker.expect("it runs").0
    }
}

/// The worker was wrecked by its task, and what it says is not believed.
#[test]
fn a_worker_that_sends_no_options_where_there_should_be_some_is_ended() {
    let simulation = Simulation::new(34, |config| config.max_workers = 1);
    let parent = simulation.submit(Fate::Returns, 1_000_000);
    let queued = simulation.submit(Fate::Returns, 5);
    simulation.run_until_started(parent);
    let script = Script { fate: Fate::Returns, micros: 5, level: 0 };
    let (kind, slot, detail) = (Kind::Submit, Kind::Call as u16, script.to_detail());
    let options = Options { label: Some("child".into()), retries: 3, ..Options::default() };
    let mut values = vec![7];
    assert!(options_codec::append(&options, &mut values));
    let header = Header { kind, slot: slot | HAS_OPTIONS, number: 1, detail };
    simulation.say_with(parent, header, values.clone());
    {
        let state = simulation.pool.state();
        let calls = &state.worker(simulation.worker_of(&state, parent)).unwrap().calls;
        let child = &state.tasks[&calls[0].1];
        assert_eq!(child.options.label, options.label);
        assert_eq!(child.options.retries, 3);
    }
    values.truncate(9);
    simulation.say_with(parent, Header { number: 2, ..header }, values);
    simulation.end();
    let outcome = simulation.outcome(parent);
    let Err(Error::WorkerLost(lost)) = &outcome else { panic!("{outcome:?}") };
    assert!(lost.to_string().contains("options that are none"), "{lost}");
    assert!(is_value(&simulation.outcome(queued)));
}

#[test]
fn a_lent_place_is_for_the_awaited_child_then_for_its_siblings_then_for_the_queue() {
    let simulation = Simulation::new(30, |config| config.max_workers = 1);
    let parent = simulation.submit(Fate::Returns, 1_000_000);
    simulation.run_until_started(parent);
    let before = simulation.submit_all(3, 5);
    let children = simulation.submit_children(parent, &[5, 5, 5]);
    let behind = simulation.submit_all(3, 5);
    simulation.wait_for(parent, 2, false);
    simulation.end();
    let children = [children[1], children[0], children[2]];
    let expected: Vec<u64> =
        [parent].into_iter().chain(children).chain(before).chain(behind).collect();
    assert_eq!(simulation.world.lock().order, expected);
}

#[test]
fn a_task_that_goes_on_has_its_place_back_before_another_one_is_sent() {
    let simulation = Simulation::new(31, |config| config.max_workers = 1);
    let parent = simulation.submit(Fate::Returns, 10_000);
    simulation.run_until_started(parent);
    let other = simulation.submit(Fate::Returns, 5);
    let children = simulation.submit_children(parent, &[5]);
    simulation.wait_for(parent, 1, true);
    simulation.run_until_started(other);
    assert_eq!(simulation.world.lock().order, [parent, children[0], other]);
    assert!(is_value(&simulation.outcome(parent)), "it is over before the other one begins");
    simulation.end();
}

#[test]
fn an_answered_task_that_does_not_go_on_lends_its_place_to_its_children_alone() {
    // It may be held up by a callback that waits for another child.
    let simulation = Simulation::new(32, |config| config.max_workers = 1);
    let parent = simulation.submit(Fate::Returns, 10_000);
    simulation.run_until_started(parent);
    let other = simulation.submit(Fate::Returns, 5);
    let children = simulation.submit_children(parent, &[5, 5]);
    simulation.wait_for(parent, 1, true);
    simulation.run_until_started(children[1]);
    assert!(!simulation.outcomes.lock().contains_key(&parent));
    simulation.run_until_started(other);
    assert!(simulation.outcomes.lock().contains_key(&parent));
    simulation.end();
    assert_eq!(simulation.world.lock().order, [parent, children[0], children[1], other]);
}

#[test]
fn a_child_that_was_sent_ahead_is_fetched_when_it_is_waited_for() {
    let simulation = Simulation::new(33, |_| ());
    simulation.submit_all(100, 5); // so that tasks are sent ahead
    simulation.run();
    let parent = simulation.submit(Fate::Returns, 1_000_000);
    let other = simulation.submit(Fate::Returns, 90);
    simulation.run_until_started(parent);
    simulation.run_until_started(other);
    let children = simulation.submit_children(parent, &[400_000, 5, 5, 5]);
    simulation.run_until_started(children[0]);
    simulation.wait_for(parent, 2, true);
    simulation.end();
    let inner = simulation.world.lock();
    assert_eq!(inner.order[inner.order.len() - 4..], children);
}

#[test]
fn tasks_that_wait_for_other_processes_lend_so_many_places_out_and_no_more() {
    let simulation =
        Simulation::new(35, |config| (config.max_workers, config.max_waiting) = (2, 3));
    let consumers: Vec<u64> = (0..7).map(|_| simulation.submit(Fate::Returns, 1_000_000)).collect();
    for task in &consumers[..5] {
        simulation.run_until_started(*task);
        simulation.wait_for_others(*task);
    }
    // Three places are lent out, and two tasks keep theirs.
    assert_eq!(simulation.pool.state().queued, 2);
    assert_eq!(simulation.pool.state().workers.len(), 5);
    let text = simulation.pool.dump().to_string();
    assert!(text.contains("all that run wait for other processes"), "{text}");
    // One that goes on has its place from one that kept its own.
    simulation.go_on(consumers[0]);
    assert_eq!(simulation.pool.state().active(), 2);
    let text = simulation.pool.dump().to_string();
    assert!(!text.contains("channels"), "{text}");
    assert!(simulation.pool.kill(consumers[0]));
    simulation.run_until_started(consumers[5]);
    assert_eq!(simulation.pool.state().queued, 1);
    simulation.end();
    assert!(consumers[1..].iter().all(|task| is_value(&simulation.outcome(*task))));
}

#[test]
fn a_task_that_waits_for_its_child_is_not_held_up_by_those_that_wait_for_other_processes() {
    let simulation =
        Simulation::new(36, |config| (config.max_workers, config.max_waiting) = (1, 0));
    let [first, parent, queued] = [1_000_000; 3].map(|time| simulation.submit(Fate::Returns, time));
    simulation.run_until_started(first);
    simulation.wait_for(first, 0, false);
    simulation.run_until_started(parent);
    // The parent's place is taken when it waits for its child.
    simulation.go_on(first);
    let children = simulation.submit_children(parent, &[1_000_000, 5]);
    simulation.wait_for(parent, 2, false);
    assert_eq!(simulation.pool.state().queued, 3);
    simulation.wait_for_others(first);
    simulation.run_until_started(children[1]);
    assert_eq!(simulation.starts(children[0]), 0, "it is not the one that is waited for");
    assert_eq!(simulation.starts(queued), 0, "it is nobody's child");
    simulation.end();
    assert!(is_value(&simulation.outcome(parent)) && is_value(&simulation.outcome(queued)));
}
