//! Tests that are programs: the test binary runs one of its tests again, in a process of its own,
//! and looks at how that ends.

#![allow(dead_code, reason = "not every test binary uses all of it")]

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Which part of which test the process is; unset in the tests themselves.
const PART: &str = "CONCURRENT_FUTURES_TEST_PROGRAM";

/// No program takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(60);

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// It ended as a program that has nothing to complain of.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        assert_eq!(self.stderr, "");
        self
    }

    /// Whether the program printed `line`.
    pub(crate) fn printed(&self, line: &str) -> bool {
        self.stdout.lines().any(|printed| printed == line)
    }
}

/// In a test: runs the test `name` again as a program, and tells how that ended. In the program:
/// runs `main` and answers `None`; the test is to return then, and its return is the end of the
/// program's `main`, apart from a few lines that the test harness prints.
///
/// `variant` tells programs of the same test apart.
pub(crate) fn run(name: &str, variant: usize, main: impl FnOnce()) -> Option<Ended> {
    run_with(&[], name, variant, main)
}

/// As [`run`], with these variables in the program's environment.
pub(crate) fn run_with(
    variables: &[(&str, &str)],
    name: &str,
    variant: usize,
    main: impl FnOnce(),
) -> Option<Ended> {
    let part = format!("{name} {variant}");
    match std::env::var(PART) {
        Ok(here) if here == part => {
            println!(); // the harness has begun a line
            main();
            None
        }
        Ok(_) => None,
        Err(_) => Some(start(name, &part, variables)),
    }
}

fn start(name: &str, part: &str, variables: &[(&str, &str)]) -> Ended {
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (program.stdout.take().unwrap(), program.stderr.take().unwrap());
    // The end of both is the end of the process: nobody else holds them.
    let (sender, output) = mpsc::channel();
    std::thread::spawn(move || {
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).map(|_| text)
        });
        let mut stdout = String::new();
        let read = out.read_to_string(&mut stdout).map(|_| stdout);
        let _ = sender.send((read, stderr.join().unwrap()));
    });
    let Ok((stdout, stderr)) = output.recv_timeout(HANG) else {
        program.kill().unwrap();
        program.wait().unwrap();
        panic!("the program {part} hangs");
    };
    let (stdout, stderr) = (stdout.unwrap(), stderr.unwrap());
    // For a name that no test has, the harness runs nothing and succeeds.
    assert!(stdout.contains("\nrunning 1 test\n"), "there is no test {name}: {stdout}");
    Ended { status: program.wait().unwrap(), stdout, stderr }
}
