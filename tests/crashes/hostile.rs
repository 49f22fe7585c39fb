//! Workers that went wrong: what they send is no frame, or no answer to what they were sent, and the
//! memory that they share with the pool has anything in it. The pool ends such a worker with the task
//! that it ran, and goes on.
//!
//! A job does what a stray pointer might do in its place: it writes to the worker's socket, which is
//! descriptor 3, and to the control block.

use std::fs;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Call, Error, LossCause, ParentPool, ProcessPoolExecutor, TaskFuture, call, task,
};
use futures::StreamExt;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::deaths::{Death, square, status, wait_to_be_killed};
use crate::program::alone;
use crate::support::within_limit;
use crate::tools::{Reports, assert_cancelled, end, lost, own_pid, pool};
use crate::watch::{Watched, assert_ended_soon};

/// Nothing here takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(30);

// ---- Frames, as the top of `src/remote/frame.rs` describes them ----

#[derive(Clone, Copy)]
struct Header {
    kind: u8,
    format: u8,
    slot: u16,
    segments: u32,
    number: u64,
    length: u64,
    detail: u64,
}

const VALUE: Header =
    Header { kind: 16, format: 0, slot: 0, segments: 0, number: 1, length: 0, detail: 0 };

const PANICKED: u8 = 17;
const SKIPPED: u8 = 21;
const FAILED: u8 = 22;
const SUBMIT: u8 = 32;
const WAITS: u8 = 33;
const GOES_ON: u8 = 34;
const WITHDRAW: u8 = 35;
const PART: u8 = 36;
const ITEM_FAILED: u8 = 37;
const EVENT: u8 = 38;

impl Header {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.format];
        bytes.extend(self.slot.to_le_bytes());
        bytes.extend(self.segments.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(self.detail.to_le_bytes());
        bytes
    }

    fn with(self, body: &[u8]) -> Vec<u8> {
        let length = body.len() as u64;
        [&Self { length, ..self }.bytes(), body].concat()
    }
}

/// Writes to the pool.
fn write(bytes: &[u8]) {
    // SAFETY: the descriptor is the worker's, which owns it for as long as the process lives; this
    // does not close it.
    let mut socket = ManuallyDrop::new(unsafe { fs::File::from_raw_fd(3) });
    // The pool may have ended this process by then.
    let _ = socket.write_all(bytes);
}

/// What a job does when it has written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Then {
    Wait,
    Return,
    Die(Death),
}

impl Then {
    fn act(self) {
        match self {
            Self::Wait => wait_to_be_killed(),
            Self::Return => {}
            Self::Die(death) => death.die(),
        }
    }
}

fn write_and(bytes: Vec<u8>, then: Then) -> u32 {
    write(&bytes);
    then.act();
    process::id()
}

#[track_caller]
fn soon<T>(mut future: TaskFuture<T>) -> Result<T, Error> {
    let outcome = future.result_timeout(HANG);
    outcome.unwrap_or_else(|| panic!("{future:?} does not finish"))
}

/// The pool ends the worker, and says why.
#[track_caller]
fn assert_found_out(pool: &ProcessPoolExecutor, future: TaskFuture<u32>, worker: u32) {
    let lost = lost(soon(future));
    assert_eq!((lost.pid, status(&lost)), (worker, (None, Some(libc::SIGKILL))), "{lost}");
    assert!(matches!(lost.cause, Some(LossCause::Hostile { .. })), "{lost}");
    assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
    assert!(!pool.worker_pids().contains(&worker));
}

