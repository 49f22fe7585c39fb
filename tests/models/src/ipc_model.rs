//! Between processes: the lock, and the word that says what has changed. Threads stand for the processes; one that is
//! killed is a matter of the kernel's, which tests see to.

use std::sync::Arc;

use loom::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
    Ordering::SeqCst, fence,
};
use loom::thread;

use crate::check;
use crate::doubles::futex;
use crate::ipc::halves::{self, Halves};
use crate::ipc::{event_word, robust_lock};
use crate::sync::UnsafeCell;

/// A queue as it is in the shared memory: a lock, a number of items, a word for those who wait for one.
struct Queue {
    lock: AtomicU32,
    items: UnsafeCell<usize>,
    word: AtomicU32,
    is_closed: AtomicBool,
}

// SAFETY: the items are used under the lock. That is what the models check.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            lock: AtomicU32::new(0),
            items: UnsafeCell::new(0),
            word: AtomicU32::new(0),
            is_closed: AtomicBool::new(false),
        })
    }
}

/// The operations, of which a fault replaces one.
trait Operations: 'static {
    fn lock(queue: &Queue, process: u32) {
        assert!(robust_lock::lock(&queue.lock, process, None));
    }

    fn unlock(queue: &Queue, process: u32) {
        robust_lock::unlock(&queue.lock, process);
    }

    fn arm(queue: &Queue) -> u32 {
        event_word::arm(&queue.word)
    }

    fn notify(queue: &Queue) -> Option<u32> {
        event_word::notify(&queue.word)
    }

    fn wake(queue: &Queue, value: u32) {
        event_word::wake(&queue.word, value);
    }

    fn close(queue: &Queue) {
        queue.is_closed.store(true, Release);
        event_word::wake_all(&queue.word);
    }

    fn put(queue: &Queue, process: u32) {
        Self::lock(queue, process);
        // SAFETY: under the lock.
        queue.items.with_mut(|items| unsafe { *items += 1 });
        let notified = Self::notify(queue);
        Self::unlock(queue, process);
        if let Some(value) = notified {
            Self::wake(queue, value);
        }
    }

    /// `false`: the queue is closed, and empty.
    fn take(queue: &Queue, process: u32) -> bool {
        let mut is_closed = false;
        loop {
            Self::lock(queue, process);
            let is_taken = queue.items.with_mut(|items| {
                // SAFETY: under the lock.
                let items = unsafe { &mut *items };
                let is_there = *items > 0;
                *items -= usize::from(is_there);
                is_there
            });
            if is_taken {
                Self::unlock(queue, process);
                return true;
            }
            let value = Self::arm(queue);
            Self::unlock(queue, process);
            if is_closed {
                return false;
            }
            is_closed = queue.is_closed.load(Acquire);
            if !is_closed {
                futex::wait_on(&queue.word, value);
            }
        }
    }
}

struct Shipped;
impl Operations for Shipped {}

fn run(threads: Vec<Box<dyn FnOnce() + Send>>) {
    let mut threads = threads.into_iter();
    let first = threads.next().unwrap();
    let others: Vec<_> = threads.map(thread::spawn).collect();
    first();
    others.into_iter().for_each(|other| other.join().unwrap());
}

