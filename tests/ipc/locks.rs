//! Locks between processes. The same holder is another one for a handle that has arrived again.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use concurrent_futures::ipc::{Lock, Receiver, Sender, channel};
use concurrent_futures::{TaskFuture, call};
use futures::FutureExt;
use futures::executor::block_on;

use crate::support::{scaled, within_limit};
use crate::tools::{LONG, SHORT, end, lost, own_pid, pool};
use crate::watch::{kill, signal};
use rustix::process::Signal;

/// Takes the lock, says so, and has it until it is told to go on.
fn hold(lock: Lock, held: Sender<u32>, go_on: Receiver<()>) -> bool {
    let guard = lock.lock_blocking();
    held.send_blocking(own_pid()).unwrap();
    go_on.recv_blocking().unwrap();
    guard.was_abandoned()
}

/// L-1, L-2, L-5.
#[test]
fn a_lock_is_one_holder_s_at_a_time_in_whatever_process() {
    within_limit(|| {
        let pool = pool(1);
        let lock = Lock::new().unwrap();
        {
            let guard = lock.try_lock().unwrap();
            assert!(!guard.was_abandoned());
            assert!(lock.try_lock().is_none(), "it does not recur");
            assert!(lock.clone().lock().now_or_never().is_none());
        }
        let ((held, is_held), (go_on, goes_on)) = (channel(1).unwrap(), channel(1).unwrap());
        let holds = pool.submit(call!(hold(lock.clone(), held, goes_on)));
        is_held.recv_blocking().unwrap();
        assert!(lock.try_lock().is_none());
        let begin = Instant::now();
        assert!(lock.lock_timeout(SHORT).is_none());
        assert!(begin.elapsed() >= SHORT);
        go_on.send_blocking(()).unwrap();
        assert!(!holds.result().unwrap());
        let guard = lock.lock_timeout(LONG).unwrap();
        assert!(!guard.was_abandoned());
        drop(guard);
        assert!(!block_on(lock.lock()).was_abandoned());
        end(&pool);
    });
}

/// L-3.
#[test]
fn a_guard_goes_across_awaits_and_threads() {
    within_limit(|| {
        let lock = Lock::new().unwrap();
        let guard = block_on(async {
            let guard = lock.lock().await;
            futures::future::ready(()).await;
            guard
        });
        let waits = thread::spawn({
            let lock = lock.clone();
            move || block_on(lock.lock()).was_abandoned()
        });
        thread::spawn(move || drop(guard)).join().unwrap();
        assert!(!waits.join().unwrap());
        assert!(lock.try_lock().is_some());
    });
}

/// L-4, C-2. One that waits in any way has the lock when its holder is killed, and learns of it.
#[test]
fn the_next_holder_after_one_that_was_killed_is_told() {
    within_limit(|| {
        let pool = pool(1);
        let lock = Lock::new().unwrap();
        for round in 0..scaled(200) {
            let ((held, is_held), (_go_on, goes_on)) = (channel(1).unwrap(), channel(1).unwrap());
            let holds = pool.submit(call!(hold(lock.clone(), held, goes_on)));
            let pid = is_held.recv_blocking().unwrap();
            let waits = thread::spawn({
                let lock = lock.clone();
                move || match round % 3 {
                    0 => lock.lock_blocking().was_abandoned(),
                    1 => block_on(lock.lock()).was_abandoned(),
                    _ => lock.lock_timeout(LONG).unwrap().was_abandoned(),
                }
            });
            kill(pid);
            assert!(waits.join().unwrap(), "round {round}");
            assert!(!lock.try_lock().unwrap().was_abandoned());
            lost(holds.result());
        }
        end(&pool);
    });
}