fn garbage() -> Vec<Vec<u8>> {
    let code = [5; 32];
    vec![
        vec![0; 32],
        vec![0xff; 32],
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec(),
        (0..4096).map(|n: u32| (n * 7 % 251) as u8).collect(),
        vec![0; 1 << 20],
        // Right but for one field.
        Header { kind: 15, ..VALUE }.bytes(),
        Header { kind: 99, ..VALUE }.bytes(),
        Header { format: 9, ..VALUE }.bytes(),
        Header { segments: 1, ..VALUE }.bytes(),
        Header { segments: u32::MAX, length: 1 << 20, ..VALUE }.bytes(),
        Header { length: u64::MAX, ..VALUE }.bytes(),
        Header { length: 1 << 63, ..VALUE }.bytes(),
        Header { segments: 1, ..VALUE }.with(&u64::MAX.to_le_bytes()),
        Header { segments: 1, ..VALUE }.with(&(1_u64 << 62).to_le_bytes()),
        Header { kind: SUBMIT, length: 31, ..VALUE }.bytes(),
        // What only the pool sends.
        Header { kind: 1, ..VALUE }.with(&code),
        Header { kind: 2, ..VALUE }.with(&code),
        Header { kind: 3, ..VALUE }.with(&code),
        Header { kind: 4, ..VALUE }.bytes(),
        Header { kind: 5, ..VALUE }.bytes(),
        // Answers to what it was not asked.
        Header { number: 1 << 40, ..VALUE }.bytes(),
        Header { number: u64::MAX, ..VALUE }.bytes(),
        Header { number: 0, ..VALUE }.bytes(),
        Header { kind: PANICKED, number: 1 << 40, ..VALUE }.bytes(),
        Header { kind: SKIPPED, number: 1 << 40, ..VALUE }.bytes(),
        Header { kind: FAILED, number: 1 << 40, ..VALUE }.bytes(),
        Header { kind: PART, number: 1 << 40, detail: 1, ..VALUE }.bytes(),
        Header { kind: ITEM_FAILED, number: 1 << 40, detail: 1, ..VALUE }.bytes(),
        // Events with a level, a length, a text that is none.
        Header { kind: EVENT, ..VALUE }.bytes(),
        Header { kind: EVENT, ..VALUE }.with(&[0; 9]),
        Header { kind: EVENT, ..VALUE }.with(&[6, 0, 0, 0, 0, 0, 0, 0, 0]),
        Header { kind: EVENT, ..VALUE }.with(&[1, 0, 0, 0, 0, 1, 0, 0, 0]),
        Header { kind: EVENT, ..VALUE }.with(&[&[1][..], &[0; 100_000]].concat()),
    ]
}

#[test]
fn a_worker_that_sends_garbage_is_ended() {
    within_limit(|| {
        for size in [1, 2] {
            let pool = pool(size);
            for garbage in garbage() {
                for then in [Then::Wait, Then::Return] {
                    let worker = soon(pool.submit(call!(own_pid()))).unwrap();
                    let call = call!(write_and(garbage.clone(), then));
                    assert_found_out(&pool, pool.submit(call), worker);
                }
            }
            end(&pool);
        }
    });
}

#[test]
fn what_a_worker_sent_before_garbage_counts() {
    within_limit(|| {
        let pool = pool(1);
        let before: Vec<_> = (0..20).map(|n| pool.submit(call!(square(n)))).collect();
        let fatal = pool.submit(call!(write_and(vec![0; 100], Then::Wait)));
        let behind: Vec<_> = (0..20).map(|n| pool.submit(call!(square(n)))).collect();
        for futures in [before, behind] {
            for (n, future) in (0..).zip(futures) {
                assert_eq!(soon(future).unwrap(), n * n);
            }
        }
        drop(lost(soon(fatal)));
        end(&pool);
    });
}

