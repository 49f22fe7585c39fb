//! Random programs over the loopback: whatever happens, each task that was accepted ends once, and runs
//! once unless it may be tried again.

use std::sync::Arc;
use std::time::Duration;

use super::{Fate, Options, Script, Simulation, is_value, seeds};
use crate::error::Error;
use crate::lifecycle::Accepting;
use crate::remote::frame::{Content, Kind};
use crate::remote::scheduler::config::Config;
use crate::remote::scheduler::loopback::Random;
use crate::room::Room;
use crate::shutdown::Shutdown;

struct Task {
    number: u64,
    fate: Fate,
    retries: u32,
    was_withdrawn: bool,
    was_killed: bool,
}

fn with_handle() -> Content {
    #[cfg(all(target_os = "linux", not(miri)))]
    let content = super::handles::any_content();
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let content = Content::default();
    content
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let simulation = Simulation::new(seed, |config| {
        config.max_workers = 1 + random.below(4) as usize;
        if random.one_in(4) {
            config.min_workers = random.below(config.max_workers as u64 + 1) as usize;
        }
        config.max_tasks_per_worker = random.one_in(4).then(|| 1 + random.below(5) as usize);
        config.idle_timeout = random.one_in(4).then(|| Duration::from_micros(random.below(500)));
        config.queue_capacity = random.one_in(2).then(|| random.below(20) as usize);
        config.finalizer = random.one_in(2).then(Arc::default);
    });
    {
        let mut world = simulation.world.lock();
        world.latency = Duration::from_micros(1 + random.below(200));
        world.refusals = if random.one_in(5) { 3 } else { 0 };
        world.asks = random.below(3);
        world.has_suspects = random.one_in(2);
    }
    let crashes = random.one_in(3);
    let mut tasks: Vec<Task> = Vec::new();
    for _ in 0..random.below(60) {
        match random.below(12) {
            0..=6 => {
                let fate = match random.below(12) {
                    0 => Fate::Dies,
                    1 => Fate::Panics,
                    2 => Fate::Waits,
                    3 => Fate::Nests,
                    4 => Fate::NestsAndJoins,
                    _ => Fate::Returns,
                };
                let micros = [1, 5, 100, 3_000][random.below(4) as usize];
                let retries = random.below(3) as u32;
                let mut limit =
                    || random.one_in(8).then(|| Duration::from_micros(random.below(900)));
                let (timeout, queue_timeout) = (limit(), limit());
                let options = Options { label: None, timeout, queue_timeout, retries };
                if simulation.pool.check_open().is_ok() && simulation.has_room() {
                    let script = Script { fate, micros, level: random.below(6) as u16 };
                    let content = if random.one_in(3) { with_handle() } else { Content::default() };
                    let number = simulation.submit_content(script, options, content);
                    let (was_withdrawn, was_killed) = (false, false);
                    tasks.push(Task { number, fate, retries, was_withdrawn, was_killed });
                }
            }
            7 if !tasks.is_empty() => {
                let at = random.below(tasks.len() as u64) as usize;
                tasks[at].was_withdrawn |= simulation.pool.withdraw(tasks[at].number, true);
            }
            8 if !tasks.is_empty() => {
                let at = random.below(tasks.len() as u64) as usize;
                let task = &mut tasks[at];
                // A task that was withdrawn before is done.
                let is_killed = simulation.pool.kill(task.number);
                assert!(!(is_killed && (task.was_withdrawn || task.was_killed)), "seed {seed}");
                task.was_killed |= is_killed;
            }
            9 if crashes => {
                let workers: Vec<u32> = simulation.pool.state().workers.keys().copied().collect();
                if let Some(number) = workers.first() {
                    let was_killed = random.one_in(2);
                    simulation.world.lock().die(*number, was_killed);
                }
            }
            _ => simulation.run_some(random.below(30)),
        }
        simulation.check_queued();
    }
    match random.below(4) {
        0 => simulation.pool.kill_workers(),
        1 => simulation.pool.terminate_workers(Duration::from_micros(random.below(500))),
        2 => simulation.pool.close(Shutdown::CancelQueued),
        _ => simulation.pool.close(Shutdown::Drain),
    }
    simulation.run();
    assert!(simulation.pool.state().is_over, "seed {seed}: the pool has not ended");
    let metrics = simulation.pool.metrics();
    let ended = metrics.completed + metrics.failed + metrics.cancelled;
    let nests = tasks.iter().any(|task| matches!(task.fate, Fate::Nests | Fate::NestsAndJoins));
    let nested = metrics.submitted - tasks.len() as u64;
    assert!(nested == 0 || nests, "seed {seed}");
    let is_nested = |task: u64| !tasks.iter().any(|it| it.number == task);
    let starts = simulation.world.lock().starts.clone();
    let twice = starts.iter().find(|(task, count)| **count > 1 && is_nested(**task));
    assert_eq!(twice, None, "seed {seed}: a nested task has run twice");
    assert_eq!(ended, metrics.submitted, "seed {seed}: {metrics:?}");
    simulation.check_queued();
    let Config { queue_capacity, max_tasks_per_worker, max_workers, .. } = &simulation.pool.config;
    let room = simulation.pool.room().map(Room::left);
    // Without room in the queue it is the workers'.
    let all = queue_capacity.map(|n| if n == 0 { *max_workers } else { n });
    assert_eq!(room, all, "seed {seed}: room is lost");
    let inner = simulation.world.lock();
    for order in inner.orders.values() {
        let most = max_tasks_per_worker.unwrap_or(usize::MAX);
        assert!(order.len() <= most, "seed {seed}: a worker has run {} tasks", order.len());
        let is_suspect = |task: &u64| inner.has_suspects && is_nested(*task);
        let last = order.iter().position(is_suspect).map_or(order.len(), |place| place + 1);
        assert_eq!(last, order.len(), "seed {seed}: a task has run behind a suspect");
    }
    // A worker that dies, or is asked for its next task, may have been about to start one.
    if !crashes && inner.refusals + inner.asks == 0 {
        let starts = |task: &Task| inner.starts.get(&task.number).map_or(0, |count| *count);
        let again: u32 = tasks.iter().map(|task| task.retries.min(starts(task))).sum();
        let counted = metrics.queue_time.count();
        let most = metrics.submitted + u64::from(again);
        assert!(counted <= most, "seed {seed}: {counted} starts of {most} tasks");
    }
    drop(inner);
    let outcomes = simulation.outcomes.lock();
    for task in &tasks {
        let Task { number, fate, retries, was_withdrawn, was_killed } = *task;
        let all = outcomes.get(&number).map_or(&[][..], Vec::as_slice);
        // Whoever withdraws or kills a task is the one who knows.
        let told = usize::from(!was_withdrawn && !was_killed);
        assert_eq!(all.len(), told, "seed {seed}: task {number} {fate:?} {all:?}");
        let starts = simulation.starts(number);
        assert!(starts <= 1 + retries, "seed {seed}: {number} has run {starts} times");
        assert!(!(was_withdrawn && retries == 0 && starts > 0), "seed {seed}: withdrawn, but run");
        let Some(outcome) = all.first() else { continue };
        let is_right = match outcome {
            outcome if is_value(outcome) => starts > 0 && fate != Fate::Dies,
            Ok(Kind::Panicked) => starts > 0 && fate == Fate::Panics,
            Ok(_) => false,
            Err(Error::TimedOut { started, .. }) => !*started || starts > 0,
            Err(Error::Cancelled) => starts == 0 || retries > 0,
            Err(_) => true,
        };
        assert!(is_right, "seed {seed}: task {number} {fate:?}, {starts} starts: {outcome:?}");
    }
}

#[test]
fn random_programs_lose_nothing_and_run_nothing_twice() {
    let first = std::env::var("TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    for seed in first.map_or(seeds(2_000), |seed: u64| seed..seed + 1) {
        run(seed);
    }
}