/// The file has a number, which only the holder of the lock may change.
fn count_up(lock: Lock, file: PathBuf, times: u32, is_async: bool) {
    for _ in 0..times {
        let _guard = if is_async { block_on(lock.lock()) } else { lock.lock_blocking() };
        let count: u32 = fs::read_to_string(&file).unwrap().parse().unwrap();
        fs::write(&file, (count + 1).to_string()).unwrap();
    }
}

#[test]
fn no_two_processes_are_inside_at_once() {
    within_limit(|| {
        let pool = pool(3);
        let lock = Lock::new().unwrap();
        let file = std::env::temp_dir().join(format!("locks-count-{}", std::process::id()));
        fs::write(&file, "0").unwrap();
        let times = scaled(500) as u32;
        let tasks: Vec<TaskFuture<()>> = (0..6)
            .map(|n| pool.submit(call!(count_up(lock.clone(), file.clone(), times, n % 2 == 0))))
            .collect();
        count_up(lock, file.clone(), times, true);
        tasks.into_iter().for_each(|task| task.result().unwrap());
        let count: u32 = fs::read_to_string(&file).unwrap().parse().unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(count, 7 * times);
        end(&pool);
    });
}

/// A future that is dropped, woken or not, leaves the lock to the others.
#[test]
fn a_future_that_is_dropped_takes_nobody_s_turn() {
    within_limit(|| {
        let lock = Lock::new().unwrap();
        for _ in 0..scaled(500) {
            let guard = lock.try_lock().unwrap();
            let mut first = Box::pin(lock.lock());
            assert!(first.as_mut().now_or_never().is_none());
            let second = thread::spawn({
                let lock = lock.clone();
                move || drop(lock.lock_blocking())
            });
            drop(guard);
            drop(first);
            second.join().unwrap();
        }
        assert!(lock.try_lock().is_some());
    });
}

fn lock_it(lock: Lock) {
    drop(lock.lock_blocking());
}

fn answer() -> u32 {
    42
}

/// The worker's place is lent out to others while a task waits for a lock.
#[test]
fn a_pool_of_one_worker_goes_on_while_a_task_waits_for_a_lock() {
    within_limit(|| {
        let pool = pool(1);
        let lock = Lock::new().unwrap();
        let guard = lock.try_lock().unwrap();
        let waits = pool.submit(call!(lock_it(lock.clone())));
        assert_eq!(pool.submit(call!(answer())).result().unwrap(), 42);
        drop(guard);
        waits.result().unwrap();
        end(&pool);
    });
}

/// A holder that is stopped has the lock still, and others wait no longer than they say.
#[test]
fn a_holder_that_is_stopped_keeps_the_lock() {
    within_limit(|| {
        let pool = pool(1);
        let lock = Lock::new().unwrap();
        let ((held, is_held), (go_on, goes_on)) = (channel(1).unwrap(), channel(1).unwrap());
        let holds = pool.submit(call!(hold(lock.clone(), held, goes_on)));
        let pid = is_held.recv_blocking().unwrap();
        signal(pid, Signal::STOP);
        assert!(lock.lock_timeout(SHORT).is_none());
        signal(pid, Signal::CONT);
        go_on.send_blocking(()).unwrap();
        assert!(!block_on(lock.lock()).was_abandoned());
        holds.result().unwrap();
        end(&pool);
    });
}

/// Who has a lock in its arguments, its result, and on the way back, has the same one.
#[test]
fn a_lock_that_comes_back_is_the_same() {
    fn back(lock: Lock) -> (Lock, bool) {
        let is_free = lock.try_lock().is_some();
        (lock, is_free)
    }
    within_limit(|| {
        let pool = pool(1);
        let lock = Lock::new().unwrap();
        let guard = lock.try_lock().unwrap();
        let (back_again, is_free) = pool.submit(call!(back(lock.clone()))).result().unwrap();
        assert!(!is_free && back_again.try_lock().is_none());
        drop(guard);
        let guard = back_again.try_lock().unwrap();
        assert!(lock.try_lock().is_none());
        drop(guard);
        end(&pool);
    });
}