fn process(f: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce() + Send> {
    Box::new(f)
}

/// Three processes have the lock in turns.
fn lock<O: Operations>() {
    check(|| {
        let queue = Queue::new();
        let takes_turn = |id: u32| {
            let queue = Arc::clone(&queue);
            process(move || {
                O::lock(&queue, id);
                // SAFETY: under the lock.
                queue.items.with_mut(|items| unsafe { *items += 1 });
                O::unlock(&queue, id);
            })
        };
        run(vec![takes_turn(1), takes_turn(2), takes_turn(3)]);
        // SAFETY: the others have ended.
        assert_eq!(queue.items.with(|items| unsafe { *items }), 3);
    });
}

/// One receives what two others send.
fn one_receives<O: Operations>() {
    check(|| {
        let queue = Queue::new();
        let puts = |id: u32| {
            let queue = Arc::clone(&queue);
            process(move || O::put(&queue, id))
        };
        let takes = {
            let queue = Arc::clone(&queue);
            process(move || {
                assert!(O::take(&queue, 1));
                assert!(O::take(&queue, 1));
            })
        };
        run(vec![takes, puts(2), puts(3)]);
    });
}

/// Two receive what another sends.
fn two_receive<O: Operations>() {
    check(|| {
        let queue = Queue::new();
        let takes = |id: u32| {
            let queue = Arc::clone(&queue);
            process(move || assert!(O::take(&queue, id)))
        };
        let puts = {
            let queue = Arc::clone(&queue);
            process(move || {
                O::put(&queue, 3);
                O::put(&queue, 3);
            })
        };
        run(vec![puts, takes(1), takes(2)]);
    });
}

/// What was sent before the last sender went is received; then the end is.
fn the_last_sender_goes<O: Operations>() {
    check(|| {
        let queue = Queue::new();
        let takes = {
            let queue = Arc::clone(&queue);
            process(move || {
                assert!(O::take(&queue, 1));
                assert!(!O::take(&queue, 1));
            })
        };
        let puts = {
            let queue = Arc::clone(&queue);
            process(move || {
                O::put(&queue, 2);
                O::close(&queue);
            })
        };
        run(vec![takes, puts]);
    });
}

#[test]
fn the_lock_is_one_process_s_at_a_time_and_wakes_the_next() {
    lock::<Shipped>();
}

#[test]
fn no_item_is_left_while_one_waits() {
    one_receives::<Shipped>();
}

#[test]
fn no_item_is_left_while_two_wait() {
    two_receive::<Shipped>();
}

/// As those who wait for a semaphore: the word is armed without the lock, and looked at under it.
struct ArmsFirst;
impl Operations for ArmsFirst {
    fn take(queue: &Queue, process: u32) -> bool {
        loop {
            let value = Self::arm(queue);
            Self::lock(queue, process);
            let is_taken = queue.items.with_mut(|items| {
                // SAFETY: under the lock.
                let items = unsafe { &mut *items };
                let is_there = *items > 0;
                *items -= usize::from(is_there);
                is_there
            });
            Self::unlock(queue, process);
            if is_taken {
                return true;
            }
            futex::wait_on(&queue.word, value);
        }
    }
}

#[test]
fn no_item_is_left_while_one_waits_that_has_armed_before_the_lock() {
    one_receives::<ArmsFirst>();
}

#[test]
fn no_item_is_left_while_two_wait_that_have_armed_before_the_lock() {
    two_receive::<ArmsFirst>();
}

#[test]
fn the_end_is_told_behind_the_last_item() {
    the_last_sender_goes::<Shipped>();
}

struct UnlockWakesNobody;
impl Operations for UnlockWakesNobody {
    fn unlock(queue: &Queue, _: u32) {
        queue.lock.store(0, Release);
    }
}

#[test]
#[should_panic]
fn fault_an_unlock_that_wakes_nobody() {
    lock::<UnlockWakesNobody>();
}

struct LockForgetsOthers;
impl Operations for LockForgetsOthers {
    fn lock(queue: &Queue, process: u32) {
        // One that has waited takes the lock without the mark that others may.
        while queue.lock.compare_exchange(0, process, Acquire, Relaxed).is_err() {
            let now = queue.lock.load(Relaxed);
            if now != 0 && queue.lock.compare_exchange(now, now | 1 << 31, Relaxed, Relaxed).is_ok()
            {
                futex::wait_on(&queue.lock, now | 1 << 31);
            }
        }
    }
}

#[test]
#[should_panic]
fn fault_a_lock_that_forgets_who_else_waits() {
    lock::<LockForgetsOthers>();
}

struct UnlockIsRelaxed;
impl Operations for UnlockIsRelaxed {
    fn unlock(queue: &Queue, process: u32) {
        if queue.lock.compare_exchange(process, 0, Relaxed, Relaxed).is_err() {
            queue.lock.store(0, Relaxed);
            futex::wake_one_on(&queue.lock);
        }
    }
}

#[test]
#[should_panic]
fn fault_an_unlock_that_publishes_nothing() {
    lock::<UnlockIsRelaxed>();
}

struct NotifyIsNoChange;
impl Operations for NotifyIsNoChange {
    fn notify(queue: &Queue) -> Option<u32> {
        let value = queue.word.load(Relaxed);
        (value & 1 != 0).then_some(value & !2)
    }
}

#[test]
#[should_panic]
fn fault_a_notification_that_changes_nothing() {
    one_receives::<NotifyIsNoChange>();
}

struct WakeClearsAnyway;
impl Operations for WakeClearsAnyway {
    fn wake(queue: &Queue, _: u32) {
        futex::wake_one_on(&queue.word);
        queue.word.fetch_and(!1, Relaxed);
    }
}

#[test]
#[should_panic]
fn fault_a_wake_up_that_forgets_who_else_waits() {
    two_receive::<WakeClearsAnyway>();
}

struct ClearsForOneThatHasBegun;
impl Operations for ClearsForOneThatHasBegun {
    fn arm(queue: &Queue) -> u32 {
        queue.word.fetch_or(1, Relaxed) | 1
    }
}

#[test]
#[should_panic]
fn fault_a_wait_that_begins_unseen() {
    one_receives::<ClearsForOneThatHasBegun>();
}

struct CloseWakesNobody;
impl Operations for CloseWakesNobody {
    fn close(queue: &Queue) {
        queue.is_closed.store(true, Release);
    }
}

#[test]
#[should_panic]
fn fault_a_close_that_wakes_nobody() {
    the_last_sender_goes::<CloseWakesNobody>();
}

struct CloseIsRelaxed;
impl Operations for CloseIsRelaxed {
    fn close(queue: &Queue) {
        queue.is_closed.store(true, Release);
        queue.word.fetch_add(4, Relaxed);
        futex::wake_all_on(&queue.word);
    }
}

#[test]
#[should_panic]
fn fault_a_close_that_publishes_nothing() {
    the_last_sender_goes::<CloseIsRelaxed>();
}

struct CloseBeforeTheLast;
impl Operations for CloseBeforeTheLast {
    fn take(queue: &Queue, process: u32) -> bool {
        // Gives up as soon as it is closed, and does not look once more.
        if queue.is_closed.load(Acquire) { false } else { Shipped::take(queue, process) }
    }
}

#[test]
#[should_panic]
fn fault_an_end_before_the_last_item() {
    the_last_sender_goes::<CloseBeforeTheLast>();
}

/// A lock that is held for long: who waits does so for the word itself.
trait Holding: 'static {
    fn take(word: &AtomicU32, process: u32, has_waited: bool) -> bool {
        robust_lock::take(word, process, has_waited).is_some()
    }

    fn arm(word: &AtomicU32) -> u32 {
        robust_lock::arm(word)
    }

    fn hold(word: &AtomicU32, process: u32) {
        let mut has_waited = false;
        while !Self::take(word, process, has_waited) {
            let value = Self::arm(word);
            has_waited = true;
            if robust_lock::is_held(value) {
                futex::wait_on(word, value);
            }
        }
    }
}

