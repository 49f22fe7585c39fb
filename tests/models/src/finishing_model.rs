//! The last completion of a pool of other processes and its close: the later of the two sees the end,
//! and all futures are finished by then.
//!
//! With planted faults, as the models of claims.

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use loom::sync::atomic::{Ordering::Relaxed, Ordering::Release};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::check_with;
use crate::remote::finishing::Finishing;
use crate::sync::UnsafeCell;

const TASKS: usize = 2;

/// Those of the tasks, and one that the first of them begins, as a chunk begins a step of its map.
const FUTURES: usize = 3;

struct Pool {
    finishing: Finishing,
    state: Mutex<State>,
    /// Futures. Each is finished by one thread, which has no lock.
    futures: [UnsafeCell<bool>; FUTURES],
    /// Of faults.
    count: AtomicUsize,
    is_closing: AtomicBool,
}

/// The pool's, under its lock.
struct State {
    is_closed: bool,
    tasks: usize,
    ends: usize,
}

// SAFETY: loom finds accesses to the cells that nothing orders.
unsafe impl Sync for Pool {}

impl Pool {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            finishing: Finishing::new(),
            state: Mutex::new(State { is_closed: false, tasks: TASKS, ends: 0 }),
            futures: [(); FUTURES].map(|()| UnsafeCell::new(false)),
            count: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
        })
    }

    /// As the scheduler's.
    fn end<S: Steps>(&self, state: &mut State) {
        if !state.is_closed || state.tasks > 0 || state.ends > 0 || !S::is_none(self) {
            return;
        }
        state.ends += 1;
        for future in &self.futures {
            // SAFETY: loom finds a write at the same time, or one that is not known here.
            assert!(future.with(|future| unsafe { *future }), "the end came too early");
        }
    }

    fn finish_future(&self, task: usize) {
        // SAFETY: as above.
        self.futures[task].with_mut(|future| unsafe { *future = true });
    }
}

trait Steps: 'static {
    fn begin(pool: &Pool) {
        pool.finishing.begin(1);
    }

    fn finish(pool: &Pool) -> bool {
        pool.finishing.finish()
    }

    fn set_closing(pool: &Pool) {
        pool.finishing.close();
    }

    fn is_none(pool: &Pool) -> bool {
        pool.finishing.is_none()
    }

    fn close(pool: &Pool)
    where
        Self: Sized,
    {
        let mut state = pool.state.lock().unwrap();
        state.is_closed = true;
        Self::set_closing(pool);
        pool.end::<Self>(&mut state);
    }

    /// A reply takes a task out of the pool.
    fn take_reply(pool: &Pool)
    where
        Self: Sized,
    {
        let mut state = pool.state.lock().unwrap();
        state.tasks -= 1;
        Self::begin(pool);
        pool.end::<Self>(&mut state);
    }

    /// A completion begins another one, without the lock, and then ends.
    fn complete_and_go_on(pool: &Pool)
    where
        Self: Sized,
    {
        Self::begin(pool);
        Self::complete(pool, 0);
    }

    /// Finishes a future, and looks for the end if that is the last one.
    fn complete(pool: &Pool, task: usize)
    where
        Self: Sized,
    {
        pool.finish_future(task);
        if Self::finish(pool) {
            pool.end::<Self>(&mut pool.state.lock().unwrap());
        }
    }
}

struct Shipped;

impl Steps for Shipped {}

/// The thread that reads takes two replies: one completion is left to a helper thread, it runs the other
/// one itself. Meanwhile the pool is closed.
fn the_end_is_seen_once_all_is_finished<S: Steps>() {
    let pool = Pool::new();
    let of_reader = Arc::clone(&pool);
    let reader = thread::spawn(move || {
        S::take_reply(&of_reader);
        let of_helper = Arc::clone(&of_reader);
        let helper = thread::spawn(move || {
            S::complete_and_go_on(&of_helper);
            S::complete(&of_helper, 2);
        });
        S::take_reply(&of_reader);
        S::complete(&of_reader, 1);
        helper.join().unwrap();
    });
    S::close(&pool);
    reader.join().unwrap();
    assert_eq!(pool.state.lock().unwrap().ends, 1, "the end was missed");
}

