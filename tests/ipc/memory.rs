//! The memory of a slice as `/proc` shows it: which processes have it.

use std::os::unix::fs::MetadataExt;
use std::{fs, process, thread};

use concurrent_futures::ProcessPoolExecutor;
use concurrent_futures::ipc::SharedSlice;

use crate::tools::family;

/// The memory of a slice, as `/proc` shows it.
pub(super) struct Memory {
    inode: u64,
}

impl Memory {
    pub(super) fn of<T>(slice: &SharedSlice<T>) -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let start = format!("{:x}-", slice.as_ptr().addr());
        let line = maps.lines().find(|line| line.starts_with(&start)).unwrap();
        Self { inode: inode(line).unwrap() }
    }

    pub(super) fn is_open(&self, pid: u32) -> bool {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| {
            let is_memory = fs::read_link(file.path()).ok()?.to_string_lossy().contains("memfd:");
            is_memory.then(|| fs::metadata(file.path()).ok()).flatten()
        });
        links.any(|file| file.ino() == self.inode)
    }

    pub(super) fn is_mapped(&self, pid: u32) -> bool {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        maps.lines().any(|line| inode(line) == Some(self.inode))
    }

    /// The processes of the program that have it.
    pub(super) fn holders(&self, pool: &ProcessPoolExecutor) -> Vec<u32> {
        let all = family(pool).into_iter().chain([process::id()]);
        all.filter(|pid| self.is_open(*pid) || self.is_mapped(*pid)).collect()
    }

    /// Blocks until these have it, and no others.
    pub(super) fn until_with(&self, pool: &ProcessPoolExecutor, holders: &[u32]) {
        while self.holders(pool) != holders {
            thread::yield_now();
        }
    }
}

/// The number of the file that is mapped, if that is memory.
fn inode(line: &str) -> Option<u64> {
    line.contains("memfd:").then(|| line.split_whitespace().nth(4)?.parse().ok()).flatten()
}
