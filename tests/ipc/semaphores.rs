//! Semaphores, events and barriers between processes.

use std::collections::HashSet;
use std::thread;
use std::time::Instant;

use concurrent_futures::ipc::{
    self, Barrier, BrokenBarrier, Event, Receiver, Semaphore, Sender, channel,
};
use concurrent_futures::{TaskFuture, call};
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::join_all;

use crate::support::{scaled, within_limit};
use crate::tools::{LONG, SHORT, end, lost, own_pid, pool};
use crate::watch::kill;

/// Takes permits, says so, and has them until it is told to go on.
fn hold(slots: Semaphore, count: usize, held: Sender<u32>, go_on: Receiver<()>) {
    let _permits = slots.acquire_many_blocking(count).unwrap();
    held.send_blocking(own_pid()).unwrap();
    go_on.recv_blocking().unwrap();
}

/// S-1, S-2, S-4.
#[test]
fn a_semaphore_has_as_many_permits_as_it_says_for_all_processes() {
    within_limit(|| {
        let pool = pool(1);
        let slots = Semaphore::new(2).unwrap();
        assert_eq!(slots.available(), 2);
        let first = slots.try_acquire().unwrap();
        assert_eq!((slots.available(), first.count()), (1, 1));
        let ((held, is_held), (go_on, goes_on)) = (channel(1).unwrap(), channel(1).unwrap());
        let holds = pool.submit(call!(hold(slots.clone(), 1, held, goes_on)));
        is_held.recv_blocking().unwrap();
        assert_eq!(slots.available(), 0);
        assert!(slots.try_acquire().is_none());
        assert!(slots.acquire().now_or_never().is_none());
        let begin = Instant::now();
        assert!(slots.acquire_timeout(SHORT).is_none());
        assert!(begin.elapsed() >= SHORT);
        slots.add_permits(1).unwrap();
        let third = slots.acquire_timeout(LONG).unwrap();
        drop(first);
        assert_eq!(slots.available(), 1);
        third.forget();
        assert_eq!(slots.available(), 1);
        go_on.send_blocking(()).unwrap();
        holds.result().unwrap();
        assert_eq!(slots.available(), 2);
        assert_eq!(block_on(slots.acquire()).count(), 1);
        end(&pool);
    });
}

/// S-6.
#[test]
fn what_can_never_come_is_not_waited_for() {
    within_limit(|| {
        let slots = Semaphore::new(2).unwrap();
        let both = slots.acquire_many_blocking(2).unwrap();
        assert!(slots.try_acquire_many(2).is_none());
        assert!(slots.acquire_many_timeout(2, SHORT).unwrap().is_none());
        for refused in [
            slots.acquire_many_blocking(3).unwrap_err(),
            block_on(slots.acquire_many(3)).unwrap_err(),
            slots.acquire_many_timeout(3, LONG).unwrap_err(),
        ] {
            assert!(matches!(refused, ipc::Error::InvalidSetting(_)), "{refused:?}");
        }
        drop(both);
        assert!(slots.try_acquire_many(3).is_none());
        assert_eq!(block_on(slots.acquire_many(2)).unwrap().count(), 2);
        let none = Semaphore::new(0).unwrap();
        assert!(none.try_acquire().is_none());
        none.add_permits(1).unwrap();
        assert!(none.try_acquire().is_some());
        let most = u32::MAX as usize;
        let full = Semaphore::new(most).unwrap();
        assert_eq!(full.available(), most);
        assert!(matches!(full.add_permits(1), Err(ipc::Error::InvalidSetting(_))));
        assert!(matches!(full.add_permits(usize::MAX), Err(ipc::Error::InvalidSetting(_))));
        assert!(matches!(Semaphore::new(most + 1), Err(ipc::Error::InvalidSetting(_))));
    });
}

