//! Queue and sleep: no push is missed, and every worker is woken by the end.

use loom::sync::Arc;
use loom::thread;

use crate::clock;
use crate::sleep::{Sleep, Sleepers};
use crate::sync::Mutex;

/// What the pool has under its lock, as far as it is about sleep.
#[derive(Default)]
struct State {
    tasks: usize,
    closed: bool,
    sleepers: Sleepers,
}

impl AsMut<Sleepers> for State {
    fn as_mut(&mut self) -> &mut Sleepers {
        &mut self.sleepers
    }
}

struct Pool {
    state: Mutex<State>,
    sleep: Sleep,
}

impl Pool {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), sleep: Sleep::new() })
    }

    fn push(&self) {
        let mut state = self.state.lock();
        state.tasks += 1;
        let called = self.sleep.call(&mut state.sleepers);
        drop(state);
        self.sleep.wake(called);
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        drop(state);
        self.sleep.wake_all();
    }

    /// Works until there is nothing more to come; tells how many tasks it did.
    fn work(&self) -> usize {
        let mut done = 0;
        let mut state = self.state.lock();
        let mut has_watched = false;
        loop {
            if state.tasks > 0 {
                state.tasks -= 1;
                done += 1;
                has_watched = false;
            } else if state.closed {
                return done;
            } else {
                state = self.sleep.wait(&self.state, state, &mut has_watched, None);
            }
        }
    }
}

/// Runs `model` with pauses that are short and a watcher that is on its CPU, and with long ones
/// and a watcher that others keep from it: calls count on it, or wake a sleeper in its stead.
fn check_at_both_paces(model: impl Fn() + Copy + Send + Sync + 'static) {
    for step in [0, 1 << 40] {
        crate::check(move || {
            clock::start(step);
            model();
        });
    }
}

fn check(workers: usize, pushers: usize) {
    check_at_both_paces(move || {
        let pool = Pool::new();
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.work())
            })
            .collect();
        let others: Vec<_> = (1..pushers)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.push())
            })
            .collect();
        pool.push();
        for other in others {
            other.join().unwrap();
        }
        pool.close();
        let done: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(done, pushers);
    });
}

#[test]
fn one_worker_and_two_pushers() {
    check(1, 2);
}

#[test]
fn two_workers_and_one_pusher() {
    check(2, 1);
}

/// A task that is pushed is done without another push or the end: the call itself is enough.
#[test]
fn a_push_is_enough() {
    check_at_both_paces(|| {
        let pool = Pool::new();
        let worker = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let mut state = pool.state.lock();
                let mut has_watched = false;
                while state.tasks == 0 {
                    state = pool.sleep.wait(&pool.state, state, &mut has_watched, None);
                }
                state.tasks -= 1;
            })
        };
        pool.push();
        worker.join().unwrap();
    });
}
