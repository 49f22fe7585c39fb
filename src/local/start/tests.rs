//! Zygotes and workers that really run. A worker does what the script says that its name stands for.
//!
//! What concerns a whole process, such as its death, is tested in programs.

use std::ffi::OsString;
use std::fs::Permissions;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use super::hook;
use crate::codec::buffer::Buffer;
use crate::function;
use crate::initializer::InitializerOutcome;
use crate::job::Call;
use crate::local::control_block::SharedControlBlock;
use crate::local::control_block::{FAULT, STACK_OVERFLOW};
use crate::local::crash;
use crate::local::family::Family;
use crate::local::start;
use crate::local::start::zygote::{Exit, Launch, Notice, WorkerSettings, Zygote, ZygoteSettings};
use crate::local::worker::WorkerStart;
use crate::portable::Portable;
use crate::remote::call::pack_outside;
use crate::remote::slots::SLOTS;
use crate::sys::descriptors;
use crate::sys::spawn::{self, Spawn};
use crate::sys::{
    AREA, AsFd, BorrowedFd, Event, ExitStatus, OwnedFd, PidFd, Poller, Signal, kill_group,
    monotonic_now, socket,
};

#[path = "../../../tests/lifecycle/program.rs"]
mod program;

/// Nothing here takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(20);

type Script = fn(WorkerStart) -> i32;

const SCRIPTS: [(&str, Script); 26] = [
    ("echo", echo),
    ("sleep", |_| sleep()),
    ("exit 3", |_| 3),
    ("panic", |_| panic!("as the test wants it")),
    ("abort", |_| std::process::abort()),
    ("null", |_| fault()),
    ("null in a thread", |_| std::thread::spawn(fault).join().unwrap()),
    ("stack overflow", |_| i32::from(overflow(1) == 0)),
    ("SIGSEGV without a fault", segv_without_fault),
    ("fault with a handler of its own", fault_with_handler),
    ("allocate 64 MiB", |_| i32::from(black_box(vec![1_u8; 64 << 20]).len() == 1)),
    ("descriptors", |start| tell(&start, &descriptors().join("\n"))),
    ("status", |start| tell(&start, &std::fs::read_to_string("/proc/self/status").unwrap())),
    ("badness", |start| tell(&start, &badness())),
    ("surroundings", surroundings),
    ("constructors", |start| tell(&start, &hook::behind::called())),
    ("what was preloaded", |start| tell(&start, PRELOADED.get().map_or("", |text| text))),
    ("start a process", start_a_process),
    ("start a process and exit", |start| start_a_process_and(&start, || 0)),
    ("start a daemon", start_a_daemon),
    ("join threads", |_| (0..50).map(|_| join_a_thread()).sum()),
    ("write to nobody", write_to_nobody),
    ("random keys", |start| tell(&start, &RandomState::new().hash_one(1).to_string())),
    ("stderr", |start| print(&start, 20_000)),
    ("some stderr", |start| print(&start, 4_000)),
    ("a pool", a_pool),
];

/// What a worker of that name runs, if it is one of these tests'.
pub(crate) fn main_of(name: &str) -> Option<Script> {
    SCRIPTS.iter().find(|(script, _)| *script == name).map(|(_, main)| *main)
}

// The scripts, and what they need.

fn echo(start: WorkerStart) -> i32 {
    let mut bytes = [0; 1000];
    loop {
        match socket::receive(start.socket.as_fd(), &mut bytes) {
            Ok(0) | Err(_) => return 0,
            Ok(length) => say(&start, &bytes[..length]),
        }
    }
}

fn sleep() -> i32 {
    loop {
        std::thread::park();
    }
}

/// Sends something to the test.
fn say(start: &WorkerStart, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let sent = socket::send(start.socket.as_fd(), &[IoSlice::new(bytes)]).unwrap();
        bytes = &bytes[sent..];
    }
}

fn tell(start: &WorkerStart, text: &str) -> i32 {
    say(start, text.as_bytes());
    0
}

/// Waits for a byte from the test.
fn wait_for_word(start: &WorkerStart) {
    assert_eq!(socket::receive(start.socket.as_fd(), &mut [0]).unwrap(), 1);
}

fn fault() -> i32 {
    // SAFETY: that this is not allowed is what the tests are about.
    unsafe { black_box(std::ptr::null_mut::<u8>()).write_volatile(1) };
    0
}

fn overflow(n: u64) -> u64 {
    let frame = black_box([n; 100]);
    if frame[1] == 0 { 0 } else { overflow(n + 1) + frame[2] }
}

fn segv_without_fault(start: WorkerStart) -> i32 {
    // SAFETY: it runs no code of this process but the handler, which is there for that.
    unsafe { libc::raise(libc::SIGSEGV) };
    tell(&start, "alive")
}

/// As a runtime for WebAssembly does, it deals with its own faults and leaves others to the handler
/// that was there before.
fn fault_with_handler(start: WorkerStart) -> i32 {
    static PLACE: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

    extern "C" fn allow(_: libc::c_int) {
        // SAFETY: the control block is a mapping of the test's own.
        unsafe { libc::mprotect(PLACE.load(SeqCst), 4096, libc::PROT_READ | libc::PROT_WRITE) };
    }

    // SAFETY: a new mapping; the handler only makes a system call, and the place can be written to
    // once that is made.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let place = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
        PLACE.store(place, SeqCst);
        libc::signal(libc::SIGSEGV, allow as *const () as usize);
        // On top of it once more, as in a zygote whose preloaded function has installed a handler.
        crash::install(&crate::sys::SingleThreaded::check().unwrap()).unwrap();
        place.cast::<u8>().write_volatile(1);
    }
    tell(&start, "alive")
}

/// Number and target of each.
fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let target = std::fs::read_link(&path).unwrap();
            // The one that reads the list.
            let is_list = target.to_str().unwrap().starts_with("/proc/");
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (!is_list).then(|| format!("{name} {}", target.display()))
        })
        .collect();
    found.sort();
    found
}

fn badness() -> String {
    std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().to_owned()
}

fn surroundings(start: WorkerStart) -> i32 {
    let variable = |name| std::env::var(name).unwrap_or("-".to_owned());
    let names = ["TEST_SET", "CARGO_MANIFEST_DIR", start::VARIABLE];
    let mut text = names.map(variable).join("\n");
    text += &format!("\n{}", std::env::current_dir().unwrap().display());
    text += &format!("\n{}", std::env::args().next().unwrap_or_default());
    tell(&start, &text)
}

fn start_a_process(start: WorkerStart) -> i32 {
    start_a_process_and(&start, sleep)
}

/// Tells the number of the process, and waits for a word.
fn start_a_process_and(start: &WorkerStart, then: fn() -> i32) -> i32 {
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    say(start, &child.id().to_ne_bytes());
    wait_for_word(start);
    let code = then();
    drop(child.try_wait()); // it is left behind
    code
}

