//! SHA-256 and line count of every file below a directory: tokio reads, the pool computes.
//!
//! ```text
//! cargo run --release --example checksum -- [DIR]
//! ```
//!
//! Prints a line `<sha256>  <lines>  <path>` for each file, in the order in which they finish,
//! then a total. Without DIR it is this repository, except directories named `.git` or `target`.
//!
//! Only regular files are read. Symbolic links below DIR are not followed. What can't be read is a
//! line on stderr; the rest goes on, and the exit code is 1.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use concurrent_futures::{ThreadPoolExecutor, as_completed};
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::sync::Semaphore;

/// How many files are in memory, or being read, at the same time: a file is read whole.
const FILES_AT_ONCE: usize = 32;

struct Summary {
    sha256: String,
    lines: usize,
    bytes: usize,
}

/// The part that needs a CPU.
fn summarize(content: &[u8]) -> Summary {
    let digest = Sha256::digest(content);
    Summary {
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        lines: content.iter().filter(|byte| **byte == b'\n').count(),
        bytes: content.len(),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1); // a file's name need not be UTF-8
    let (dir, left_out): (PathBuf, &[&str]) = match (arguments.next(), arguments.next()) {
        (None, _) => (env!("CARGO_MANIFEST_DIR").into(), &[".git", "target"]),
        (Some(dir), None) => (dir.into(), &[]),
        (Some(_), Some(_)) => {
            complain("usage: checksum [DIR]");
            return ExitCode::from(2);
        }
    };
    match print_checksums(dir, left_out).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_unread) => ExitCode::FAILURE,
        // Whoever reads the output, such as `head`, has seen enough: nothing to complain of.
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

    let pool = ThreadPoolExecutor::new();
    let places = Arc::new(Semaphore::new(FILES_AT_ONCE));
    let summaries = files.iter().map(|path| {
        let (path, places) = (path.clone(), Arc::clone(&places));
        // An async block on the pool's workers. It holds no worker while it waits, for a place or
        // for the file, and what it computes then does not keep tokio's threads from their I/O.
        pool.submit_future(async move {
            let _place = places.acquire().await.map_err(io::Error::other)?;
            let content = fs::read(path).await?;
            Ok::<_, io::Error>(summarize(&content))
        })
    });

    // Not `println!`: it panics if stdout is closed, and a path may be more than a text.
    let mut out = io::stdout().lock();
    let (mut count, mut lines, mut bytes) = (0, 0, 0);
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
            }
            // The inner result is the job's own. The outer one tells whether it ran to its end.
            Ok(Err(error)) => unread += complain_of(path, error),
            Err(error) => unread += complain_of(path, error),
        }
    }
    writeln!(out, "{count} files, {lines} lines, {bytes} bytes")?;
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
        let kind = entry.file_type().await?; // of a link itself, not of what it points to
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && !left_out.iter().any(|name| entry.file_name() == *name) {
            dirs.push(entry.path());
        }
    }
    Ok(())
}

/// Says what is wrong with `path`, which is one more.
fn complain_of(path: &Path, error: impl Display) -> usize {
    complain(format_args!("{}: {error}", path.display()));
    1
}

/// Not `eprintln!`, which panics if stderr is closed.
fn complain(message: impl Display) {
    let _ = writeln!(io::stderr(), "checksum: {message}");
}
