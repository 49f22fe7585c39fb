//! The outgoing line of a worker: frames reach the socket in the order of the decisions that they come
//! from, whichever thread sends them, and none is left in line while no thread waits for room.
//!
//! With planted faults, as the models of claims.

use std::io::{self, ErrorKind, IoSlice};

use loom::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::local::outgoing::Outgoing;
use crate::remote::frame::{Content, Header};
use crate::{check, check_with};

/// A stream socket, and what the reactor knows of it.
struct Socket(Mutex<SocketState>);

struct SocketState {
    received: Vec<u8>,
    room: usize,
    /// The reactor waits for room.
    is_watched: bool,
}

impl Socket {
    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        if state.room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let count = bytes.len().min(state.room);
        state.received.extend(&bytes[..count]);
        state.room -= count;
        Ok(count)
    }

    fn watch(&self, is_watched: bool) {
        self.0.lock().unwrap().is_watched = is_watched;
    }

    /// The other end takes something out. `false`: the reactor does not wait for that.
    fn make_room(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        state.room += 3;
        state.is_watched
    }
}

struct Pool {
    /// The number of the last decision, under the pool's lock.
    decisions: Mutex<u8>,
    line: Outgoing,
    socket: Socket,
    /// Of a fault.
    is_busy: AtomicBool,
}

impl Pool {
    fn new(room: usize) -> Arc<Self> {
        let socket = SocketState { received: Vec::new(), room, is_watched: false };
        Arc::new(Self {
            decisions: Mutex::new(0),
            line: Outgoing::new(),
            socket: Socket(Mutex::new(socket)),
            is_busy: AtomicBool::new(false),
        })
    }

    /// Puts a frame of two bytes in line.
    fn push(&self, decision: u8) {
        self.line.push(Header, &Content(vec![decision; 2]));
    }
}

/// The steps of a thread that makes a decision.
trait Sends: 'static {
    fn decide(pool: &Pool) {
        let mut decisions = pool.decisions.lock().unwrap();
        *decisions += 1;
        pool.push(*decisions);
    }

    fn flush(pool: &Pool) {
        let socket = &pool.socket;
        pool.line.flush(
            |parts, _| socket.send(parts),
            |is_watched| socket.watch(is_watched),
            || (),
        );
    }
}

struct Shipped;

impl Sends for Shipped {}

/// Two threads make decisions, and each sends what is in line; the reactor is a third one.
fn frames_are_sent_in_the_order_of_the_decisions<S: Sends>(room: usize) {
    let pool = Pool::new(room);
    let threads = [(); 2].map(|()| {
        let pool = Arc::clone(&pool);
        thread::spawn(move || {
            S::decide(&pool);
            S::flush(&pool);
        })
    });
    if pool.socket.make_room() {
        S::flush(&pool);
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // As often as there is a reason.
    for _ in 0..3 {
        if pool.socket.make_room() {
            S::flush(&pool);
        }
    }
    let state = pool.socket.0.lock().unwrap();
    assert!(state.received.is_sorted(), "not in the order of the decisions: {:?}", state.received);
    assert_eq!(state.received, [1, 1, 2, 2], "a frame is left");
    assert!(!state.is_watched, "the reactor waits for room that is not needed");
}

#[test]
fn order() {
    check(|| frames_are_sent_in_the_order_of_the_decisions::<Shipped>(100));
}

struct LinesUpAfterTheLock;

impl Sends for LinesUpAfterTheLock {
    fn decide(pool: &Pool) {
        let mut decisions = pool.decisions.lock().unwrap();
        *decisions += 1;
        let decision = *decisions;
        drop(decisions);
        pool.push(decision);
    }
}

#[test]
#[should_panic(expected = "not in the order of the decisions")]
fn order_with_frames_that_are_put_in_line_after_the_lock() {
    check(|| frames_are_sent_in_the_order_of_the_decisions::<LinesUpAfterTheLock>(100));
}

/// Takes frames out of the line, and sends them when that is released.
struct SendsAfterTheLine;

impl Sends for SendsAfterTheLine {
    fn flush(pool: &Pool) {
        let taken = std::cell::RefCell::new(Vec::new());
        let take = |parts: &[IoSlice<'_>]| {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            taken.borrow_mut().extend(&bytes);
            Ok(bytes.len())
        };
        pool.line.flush(|parts, _| take(parts), |_| (), || ());
        pool.socket.send(&[IoSlice::new(&taken.into_inner())]).unwrap();
    }
}

#[test]
#[should_panic(expected = "not in the order of the decisions")]
fn order_with_frames_that_are_sent_after_the_line_was_released() {
    check(|| frames_are_sent_in_the_order_of_the_decisions::<SendsAfterTheLine>(100));
}

/// The socket has room for a part of the frames.
#[test]
fn room() {
    for room in [0, 1, 3] {
        check_with(3, move || frames_are_sent_in_the_order_of_the_decisions::<Shipped>(room));
    }
}

struct WatchesAfterTheLine;

impl Sends for WatchesAfterTheLine {
    fn flush(pool: &Pool) {
        let mut change = None;
        pool.line.flush(
            |parts, _| pool.socket.send(parts),
            |is_watched| change = Some(is_watched),
            || (),
        );
        if let Some(is_watched) = change {
            pool.socket.watch(is_watched);
        }
    }
}

#[test]
#[should_panic(expected = "room that is not needed")]
fn room_that_is_asked_for_after_the_line_was_released() {
    check(|| frames_are_sent_in_the_order_of_the_decisions::<WatchesAfterTheLine>(1));
}

/// Leaves the sending to a thread that is at it.
struct LeavesItToAnother;

impl Sends for LeavesItToAnother {
    fn flush(pool: &Pool) {
        if !pool.is_busy.swap(true, AcqRel) {
            Shipped::flush(pool);
            pool.is_busy.store(false, Release);
        }
    }
}

#[test]
#[should_panic(expected = "a frame is left")]
fn room_with_the_sending_left_to_another_thread() {
    check(|| frames_are_sent_in_the_order_of_the_decisions::<LeavesItToAnother>(3));
}