/// Not every program ignores SIGPIPE.
fn write_to_nobody(_: WorkerStart) -> i32 {
    // SAFETY: the default needs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (ours, theirs) = socket::pair().unwrap();
    drop(theirs);
    let error = socket::send(ours.as_fd(), &[IoSlice::new(b"a")]).unwrap_err();
    i32::from(error.kind() != ErrorKind::BrokenPipe)
}

/// 0 if the process counts as single-threaded then.
fn join_a_thread() -> i32 {
    // Unlike `join`, a scope does not wait for what a thread does after its function.
    std::thread::scope(|scope| drop(scope.spawn(|| ())));
    crate::sys::SingleThreaded::check().is_err().into()
}

/// As much of one as matters: it is not of the worker's group.
fn start_a_daemon(start: WorkerStart) -> i32 {
    let child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    say(&start, &child.id().to_ne_bytes());
    std::mem::forget(child);
    0
}

fn print(start: &WorkerStart, lines: usize) -> i32 {
    (0..lines).for_each(|n| eprintln!("line {n}"));
    tell(start, "done")
}

/// What it prints.
fn printed(lines: usize) -> String {
    (0..lines).map(|n| format!("line {n}\n")).collect()
}

fn a_pool(start: WorkerStart) -> i32 {
    let pool = Pool::new();
    let worker = pool.spawn("echo");
    worker.say(b"nested");
    say(&start, &worker.hear(6));
    0
}

static PRELOADED: OnceLock<String> = OnceLock::new();

// The tests' side.

struct Pool {
    zygote: Zygote,
}

impl Pool {
    fn new() -> Self {
        Self::with(&zygote_settings())
    }

    fn with(settings: &ZygoteSettings) -> Self {
        start::check_can_start().unwrap();
        Self { zygote: Zygote::start(&Launch::new(settings).unwrap()).unwrap() }
    }

    fn preloading<A: Portable, R: InitializerOutcome>(function: fn(A) -> R, arguments: A) -> Self {
        let preload = Call::new(function, arguments);
        let preload = Some(Arc::new(pack_outside(preload).unwrap()));
        Self::with(&ZygoteSettings { preload, ..zygote_settings() })
    }

    fn spawn(&self, script: &str) -> Worker {
        self.spawn_with(&settings(script))
    }

    fn spawn_with(&self, settings: &WorkerSettings) -> Worker {
        assert!(main_of(&settings.pool).is_some(), "{} is no script", settings.pool);
        let (socket, theirs) = socket::pair().unwrap();
        let (block, memory) = SharedControlBlock::create().unwrap();
        self.zygote.spawn(settings, theirs, memory.as_fd()).unwrap();
        Worker { socket, block }
    }

    fn notice(&self) -> Notice {
        loop {
            match self.zygote.receive().unwrap() {
                Some(notice) => return notice,
                None => wait_until_readable(self.zygote.fd()),
            }
        }
    }

    fn spawned(&self) -> (u32, PidFd) {
        loop {
            match self.notice() {
                Notice::Ready => {}
                Notice::Spawned { pid, pidfd, .. } => return (pid, pidfd),
                other => panic!("{}", text(&other)),
            }
        }
    }

    fn exited(&self) -> Exit {
        loop {
            match self.notice() {
                Notice::Ready | Notice::Spawned { .. } => {}
                Notice::Exited(exit) => return exit,
                other => panic!("{}", text(&other)),
            }
        }
    }

    /// The reason that it gives for not serving, and then its end.
    fn refused(&self) -> String {
        match self.notice() {
            Notice::Refused(reason) => {
                wait_until_readable(self.zygote.fd());
                let end = self.zygote.receive().map(|notice| notice.map(|notice| text(&notice)));
                assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof);
                reason
            }
            other => panic!("{}", text(&other)),
        }
    }
}

fn text(notice: &Notice) -> String {
    match notice {
        Notice::Ready => "ready".to_owned(),
        Notice::Refused(reason) => format!("refused: {reason}"),
        Notice::Spawned { pid, .. } => format!("spawned {pid}"),
        Notice::SpawnFailed { error, .. } => format!("not spawned: {error}"),
        Notice::KillFailed { error, .. } => format!("not killed: {error}"),
        Notice::Stopped { number, is_stopped } => format!("{number} is stopped: {is_stopped}"),
        Notice::Exited(exit) => format!("exited: {exit:?}"),
    }
}

/// Without backtraces: a message would not be among the last lines then.
fn zygote_settings() -> ZygoteSettings {
    let env = vec![("RUST_BACKTRACE".into(), Some("0".into()))];
    ZygoteSettings { env, ..ZygoteSettings::default() }
}

fn settings(script: &str) -> WorkerSettings {
    let (number, index) = (7, Some(3));
    let (pool, family) = (script.to_owned(), Family::new().unwrap());
    WorkerSettings { number, index, pool, family, memory_limit: None, keep_stderr: false }
}

struct Worker {
    socket: OwnedFd,
    block: SharedControlBlock,
}

impl Worker {
    fn say(&self, bytes: &[u8]) {
        let sent = socket::send(self.socket.as_fd(), &[IoSlice::new(bytes)]);
        assert_eq!(sent.unwrap(), bytes.len());
    }

