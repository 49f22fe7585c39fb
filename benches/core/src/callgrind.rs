//! Counting by callgrind, which runs this program again, on an emulated CPU.

use std::hint::black_box;
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

/// The measured parts of a program.
pub(crate) fn count(program: &str) -> Result<Vec<Count>, String> {
    let dumps = env::temp_dir().join(format!("callgrind.{}.{program}", process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--combine-dumps=yes", DUMP])
        .arg(format!("--callgrind-out-file={}", dumps.display()))
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
    let counted = fs::read_to_string(&dumps).unwrap_or_default();
    let _ = fs::remove_file(&dumps);
    if !output.status.success() {
        let says = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} under valgrind: {}\n{says}", output.status));
    }
    read(&String::from_utf8_lossy(&output.stdout), &counted)
        .ok_or_else(|| format!("callgrind has not counted all parts of {program}"))
}

/// Each line of `printed` belongs to every second dump: the others are what lies between.
fn read(printed: &str, dumps: &str) -> Option<Vec<Count>> {
    let mut totals = dumps.lines().filter_map(|line| line.strip_prefix("totals: "));
    let mut counts = Vec::new();
    for line in printed.lines() {
        let (count, operation) = line.split_once(' ')?;
        let total = totals.nth(1)?;
        let instructions = total.trim().parse::<f64>().ok()? / count.parse::<f64>().ok()?;
        counts.push(Count { operation: operation.to_owned(), instructions });
    }
    Some(counts)
}
