//! The service as a child process, and what it takes from the machine.

use std::env::current_exe;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bench_common::http::Error;
use service::backend::Kind;

/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// Killed when it is dropped: what is left in its queue is of no interest then.
pub(crate) struct Child {
    process: process::Child,
    address: SocketAddr,
}

/// Of the service and the processes that it has started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Bytes in memory, the sum over the processes; what they share counts for each.
    pub(crate) memory: u64,
    pub(crate) threads: usize,
}

/// A thread that looks every now and then, and keeps the most that it has seen.
pub(crate) struct Watch {
    /// Dropped, it stops the thread.
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Usage>,
}

impl Watch {
    pub(crate) fn finish(self) -> Result<Usage, Error> {
        drop(self.stop);
        self.thread.join().map_err(|_| "the thread that looks at memory panicked".into())
    }
}

impl Child {
    /// Ready for requests.
    pub(crate) fn start(kind: Kind) -> Result<Self, Error> {
        let mut process = Command::new(current_exe()?)
            .args(["serve", "--port", "0", "--backend", kind.name()])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("the service has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.split([' ', ',']).find_map(|word| word.strip_prefix("http://"));
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            process.kill()?;
            process.wait()?;
            return Err(format!("the service does not say where it listens: {line}").into());
        };
        eprintln!("    {}", line.trim_end());
        Ok(Self { process, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn watch(&self) -> Watch {
        let (stop, stopped) = mpsc::channel();
        let pid = self.process.id();
        let thread = thread::spawn(move || {
            let mut most = Usage::default();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
                let usage = usage_of_family(pid);
                most.memory = most.memory.max(usage.memory);
                most.threads = most.threads.max(usage.threads);
            }
            most
        });
        Watch { stop, thread }
    }

    pub(crate) fn usage(&self) -> Usage {
        usage_of_family(self.process.id())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Of a process and all below it.
fn usage_of_family(head: u32) -> Usage {
    let parents = parents();
    let is_below = |mut pid: u32| {
        while pid != head {
            match parents.iter().find(|(child, _)| *child == pid) {
                Some(&(_, parent)) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        true
    };
    let mut sum = Usage::default();
    for &(pid, _) in parents.iter().filter(|(pid, _)| is_below(*pid)) {
        let usage = usage_of(pid).unwrap_or_default(); // it may have ended by now
        sum.memory += usage.memory;
        sum.threads += usage.threads;
    }
    sum
}

/// All processes, each with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // pid (name) state parent; the name may have anything in it.
        let (_, rest) = stat.rsplit_once(')')?;
        Some((pid, rest.split_whitespace().nth(1)?.parse().ok()?))
    };
    pids.filter_map(parent).collect()
}

fn usage_of(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Usage { memory: field("VmRSS:")? * 1024, threads: field("Threads:")? as usize })
}