    /// What it sends, up to `length` bytes, or to its end.
    fn hear(&self, length: usize) -> Vec<u8> {
        let (mut heard, mut bytes) = (Vec::new(), [0; 4096]);
        while heard.len() < length {
            match socket::receive(self.socket.as_fd(), &mut bytes) {
                Ok(0) => break,
                Ok(length) => heard.extend(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait_until_readable(self.socket.as_fd());
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        heard
    }

    fn hear_all(&self) -> String {
        String::from_utf8(self.hear(usize::MAX)).unwrap()
    }

    fn hear_pid(&self) -> u32 {
        u32::from_ne_bytes(self.hear(4).try_into().unwrap())
    }

    fn fault(&self) -> (u32, u32) {
        (self.block.cause.load(SeqCst), self.block.signal.load(SeqCst))
    }
}

fn wait_until_readable(fd: BorrowedFd<'_>) {
    let poller = Poller::new().unwrap();
    poller.add(fd, 0, true, false).unwrap();
    let (mut events, start) = (Vec::new(), Instant::now());
    while events.is_empty() {
        assert!(start.elapsed() < HANG, "nothing comes");
        poller.wait(&mut events, Some(HANG)).unwrap();
    }
}

/// Waits for the end of a process that may be anybody's child.
fn wait_for_end(pid: u32) {
    let process = PidFd::open(pid);
    if process.signal_nothing().is_ok() {
        wait_until_readable(process.fd().unwrap());
    }
}

const SEGV: u32 = libc::SIGSEGV as u32;

// A worker's life.

#[test]
fn a_worker_runs_and_ends_with_its_socket() {
    let pool = Pool::new();
    let worker = pool.spawn("echo");
    worker.say(b"hello");
    assert_eq!(worker.hear(5), b"hello");
    assert!(matches!(pool.notice(), Notice::Ready));
    let (pid, _) = pool.spawned();
    drop(worker);
    let exit = pool.exited();
    assert_eq!((exit.number, exit.pid, exit.status), (7, pid, ExitStatus::Code(0)));
    assert!(!exit.out_of_memory && exit.stderr_tail.is_empty());
    assert!(exit.usage.peak_memory > 100_000, "{:?}", exit.usage);
}

/// Descriptors have numbers below this one.
fn descriptor_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn more_workers_than_the_control_socket_holds_requests_for() {
    // Each worker is a socket here, and for a moment another one.
    if descriptor_limit() < 600 {
        return println!("left out: 600 descriptors are needed");
    }
    let pool = Pool::new();
    let workers: Vec<_> = (0..400).map(|_| pool.spawn("echo")).collect();
    // Unread notices don't keep it from forking; the workers wait until theirs find room.
    for _ in 0..400 {
        pool.spawned();
    }
    for worker in &workers {
        worker.say(b"hello");
        assert_eq!(worker.hear(5), b"hello");
    }
    drop(workers);
    for _ in 0..400 {
        assert_eq!(pool.exited().status, ExitStatus::Code(0));
    }
}

#[test]
fn a_worker_can_be_signalled_and_killed() {
    let pool = Pool::new();
    let _workers = [pool.spawn("sleep"), pool.spawn("sleep"), pool.spawn("sleep")];
    let [(_, first), (_, second), (third, _)] = std::array::from_fn(|_| pool.spawned());
    first.signal(Signal::Terminate).unwrap();
    assert_eq!(pool.exited().status, ExitStatus::Signal(libc::SIGTERM));
    second.signal(Signal::Kill).unwrap();
    let exit = pool.exited();
    assert_eq!((exit.status, exit.out_of_memory), (ExitStatus::KILLED, false));
    kill_group(third).unwrap();
    assert_eq!(pool.exited().pid, third);
    let late = first.signal(Signal::Kill).unwrap_err();
    assert_eq!(late.raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn how_a_worker_ended_is_told() {
    let pool = Pool::new();
    let ended = [
        ("exit 3", ExitStatus::Code(3)),
        ("panic", ExitStatus::Code(101)),
        ("abort", ExitStatus::ABORTED),
    ];
    for (script, status) in ended {
        let worker = pool.spawn(script);
        assert_eq!(pool.exited().status, status, "{script}");
        assert_eq!(worker.fault(), (0, 0), "{script}");
    }
}

#[test]
fn a_fault_is_noted_and_takes_its_course() {
    let pool = Pool::new();
    for script in ["null", "null in a thread"] {
        let worker = pool.spawn(script);
        assert_eq!(pool.exited().status, ExitStatus::Signal(libc::SIGSEGV), "{script}");
        assert_eq!(worker.fault(), (FAULT, SEGV), "{script}");
        assert_eq!(worker.block.address.load(SeqCst), 0, "{script}");
    }
}

#[test]
fn a_stack_overflow_is_told_from_other_faults() {
    let pool = Pool::new();
    let worker = pool.spawn("stack overflow");
    assert_eq!(pool.exited().status, ExitStatus::Signal(libc::SIGSEGV));
    assert_eq!(worker.fault(), (STACK_OVERFLOW, SEGV));
    assert!(worker.block.is_stack_overflow(libc::SIGSEGV));
    assert!(worker.block.is_stack_overflow(libc::SIGABRT), "as std's handler does it");
    assert!(!worker.block.is_stack_overflow(libc::SIGKILL));
    assert_ne!(worker.block.address.load(SeqCst), 0);
}

#[test]
fn a_signal_that_somebody_sent_is_no_fault() {
    let pool = Pool::new();
    let worker = pool.spawn("SIGSEGV without a fault");
    assert_eq!(pool.exited().status, ExitStatus::Signal(libc::SIGSEGV));
    assert_eq!((worker.fault(), worker.hear_all()), ((0, 0), String::new()));
}

#[test]
fn an_earlier_handler_still_deals_with_its_faults() {
    let pool = Pool::new();
    let worker = pool.spawn("fault with a handler of its own");
    assert_eq!(worker.hear_all(), "alive");
    assert_eq!(pool.exited().status, ExitStatus::Code(0));
}

#[test]
fn a_memory_limit_ends_an_allocation() {
    let pool = Pool::new();
    let limited = WorkerSettings {
        memory_limit: Some(32 << 20),
        keep_stderr: true,
        ..settings("allocate 64 MiB")
    };
    let _worker = pool.spawn_with(&limited);
    let exit = pool.exited();
    assert_eq!(exit.status, ExitStatus::ABORTED);
    let stderr = String::from_utf8(exit.stderr_tail).unwrap();
    assert!(stderr.contains("memory allocation of 67108864 bytes failed"), "{stderr}");

    let _worker = pool.spawn_with(&WorkerSettings { memory_limit: Some(128 << 20), ..limited });
    let exit = pool.exited();
    assert_eq!(exit.status, ExitStatus::Code(0));
    assert!(exit.usage.peak_memory > 64 << 20);
}

#[test]
fn the_last_of_stderr_is_kept() {
    let ended = program::run(&name("the_last_of_stderr_is_kept"), 0, || {
        let pool = Pool::new();
        let worker = pool.spawn_with(&WorkerSettings { keep_stderr: true, ..settings("stderr") });
        let exit = pool.exited();
        assert_eq!(worker.hear_all(), "done");
        println!("{} bytes", exit.stderr_tail.len());
        let tail = String::from_utf8(exit.stderr_tail).unwrap();
        println!("last: {}", tail.lines().last().unwrap());
    });
    let Some(ended) = ended else { return };
    assert!(ended.status.success(), "{}", ended.stdout);
    assert!(ended.printed("4096 bytes") && ended.printed("last: line 19999"), "{}", ended.stdout);
    assert!(ended.stderr == printed(20_000), "{} bytes come through", ended.stderr.len());
}

/// Nobody reads the program's stderr, so the worker waits. The zygote does not.
#[test]
fn a_stderr_that_nobody_reads_does_not_hold_up_the_zygote() {
    let name = name("a_stderr_that_nobody_reads_does_not_hold_up_the_zygote");
    let ended = program::run(&name, 0, || {
        let (pool, mut read) = pool_with_stderr();
        let loud = pool.spawn_with(&WorkerSettings { keep_stderr: true, ..settings("stderr") });
        let mut first = [0; 6];
        read.read_exact(&mut first).unwrap(); // it has begun
        let other = pool.spawn("echo");
        other.say(b"hello");
        assert_eq!(other.hear(5), b"hello");

        std::thread::scope(|scope| {
            let rest = scope.spawn(|| {
                let mut rest = Vec::new();
                read.read_to_end(&mut rest).unwrap();
                rest.len()
            });
            assert_eq!(loud.hear(4), b"done");
            assert_eq!(pool.exited().status, ExitStatus::Code(0));
            drop(other);
            drop(pool); // nobody has the other end then
            println!("{} bytes", rest.join().unwrap());
        });
    });
    let Some(ended) = ended else { return };
    assert!(ended.well().printed(&format!("{} bytes", printed(20_000).len() - 6)));
}

#[test]
fn what_was_written_to_stderr_is_read_before_the_end() {
    let name = name("what_was_written_to_stderr_is_read_before_the_end");
    let ended = program::run(&name, 0, || {
        let (pool, mut read) = pool_with_stderr();
        let loud = WorkerSettings { keep_stderr: true, ..settings("some stderr") };
        let loud = pool.spawn_with(&loud);
        assert_eq!(loud.hear(4), b"done");
        pool.exited();
        // The worker is gone, and nothing of what it has written was read yet.
        let now = Barrier::new(2);
        std::thread::scope(|scope| {
            let all = scope.spawn(|| {
                let mut all = String::new();
                now.wait();
                read.read_to_string(&mut all).unwrap();
                all
            });
            now.wait();
            drop(pool);
            println!("{} bytes", all.join().unwrap().len());
        });
    });
    let Some(ended) = ended else { return };
    assert!(ended.well().printed(&format!("{} bytes", printed(4_000).len())));
}

/// A pool whose stderr can be read, and does not hold much. To be called in programs.
fn pool_with_stderr() -> (Pool, std::fs::File) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&write, 4096).unwrap();
    let before = rustix::io::dup(rustix::stdio::stderr()).unwrap();
    rustix::stdio::dup2_stderr(&write).unwrap();
    let pool = Pool::new();
    rustix::stdio::dup2_stderr(&before).unwrap();
    (pool, read.into())
}

// What a worker has.

#[test]
fn a_worker_has_no_descriptors_but_its_own() {
    // Not closed by exec, as C code opens files.
    let leak = rustix::fs::open("/dev/zero", rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
    let number = (descriptor_limit() - 1).min(500);
    let high = rustix::io::fcntl_dupfd_cloexec(&leak, number as i32).unwrap();
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
    let pool = Pool::new();
    // Several, so that the zygote has something that could leak.
    let workers: Vec<_> = (0..3)
        .map(|_| pool.spawn_with(&WorkerSettings { keep_stderr: true, ..settings("descriptors") }))
        .collect();
    for worker in workers {
        let text = worker.hear_all();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[0], "0 /dev/null");
        assert!(lines[1].starts_with("1 "), "{text}");
        assert!(lines[2].starts_with("2 pipe:"), "{text}");
        assert!(lines[3].starts_with("3 socket:"), "{text}");
    }
    drop((leak, high));
}

#[test]
fn a_worker_has_the_stderr_of_the_program_unless_it_is_kept() {
    let pool = Pool::new();
    let worker = pool.spawn("descriptors");
    let own = std::fs::read_link("/proc/self/fd/2").unwrap();
    assert!(worker.hear_all().contains(&format!("\n2 {}\n", own.display())));
}

/// What a preloaded function opens is for the workers, wherever it comes to lie.
#[test]
fn descriptors_of_the_preloaded_function_are_kept() {
    fn open_some() {
        let file = std::fs::File::open("/dev/zero").unwrap();
        let high = rustix::io::fcntl_dupfd_cloexec(&file, 50).unwrap();
        let _ =
            (rustix::io::fcntl_dupfd_cloexec(&file, 9).unwrap().into_raw_fd(), high.into_raw_fd());
    }

    let pool = Pool::preloading(|()| open_some(), ());
    let workers = [pool.spawn("descriptors"), pool.spawn("descriptors")];
    for worker in workers {
        let text = worker.hear_all();
        let numbers: Vec<_> =
            text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        let mut sorted: Vec<u32> = numbers;
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 9, 50], "{text}");
    }
}

/// The value of a line of `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}")).trim()
}

