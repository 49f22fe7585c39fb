//! Maps over the loopback.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Simulation;
use crate::error::Error;
use crate::lifecycle::Accepting;
use crate::map::Map;
use crate::map::elsewhere::Elsewhere;
use crate::remote::frame::Kind;
use crate::remote::map::Chunks;
use crate::remote::scheduler::crew::MapCrew;
use crate::shutdown::Shutdown;

fn nothing(_: u32) {}

fn nothing_with(_: &u32, _: u32) {}

impl Simulation {
    fn map(&self, items: impl Iterator<Item = u32> + Send + 'static) -> Map<()> {
        let chunks = Elsewhere(Chunks::new(Arc::clone(&self.pool), nothing));
        let crew = MapCrew { pool: Arc::clone(&self.pool), handle: () };
        Map::new(crew, chunks, items)
    }

    fn map_with(&self, context: u32, items: impl Iterator<Item = u32> + Send + 'static) -> Map<()> {
        let chunks = Elsewhere(Chunks::with(Arc::clone(&self.pool), context, nothing_with));
        let crew = MapCrew { pool: Arc::clone(&self.pool), handle: () };
        Map::new(crew, chunks, items)
    }

    /// Frames that the workers were sent: the context of each map, and its end.
    fn contexts(&self, kind: Kind) -> BTreeMap<(u64, u32), usize> {
        let mut contexts = BTreeMap::new();
        for (worker, sent, number) in &self.world.lock().told {
            if *sent == kind {
                *contexts.entry((*number, *worker)).or_default() += 1;
            }
        }
        contexts
    }

    /// Lets the next event happen once the helper threads have sent all that they can: the workers'
    /// time does not pass before.
    fn step_or_wait(&self) {
        let helpers = self.pool.helpers().metrics();
        let is_quiet = helpers.queued == 0 && helpers.idle == helpers.workers;
        if !is_quiet || !self.world.step(&self.pool) {
            thread::yield_now();
        }
    }
}

/// Maps over this many workers, and returns the largest count of threads that was seen meanwhile.
fn most_threads(count: impl Fn(&Simulation) -> usize) -> usize {
    const WORKERS: usize = if cfg!(miri) { 20 } else { 1_000 };
    let items = 3 * WORKERS;
    let simulation = Simulation::new(30, |config| config.max_workers = WORKERS);
    let map = simulation.map((0..).take(items)).chunk_size(1);
    let results = thread::spawn(move || map.result());
    let mut most = 0;
    while !results.is_finished() {
        most = most.max(count(&simulation));
        simulation.step_or_wait();
    }
    assert_eq!(results.join().unwrap().unwrap().len(), items);
    assert_eq!(simulation.world.lock().most_running, WORKERS, "chunks at a time");
    simulation.end();
    most
}

#[test]
fn no_thread_waits_for_a_chunk() {
    let most = most_threads(|simulation| simulation.pool.helpers().metrics().workers);
    assert!(most <= num_cpus::get() + 1, "{most} threads");
}

/// All threads of a process count, so the map has a process of its own.
#[test]
#[cfg_attr(miri, ignore = "Miri starts no processes")]
fn a_map_over_a_thousand_workers_needs_eight_threads() {
    const ALONE: &str = "CONCURRENT_FUTURES_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let most = most_threads(|_| threads());
        // One for each CPU helps, beside those of the test, and one stands in for a blocked one.
        assert!(most <= 8.max(num_cpus::get() + 4), "{most} threads");
        return;
    }
    let name = "remote::scheduler::tests::maps::a_map_over_a_thousand_workers_needs_eight_threads";
    let mut test = Command::new(std::env::current_exe().unwrap());
    let test = test.args([name, "--exact"]).env(ALONE, "").output().unwrap();
    let printed = String::from_utf8_lossy(&test.stdout);
    assert!(test.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
fn what_has_begun_is_finished_when_the_pool_closes() {
    for how in [Shutdown::Drain, Shutdown::CancelQueued] {
        let simulation = Simulation::new(31, |config| config.max_workers = 2);
        let map = simulation.map(0..20).chunk_size(1).start();
        while simulation.world.lock().most_running < 2 {
            simulation.step_or_wait();
        }
        simulation.pool.close(how);
        while !simulation.pool.state().is_over {
            simulation.step_or_wait();
        }
        let results: Vec<_> = map.blocking().collect();
        let begun = simulation.world.lock().order.len();
        let is_done = |result: &Result<(), Error>| match result {
            Ok(()) => true,
            Err(Error::Cancelled) => false,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(results.iter().filter(|result| is_done(result)).count(), begun);
        assert_eq!(begun, if how == Shutdown::Drain { 20 } else { 2 });
    }
}

#[test]
fn a_worker_is_sent_the_context_of_a_map_once_and_told_of_its_end_once() {
    for latency in [0, 20, 500] {
        let simulation = Simulation::new(32, |config| config.max_workers = 3);
        simulation.world.lock().latency = Duration::from_micros(latency);
        let maps = [7, 8].map(|context| simulation.map_with(context, 0..30).chunk_size(1));
        let threads = maps.map(|map| thread::spawn(move || map.result()));
        let mut has_died = false;
        while !threads.iter().all(thread::JoinHandle::is_finished) {
            // The worker in the place of one that dies is sent them as well.
            let mut world = simulation.world.lock();
            if !has_died && world.order.len() > 20 {
                has_died = true;
                world.die(0, true);
            }
            drop(world);
            simulation.step_or_wait();
        }
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
        let sent = simulation.contexts(Kind::Context);
        assert!(sent.len() > 3 && sent.values().all(|count| *count == 1), "{sent:?}");
        // The last driver may drop its map after the result is there.
        let is_alive =
            |(_, worker): &(u64, u32)| simulation.pool.state().workers.contains_key(worker);
        let left = || sent.keys().copied().filter(is_alive).collect::<Vec<_>>();
        while simulation.contexts(Kind::EndContext).keys().filter(|it| is_alive(it)).count()
            < left().len()
        {
            simulation.step_or_wait();
        }
        assert!(simulation.contexts(Kind::EndContext).values().all(|count| *count == 1));
        assert!(simulation.pool.state().workers.values().all(|worker| worker.contexts.is_empty()));
        simulation.end();
    }
}