/// A reply to the task that runs, but with something wrong in it.
fn reply_wrongly(wrong: Wrong, then: Then) -> u32 {
    let own = Header { number: task::id().unwrap().to_string().parse().unwrap(), ..VALUE };
    match wrong {
        Wrong::Slot(slot) => write(&Header { slot, ..own }.bytes()),
        Wrong::Part(detail) => write(&Header { kind: PART, detail, ..own }.bytes()),
        Wrong::ItemFailed => write(&Header { kind: ITEM_FAILED, detail: 1, ..own }.bytes()),
        Wrong::Skipped => write(&Header { kind: SKIPPED, ..own }.bytes()),
    }
    then.act();
    process::id()
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Wrong {
    Slot(u16),
    /// Not of a chunk.
    Part(u64),
    ItemFailed,
    /// It runs.
    Skipped,
}

#[test]
fn a_worker_that_replies_wrongly_is_ended() {
    within_limit(|| {
        for wrong in [
            Wrong::Slot(1),
            Wrong::Slot(63),
            Wrong::Slot(64),
            Wrong::Slot(u16::MAX),
            Wrong::Part(0),
            Wrong::Part(1),
            Wrong::Part(u64::MAX),
            Wrong::ItemFailed,
            Wrong::Skipped,
        ] {
            for then in [Then::Wait, Then::Return] {
                // Its first task has the first slot.
                let pool = pool(1);
                let (started, future) = {
                    let started = Reports::new();
                    (started.clone(), pool.submit(call!(report_and(started, wrong, then))))
                };
                let worker = started.wait_for(1)[0];
                assert_found_out(&pool, future, worker);
                end(&pool);
            }
        }
    });
}

fn report_and(started: Reports, wrong: Wrong, then: Then) -> u32 {
    started.add(process::id());
    reply_wrongly(wrong, then)
}

// ---- Frames that don't end ----

fn truncated() -> Vec<Vec<u8>> {
    let long = Header { length: 100_000, ..VALUE };
    vec![
        vec![VALUE.kind],
        VALUE.bytes()[..31].to_vec(),
        long.bytes(),
        [long.bytes(), vec![7; 20_000]].concat(),
        [long.bytes(), vec![7; 99_999]].concat(),
        Header { segments: 1, ..VALUE }.with(&8_u64.to_le_bytes()),
        [Header { segments: 1, ..VALUE }.with(&8_u64.to_le_bytes()), vec![7; 7]].concat(),
        // More than there is.
        Header { length: 1 << 40, ..VALUE }.bytes(),
        [Header { length: 1 << 62, ..VALUE }.bytes(), vec![7; 200_000]].concat(),
        [Header { segments: (1 << 24) - 1, length: 8 << 24, ..VALUE }.bytes(), vec![7; 200_000]]
            .concat(),
        Header { segments: 2, ..VALUE }.with(&[0, 0, 0, 0, 2, 0, 0, 0].repeat(2)),
    ]
}

#[test]
fn a_worker_that_dies_in_the_middle_of_a_frame_is_lost() {
    within_limit(|| {
        for size in [1, 2] {
            let pool = pool(size);
            for truncated in truncated() {
                for death in Death::ALL {
                    let call = call!(write_and(truncated.clone(), Then::Die(death)));
                    let lost = lost(soon(pool.submit(call)));
                    assert_eq!(status(&lost), death.status(), "{lost}");
                    assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
                }
            }
            end(&pool);
        }
    });
}

/// To the pool it is a task that does not end: what holds for those holds for this one.
#[test]
fn a_worker_that_leaves_a_frame_unfinished_can_be_killed() {
    within_limit(|| {
        let pool = pool(1);
        for truncated in truncated() {
            for then in [Then::Wait, Then::Return] {
                let future = pool.submit(call!(write_and(truncated.clone(), then)));
                let behind = pool.submit(call!(square(3)));
                match (future.kill(), soon(future)) {
                    (true, outcome) => assert_cancelled(&outcome),
                    // What it has sent was found out before.
                    (false, outcome) => assert!(lost(outcome).cause.is_some()),
                }
                let is_killed = matches!(then, Then::Return) && behind.kill();
                match soon(behind) {
                    Ok(square) => assert_eq!(square, 9),
                    // The worker has gone on to it, and what holds for the first holds for it.
                    Err(Error::Cancelled) if is_killed => {}
                    Err(Error::WorkerLost(lost)) if matches!(then, Then::Return) => {
                        assert!(matches!(lost.cause, Some(LossCause::Hostile { .. })), "{lost}");
                    }
                    Err(error) => panic!("{then:?}: {error}"),
                }
                assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);

                let task = pool.task().timeout(Duration::from_millis(5));
                let future = task.submit(call!(write_and(truncated.clone(), then)));
                match soon(future) {
                    Err(Error::TimedOut { started: true, .. }) => {}
                    // There is no memory for it.
                    Err(Error::WorkerLost(lost)) if lost.cause.is_some() => {}
                    other => panic!("{other:?}"),
                }
                assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
            }
        }
        end(&pool);
    });
}