/// The signals that workers ignore: a pipe that nobody reads, and job control.
const IGNORED: u64 = 1 << (libc::SIGPIPE - 1)
    | 1 << (libc::SIGTSTP - 1)
    | 1 << (libc::SIGTTIN - 1)
    | 1 << (libc::SIGTTOU - 1);

/// Which signals are ignored. Without the two that glibc keeps for itself, and has ignored by what it
/// spawns.
fn ignored(status: &str) -> u64 {
    u64::from_str_radix(field(status, "SigIgn"), 16).unwrap() & !(3 << 31)
}

#[test]
fn a_worker_has_a_name_a_group_and_signals_of_its_own() {
    let pool = Pool::new();
    let worker = pool.spawn("status");
    let (pid, _) = pool.spawned();
    let status = worker.hear_all();
    assert_eq!(field(&status, "Name"), "status_3");
    assert_eq!(field(&status, "PPid"), pool.zygote.pid().to_string());
    assert_eq!(field(&status, "NSpgid"), pid.to_string());
    assert_eq!(field(&status, "Threads"), "1");
    assert_eq!(field(&status, "SigBlk"), "0000000000000000");
    assert_eq!(ignored(&status), IGNORED);
    let caught = 1 << (libc::SIGSEGV - 1) | 1 << (libc::SIGBUS - 1);
    assert_eq!(field(&status, "SigCgt"), format!("{caught:016x}"));
}

#[test]
fn the_kernel_is_offered_workers_first() {
    let own: i32 = badness().parse().unwrap();
    let pool = Pool::new();
    let worker = pool.spawn("badness");
    assert_eq!(worker.hear_all(), (own + 500).min(1000).to_string());
    let zygote = format!("/proc/{}/oom_score_adj", pool.zygote.pid());
    assert_eq!(std::fs::read_to_string(zygote).unwrap().trim(), own.to_string());
}

#[test]
fn environment_and_directory_are_as_set() {
    let set = |name: &str, value: Option<&str>| (name.into(), value.map(OsString::from));
    let pool = Pool::with(&ZygoteSettings {
        env: vec![set("TEST_SET", Some("to this")), set("CARGO_MANIFEST_DIR", None)],
        current_dir: Some("/".into()),
        preload: None,
    });
    let text = pool.spawn("surroundings").hear_all();
    // Before `main`, musl has no arguments to tell of.
    let own = std::env::args().next().filter(|_| cfg!(target_env = "gnu")).unwrap_or_default();
    assert_eq!(text.split('\n').collect::<Vec<_>>(), ["to this", "-", "-", "/", &own]);
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok(), "it is set here");
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let current_dir = Some("/nowhere".into());
    let settings = ZygoteSettings { current_dir, ..ZygoteSettings::default() };
    assert_eq!(Launch::new(&settings).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
}

