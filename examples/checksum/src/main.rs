//! SHA-256 and line count of every file below a directory, on all CPUs.
//!
//! ```text
//! cargo run --release -p checksum -- [DIR]
//! ```
//!
//! Prints a line `<sha256>  <lines>  <path>` for each file, in the order in which they finish, then a
//! total: the time it took, and the time that the jobs took together, which one thread would need.
//! Without DIR it is the current directory, except directories named `.git` or `target`.
//!
//! Only regular files are read. Symbolic links below DIR are not followed. What can't be read is a
//! line on stderr; the rest goes on, and the exit code is 1.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use concurrent_futures::{ThreadPoolExecutor, as_completed};
use sha2::{Digest, Sha256};
use tokio::fs;

struct Summary {
    sha256: String,
    lines: usize,
    bytes: usize,
    time: Duration,
}

/// The job. It reads the file itself: so there are no more files in memory than workers, and what the
/// system has to copy is done on all CPUs too.
fn summarize(path: &Path) -> io::Result<Summary> {
    let start = Instant::now();
    let content = std::fs::read(path)?;
    Ok(Summary {
        sha256: Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect(),
        lines: content.iter().filter(|byte| **byte == b'\n').count(),
        bytes: content.len(),
        time: start.elapsed(),
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1); // a file's name need not be UTF-8
    let (dir, left_out): (PathBuf, &[&str]) = match (arguments.next(), arguments.next()) {
        (None, _) => (".".into(), &[".git", "target"]),
        (Some(dir), None) => (dir.into(), &[]),
        (Some(_), Some(_)) => {
            complain("usage: checksum [DIR]");
            return ExitCode::from(2);
        }
    };
    match print_checksums(dir, left_out).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_unread) => ExitCode::FAILURE,
        // The reader of the output, such as `head`, has seen enough: nothing to complain of.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            complain(format_args!("can't write to stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns how many files and directories could not be read. An error is one of stdout.
async fn print_checksums(dir: PathBuf, left_out: &[&str]) -> io::Result<usize> {
    let (files, mut unread) = find_files(dir, left_out).await;

    let start = Instant::now();
    let pool = ThreadPoolExecutor::new();
    let summaries = files.iter().map(|path| {
        let path = path.clone();
        pool.submit(move || summarize(&path))
    });

    // Not `println!`: it panics if stdout is closed, and a path need not be UTF-8.
    let mut out = io::stdout().lock();
    let (mut count, mut lines, mut bytes, mut time) = (0, 0, 0, Duration::ZERO);
    let mut done = as_completed(summaries);
    while let Some((index, outcome)) = done.next().await {
        let path = &files[index];
        match outcome {
            Ok(Ok(summary)) => {
                write!(out, "{}  {}  ", summary.sha256, summary.lines)?;
                out.write_all(path.as_os_str().as_encoded_bytes())?;
                writeln!(out)?;
                count += 1;
                lines += summary.lines;
                bytes += summary.bytes;
                time += summary.time;
            }
            // The inner result is the job's own. The outer one tells whether it ran to its end.
            Ok(Err(error)) => unread += complain_of(path, error),
            Err(error) => unread += complain_of(path, error),
        }
    }
    let (took, workers) = (start.elapsed(), pool.max_workers());
    write!(out, "{count} files, {lines} lines, {bytes} bytes: ")?;
    writeln!(out, "{took:.1?} on {workers} workers, {time:.1?} on one thread")?;
    Ok(unread)
}

/// The regular files below `dir`, and how many directories could not be read.
async fn find_files(dir: PathBuf, left_out: &[&str]) -> (Vec<PathBuf>, usize) {
    let (mut files, mut dirs, mut unread) = (Vec::new(), vec![dir], 0);
    while let Some(dir) = dirs.pop() {
        if let Err(error) = list(&dir, left_out, &mut files, &mut dirs).await {
            unread += complain_of(&dir, error);
        }
    }
    (files, unread)
}

/// Adds what is in `dir` to `files` and `dirs`.
async fn list(
    dir: &Path,
    left_out: &[&str],
    files: &mut Vec<PathBuf>,
    dirs: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let mut entries = fs::read_dir(dir).await?;
    while let Some(entry) = entries.next_entry().await? {
        let kind = entry.file_type().await?; // of a link itself, not of its target
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && !left_out.iter().any(|name| entry.file_name() == *name) {
            dirs.push(entry.path());
        }
    }
    Ok(())
}

/// Reports an error of `path`, and returns 1, its share in the count of those.
fn complain_of(path: &Path, error: impl Display) -> usize {
    complain(format_args!("{}: {error}", path.display()));
    1
}

/// Not `eprintln!`, which panics if stderr is closed.
fn complain(message: impl Display) {
    let _ = writeln!(io::stderr(), "checksum: {message}");
}