#[test]
fn no_memory_is_taken_for_what_is_only_claimed() {
    /// The most memory that this process ever had, in kB.
    fn peak() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    alone("hostile::no_memory_is_taken_for_what_is_only_claimed", || {
        let pool = pool(1);
        soon(pool.submit(call!(own_pid()))).unwrap();
        let before = peak();
        for bytes in garbage().into_iter().chain(truncated()) {
            drop(lost(soon(pool.submit(call!(write_and(bytes, Then::Die(Death::Exit(3))))))));
        }
        let after = peak();
        assert!(after < before + 32 * 1024, "{before} kB, then {after} kB");
        end(&pool);
    });
}

// ---- Frames that a worker may send, but not like this ----

fn write_often(bytes: Vec<u8>, times: u32) -> u32 {
    (0..times).for_each(|_| write(&bytes));
    process::id()
}

/// One that says that it waits does not count. If it never goes on, it is not to stay for ever, nor
/// is another one for each of its tasks.
#[test]
fn workers_that_claim_to_wait_do_not_pile_up() {
    within_limit(|| {
        for size in [1, 2] {
            let pool = pool(size);
            for kind in [WAITS, GOES_ON] {
                for _ in 0..20 {
                    let bytes = Header { kind, ..VALUE }.bytes();
                    soon(pool.submit(call!(write_often(bytes, 100)))).unwrap();
                    assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
                }
            }
            let workers = pool.worker_pids();
            assert!(workers.len() <= size + 1, "{workers:?}");
            end(&pool);
        }
    });
}

#[test]
fn a_made_up_call_runs_nowhere() {
    within_limit(|| {
        for size in [1, 2] {
            let pool = pool(size);
            for kind in [1, 2, 3, 16, 0xfeff] {
                for code in [[0; 32], [0xff; 32], std::array::from_fn(|n| n as u8)] {
                    for detail in [0, u64::from(u32::MAX)] {
                        let submit = Header { kind: SUBMIT, slot: kind, detail, ..VALUE };
                        let submit = submit.with(&code);
                        let withdraw = Header { kind: WITHDRAW, detail, ..VALUE }.bytes();
                        let bytes = [submit, withdraw].concat();
                        soon(pool.submit(call!(write_often(bytes, 10)))).unwrap();
                        assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
                    }
                }
            }
            end(&pool);
        }
    });
}

/// By its frame the call has options, and there is nothing behind it, or too much; or the chunk a context.
#[test]
fn a_worker_whose_call_has_made_up_options_or_a_made_up_context_is_killed() {
    within_limit(|| {
        let pool = pool(1);
        for options in [vec![], vec![0; 3], vec![0xff; 100]] {
            let submit = Header { kind: SUBMIT, slot: 0x101, ..VALUE };
            let submit = submit.with(&[&[0; 32][..], &options].concat());
            let outcome = soon(pool.submit(call!(write_often(submit, 10))));
            assert!(outcome.unwrap_err().to_string().contains("options that are none"));
            assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
        }
        let submit = Header { kind: SUBMIT, slot: 3, detail: 1 << 32, ..VALUE }.with(&[0; 32]);
        let outcome = soon(pool.submit(call!(write_often(submit, 10))));
        assert!(outcome.unwrap_err().to_string().contains("a context that it has not sent"));
        end(&pool);
    });
}