/// By the C library where it can do that, and otherwise by a fork of this process.
#[test]
fn a_process_is_started_with_what_it_is_given_and_nothing_else() {
    let leak = rustix::fs::open("/dev/zero", rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let directory = descriptors::open_directory("/usr".as_ref()).unwrap();
    let run = |start: &dyn Fn(&Spawn<'_>) -> io::Result<u32>, program: &str| {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let line = "pwd; echo $NAME; ls /proc/$$/fd; set -- $(cat /proc/$$/stat); test $5 = $$ && echo leads; kill -PIPE $$";
        let pid = start(&Spawn {
            program: program.as_ref(),
            arguments: &["called", "-c", line].map(OsString::from),
            environment: &[
                ("NAME".into(), "value".into()),
                ("PATH".into(), "/usr/bin:/bin".into()),
            ],
            directory: Some(directory.as_fd()),
            standard: [null.as_fd(), write.as_fd(), null.as_fd()],
        })?;
        drop(write);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        let status = crate::sys::process::wait(pid).unwrap();
        assert_eq!(status, ExitStatus::Signal(libc::SIGPIPE), "{text}");
        io::Result::Ok(text)
    };
    let by_library = spawn::Extensions::find();
    let by_library = |given: &Spawn<'_>| match &by_library {
        Some(extensions) => given.by_library(extensions),
        None => given.by_fork(), // there is nothing else to test
    };
    for start in [&by_library as &dyn Fn(&Spawn<'_>) -> _, &|it: &Spawn<'_>| it.by_fork()] {
        assert_eq!(run(start, "/bin/sh").unwrap(), "/usr\nvalue\n0\n1\n2\nleads\n");
        assert_eq!(run(start, "/nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    }
    drop(leak);
}

/// Both ways, while another thread prints to streams that are closed.
#[test]
fn a_process_is_started_where_the_standard_streams_are_closed() {
    let name = name("a_process_is_started_where_the_standard_streams_are_closed");
    let ended = program::run(&name, 0, || {
        let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let kept = standard.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 10).unwrap());
        let null =
            rustix::io::fcntl_dupfd_cloexec(std::fs::File::open("/dev/null").unwrap(), 10).unwrap();
        let spawn = Spawn {
            program: "/bin/sh".as_ref(),
            arguments: &["sh", "-c", "exit 5"].map(OsString::from),
            environment: &[],
            directory: None,
            standard: [null.as_fd(); 3],
        };
        let is_over = AtomicBool::new(false);
        // SAFETY: nothing owns the standard streams.
        (0..3).for_each(|fd| assert_eq!(unsafe { libc::close(fd) }, 0));
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    for fd in 0..3 {
                        // SAFETY: the text is 16 bytes long.
                        unsafe { libc::write(fd, c"text for people\n".as_ptr().cast(), 16) };
                    }
                }
            });
            let wait = |pid: io::Result<u32>| crate::sys::process::wait(pid?);
            let by_library = spawn::Extensions::find();
            let by_library = by_library.map(|extensions| wait(spawn.by_library(&extensions)));
            let by_fork: Vec<_> = (0..20).map(|_| wait(spawn.by_fork())).collect();
            is_over.store(true, Relaxed);
            by_library.into_iter().chain(by_fork).collect::<Vec<_>>()
        });
        rustix::stdio::dup2_stdin(&kept[0]).unwrap();
        rustix::stdio::dup2_stdout(&kept[1]).unwrap();
        rustix::stdio::dup2_stderr(&kept[2]).unwrap();
        for ended in ended {
            assert_eq!(ended.unwrap(), ExitStatus::Code(5));
        }
    });
    if let Some(ended) = ended {
        ended.well();
    }
}

#[test]
fn a_worker_can_have_a_pool() {
    let pool = Pool::new();
    assert_eq!(pool.spawn("a pool").hear_all(), "nested");
    assert_eq!(pool.exited().status, ExitStatus::Code(0));
}

// Before `main`.

#[test]
fn constructors_behind_the_hook_run_in_the_worker_as_well() {
    assert_eq!(hook::behind::called(), "[1, 2]");
    let pool = Pool::new();
    assert_eq!(pool.spawn("constructors").hear_all(), "[1, 2]");
}

#[test]
fn a_preloaded_function_runs_once_for_all_workers() {
    fn load() {
        PRELOADED.set(format!("in process {}", std::process::id())).unwrap();
        let refused = start::check_can_start().unwrap_err().to_string();
        assert!(refused.contains("has no pools itself"), "{refused}");
        std::thread::spawn(|| ()).join().unwrap();
    }

    let pool = Pool::preloading(|()| load(), ());
    let expected = format!("in process {}", pool.zygote.pid());
    assert_eq!(pool.spawn("what was preloaded").hear_all(), expected);
    assert_eq!(pool.spawn("what was preloaded").hear_all(), expected);
    assert_eq!(PRELOADED.get(), None);
}

/// Also those that are longer than a message, and those that are no part of the values.
#[test]
fn a_preloaded_function_gets_its_arguments() {
    fn load((text, numbers, buffer): (String, Vec<u32>, Buffer<u16>)) {
        let sums = (numbers.iter().sum::<u32>(), buffer.iter().map(|n| u32::from(*n)).sum::<u32>());
        PRELOADED.set(format!("{text}, {sums:?}")).unwrap();
    }

    for length in [0, 10, 100_000] {
        let buffer = Buffer::from(vec![2_u16; length]);
        let pool = Pool::preloading(load, ("told".to_owned(), vec![3; length], buffer));
        let expected = format!("told, {:?}", (3 * length, 2 * length));
        assert_eq!(pool.spawn("what was preloaded").hear_all(), expected);
    }
}

/// Whatever zygote it is told to.
#[test]
fn a_call_to_preload_can_be_made_again() {
    fn load(text: String) {
        PRELOADED.set(text).unwrap();
    }

    let preload = Some(Arc::new(pack_outside(Call::new(load, "told".to_owned())).unwrap()));
    let launch = Launch::new(&ZygoteSettings { preload, ..zygote_settings() }).unwrap();
    for _ in 0..3 {
        let pool = Pool { zygote: Zygote::start(&launch).unwrap() };
        assert_eq!(pool.spawn("what was preloaded").hear_all(), "told");
        // The file is the zygote's, and no worker's.
        let worker =
            pool.spawn_with(&WorkerSettings { keep_stderr: true, ..settings("descriptors") });
        assert_eq!(worker.hear_all().lines().count(), 4);
    }
}

#[test]
fn a_preloaded_function_that_fails_is_reported() {
    fn fail() -> std::io::Result<()> {
        std::fs::read("/no/such/file").map(drop)
    }

    let reason = Pool::preloading(|()| fail(), ()).refused();
    assert!(reason.starts_with("the preloaded function failed: No such file"), "{reason}");
}