struct ShippedHolding;
impl Holding for ShippedHolding {}

/// Three processes hold the lock in turns.
fn hold<O: Holding>() {
    check(|| {
        let queue = Queue::new();
        let takes_turn = |id: u32| {
            let queue = Arc::clone(&queue);
            process(move || {
                O::hold(&queue.lock, id);
                // SAFETY: under the lock.
                queue.items.with_mut(|items| unsafe { *items += 1 });
                robust_lock::unlock(&queue.lock, id);
            })
        };
        run(vec![takes_turn(1), takes_turn(2), takes_turn(3)]);
        // SAFETY: the others have ended.
        assert_eq!(queue.items.with(|items| unsafe { *items }), 3);
    });
}

#[test]
fn a_lock_that_is_held_for_long_is_one_process_s_at_a_time_and_wakes_the_next() {
    hold::<ShippedHolding>();
}

struct TakeForgetsOthers;
impl Holding for TakeForgetsOthers {
    fn take(word: &AtomicU32, process: u32, _: bool) -> bool {
        robust_lock::take(word, process, false).is_some()
    }
}

#[test]
#[should_panic]
fn fault_a_holder_that_has_waited_and_forgets_who_else_waits() {
    hold::<TakeForgetsOthers>();
}

struct ArmsNothing;
impl Holding for ArmsNothing {
    fn arm(word: &AtomicU32) -> u32 {
        word.load(Relaxed)
    }
}

#[test]
#[should_panic]
fn fault_a_wait_for_a_lock_that_its_holder_does_not_see() {
    hold::<ArmsNothing>();
}

/// A change that is made without a lock, and that two wait for.
trait Changing: 'static {
    fn change(queue: &Queue) {
        queue.is_closed.store(true, Release);
        event_word::wake_waiting(&queue.word);
    }

    fn has_changed(queue: &Queue) -> bool {
        fence(SeqCst);
        queue.is_closed.load(Acquire)
    }

    fn wait(queue: &Queue) {
        loop {
            let value = event_word::arm(&queue.word);
            if Self::has_changed(queue) {
                return;
            }
            futex::wait_on(&queue.word, value);
        }
    }
}