// ---- Calls that a worker submits ----

/// Where the code is in a frame: an image and an offset for each of entry and function.
const ENTRY: usize = 32;
const FUNCTION: usize = 48;

/// What is done to a frame before it is sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Forged {
    No,
    Shifted(usize, i64),
    /// Entry and function in each other's place.
    Swapped,
    /// The function is another one.
    Of(Stray),
}

/// Code of which no table says where functions begin.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Stray {
    Returns,
    Traps,
}

macro_rules! stray_code {
    ($umask:literal, $trap:literal) => {
        std::arch::global_asm!(
            ".pushsection .text.stray, \"ax\", %progbits",
            "stray_returns:",
            $umask,
            "ret",
            "stray_traps:",
            $trap,
            ".popsection"
        );
    };
}
#[cfg(target_arch = "x86_64")]
stray_code!("mov eax, 95; mov edi, 0x53; syscall", "ud2");
#[cfg(target_arch = "aarch64")]
stray_code!("mov x8, #166; mov x0, #0x53; svc #0", "udf #0");

/// What `stray_returns` changes in its process.
fn umask() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("Umask:")).unwrap().to_owned()
}

impl Stray {
    fn address(self) -> usize {
        unsafe extern "C" {
            safe fn stray_returns();
            safe fn stray_traps();
        }
        match self {
            Self::Returns => stray_returns as extern "C" fn() as usize,
            Self::Traps => stray_traps as extern "C" fn() as usize,
        }
    }
}

impl Forged {
    fn apply(self, frame: &mut [u8]) {
        let mut shift = |at: usize, by: u64| {
            let offset = &mut frame[at + 8..at + 16];
            let shifted = u64::from_le_bytes((&*offset).try_into().unwrap()).wrapping_add(by);
            offset.copy_from_slice(&shifted.to_le_bytes());
        };
        match self {
            Self::No => {}
            Self::Shifted(at, by) => shift(at, by as u64),
            Self::Of(stray) => {
                let by = stray.address().wrapping_sub(nothing as fn(()) as usize);
                shift(FUNCTION, by as u64);
            }
            Self::Swapped => {
                let (entry, function) = frame.split_at_mut(FUNCTION);
                entry[ENTRY..].swap_with_slice(&mut function[..FUNCTION - ENTRY]);
            }
        }
    }
}

/// Long enough that what is a few bytes behind its beginning is within it.
fn nothing(_: ()) {
    std::hint::black_box(process::id());
}

/// Submits a call of `nothing` to the own pool, by a frame that is tampered with on its way: from here
/// on, what this process and its pool say to each other passes through two threads of the job.
fn submit_forged(forged: Forged) -> Result<(), String> {
    let (inside, outside) = UnixStream::pair().unwrap();
    // SAFETY: the descriptor is the worker's, and is only lent.
    let socket = unsafe { BorrowedFd::borrow_raw(3) };
    let socket = UnixStream::from(socket.try_clone_to_owned().unwrap());
    // SAFETY: it stays the worker's, for all that it leads elsewhere. Nothing reads from it while a job
    // runs that has submitted nothing.
    assert_eq!(unsafe { libc::dup2(inside.as_raw_fd(), 3) }, 3);
    let (mut from_pool, mut to_job) = (socket.try_clone().unwrap(), outside.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from_pool, &mut to_job);
        let _ = to_job.shutdown(Shutdown::Both);
    });
    thread::spawn(move || pass_on(&outside, &socket, forged));
    let future = ParentPool::current().unwrap().submit(Call::new(nothing, ()));
    future.result().map_err(|error| error.to_string())
}