#[test]
fn what_a_preloaded_function_prints_is_not_printed_again_by_workers() {
    fn print() {
        print!("once, ");
    }

    let name = name("what_a_preloaded_function_prints_is_not_printed_again_by_workers");
    let ended = program::run(&name, 0, || {
        let pool = Pool::preloading(|()| print(), ());
        let _workers = [pool.spawn("exit 3"), pool.spawn("exit 3")];
        pool.exited();
        pool.exited();
        println!("and no more");
    });
    if let Some(ended) = ended {
        assert!(ended.well().printed("once, and no more"));
    }
}

#[test]
fn workers_have_random_keys_of_their_own() {
    let pool = Pool::new();
    assert_ne!(pool.spawn("random keys").hear_all(), pool.spawn("random keys").hear_all());
}

#[test]
fn a_preloaded_function_that_panics_is_reported() {
    fn fail() {
        panic!("nothing to load");
    }

    let pool = Pool::preloading(|()| fail(), ());
    let reason = pool.refused();
    assert!(reason.contains("tests.rs:") && reason.ends_with(": nothing to load"), "{reason}");
    // Requests are still taken or refused; they don't hang.
    let (_, theirs) = socket::pair().unwrap();
    let (_, memory) = SharedControlBlock::create().unwrap();
    assert!(pool.zygote.spawn(&settings("echo"), theirs, memory.as_fd()).is_err());
}

/// It was asked for a worker before it could say that it can't fork any.
#[test]
fn a_refusal_is_received_after_requests_that_were_not() {
    fn stop_and_fail() {
        // SAFETY: it runs no code of this process.
        unsafe { libc::raise(libc::SIGSTOP) };
        panic!("nothing to load");
    }

    let pool = Pool::preloading(|()| stop_and_fail(), ());
    let _workers = [pool.spawn("echo"), pool.spawn("echo")];
    let pid = pool.zygote.pid() as i32;
    // SAFETY: a child of this process, which is waited for to stop only, and then goes on.
    unsafe {
        assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), libc::WUNTRACED), pid);
        assert_eq!(libc::kill(pid, libc::SIGCONT), 0);
    }
    assert!(pool.refused().ends_with(": nothing to load"));
}

/// Though the kernel may still be busy with their end.
#[test]
fn threads_that_were_joined_do_not_count() {
    let pool = Pool::new();
    let _worker = pool.spawn("join threads");
    assert_eq!(pool.exited().status, ExitStatus::Code(0));
}

#[test]
fn threads_that_are_left_behind_are_reported() {
    fn leave_thread() {
        std::thread::spawn(sleep);
    }

    let reason = Pool::preloading(|()| leave_thread(), ()).refused();
    assert!(reason.contains("left threads behind (2 threads are running)"), "{reason}");
}

/// Sandboxes and old kernels.
#[test]
fn calls_that_the_system_does_not_know_can_be_done_without() {
    fn know_less() {
        const BY: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let unknown = [libc::SYS_pidfd_open, libc::SYS_close_range, libc::SYS_pidfd_send_signal];
        let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        // SAFETY: the program is made of valid instructions, and read before the call returns.
        unsafe {
            let step = |code: u32, jump, value| libc::BPF_JUMP(code as u16, value, jump, 0);
            let mut program = vec![
                step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the call
                step(BY, 3, unknown[0] as u32),
                step(BY, 2, unknown[1] as u32),
                step(BY, 1, unknown[2] as u32),
                step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
                step(libc::BPF_RET | libc::BPF_K, 0, refuse),
            ];
            let filter = program.as_mut_ptr();
            let program = libc::sock_fprog { len: program.len() as u16, filter };
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let mode = libc::SECCOMP_MODE_FILTER;
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &program), 0);
        }
        assert!(PidFd::open(std::process::id()).fd().is_none());
    }

    let pool = Pool::preloading(|()| know_less(), ());
    let worker = pool.spawn_with(&WorkerSettings { keep_stderr: true, ..settings("descriptors") });
    assert_eq!(worker.hear_all().lines().count(), 4);
    assert_eq!(pool.exited().status, ExitStatus::Code(0));
    let _worker = pool.spawn("sleep");
    let (pid, process) = pool.spawned();
    assert!(process.fd().is_none());
    process.signal(Signal::Kill).unwrap();
    assert_eq!(pool.exited().pid, pid);
}

#[test]
fn another_program_is_refused() {
    let launch = Launch::new(&zygote_settings()).unwrap().for_program(0);
    let zygote = Zygote::start(&launch).unwrap();
    let reason = Pool { zygote }.refused();
    assert!(reason.contains("runs another"), "{reason}");
}

/// Else anybody could have a set-user-ID program call any of its functions.
#[test]
fn a_program_with_raised_privileges_is_no_zygote() {
    let name = name("a_program_with_raised_privileges_is_no_zygote");
    if std::env::var("TEST_RAISED_PRIVILEGES").is_ok() {
        let refused = start::check_can_start().map_err(|error| error.to_string());
        println!("\nmain has run: {refused:?}");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return; // only root can make a program that is another user's
    }
    let file = copy_of_the_program();
    std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o4755)).unwrap();
    let (_ours, theirs) = crate::sys::control::pair().unwrap();
    let program = Command::new(&file)
        .args([&name, "--exact", "--nocapture"])
        .env("TEST_RAISED_PRIVILEGES", "1")
        .env(start::VARIABLE, function::copy_name().unwrap())
        .stdin(theirs)
        .output()
        .unwrap();
    std::fs::remove_file(file).unwrap();
    let printed = String::from_utf8_lossy(&program.stdout);
    assert!(
        printed.contains("\nmain has run: Err(\"a program that runs with more privileges"),
        "{printed}"
    );
}

/// As by an update, while the program runs.
#[test]
fn a_program_whose_file_is_gone_still_has_workers() {
    let name = name("a_program_whose_file_is_gone_still_has_workers");
    if std::env::var("TEST_FILE_IS_GONE").is_ok() {
        std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
        let worker = Pool::new().spawn("exit 3");
        println!("\nit ended with {:?}", worker.hear_all());
        return;
    }
    let file = copy_of_the_program();
    let program = Command::new(&file)
        .args([&name, "--exact", "--nocapture"])
        .env("TEST_FILE_IS_GONE", "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&program.stdout);
    assert!(program.status.success() && printed.contains("it ended"), "{printed}");
}

#[test]
fn a_fork_that_fails_is_reported() {
    /// Without privileges, for these are exempt from the limit.
    fn allow_no_process() {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limit is a valid place.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &none), 0);
            assert!(libc::geteuid() != 0 || libc::setresuid(65534, 65534, 65534) == 0);
        }
    }

    let pool = Pool::preloading(|()| allow_no_process(), ());
    let worker = pool.spawn("echo");
    assert!(matches!(pool.notice(), Notice::Ready));
    match pool.notice() {
        Notice::SpawnFailed { number: 7, error } => {
            assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        }
        other => panic!("{}", text(&other)),
    }
    assert_eq!(worker.hear_all(), "", "nobody has the other end");
}

