//! What jobs print by C's `stdout`, which is a pipe here and so has a buffer.

use std::sync::mpsc;
use std::thread;

use concurrent_futures::{Error, Shutdown, ThreadPoolExecutor, call};
use serde::{Deserialize, Serialize, Serializer};

use crate::program::{Program, part, say, wait_for_go};
use crate::support::within_limit;
use crate::tools::{builder, end, pool};

unsafe extern "C" {
    static stdout: *mut libc::FILE;
    fn flockfile(stream: *mut libc::FILE);
}

fn print(number: u32) {
    // SAFETY: the format has a place for one number.
    unsafe { libc::printf(c"by C: %u.\n".as_ptr(), number) };
}

fn print_and_panic(number: u32) {
    print(number);
    panic!("as the test wants it");
}

fn print_item(number: u32) -> u32 {
    print(number);
    number
}

#[derive(Debug, Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("out of paper"))
    }
}

fn print_and_fail(number: u32) -> Unwritable {
    print(number);
    Unwritable
}

/// The test kills the program, and with it the workers, which so never come to their end.
#[test]
fn what_a_job_has_printed_by_c_is_there_when_its_result_is() {
    const NAME: &str = "printed::what_a_job_has_printed_by_c_is_there_when_its_result_is";
    if part().is_some() {
        let pool = builder(1).initializer(call!(print(0))).build().unwrap();
        pool.submit(call!(print(1))).result().unwrap();
        say(&[1]);
        let panicked = pool.submit(call!(print_and_panic(2))).result();
        assert!(matches!(panicked, Err(Error::Panicked(_))));
        say(&[2]);
        let failed = pool.submit(call!(print_and_fail(3))).result();
        assert!(matches!(failed, Err(Error::Codec(_))));
        say(&[3]);
        assert_eq!(pool.map(print_item, [4, 4]).result().unwrap(), [4, 4]);
        say(&[4]);
        return wait_for_go();
    }
    let mut program = Program::start(NAME, "program");
    for number in 1..=4 {
        assert_eq!(program.hear(), [number], "{}", program.output());
        let output = program.output();
        // What was said came after it, through the same pipe.
        for printed in 0..=number {
            assert!(output.contains(&format!("by C: {printed}.\n")), "no {printed}:\n{output}");
        }
    }
    program.kill();
    assert_eq!(program.output().matches("by C: 4.").count(), 2);
}

fn print_and_lock_for_ever() {
    print(5);
    let (locked, is_locked) = mpsc::channel();
    thread::spawn(move || {
        // SAFETY: the stream is valid as long as nobody closes it.
        unsafe { flockfile(stdout) };
        locked.send(()).unwrap();
        loop {
            thread::park();
        }
    });
    is_locked.recv().unwrap();
}

/// As a thread does that waits in a read from the stream, or for a reader of what it writes.
#[test]
fn a_stream_that_a_thread_has_locked_delays_no_result() {
    within_limit(|| {
        let pool = pool(1);
        pool.submit(call!(print_and_lock_for_ever())).result().unwrap();
        assert_eq!(pool.submit(call!(crate::deaths::square(3))).result().unwrap(), 9);
        pool.kill_workers().result().unwrap();
        end(&pool);
    });
}

/// The last that a program writes to stderr.
const LAST: &str = "that was all";

fn panic_with(text: String) {
    panic!("{text}");
}

fn start_pools(print: bool) {
    let name = if print { "told" } else { "hidden" };
    let processes = builder(1).name(name).print_panics(print).build().unwrap();
    let failed = processes.submit(call!(panic_with(format!("by a {name} process")))).result();
    let Err(Error::Panicked(panicked)) = failed else { panic!("{failed:?}") };
    assert!(panicked.location().is_some());
    let failed = processes.map(panic_with, vec![format!("by a {name} item")]).result();
    assert!(matches!(failed, Err(Error::Panicked(_))));
    let threads = ThreadPoolExecutor::builder().name(name).print_panics(print).build().unwrap();
    let failed = threads.submit(move || panic_with(format!("by a {name} thread"))).result();
    let Err(Error::Panicked(panicked)) = failed else { panic!("{failed:?}") };
    assert!(panicked.location().is_some());
    let failed = threads.map(panic_with, vec![format!("by a {name} element")]).result();
    assert!(matches!(failed, Err(Error::Panicked(_))));
    let with_callback = threads.submit(|| ());
    with_callback.add_done_callback(|_| panic!("by a callback"));
    with_callback.result().unwrap();
    threads.shutdown_blocking(Shutdown::Drain).unwrap();
    end(&processes);
}

#[test]
fn the_panics_of_jobs_are_printed_under_their_worker_s_name_or_not_at_all() {
    const NAME: &str =
        "printed::the_panics_of_jobs_are_printed_under_their_worker_s_name_or_not_at_all";
    if part().is_some() {
        start_pools(true);
        start_pools(false);
        eprintln!("{LAST}");
        say(&[1]);
        return wait_for_go();
    }
    let mut program = Program::start(NAME, "program");
    assert_eq!(program.hear(), [1], "{}", program.output());
    // It comes by another pipe than what was said.
    while !program.output().contains(LAST) {
        std::thread::yield_now();
    }
    let output = program.output();
    let lines: Vec<&str> = output.lines().collect();
    for by in ["process", "item", "thread", "element"] {
        let text = format!("by a told {by}");
        let at = lines.iter().position(|line| *line == text).unwrap_or_else(|| panic!("{output}"));
        let before = lines[at - 1];
        assert!(before.starts_with("thread 'told_"), "{before}");
        assert!(before.contains(") panicked at tests/crashes/printed.rs:") || by != "process");
        assert!(before.ends_with(':'), "{before}");
    }
    assert!(!output.contains("by a hidden"), "{output}");
    assert_eq!(output.matches("by a callback").count(), 2, "{output}");
    assert_eq!(output.matches("unnamed").count(), 0, "{output}");
    program.kill();
}
