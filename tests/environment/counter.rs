//! A time stamp counter that starts again, as after a suspend, or when a program is moved to
//! another machine with its memory. Linux lets a thread, and those that it starts, be signalled
//! for reading the counter; the handler reads it in their stead. What the system itself reads, for
//! its own clocks, goes on as it was: the kernel takes care of that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use concurrent_futures::{InlineExecutor, ProcessPoolExecutor, Shutdown, ThreadPoolExecutor, call};

use crate::left_out;
use crate::program;

/// What is taken off the counter.
static BEFORE: AtomicU64 = AtomicU64::new(0);

/// Whether a thread waits at each reading until `IS_HELD` is taken back.
static IS_TO_WAIT: AtomicBool = AtomicBool::new(false);
static IS_HELD: AtomicBool = AtomicBool::new(false);

/// Has the counter start again, at 0.
fn start_again() {
    // SAFETY: every x86-64 processor has it.
    BEFORE.store(unsafe { std::arch::x86_64::_rdtsc() } + BEFORE.load(SeqCst), SeqCst);
}

/// This thread, and those that it starts, read the counter by the handler.
fn read_by_handler() {
    assert!(allow_reading(false));
}

fn allow_reading(yes: bool) -> bool {
    let how = if yes { libc::PR_TSC_ENABLE } else { libc::PR_TSC_SIGSEGV };
    // SAFETY: the call takes a number; a reading that is not allowed raises a signal, which
    // `install` has a handler for.
    unsafe { libc::prctl(libc::PR_SET_TSC, how) == 0 }
}

/// Runs `test` as a program in which threads may read the counter by the handler.
#[track_caller]
fn alone(name: &str, test: impl FnOnce()) {
    if !allow_reading(true) {
        return left_out("the system does not signal that the counter is read");
    }
    program::alone(name, || {
        install();
        test();
    });
}

fn install() {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_reading;
    // SAFETY: all zero is a valid value: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that `SA_SIGINFO` asks for, and calls nothing but
    // `prctl`, `getauxval`, `sched_yield` and, for a fault that is another one, `signal`.
    let failed = unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()) };
    assert_eq!(failed, 0);
}

extern "C" fn on_reading(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes the interrupted thread's context, which nothing else refers to.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize];
    // SAFETY: the thread was executing there, so at least one instruction can be read; the longer
    // one is looked for only if the first byte is that of both.
    let code = unsafe { std::slice::from_raw_parts(at as *const u8, 3) };
    let length = match code {
        [0x0f, 0x31, _] => 2,    // rdtsc
        [0x0f, 0x01, 0xf9] => 3, // rdtscp
        _ => {
            // SAFETY: the default for a fault: the instruction is tried again, and ends the process.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            return;
        }
    };
    if IS_TO_WAIT.load(SeqCst) {
        IS_HELD.store(true, SeqCst);
        while IS_HELD.load(SeqCst) {
            std::thread::yield_now();
        }
    }
    // SAFETY: a look at the auxiliary vector.
    let system = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let is_system = (at as u64).wrapping_sub(system) < 0x1_0000;
    // Before the counter is read: another thread may have it start again at any moment.
    let before = if is_system { 0 } else { BEFORE.load(SeqCst) };
    allow_reading(true);
    // SAFETY: every x86-64 processor has it, and it is allowed now.
    let count = unsafe { std::arch::x86_64::_rdtsc() };
    allow_reading(false);
    let count = count.saturating_sub(before);
    registers[libc::REG_RAX as usize] = (count & 0xffff_ffff) as i64;
    registers[libc::REG_RDX as usize] = (count >> 32) as i64;
    registers[libc::REG_RIP as usize] = at + length;
}

/// A job that has begun, for as long as a test wants.
struct Held {
    begun: Receiver<Instant>,
    end: Sender<()>,
}

fn held() -> (Held, impl FnOnce() + Send + 'static) {
    let ((begins, begun), (end, ends)) = (channel(), channel());
    let job = move || {
        begins.send(Instant::now()).unwrap();
        let _ = ends.recv();
    };
    (Held { begun, end }, job)
}