/// S-5. With waits of each kind, for one permit and for all.
#[test]
fn permits_of_a_process_that_is_killed_come_back() {
    within_limit(|| {
        let pool = pool(1);
        let slots = Semaphore::new(3).unwrap();
        for round in 0..scaled(100) {
            let ((held, is_held), (_go_on, goes_on)) = (channel(1).unwrap(), channel(1).unwrap());
            let holds = pool.submit(call!(hold(slots.clone(), 3, held, goes_on)));
            let pid = is_held.recv_blocking().unwrap();
            let waits = thread::spawn({
                let slots = slots.clone();
                move || match round % 4 {
                    0 => slots.acquire_blocking().count(),
                    1 => block_on(slots.acquire()).count(),
                    2 => slots.acquire_many_blocking(3).unwrap().count(),
                    _ => block_on(slots.acquire_many(2)).unwrap().count(),
                }
            });
            kill(pid);
            waits.join().unwrap();
            lost(holds.result());
            assert_eq!(slots.available(), 3);
        }
        end(&pool);
    });
}

fn use_slots(slots: Semaphore, inside: Semaphore, times: usize, is_async: bool) {
    for n in 0..times {
        let _permit = match (is_async, n % 3) {
            (true, 0) => block_on(slots.acquire_many(2)).unwrap(),
            (true, _) => block_on(slots.acquire()),
            (false, _) => slots.acquire_blocking(),
        };
        // There is always room for those who have a permit.
        drop(inside.try_acquire().expect("too many are inside"));
    }
}

#[test]
fn no_more_are_inside_than_there_are_permits() {
    within_limit(|| {
        let pool = pool(3);
        let (slots, inside) = (Semaphore::new(2).unwrap(), Semaphore::new(2).unwrap());
        let times = scaled(300);
        let tasks: Vec<TaskFuture<()>> = (0..5)
            .map(|n| {
                pool.submit(call!(use_slots(slots.clone(), inside.clone(), times, n % 2 == 0)))
            })
            .collect();
        use_slots(slots.clone(), inside, times, true);
        tasks.into_iter().for_each(|task| task.result().unwrap());
        assert_eq!(slots.available(), 2);
        end(&pool);
    });
}

#[test]
fn a_future_that_is_dropped_leaves_its_permit_to_others() {
    within_limit(|| {
        let slots = Semaphore::new(1).unwrap();
        for _ in 0..scaled(500) {
            let permit = slots.try_acquire().unwrap();
            let mut first = Box::pin(slots.acquire());
            assert!(first.as_mut().now_or_never().is_none());
            let second = thread::spawn({
                let slots = slots.clone();
                move || drop(slots.acquire_blocking())
            });
            drop(permit);
            drop(first);
            second.join().unwrap();
        }
        assert_eq!(slots.available(), 1);
    });
}

fn wait_for(event: Event, ready: Sender<()>, is_async: bool) -> bool {
    ready.send_blocking(()).unwrap();
    if is_async {
        block_on(event.wait())
    } else {
        event.wait_blocking()
    }
    event.is_set()
}

/// E-1.
#[test]
fn an_event_is_set_and_cleared_for_all_processes() {
    within_limit(|| {
        let pool = pool(2);
        let event = Event::new().unwrap();
        let (ready, is_ready) = channel(10).unwrap();
        assert!(!event.is_set());
        let begin = Instant::now();
        assert!(!event.wait_timeout(SHORT));
        assert!(begin.elapsed() >= SHORT);
        let waits: Vec<TaskFuture<bool>> = (0..4)
            .map(|n| pool.submit(call!(wait_for(event.clone(), ready.clone(), n % 2 == 0))))
            .collect();
        (0..4).for_each(|_| is_ready.recv_blocking().unwrap());
        event.set();
        event.set();
        assert!(waits.into_iter().all(|task| task.result().unwrap()));
        assert!(event.is_set() && event.wait_timeout(SHORT));
        event.wait_blocking();
        assert!(event.wait().now_or_never().is_some());
        event.clear();
        event.clear();
        assert!(!event.is_set() && !event.wait_timeout(SHORT));
        end(&pool);
    });
}

