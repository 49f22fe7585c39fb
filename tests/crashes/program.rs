//! Tests that are programs: the test binary runs one of its tests again, in a process of its own.
//! That process may die, and what it leaves behind is told from what other tests are about.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::watch::{Watched, adopt_orphans, assert_no_child_left};

/// Which part the process has in its test; unset in the test itself.
const PART: &str = "CONCURRENT_FUTURES_CRASH_TEST";

/// No program takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(100);

/// How the lines begin that are meant for the test.
const SAID: &str = "said:";

/// The last that a program says that has come to its end.
const END: &[u32] = &[0, 1, 2, 3];

/// Runs `test` as a program. No process may be left at its end.
#[track_caller]
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    if part().is_none() {
        let mut program = Program::start(name, "alone");
        let said = program.hear();
        let status = program.ended();
        assert!(status.success() && said == END, "{status}\n{}", program.output());
        return;
    }
    adopt_orphans();
    test();
    assert_no_child_left();
    say(END);
}

/// In a program: its part in the test.
pub(crate) fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// In a program: tells the test something.
pub(crate) fn say(numbers: &[u32]) {
    // The test harness has begun a line.
    println!("\n{SAID} {}", numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
}

/// In a program: waits until the test calls `go`.
pub(crate) fn wait_for_go() {
    // Or until the test is over.
    let _ = std::io::stdin().read(&mut [0]);
}

/// A program, as the test sees it. It does not outlive this.
pub(crate) struct Program {
    child: Child,
    process: Watched,
    said: Receiver<Vec<u32>>,
    output: Arc<Mutex<String>>,
    /// Its own temporary files: if it is killed, it leaves some.
    files: PathBuf,
}

impl Program {
    /// Runs the test `name` with a part in it, in a process group of its own.
    pub(crate) fn start(name: &str, part: &str) -> Self {
        Self::of(Command::new(std::env::current_exe().unwrap()), name, part)
    }

    /// What makes a process play a part in the test `name`.
    pub(crate) fn command(mut command: Command, name: &str, part: &str) -> Command {
        command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(PART, part);
        command
    }

    /// The same, by a command that goes on with the arguments that it is given.
    pub(crate) fn of(command: Command, name: &str, part: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let files =
            format!("concurrent-futures-{}-program-{}", process::id(), COUNT.fetch_add(1, Relaxed));
        let files = std::env::temp_dir().join(files);
        std::fs::create_dir(&files).unwrap();
        let mut child = Self::command(command, name, part)
            .env("TMPDIR", &files)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let process = Watched::new(child.id()).unwrap();
        let (sender, said) = channel();
        let output = Arc::default();
        listen(child.stdout.take().unwrap(), &output, Some(sender));
        listen(child.stderr.take().unwrap(), &output, None);
        Self { child, process, said, output, files }
    }

    /// What the program says next.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Vec<u32> {
        match self.said.recv_timeout(HANG) {
            Ok(said) => said,
            Err(_) => panic!("the program says nothing:\n{}", self.output()),
        }
    }

    /// Lets it go on.
    pub(crate) fn go(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        assert!(self.process.ends_within(HANG), "the program hangs:\n{}", self.output());
        self.child.wait().unwrap()
    }

    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

/// Reads on a thread of its own, to the end of the program and of whatever it leaves behind.
fn listen(
    from: impl Read + Send + 'static,
    output: &Arc<Mutex<String>>,
    said: Option<Sender<Vec<u32>>>,
) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            match (line.strip_prefix(SAID), &said) {
                (Some(numbers), Some(said)) => {
                    let numbers = numbers.split_whitespace().map(|it| it.parse().unwrap());
                    let _ = said.send(numbers.collect());
                }
                _ => *output.lock().unwrap() += &(line + "\n"),
            }
        }
    });
}