#[test]
fn too_many_open_files_are_reported() {
    fn allow_few_files() {
        // As many as the zygote needs, and not the two that come with a request.
        let few = libc::rlimit { rlim_cur: 8, rlim_max: 8 };
        // SAFETY: the limit is a valid place.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) }, 0);
    }

    let pool = Pool::preloading(|()| allow_few_files(), ());
    let _worker = pool.spawn("echo");
    assert!(matches!(pool.notice(), Notice::Ready));
    match pool.notice() {
        Notice::SpawnFailed { error, .. } => {
            assert!(error.to_string().contains("no room for more open files"), "{error}");
        }
        other => panic!("{}", text(&other)),
    }
}

#[test]
fn the_variable_alone_makes_no_zygote() {
    let name = name("the_variable_alone_makes_no_zygote");
    if std::env::var("TEST_VARIABLE_ALONE").is_ok() {
        let refused = start::check_can_start().unwrap_err().to_string();
        assert!(refused.contains("`concurrent_futures::init()`"), "{refused}");
        println!("\nmain has run");
        return;
    }
    let program = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env("TEST_VARIABLE_ALONE", "1")
        .env(start::VARIABLE, function::copy_name().unwrap())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&program.stdout);
    assert!(program.status.success() && printed.contains("\nmain has run\n"), "{printed}");
}

// What a worker starts.

#[test]
fn what_a_dead_worker_has_started_is_killed() {
    let pool = Pool::new();
    for script in ["start a process", "start a process and exit"] {
        let worker = pool.spawn(script);
        let (_, process) = pool.spawned();
        let started = worker.hear_pid();
        assert!(PidFd::open(started).signal_nothing().is_ok());
        worker.say(b"!");
        if script == "start a process" {
            process.signal(Signal::Kill).unwrap();
        }
        pool.exited();
        wait_for_end(started);
    }
}

/// It is the zygote's child then, and not a stranger's.
#[test]
fn a_daemon_of_a_dead_worker_is_killed() {
    let pool = Pool::new();
    let worker = pool.spawn("start a daemon");
    let started = worker.hear_pid();
    pool.exited();
    wait_for_end(started);
}

// The end.

#[test]
fn the_end_of_the_handle_is_the_end_of_all() {
    let pool = Pool::new();
    let workers = [pool.spawn("sleep"), pool.spawn("start a process")];
    let started = workers[1].hear_pid();
    let pids = [pool.zygote.pid(), pool.spawned().0, pool.spawned().0];
    drop(pool);
    for pid in pids {
        assert!(PidFd::open(pid).signal_nothing().is_err(), "{pid} is still there");
    }
    wait_for_end(started);
}

#[test]
fn a_handle_whose_zygote_was_stopped_is_dropped_all_the_same() {
    let pool = Pool::new();
    let worker = pool.spawn("sleep");
    let (pid, _) = pool.spawned();
    // SAFETY: a process of this test.
    assert_eq!(unsafe { libc::kill(pool.zygote.pid() as i32, libc::SIGSTOP) }, 0);
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() < HANG);
    wait_for_end(pid);
    drop(worker);
}

#[test]
fn the_death_of_the_zygote_is_the_death_of_the_workers() {
    let pool = Pool::new();
    let worker = pool.spawn("sleep");
    let (pid, _) = pool.spawned();
    PidFd::open(pool.zygote.pid()).signal(Signal::Kill).unwrap();
    assert_eq!(worker.hear_all(), "");
    wait_for_end(pid);
    wait_until_readable(pool.zygote.fd());
    assert_eq!(pool.zygote.receive().map(drop).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn the_death_of_the_program_is_the_death_of_all() {
    let ended = program::run(&name("the_death_of_the_program_is_the_death_of_all"), 0, || {
        let pool = Pool::new();
        let workers = [pool.spawn("sleep"), pool.spawn("start a process")];
        let started = workers[1].hear_pid();
        println!("{} {} {}", pool.zygote.pid(), pool.spawned().0, pool.spawned().0);
        println!("{started}");
        hold_the_control_socket(&pool);
        println!("at {}", monotonic_now().as_micros());
        // SAFETY: it ends this process, and no code of it runs.
        unsafe { libc::raise(libc::SIGKILL) };
    });
    // All of them have its stdout, and that has ended.
    let Some(ended) = ended else { return };
    let at = ended.stdout.lines().find_map(|line| line.strip_prefix("at ")).unwrap();
    let took = monotonic_now() - Duration::from_micros(at.parse().unwrap());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// In a fork of this process, until the zygote has ended: it must not need the socket's end for that.
fn hold_the_control_socket(pool: &Pool) {
    // SAFETY: the child looks at memory that is its own, and makes system calls.
    if unsafe { libc::fork() } == 0 {
        // SAFETY: nothing in this process uses them any more.
        unsafe {
            libc::close(1);
            libc::close(2);
        }
        let zygote = PidFd::open(pool.zygote.pid());
        let poller = Poller::new().unwrap();
        zygote.fd().map(|fd| poller.add(fd, 0, true, false));
        let _ = poller.wait(&mut Vec::new(), Some(HANG));
        crate::sys::exit_now(0);
    }
}

#[test]
fn a_zygote_ends_by_itself_though_a_forked_child_has_the_control_socket() {
    let name = name("a_zygote_ends_by_itself_though_a_forked_child_has_the_control_socket");
    let ended = program::run(&name, 0, || {
        let pool = Pool::new();
        pool.zygote.wait_until_ready().unwrap();
        hold_the_control_socket(&pool);
        assert_eq!(pool.zygote.end(), Some(ExitStatus::Code(0)));
    });
    ended.map(program::Ended::well);
}

/// Whoever forks has a copy of the handle, which means nothing there.
#[test]
fn a_handle_that_a_forked_child_drops_does_no_harm() {
    let name = name("a_handle_that_a_forked_child_drops_does_no_harm");
    let ended = program::run(&name, 0, || {
        let pool = Pool::new();
        // SAFETY: the child drops the handle, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(pool);
            crate::sys::exit_now(0);
        }
        // SAFETY: a child of this process; its status is not asked for.
        assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
        let worker = pool.spawn("echo");
        worker.say(b"hello");
        assert_eq!(worker.hear(5), b"hello");
    });
    ended.map(program::Ended::well);
}

#[test]
fn signals_of_the_program_are_not_inherited() {
    let ended = program::run(&name("signals_of_the_program_are_not_inherited"), 0, || {
        // SAFETY: ignoring needs no code; the sets are made valid by the calls.
        unsafe {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
        }
        let pool = Pool::new();
        let worker = pool.spawn("status");
        let status = worker.hear_all();
        assert_eq!(field(&status, "SigBlk"), "0000000000000000");
        assert_eq!(ignored(&status), IGNORED);
        assert_eq!(pool.exited().status, ExitStatus::Code(0));
        let _worker = pool.spawn("sleep");
        pool.spawned().1.signal(Signal::Terminate).unwrap();
        assert_eq!(pool.exited().status, ExitStatus::Signal(libc::SIGTERM));
    });
    ended.map(program::Ended::well);
}

/// A terminal's Ctrl-C, and a service manager's SIGTERM to all there is.
#[test]
fn the_zygote_has_a_group_of_its_own_and_takes_no_notice_of_signals() {
    let pool = Pool::new();
    assert!(matches!(pool.notice(), Notice::Ready));
    let status = format!("/proc/{}/status", pool.zygote.pid());
    let status = std::fs::read_to_string(status).unwrap();
    assert_eq!(field(&status, "NSpgid"), pool.zygote.pid().to_string());
    assert_eq!(field(&status, "Name"), "futures-zygote");
    PidFd::open(pool.zygote.pid()).signal(Signal::Terminate).unwrap();
    let worker = pool.spawn("echo");
    worker.say(b"hello");
    assert_eq!(worker.hear(5), b"hello");
}

/// The program has closed its standard streams, as daemons do.
#[test]
fn closed_standard_streams_are_filled() {
    let ended = program::run(&name("closed_standard_streams_are_filled"), 0, || {
        let [input, output] = [rustix::stdio::stdin().as_fd(), rustix::stdio::stdout().as_fd()]
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 10).unwrap());
        // SAFETY: nothing reads or writes there until they are back.
        unsafe {
            libc::close(0);
            libc::close(1);
        }
        let pool = Pool::new();
        let text = pool.spawn("descriptors").hear_all();
        rustix::stdio::dup2_stdin(&input).unwrap();
        rustix::stdio::dup2_stdout(&output).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["0 /dev/null", "1 /dev/null"]);
        assert_eq!(lines.len(), 4, "{text}");
    });
    ended.map(program::Ended::well);
}

