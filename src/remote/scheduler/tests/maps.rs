//! Maps over the loopback.

use std::sync::Arc;
use std::thread;

use super::Simulation;
use crate::error::Error;
use crate::lifecycle::Accepting;
use crate::map::Map;
use crate::map::elsewhere::Elsewhere;
use crate::remote::map::Chunks;
use crate::remote::scheduler::crew::MapCrew;
use crate::shutdown::Shutdown;

fn nothing(_: u32) {}

impl Simulation {
    fn map(&self, items: impl Iterator<Item = u32> + Send + 'static) -> Map<()> {
        let chunks = Elsewhere(Chunks::new(Arc::clone(&self.pool), nothing));
        let crew = MapCrew { pool: Arc::clone(&self.pool), handle: () };
        Map::new(crew, chunks, items)
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

#[test]
fn no_thread_waits_for_a_chunk() {
    const WORKERS: usize = if cfg!(miri) { 20 } else { 1_000 };
    let items = 3 * WORKERS;
    let simulation = Simulation::new(30, |config| config.max_workers = WORKERS);
    let map = simulation.map((0..).take(items)).chunk_size(1);
    let results = thread::spawn(move || map.result());
    let mut most_threads = 0;
    while !results.is_finished() {
        most_threads = most_threads.max(simulation.pool.helpers().metrics().workers);
        simulation.step_or_wait();
    }
    assert_eq!(results.join().unwrap().unwrap().len(), items);
    assert_eq!(simulation.world.lock().most_running, WORKERS, "chunks at a time");
    assert!(most_threads <= num_cpus::get() + 1, "{most_threads} threads");
    simulation.end();
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