/// One that waits goes on, however soon the event is cleared again.
#[test]
fn an_event_that_is_set_for_a_moment_wakes_those_who_wait() {
    within_limit(|| {
        let event = Event::new().unwrap();
        for _ in 0..scaled(200) {
            let mut waits = [Box::pin(event.wait()), Box::pin(event.wait())];
            assert!(waits.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
            event.set();
            event.clear();
            block_on(join_all(waits));
        }
    });
}

async fn wait_for_both(start: Event, ready: Sender<()>) {
    ready.send(()).await.unwrap();
    start.wait().await;
}

fn wait_often(start: Event, ready: Sender<()>, count: usize) {
    let waits = (0..count).map(|_| wait_for_both(start.clone(), ready.clone()));
    block_on(join_all(waits));
}

/// E-2.
#[test]
fn one_set_wakes_a_hundred_in_four_processes() {
    within_limit(|| {
        let pool = pool(4);
        let start = Event::new().unwrap();
        let (ready, is_ready) = channel(100).unwrap();
        let waits: Vec<TaskFuture<()>> = (0..4)
            .map(|_| pool.submit(call!(wait_often(start.clone(), ready.clone(), 25))))
            .collect();
        (0..100).for_each(|_| is_ready.recv_blocking().unwrap());
        start.set();
        waits.into_iter().for_each(|task| task.result().unwrap());
        end(&pool);
    });
}

fn rounds(barrier: Barrier, count: usize, is_async: bool) -> Vec<usize> {
    let wait = || if is_async { block_on(barrier.wait()) } else { barrier.wait_blocking() };
    (0..count).map(|_| wait().unwrap().index()).collect()
}

/// B-1, B-2, B-3, B-9. On a pool of one worker as well.
#[test]
fn all_parties_go_through_each_round_together() {
    within_limit(|| {
        for (workers, parties, count) in [(4, 4, 10), (1, 3, 3), (2, 5, scaled(1000))] {
            let pool = pool(workers);
            let barrier = Barrier::new(parties).unwrap();
            let tasks: Vec<TaskFuture<Vec<usize>>> = (0..parties)
                .map(|n| pool.submit(call!(rounds(barrier.clone(), count, n % 2 == 0))))
                .collect();
            let indices: Vec<_> = tasks.into_iter().map(|task| task.result().unwrap()).collect();
            for round in 0..count {
                let all: HashSet<_> = indices.iter().map(|of_one| of_one[round]).collect();
                assert_eq!(all, (0..parties).collect());
            }
            assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
            end(&pool);
        }
    });
}

/// B-8.
#[test]
fn a_barrier_of_one_lets_pass_at_once() {
    within_limit(|| {
        let barrier = Barrier::new(1).unwrap();
        for _ in 0..3 {
            let turn = barrier.wait_blocking().unwrap();
            assert!(turn.is_leader() && turn.index() == 0);
            assert!(barrier.wait().now_or_never().unwrap().is_ok());
            assert!(barrier.wait_timeout(SHORT).is_ok());
        }
        for parties in [0, 4097, usize::MAX] {
            let refused = Barrier::new(parties).unwrap_err();
            assert!(matches!(refused, ipc::Error::InvalidSetting(_)), "{refused:?}");
        }
        assert_eq!(Barrier::new(4096).unwrap().parties(), 4096);
    });
}

fn come(barrier: Barrier) -> Result<bool, String> {
    let turn = barrier.wait_blocking().map_err(|broken| format!("{broken:?}"))?;
    Ok(turn.is_leader())
}

fn until_waiting(barrier: &Barrier, count: usize) {
    while barrier.waiting() < count {
        thread::yield_now();
    }
}

/// B-4, B-5, B-6.
#[test]
fn a_barrier_can_be_aborted_and_reset() {
    within_limit(|| {
        let pool = pool(2);
        let barrier = Barrier::new(3).unwrap();
        let submit = |count: usize| -> Vec<TaskFuture<Result<bool, String>>> {
            let tasks = (0..count).map(|_| pool.submit(call!(come(barrier.clone())))).collect();
            until_waiting(&barrier, count);
            tasks
        };
        let all = |tasks: Vec<TaskFuture<Result<bool, String>>>, outcome: &str| {
            for task in tasks {
                assert_eq!(task.result().unwrap().unwrap_err(), outcome);
            }
        };
        let waits = submit(2);
        barrier.abort();
        all(waits, "Aborted");
        assert!(barrier.is_broken());
        assert_eq!(barrier.wait_blocking(), Err(BrokenBarrier::Aborted));
        assert_eq!(block_on(barrier.wait()), Err(BrokenBarrier::Aborted));
        barrier.reset();
        assert!(!barrier.is_broken());
        let waits = submit(2);
        barrier.reset();
        all(waits, "Reset");
        let waits = submit(2);
        assert!(barrier.wait_blocking().is_ok());
        assert!(waits.into_iter().all(|task| task.result().unwrap().is_ok()));
        end(&pool);
    });
}

/// B-7.
#[test]
fn a_wait_with_a_limit_breaks_the_barrier_for_all() {
    within_limit(|| {
        let pool = pool(1);
        let barrier = Barrier::new(3).unwrap();
        let waits = pool.submit(call!(come(barrier.clone())));
        until_waiting(&barrier, 1);
        let begin = Instant::now();
        assert_eq!(barrier.wait_timeout(SHORT), Err(BrokenBarrier::TimedOut));
        assert!(begin.elapsed() >= SHORT);
        assert_eq!(waits.result().unwrap().unwrap_err(), "TimedOut");
        assert!(barrier.is_broken());
        end(&pool);
    });
}

/// B-10.
#[test]
fn a_waiter_that_is_killed_breaks_the_barrier() {
    fn say_and_come(hello: Sender<u32>, barrier: Barrier) {
        hello.send_blocking(own_pid()).unwrap();
        let _ = barrier.wait_blocking();
    }
    within_limit(|| {
        let pool = pool(1);
        let (hello, greeted) = channel(1).unwrap();
        let barrier = Barrier::new(3).unwrap();
        for round in 0..scaled(50) {
            let comes = pool.submit(call!(say_and_come(hello.clone(), barrier.clone())));
            let pid = greeted.recv_blocking().unwrap();
            until_waiting(&barrier, 1);
            let waits = thread::spawn({
                let barrier = barrier.clone();
                move || {
                    if round % 2 == 0 { barrier.wait_blocking() } else { block_on(barrier.wait()) }
                }
            });
            until_waiting(&barrier, 2);
            kill(pid);
            assert_eq!(waits.join().unwrap(), Err(BrokenBarrier::Killed));
            lost(comes.result());
            assert!(barrier.is_broken());
            barrier.reset();
        }
        end(&pool);
    });
}

/// B-11.
#[test]
fn a_wait_that_is_dropped_has_not_come() {
    within_limit(|| {
        let barrier = Barrier::new(2).unwrap();
        let mut dropped = Box::pin(barrier.wait());
        assert!(dropped.as_mut().now_or_never().is_none());
        assert_eq!(barrier.waiting(), 1);
        drop(dropped);
        assert_eq!(barrier.waiting(), 0);
        let mut first = Box::pin(barrier.wait());
        assert!(first.as_mut().now_or_never().is_none());
        let second = barrier.wait_blocking().unwrap();
        let first = block_on(first).unwrap();
        assert_eq!(first.index() + second.index(), 1);
    });
}

fn pass(slots: Semaphore, barrier: Barrier, event: Event) -> (Semaphore, Barrier, Event) {
    (slots, barrier, event)
}

/// The same again is one with the same state.
#[test]
fn what_comes_back_is_the_same() {
    within_limit(|| {
        let pool = pool(1);
        let (slots, barrier, event) =
            (Semaphore::new(2).unwrap(), Barrier::new(2).unwrap(), Event::new().unwrap());
        let there = pool.submit(call!(pass(slots.clone(), barrier.clone(), event.clone())));
        let (slots_again, barrier_again, event_again) = there.result().unwrap();
        let permit = slots.try_acquire().unwrap();
        event.set();
        assert_eq!(slots_again.available(), 1);
        drop(permit);
        barrier.abort();
        assert!(event_again.is_set() && barrier_again.is_broken());
        assert_eq!(slots_again.available(), 2);
        end(&pool);
    });
}