// The parts.

#[test]
fn both_sides_see_the_control_block_and_the_area() {
    let (ours, memory) = SharedControlBlock::create().unwrap();
    let theirs = SharedControlBlock::map(&memory).unwrap();
    ours.claims[SLOTS - 1].store(5, SeqCst);
    theirs.started_at[SLOTS - 1].store(6, SeqCst);
    assert_eq!(theirs.claims[SLOTS - 1].load(SeqCst), 5);
    assert_eq!(ours.started_at[SLOTS - 1].load(SeqCst), 6);

    theirs.area()[AREA / 8 - 1].store(7, SeqCst);
    assert_eq!(ours.area()[AREA / 8 - 1].load(SeqCst), 7);
}

#[test]
fn the_memory_of_a_page_can_not_be_taken_away() {
    let (_page, memory) = SharedControlBlock::create().unwrap();
    assert!(rustix::fs::ftruncate(&memory, 0).is_err());
    let file = rustix::fs::memfd_create("short", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    assert!(SharedControlBlock::map(&file).is_err());
}

#[test]
fn a_poller_reports_what_is_ready() {
    let (ours, theirs) = socket::pair().unwrap();
    let (poller, mut events) = (Poller::new().unwrap(), Vec::new());
    let now = Some(Duration::ZERO);
    poller.add(ours.as_fd(), 5, true, false).unwrap();
    poller.wait(&mut events, now).unwrap();
    assert_eq!(events, []);

    socket::send(theirs.as_fd(), &[IoSlice::new(b"a"), IoSlice::new(b"bc")]).unwrap();
    for _ in 0..2 {
        poller.wait(&mut events, None).unwrap(); // as long as it is so
        assert_eq!(events, [Event { key: 5, readable: true, writable: false }]);
    }
    poller.change(ours.as_fd(), 6, false, true).unwrap();
    poller.wait(&mut events, None).unwrap();
    assert_eq!(events, [Event { key: 6, readable: false, writable: true }]);

    poller.change(ours.as_fd(), 7, true, false).unwrap();
    assert_eq!(socket::receive(ours.as_fd(), &mut [0; 9]).unwrap(), 3);
    drop(theirs);
    poller.wait(&mut events, None).unwrap();
    assert!(events[0].readable);
    assert_eq!(socket::receive(ours.as_fd(), &mut [0; 9]).unwrap(), 0);

    poller.remove(ours.as_fd()).unwrap();
    poller.wait(&mut events, now).unwrap();
    assert_eq!(events, []);
}

#[test]
fn a_poller_is_woken_from_another_thread() {
    let poller = Poller::new().unwrap();
    poller.wake();
    poller.wake();
    let mut events = Vec::new();
    poller.wait(&mut events, None).unwrap(); // the one before it counts
    std::thread::scope(|scope| {
        scope.spawn(|| poller.wake());
        poller.wait(&mut events, None).unwrap();
    });
    assert_eq!(events, []);
    let start = Instant::now();
    poller.wait(&mut events, Some(Duration::from_millis(5))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(5), "no call is left");
}

#[test]
fn numbers_that_mean_more_than_one_process_are_not_signalled() {
    for pid in [0, 1, u32::MAX] {
        let _ = kill_group(pid); // this test would not survive it
        assert!(PidFd::from_parts(pid, None).signal(Signal::Kill).is_err());
    }
}

#[test]
fn to_write_to_nobody_is_an_error_and_no_signal() {
    let pool = Pool::new();
    let _worker = pool.spawn("write to nobody");
    assert_eq!(pool.exited().status, ExitStatus::Code(0));
}

#[test]
fn as_much_is_sent_as_fits() {
    let (ours, theirs) = socket::pair().unwrap();
    let part = [7; 1000];
    let parts = vec![IoSlice::new(&part); 5000];
    let (mut sent, mut calls) = (0, 0);
    let full = loop {
        match socket::send(ours.as_fd(), &parts) {
            Ok(length) => sent += length,
            Err(error) => break error,
        }
        calls += 1;
        assert!(calls < 1000);
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let (mut received, mut bytes) = (0, [0; 100_000]);
    while received < sent {
        received += socket::receive(theirs.as_fd(), &mut bytes).unwrap();
    }
    assert_eq!(received, sent);
}

fn copy_of_the_program() -> PathBuf {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let copy = (std::process::id(), COPIES.fetch_add(1, SeqCst));
    let file = std::env::temp_dir().join(format!("concurrent-futures-{}-{}", copy.0, copy.1));
    // By another process: while one of this process writes a program, the fork of another thread has
    // it open as well, and the system executes no file that is open for writing.
    let program = std::env::current_exe().unwrap();
    assert!(Command::new("cp").args([&program, &file]).status().unwrap().success());
    file
}

/// The name of a test, as the harness knows it.
fn name(test: &str) -> String {
    let module = module_path!();
    format!("{}::{test}", module.split_once("::").map_or(module, |(_crate, rest)| rest))
}