#[test]
fn last_completion() {
    check_with(3, the_end_is_seen_once_all_is_finished::<Shipped>);
}

struct LooksThenCloses;

impl Steps for LooksThenCloses {
    fn close(pool: &Pool) {
        let mut state = pool.state.lock().unwrap();
        state.is_closed = true;
        pool.end::<Self>(&mut state);
        drop(state);
        Self::set_closing(pool);
    }
}

#[test]
#[should_panic(expected = "the end was missed")]
fn last_completion_with_a_close_that_looks_first() {
    check_with(3, the_end_is_seen_once_all_is_finished::<LooksThenCloses>);
}

struct CountsThenFinishes;

impl Steps for CountsThenFinishes {
    fn complete(pool: &Pool, task: usize) {
        let is_last = Self::finish(pool);
        pool.finish_future(task);
        if is_last {
            pool.end::<Self>(&mut pool.state.lock().unwrap());
        }
    }
}

#[test]
#[should_panic(expected = "Causality violation")]
fn last_completion_that_is_counted_before_its_future_is_finished() {
    check_with(3, the_end_is_seen_once_all_is_finished::<CountsThenFinishes>);
}

/// The completion is added after the lock is released.
struct AddsAfterTheLock;

impl Steps for AddsAfterTheLock {
    fn take_reply(pool: &Pool) {
        let mut state = pool.state.lock().unwrap();
        state.tasks -= 1;
        pool.end::<Self>(&mut state);
        drop(state);
        Self::begin(pool);
    }
}

#[test]
#[should_panic(expected = "the end came too early")]
fn last_completion_that_is_added_after_the_lock() {
    check_with(3, the_end_is_seen_once_all_is_finished::<AddsAfterTheLock>);
}

struct EndsThenGoesOn;

impl Steps for EndsThenGoesOn {
    fn complete_and_go_on(pool: &Pool) {
        Self::complete(pool, 0);
        Self::begin(pool);
    }
}

#[test]
#[should_panic(expected = "the end came too early")]
fn last_completion_that_ends_before_it_begins_another_one() {
    check_with(3, the_end_is_seen_once_all_is_finished::<EndsThenGoesOn>);
}

/// The count and the close in two words, whose changes have no common order without `SeqCst`.
struct TwoWords;

impl Steps for TwoWords {
    fn begin(pool: &Pool) {
        pool.count.fetch_add(1, Relaxed);
    }

    fn finish(pool: &Pool) -> bool {
        pool.count.fetch_sub(1, AcqRel) == 1 && pool.is_closing.load(Acquire)
    }

    fn set_closing(pool: &Pool) {
        pool.is_closing.store(true, Release);
    }

    fn is_none(pool: &Pool) -> bool {
        pool.count.load(Acquire) == 0
    }
}

#[test]
#[should_panic(expected = "the end was missed")]
fn last_completion_with_two_words() {
    check_with(3, the_end_is_seen_once_all_is_finished::<TwoWords>);
}

/// The count releases nothing.
struct ReleasesNothing;

impl Steps for ReleasesNothing {
    fn begin(pool: &Pool) {
        pool.count.fetch_add(2, Relaxed);
    }

    fn finish(pool: &Pool) -> bool {
        pool.count.fetch_sub(2, Relaxed) == 3
    }

    fn set_closing(pool: &Pool) {
        pool.count.fetch_or(1, Relaxed);
    }

    fn is_none(pool: &Pool) -> bool {
        pool.count.load(Acquire) < 2
    }
}

#[test]
#[should_panic(expected = "Causality violation")]
fn last_completion_that_releases_nothing() {
    check_with(3, the_end_is_seen_once_all_is_finished::<ReleasesNothing>);
}
