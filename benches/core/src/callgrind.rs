//! Counting by callgrind, which runs this program again, on an emulated CPU.

use std::hint::black_box;
use std::path::Path;
use std::process::{self, Command};
use std::{env, fs, io};

/// Instructions for one operation.
pub(crate) struct Count {
    pub(crate) operation: String,
    pub(crate) instructions: f64,
}

/// Counts the instructions of `work`, which does `count` operations.
pub(crate) fn measured<R>(operation: &str, count: usize, work: impl FnOnce() -> R) -> R {
    boundary();
    let result = work();
    boundary();
    println!("{count} {operation}");
    result
}

/// callgrind writes down what it has counted so far, on all threads, when it sees a call of this
/// function, and counts from 0 again.
#[inline(never)]
pub(crate) fn boundary() {
    black_box(());
}

const DUMP: &str = "--dump-before=*callgrind*boundary*";

/// glibc copies much at once with `rep movsb`, of which each byte counts as an instruction; and it
/// is chance whether a growing `Vec` is copied at all. So it is to use another loop.
const NO_REP: (&str, &str) = ("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=0x40000000");

/// The process whose instructions are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    /// The program's own. The worker processes that it starts run as they are.
    Own,
    /// Of a worker process that it starts.
    Worker,
}

/// The measured parts of a program.
pub(crate) fn count(program: &str, process: Process) -> Result<Vec<Count>, String> {
    let folder = env::temp_dir().join(format!("callgrind.{}.{program}", process::id()));
    fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let counts = count_in(&folder, program, process);
    let _ = fs::remove_dir_all(&folder);
    counts
}

fn count_in(folder: &Path, program: &str, process: Process) -> Result<Vec<Count>, String> {
    let children = if process == Process::Worker { "yes" } else { "no" };
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--combine-dumps=yes", DUMP])
        .arg(format!("--trace-children={children}"))
        .arg(format!("--callgrind-out-file={}", folder.join("%p").display()))
        .arg(env::current_exe().map_err(|error| error.to_string())?)
        .arg(program)
        .env(NO_REP.0, NO_REP.1)
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "valgrind is missing, which counts the instructions. \
                Most package managers have it: apt install valgrind"
                .to_owned(),
            _ => format!("valgrind does not start: {error}"),
        })?;
    if !output.status.success() {
        let says = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} under valgrind: {}\n{says}", output.status));
    }
    // Other processes that were followed have come to no boundary.
    let dumps = fs::read_dir(folder).into_iter().flatten().flatten();
    let dumps = dumps.filter_map(|dumps| fs::read_to_string(dumps.path()).ok());
    let counted = dumps.max_by_key(|dumps| totals(dumps).count()).unwrap_or_default();
    read(&String::from_utf8_lossy(&output.stdout), &counted)
        .ok_or_else(|| format!("callgrind has not counted all parts of {program}"))
}

fn totals(dumps: &str) -> impl Iterator<Item = &str> {
    dumps.lines().filter_map(|line| line.strip_prefix("totals: "))
}

/// Each line of `printed` belongs to every second dump: the others are what lies between.
fn read(printed: &str, dumps: &str) -> Option<Vec<Count>> {
    let mut totals = totals(dumps);
    let mut counts = Vec::new();
    for line in printed.lines() {
        let (count, operation) = line.split_once(' ')?;
        let total = totals.nth(1)?;
        let instructions = total.trim().parse::<f64>().ok()? / count.parse::<f64>().ok()?;
        counts.push(Count { operation: operation.to_owned(), instructions });
    }
    Some(counts)
}