fn pass(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// As long as what passed, and at least as long as what certainly did; the rate is measured.
#[track_caller]
fn assert_between(least: Duration, time: Duration, most: Duration) {
    let bounds = least.mul_f64(0.99)..=most.mul_f64(1.01);
    assert!(bounds.contains(&time), "{time:?} is not in {bounds:?}");
}

const WHILE: Duration = Duration::from_millis(30);

#[test]
fn a_thread_pool_does_not_believe_a_counter_that_starts_again() {
    alone("counter::a_thread_pool_does_not_believe_a_counter_that_starts_again", || {
        read_by_handler();
        let outer = Instant::now();
        let pool = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        let (held, job) = held();
        let running = pool.submit(job);
        let begun = held.begun.recv().unwrap();
        let queued = pool.submit(|| pass(WHILE));
        let submitted = Instant::now();
        pass(WHILE);
        start_again();
        pass(WHILE);

        let (least, least_queued) = (begun.elapsed(), submitted.elapsed());
        let dump = pool.dump();
        assert_between(least, dump.workers[0].tasks[0].elapsed, outer.elapsed());
        assert_between(least_queued, dump.queue.oldest.unwrap(), outer.elapsed());

        start_again(); // Nobody looks at it any more.
        held.end.send(()).unwrap();
        running.result().unwrap();
        queued.result().unwrap();
        let metrics = pool.metrics();
        assert_between(least + WHILE, metrics.run_time.sum(), outer.elapsed());
        assert_between(least_queued, metrics.queue_time.sum(), 2 * outer.elapsed());
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

#[test]
fn the_report_of_a_shutdown_does_not_believe_a_counter_that_starts_again() {
    alone("counter::the_report_of_a_shutdown_does_not_believe_a_counter_that_starts_again", || {
        read_by_handler();
        let outer = Instant::now();
        let pool = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        let (held, job) = held();
        let running = pool.submit(job);
        let begun = held.begun.recv().unwrap();
        start_again();
        pass(WHILE);
        let least = begun.elapsed();
        let report = pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO).result().unwrap();
        assert_between(least, report.running[0].elapsed, outer.elapsed());
        held.end.send(()).unwrap();
        running.result().unwrap();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

/// At the very first: the rate is not known then.
#[test]
fn an_inline_executor_does_not_believe_a_counter_that_starts_again() {
    alone("counter::an_inline_executor_does_not_believe_a_counter_that_starts_again", || {
        read_by_handler();
        let outer = Instant::now();
        let inline = InlineExecutor::new();
        inline.submit(start_again).result().unwrap();
        inline.submit(|| pass(WHILE)).result().unwrap();
        let restart = || {
            pass(WHILE);
            start_again();
            pass(WHILE);
        };
        inline.submit(restart).result().unwrap();
        let metrics = inline.metrics();
        assert_between(3 * WHILE, metrics.run_time.sum(), outer.elapsed());
        assert_eq!(metrics.queue_time.sum(), Duration::ZERO);
    });
}

#[test]
fn a_process_pool_does_not_believe_a_counter_that_starts_again() {
    alone("counter::a_process_pool_does_not_believe_a_counter_that_starts_again", || {
        let outer = Instant::now();
        // Its helper can't begin where reading the counter is a fault, so it is there before.
        let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
        let (called, calls) = channel();
        let first = pool.submit(call!(u64::wrapping_add(1, 2)));
        // On the thread that replies come to.
        first.add_done_callback(move |result| {
            assert!(matches!(result, Ok(3)));
            read_by_handler();
            called.send(()).unwrap();
        });
        calls.recv().unwrap();
        read_by_handler();
        start_again();
        for n in 0..100 {
            assert_eq!(pool.submit(call!(u64::wrapping_add(n, 4))).result().unwrap(), n + 4);
        }
        let metrics = pool.metrics();
        assert_eq!((metrics.completed, metrics.run_time.count()), (101, 101));
        assert_between(Duration::ZERO, metrics.run_time.sum(), outer.elapsed());
        assert_between(Duration::ZERO, metrics.queue_time.sum(), outer.elapsed());
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

/// Has a child use the clock, and waits for it.
fn fork_and_use_the_clock() {
    // SAFETY: the other thread of this process is in the handler, so it has no lock of the allocator; the
    // child is about the locks that it may have.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: it ends a child that hangs.
            unsafe { libc::alarm(20) };
            let inline = InlineExecutor::new();
            let is_well = inline.submit(|| ()).result().is_ok()
                && inline.metrics().run_time.sum() < Duration::from_secs(1_000);
            // SAFETY: ends the process, and runs nothing of the parent's on the way.
            unsafe { libc::_exit(if is_well { 0 } else { 1 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the place is valid.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child hangs, or its time is wrong");
        }
    }
}

/// Where the clock starts, where its rate is measured, and where it leaves the counter: at each reading
/// of another thread.
#[test]
fn a_child_that_is_forked_while_another_thread_reads_the_clock_has_a_clock() {
    alone(
        "counter::a_child_that_is_forked_while_another_thread_reads_the_clock_has_a_clock",
        || {
            let inline = InlineExecutor::new();
            let (ended, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    read_by_handler();
                    IS_TO_WAIT.store(true, SeqCst);
                    for _ in 0..2 {
                        inline.submit(|| ()).result().unwrap();
                        let _ = inline.metrics().run_time.sum();
                        start_again();
                    }
                    IS_TO_WAIT.store(false, SeqCst);
                    ended.store(true, SeqCst);
                    while !is_over.load(SeqCst) {
                        std::thread::yield_now(); // No thread ends while a child is forked.
                    }
                });
                let mut forks = 0;
                while !ended.load(SeqCst) {
                    if IS_HELD.load(SeqCst) {
                        let forked = std::panic::catch_unwind(fork_and_use_the_clock);
                        IS_TO_WAIT.fetch_and(forked.is_ok(), SeqCst);
                        IS_HELD.store(false, SeqCst);
                        is_over.fetch_or(forked.is_err(), SeqCst);
                        forked.unwrap();
                        forks += 1;
                    }
                    std::thread::yield_now();
                }
                is_over.store(true, SeqCst);
                assert!(forks > 20, "{forks}");
            });
        },
    );
}
