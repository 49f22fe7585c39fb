//! Ends whose other side was stopped, was killed between two steps, or has damaged the memory.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::ipc::channel::{Receiver, RecvError, Sender, channel};
use crate::ipc::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use crate::sys::memory_file;

fn pair() -> (Sender<u32>, Receiver<u32>) {
    channel(4).unwrap()
}

/// Holds the lock, as another process would that was stopped.
fn while_locked<T>(sender: &Sender<T>, check: impl FnOnce()) {
    let channel = Arc::clone(sender.end.channel());
    let (locked, is_locked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let holder = thread::spawn(move || {
        let _locked = channel.memory.lock(None).unwrap();
        locked.send(()).unwrap();
        let _ = released.recv();
    });
    is_locked.recv().unwrap();
    check();
    drop(release);
    holder.join().unwrap();
}

///
#[test]
fn limits_hold_while_a_process_that_was_stopped_has_the_lock_and_all_goes_on_after_that() {
    let (sender, receiver) = pair();
    sender.try_send(1).unwrap();
    let limit = Duration::from_millis(30);
    let mut receives = Box::pin(receiver.recv());
    let mut sends = Box::pin(sender.send(2));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    while_locked(&sender, || {
        let begin = Instant::now();
        assert!(matches!(receiver.recv_timeout(limit), Err(RecvTimeoutError::Timeout)));
        assert!(matches!(sender.send_timeout(7, limit), Err(SendTimeoutError::Timeout(7))));
        assert!(begin.elapsed() >= 2 * limit);
        assert!(receives.as_mut().poll(&mut cx).is_pending());
        assert!(sends.as_mut().poll(&mut cx).is_pending());
        assert_eq!(format!("{sender:?}"), "Sender { len: 1, capacity: 4 }");
    });
    assert_eq!(futures::executor::block_on(receives).unwrap(), 1);
    futures::executor::block_on(sends).unwrap();
    assert_eq!(receiver.recv_blocking().unwrap(), 2);
}

/// C-6.
#[test]
fn damage_is_told_once_and_the_channel_goes_on() {
    let (sender, receiver) = pair();
    let words = sender.end.channel().memory.words();
    // Each word of the state, in both copies, and the first word of the record.
    for places in [[16, 24], [17, 25], [18, 26], [48, 48]] {
        for is_received in [true, false] {
            sender.try_send(1).unwrap();
            places.iter().for_each(|at| words[*at].store(u64::MAX, Relaxed));
            if is_received {
                let told = receiver.recv_blocking();
                assert!(matches!(told, Err(RecvError::Io(Error::Damaged))), "{told:?}");
            } else if places[0] != 48 {
                let told = sender.try_send(2);
                assert!(matches!(told, Err(TrySendError::Io(2, Error::Damaged))), "{told:?}");
            } else {
                receiver.try_recv().unwrap_err();
            }
            assert!(receiver.is_empty());
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
            sender.try_send(7).unwrap();
            assert_eq!(receiver.recv_blocking().unwrap(), 7);
        }
    }
}

/// As of a sender that was killed between the lane and the ring.
fn leave_orphan<T>(sender: &Sender<T>, descriptors: &[sys::BorrowedFd<'_>]) {
    let ring = sender.end.channel().ring();
    let _locked = sender.end.channel().memory.lock(None).unwrap();
    let ticket = ring.next_ticket();
    control::send(sender.end.lane.as_fd(), &ticket.to_ne_bytes(), descriptors).unwrap();
}

///
#[test]
fn descriptors_of_an_item_that_never_came_to_be_are_skipped() {
    let (sender, receiver) = channel::<Option<Sender<u32>>>(4).unwrap();
    let (inner, numbers) = pair();
    let file = memory_file(1).unwrap();
    for _ in 0..3 {
        leave_orphan(&sender, &[file.as_fd()]);
        sender.try_send(Some(inner.clone())).unwrap();
        leave_orphan(&sender, &[file.as_fd(); 2]);
        sender.try_send(None).unwrap();
        receiver.try_recv().unwrap().unwrap().try_send(1).unwrap();
        assert_eq!(numbers.try_recv().unwrap(), 1);
        assert!(receiver.try_recv().unwrap().is_none());
    }
    // One that holds the last sender of its own channel.
    leave_orphan(&sender, &[sender.end.lane.as_fd()]);
    drop(sender);
    assert!(matches!(receiver.recv_blocking(), Err(RecvError::Disconnected)));
}

/// As of a receiver that was killed between the lane and the ring.
#[test]
fn an_item_whose_descriptors_are_gone_is_lost_and_no_other() {
    let (sender, receiver) = channel::<Sender<u32>>(4).unwrap();
    let (inner, numbers) = pair();
    sender.try_send(inner.clone()).unwrap();
    sender.try_send(inner.clone()).unwrap();
    drop(control::receive(receiver.end.lane.as_fd(), &mut [0; 8]).unwrap());
    drop(inner);
    receiver.recv_blocking().unwrap().try_send(1).unwrap();
    assert_eq!(numbers.recv_blocking().unwrap(), 1);
    assert!(receiver.is_empty());
    assert!(matches!(numbers.recv_blocking(), Err(RecvError::Disconnected)));
}

/// As many as the lane holds.
#[test]
fn a_lane_that_is_full_is_a_channel_that_is_full() {
    let (sender, receiver) = channel::<Sender<u32>>(1 << 20).unwrap();
    let (inner, numbers) = pair();
    let mut count = 0;
    while sender.try_send(inner.clone()).is_ok() {
        count += 1;
    }
    assert!(!sender.is_full());
    let sends = thread::spawn({
        let (sender, inner) = (sender.clone(), inner.clone());
        move || sender.send_blocking(inner).unwrap()
    });
    drop((sender, inner));
    for _ in 0..=count {
        receiver.recv_blocking().unwrap();
    }
    sends.join().unwrap();
    assert!(matches!(numbers.recv_blocking(), Err(RecvError::Disconnected)));
}