struct ShippedChanging;
impl Changing for ShippedChanging {}

fn two_wait_for_a_change<O: Changing>() {
    check(|| {
        let queue = Queue::new();
        let waits = || {
            let queue = Arc::clone(&queue);
            process(move || O::wait(&queue))
        };
        let changes = {
            let queue = Arc::clone(&queue);
            process(move || O::change(&queue))
        };
        run(vec![changes, waits(), waits()]);
    });
}

#[test]
fn a_change_is_seen_by_all_who_wait() {
    two_wait_for_a_change::<ShippedChanging>();
}

struct ChangeWakesOne;
impl Changing for ChangeWakesOne {
    fn change(queue: &Queue) {
        queue.is_closed.store(true, Release);
        if let Some(value) = event_word::notify(&queue.word) {
            event_word::wake(&queue.word, value);
        }
    }
}

#[test]
#[should_panic]
fn fault_a_change_that_wakes_one() {
    two_wait_for_a_change::<ChangeWakesOne>();
}

struct WakesBeforeTheChange;
impl Changing for WakesBeforeTheChange {
    fn change(queue: &Queue) {
        event_word::wake_waiting(&queue.word);
        queue.is_closed.store(true, Release);
    }
}

#[test]
#[should_panic]
fn fault_a_change_that_comes_behind_its_wake_up() {
    two_wait_for_a_change::<WakesBeforeTheChange>();
}

/// Two words that only ever change together, and that one reads while another changes them twice.
trait Pair: 'static {
    fn write(all: &[AtomicU64], value: u64) {
        let bytes = [value; 2].map(u64::to_ne_bytes).concat();
        Halves::new(all).write(&bytes, false);
    }

    fn read(all: &[AtomicU64]) -> Vec<u64> {
        let mut words = Vec::new();
        Halves::new(all).read(&mut words).unwrap();
        words
    }
}

struct ShippedPair;
impl Pair for ShippedPair {}

fn one_reads_what_another_changes<O: Pair>() {
    check(|| {
        let all: Arc<Vec<_>> =
            Arc::new((0..halves::words(16)).map(|_| AtomicU64::new(0)).collect());
        O::write(&all, 1);
        let writes = {
            let all = Arc::clone(&all);
            process(move || {
                O::write(&all, 2);
                O::write(&all, 3);
            })
        };
        let reads = process(move || {
            let words = O::read(&all);
            assert!(words.len() == 2 && words[0] == words[1], "{words:?}");
        });
        run(vec![writes, reads]);
    });
}

#[test]
fn a_value_is_read_as_a_whole() {
    one_reads_what_another_changes::<ShippedPair>();
}

/// Where the halves are, and their length, as `halves.rs` has it.
const VERSION: usize = 2;

struct VersionGoesFirst;
impl Pair for VersionGoesFirst {
    fn write(all: &[AtomicU64], value: u64) {
        let version = all[VERSION].load(Relaxed);
        all[VERSION].store(version + 1, Release);
        let half = &all[8 + (version + 1) as usize % 2 * 3..][..3];
        fence(Release);
        half[0].store(16, Relaxed);
        half[1].store(value, Relaxed);
        half[2].store(value, Relaxed);
    }
}

#[test]
#[should_panic]
fn fault_a_version_that_goes_before_its_value() {
    one_reads_what_another_changes::<VersionGoesFirst>();
}

struct ReadsWithoutALookBack;
impl Pair for ReadsWithoutALookBack {
    fn read(all: &[AtomicU64]) -> Vec<u64> {
        let version = all[VERSION].load(Acquire) as usize;
        let half = &all[8 + version % 2 * 3..][..3];
        half[1..].iter().map(|word| word.load(Relaxed)).collect()
    }
}

#[test]
#[should_panic]
fn fault_a_reader_that_does_not_look_back() {
    one_reads_what_another_changes::<ReadsWithoutALookBack>();
}

struct WriteHasNoFence;
impl Pair for WriteHasNoFence {
    fn write(all: &[AtomicU64], value: u64) {
        let next = all[VERSION].load(Relaxed) + 1;
        let half = &all[8 + next as usize % 2 * 3..][..3];
        half[0].store(16, Relaxed);
        half[1].store(value, Relaxed);
        half[2].store(value, Relaxed);
        all[VERSION].store(next, Release);
    }
}

#[test]
#[should_panic]
fn fault_a_writer_without_a_fence() {
    one_reads_what_another_changes::<WriteHasNoFence>();
}