/// Passes on frames, none of which has segments.
fn pass_on(mut from: &UnixStream, mut to: &UnixStream, forged: Forged) -> io::Result<()> {
    loop {
        let mut frame = vec![0; 32];
        from.read_exact(&mut frame)?;
        let length = u64::from_le_bytes(frame[16..24].try_into().unwrap()) as usize;
        frame.resize(32 + length, 0);
        from.read_exact(&mut frame[32..])?;
        if frame[0] == SUBMIT {
            forged.apply(&mut frame);
        }
        to.write_all(&frame)?;
    }
}

#[test]
fn a_call_that_a_worker_submits_arrives_as_it_was() {
    within_limit(|| {
        let pool = pool(1);
        assert_eq!(soon(pool.submit(call!(submit_forged(Forged::No)))).unwrap(), Ok(()));
        end(&pool);
    });
}

/// No other worker jumps there: the one that has sent it is ended.
#[test]
fn a_call_of_what_is_no_function_is_its_submitters_end() {
    within_limit(|| {
        let pool = pool(2);
        let shifts = [1, 2, 4, 8, 24, -8, 1 << 20, i64::MAX];
        let shifted = shifts.into_iter().map(|by| Forged::Shifted(ENTRY, by));
        let function = [1, 2, 3, 1 << 40].into_iter().map(|by| Forged::Shifted(FUNCTION, by));
        for forged in shifted.chain(function).chain([Forged::Swapped]) {
            let lost = lost(soon(pool.submit(call!(submit_forged(forged)))));
            assert_eq!(status(&lost), (None, Some(libc::SIGKILL)), "{forged:?}: {lost}");
            let cause = lost.cause.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(cause.contains("it had sent a call of what is no function"), "{cause}");
            assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
        }
        end(&pool);
    });
}

#[test]
fn a_call_that_can_not_be_checked_is_to_its_submitters_account() {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return;
    }
    within_limit(|| {
        // It runs, and its worker runs nothing else.
        let pool = pool(1);
        let forged = Forged::Of(Stray::Returns);
        assert_eq!(soon(pool.submit(call!(submit_forged(forged)))).unwrap(), Ok(()));
        for _ in 0..3 {
            assert_eq!(soon(pool.submit(call!(umask()))).unwrap(), umask());
        }
        end(&pool);
        // Its worker dies, and so does the one that has submitted it.
        let pool = crate::tools::pool(1);
        let forged = Forged::Of(Stray::Traps);
        let lost = lost(soon(pool.submit(call!(submit_forged(forged)))));
        assert_eq!(status(&lost), (None, Some(libc::SIGKILL)), "{lost}");
        let cause = lost.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("a call of what may be no function"), "{cause}");
        assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
        end(&pool);
    });
}

#[test]
fn a_made_up_chunk_is_not_believed() {
    /// The seventh item answers for all.
    fn item((n, wrong): (u32, Option<Wrong>)) -> u32 {
        if let (7, Some(wrong)) = (n, wrong) {
            reply_wrongly(wrong, Then::Wait);
        }
        n
    }
    within_limit(|| {
        for wrong in [Wrong::Part(0), Wrong::Part(u64::MAX), Wrong::Part(21), Wrong::Skipped] {
            let pool = pool(1);
            let items = (0..20).map(move |n| (n, Some(wrong)));
            let results: Vec<_> = block_on(pool.map(item, items).chunk_size(20).collect());
            assert_eq!(results.len(), 20);
            for (n, result) in (0..).zip(results) {
                match result {
                    Ok(value) => assert_eq!(value, n),
                    Err(error) => {
                        drop(lost::<()>(Err(error)));
                        assert!(n <= 7);
                    }
                }
            }
            end(&pool);
        }
    });
}

// ---- The socket ----

