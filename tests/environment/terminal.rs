//! A terminal: workers are process groups in its background.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use concurrent_futures::call;

use crate::program::{Program, part};
use crate::support::within_limit;
use crate::tools::{end, pool};

/// The two ends of a new terminal: the one that a person would have, and the one for a program.
fn terminal() -> (File, OwnedFd) {
    // SAFETY: the descriptors are new, and nobody else's; the name has room enough, and ends with a
    // zero once it is there.
    unsafe {
        let ours = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert_ne!(ours, -1, "{}", std::io::Error::last_os_error());
        let ours = File::from_raw_fd(ours);
        assert_eq!(libc::grantpt(ours.as_raw_fd()), 0);
        assert_eq!(libc::unlockpt(ours.as_raw_fd()), 0);
        let mut name = [0; 64];
        assert_eq!(libc::ptsname_r(ours.as_raw_fd(), name.as_mut_ptr(), name.len()), 0);
        let theirs = libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert_ne!(theirs, -1, "{}", std::io::Error::last_os_error());
        (ours, OwnedFd::from_raw_fd(theirs))
    }
}

/// Runs `name` again as a program of a session of its own, with the terminal for all three streams.
fn on_terminal(name: &str, role: &str, theirs: OwnedFd) -> Child {
    let mut command = Program::command(Command::new(std::env::current_exe().unwrap()), name, role);
    let stream = || Stdio::from(theirs.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream());
    // SAFETY: the two calls may be made after a fork.
    unsafe {
        command.pre_exec(|| {
            let done = libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    command.spawn().unwrap()
}

/// All that a program shows on the terminal until no process has it open any more.
fn shown(mut ours: File) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match ours.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_hung_up) => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn settings() -> libc::termios {
    // SAFETY: zeros are a value of the type, and the place is valid.
    unsafe {
        let mut settings = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(0, &mut settings), 0);
        settings
    }
}

// ---- Jobs ----

fn print(number: u32) {
    println!("printed {number}");
    eprintln!("complained {number}");
}

fn run_a_program() -> bool {
    Command::new("sh").args(["-c", "echo a program of a job"]).status().unwrap().success()
}

/// Sets the terminal to what it is; that is a change like any other.
fn change_the_settings() -> bool {
    let terminal = File::options().read(true).write(true).open("/dev/tty").unwrap();
    // SAFETY: zeros are a value of the type, and both calls get a valid place.
    unsafe {
        let mut settings: libc::termios = std::mem::zeroed();
        libc::tcgetattr(terminal.as_raw_fd(), &mut settings) == 0
            && libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &settings) == 0
    }
}

/// The error of a read from the terminal.
fn read_the_terminal() -> Option<i32> {
    let mut terminal = File::open("/dev/tty").unwrap();
    terminal.read(&mut [0]).unwrap_err().raw_os_error()
}

fn preload() {
    println!("preloaded");
}

/// `stty tostop`: the terminal stops whatever writes to it from the background.
#[test]
fn jobs_write_to_a_terminal_that_stops_background_output() {
    const NAME: &str = "terminal::jobs_write_to_a_terminal_that_stops_background_output";
    if part().is_some() {
        return within_limit(|| {
            let mut changed = settings();
            changed.c_lflag |= libc::TOSTOP;
            // SAFETY: the place is valid.
            assert_eq!(unsafe { libc::tcsetattr(0, libc::TCSANOW, &changed) }, 0);
            let pool = crate::tools::builder(2).preload(call!(preload())).build().unwrap();
            for number in 0..4 {
                pool.submit(call!(print(number))).result().unwrap();
            }
            assert!(pool.submit(call!(run_a_program())).result().unwrap());
            assert!(pool.submit(call!(change_the_settings())).result().unwrap());
            end(&pool);
        });
    }
    let (ours, theirs) = terminal();
    let mut program = on_terminal(NAME, "program", theirs);
    let text = shown(ours);
    assert!(program.wait().unwrap().success(), "{text}");
    for line in ["preloaded", "printed 3", "complained 3", "a program of a job"] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
}

#[test]
fn a_job_that_reads_from_the_terminal_gets_an_error() {
    const NAME: &str = "terminal::a_job_that_reads_from_the_terminal_gets_an_error";
    if part().is_some() {
        return within_limit(|| {
            let pool = pool(1);
            let error = pool.submit(call!(read_the_terminal())).result().unwrap();
            assert_eq!(error, Some(libc::EIO));
            end(&pool);
        });
    }
    let (ours, theirs) = terminal();
    let mut program = on_terminal(NAME, "program", theirs);
    let text = shown(ours);
    assert!(program.wait().unwrap().success(), "{text}");
}