fn close_socket(how: u32, then: Then) -> u32 {
    // SAFETY: the worker owns the descriptor. Whatever it does with that number from here on is what
    // the test is about.
    unsafe {
        match how {
            0 => libc::close(3),
            1 => libc::shutdown(3, libc::SHUT_WR),
            _ => libc::shutdown(3, libc::SHUT_RDWR),
        }
    };
    then.act();
    0
}

#[test]
fn a_worker_without_a_socket_is_ended() {
    within_limit(|| {
        let pool = pool(1);
        for how in 0..3 {
            for then in [Then::Wait, Then::Return, Then::Die(Death::Fault)] {
                let worker = soon(pool.submit(call!(own_pid()))).unwrap();
                let process = Watched::all(&[worker]);
                let lost = lost(soon(pool.submit(call!(close_socket(how, then)))));
                assert_eq!(lost.pid, worker);
                if matches!(then, Then::Wait) {
                    assert!(lost.to_string().contains("closed its socket"), "{lost}");
                }
                assert_ended_soon(&process);
                assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
            }
        }
        end(&pool);
    });
}

// ---- The control block ----

/// Fills all memory that the worker shares with the pool.
fn scribble(pattern: u32, then: Then) -> u32 {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains("memfd:concurrent-futures")) {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split_whitespace().next().unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        for at in (number(start)..number(end)).step_by(4) {
            let word = std::ptr::with_exposed_provenance_mut::<u32>(at);
            // SAFETY: it is mapped, and everybody who has it takes whatever is there.
            unsafe { word.write_volatile(pattern) };
        }
        found += 1;
    }
    assert_eq!(found, 1, "{maps}");
    then.act();
    process::id()
}

const PATTERNS: [u32; 6] = [0, 1, 2, 4, u32::MAX, 0x0100_0001];

#[test]
fn a_worker_may_write_anything_to_its_control_block() {
    within_limit(|| {
        for pattern in PATTERNS {
            let pool = pool(1);
            let worker = soon(pool.submit(call!(own_pid()))).unwrap();
            assert_eq!(soon(pool.submit(call!(scribble(pattern, Then::Return)))).unwrap(), worker);
            for n in 0..5 {
                assert_eq!(soon(pool.submit(call!(square(n)))).unwrap(), n * n);
            }
            // The cause that is written there is not that of an exit.
            let call = call!(scribble(pattern, Then::Die(Death::Exit(3))));
            let lost = lost(soon(pool.submit(call)));
            assert_eq!((status(&lost), &lost.cause), ((Some(3), None), &None), "{pattern:x}");
            assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
            end(&pool);
        }
    });
}

/// Except for that it has not begun.
#[test]
fn a_worker_does_not_get_round_a_time_limit_by_its_control_block() {
    within_limit(|| {
        for pattern in PATTERNS.into_iter().filter(|pattern| pattern & 1 == 1) {
            let pool = pool(1);
            let task = pool.task().timeout(Duration::from_millis(50));
            let outcome = soon(task.submit(call!(scribble(pattern, Then::Wait))));
            assert!(matches!(outcome, Err(Error::TimedOut { started: true, .. })), "{outcome:?}");
            assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
            end(&pool);
        }
    });
}

#[test]
fn what_is_left_of_a_chunk_is_not_believed_either() {
    fn item((n, pattern): (u32, u32)) -> u32 {
        if n == 7 {
            scribble(pattern, Then::Die(Death::Abort));
        }
        n
    }
    within_limit(|| {
        for pattern in PATTERNS {
            let pool = pool(1);
            let items = (0..20).map(move |n| (n, pattern));
            let results: Vec<_> = block_on(pool.map(item, items).chunk_size(20).collect());
            assert_eq!(results.len(), 20);
            for (n, result) in (0..).zip(results) {
                match result {
                    Ok(value) => assert_eq!(value, n),
                    Err(error) => drop(lost::<()>(Err(error))),
                }
            }
            assert_eq!(soon(pool.submit(call!(square(3)))).unwrap(), 9);
            end(&pool);
        }
    });
}
