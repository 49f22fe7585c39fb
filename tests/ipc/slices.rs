//! `SharedSlice` and `SharedVec`: one memory for all processes, which none can write to.

use std::fs::{self, OpenOptions};

use bytemuck::{Pod, Zeroable};
use concurrent_futures::ipc::{self, SharedSlice, SharedVec};
use concurrent_futures::{Buffer, call};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::program::{Program, alone, part, say};
use crate::support::within_limit;
use crate::tools::{end, pool};

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Pixel {
    color: [u8; 4],
    weight: f32,
}

fn sum(numbers: SharedSlice<u64>) -> u64 {
    numbers.iter().sum()
}

/// M-5, M-6.
#[test]
fn workers_read_what_was_put_in_also_when_its_maker_has_dropped_it() {
    within_limit(|| {
        let pool = pool(2);
        for count in [0, 1, 1000, 1 << 20] {
            let numbers: Vec<u64> = (0..count).collect();
            let expected: u64 = numbers.iter().sum();
            let slice = SharedSlice::new(&numbers).unwrap();
            assert_eq!(slice[..], numbers);
            let sums: Vec<_> = (0..4).map(|_| pool.submit(call!(sum(slice.clone())))).collect();
            drop(slice);
            for result in sums {
                assert_eq!(result.result().unwrap(), expected);
            }
        }
        end(&pool);
    });
}

#[test]
fn structs_and_parts_travel() {
    fn weight(pixels: SharedSlice<Pixel>) -> (usize, f32) {
        (pixels.len(), pixels.iter().map(|pixel| pixel.weight).sum())
    }
    within_limit(|| {
        let pool = pool(1);
        let pixels = SharedSlice::build(10_000, |pixels: &mut [Pixel]| {
            pixels.iter_mut().for_each(|pixel| pixel.weight = 0.5);
        })
        .unwrap();
        for range in [0..10_000, 17..5_000, 10_000..10_000, 3..3] {
            let (len, part) = (range.len(), pixels.slice(range));
            assert_eq!(pool.submit(call!(weight(part))).result().unwrap(), (len, len as f32 / 2.0));
        }
        // A part of a part, which comes back as a handle to the same memory.
        let part = pixels.slice(100..200).slice(50..60);
        fn same(part: SharedSlice<Pixel>) -> SharedSlice<Pixel> {
            part.slice(1..)
        }
        let back = pool.submit(call!(same(part.clone()))).result().unwrap();
        assert_eq!((back.as_ptr(), back.len()), (part[1..].as_ptr(), 9));
        end(&pool);
    });
}

/// What a process that has the descriptor can try: the errors of each, and what has come of `mprotect`, with the line of
/// the mapping.
pub(super) fn attempts(slice: SharedSlice<u8>) -> Vec<String> {
    let at = slice.as_ptr().addr();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_there = |line: &&str| {
        let (start, _) = line.split_once('-').unwrap();
        usize::from_str_radix(start, 16).unwrap() == at
    };
    let line = maps.lines().find(is_there).unwrap().to_owned();
    // By whatever descriptor the process has.
    let files: Vec<_> = fs::read_dir("/proc/self/fd").unwrap().flatten().collect();
    let is_file = |file: &&fs::DirEntry| {
        fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().contains("memfd"))
    };
    let writes = files.iter().filter(is_file).filter_map(|file| {
        let file = OpenOptions::new().read(true).write(true).open(file.path()).ok()?;
        let is_slice = file.metadata().unwrap().len() == slice.len() as u64;
        is_slice.then(|| {
            let write = rustix::io::pwrite(&file, b"x", 0).unwrap_err();
            let shrink = rustix::fs::ftruncate(&file, 1).unwrap_err();
            // SAFETY: a new mapping, if it is granted, at a place that the kernel chooses.
            let map = unsafe {
                rustix::mm::mmap(
                    std::ptr::null_mut(),
                    slice.len(),
                    rustix::mm::ProtFlags::WRITE,
                    rustix::mm::MapFlags::SHARED,
                    &file,
                    0,
                )
            };
            let errors = [write, shrink, map.map(drop).unwrap_err()];
            format!("{:?}", errors.map(Errno::raw_os_error))
        })
    });
    let mut outcomes: Vec<String> = writes.collect();
    // SAFETY: the pages of the slice; if this were granted, nothing writes to them all the same.
    let protect = unsafe {
        let flags = rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE;
        rustix::mm::mprotect(slice.as_ptr().cast_mut().cast(), slice.len(), flags)
    };
    outcomes.push(format!("{:?} {line}", protect));
    outcomes
}

/// M-9: what a process that has the descriptor can try.
#[test]
fn no_process_can_write_to_a_slice() {
    within_limit(|| {
        let pool = pool(1);
        let slice = SharedSlice::new(vec![7; 12_345]).unwrap();
        let outcomes = pool.submit(call!(attempts(slice.clone()))).result().unwrap();
        let denied = format!("{:?}", [libc::EPERM; 3]);
        let (protect, attempts) = outcomes.split_last().unwrap();
        assert!(!attempts.is_empty() && attempts.iter().all(|it| *it == denied), "{attempts:?}");
        // Where the kernel refuses shared mappings of such files, the mapping is private to the process.
        let is_shared = protect.contains(" r--s ");
        assert!(!is_shared || protect.starts_with("Err(Os"), "{protect}");
        assert!(slice.iter().all(|byte| *byte == 7));
        end(&pool);
    });
}

#[test]
fn a_vec_is_filled_in_place_and_then_frozen() {
    let mut rows = SharedVec::<u32>::zeroed(5000).unwrap();
    assert!(rows.iter().all(|row| *row == 0));
    rows[4999] = 3;
    rows[..10].fill(1);
    let rows = rows.freeze().unwrap();
    assert_eq!(rows.iter().sum::<u32>(), 13);
    let empty = SharedVec::<u64>::zeroed(0).unwrap();
    assert!(empty.is_empty() && empty.freeze().unwrap().is_empty());
}

/// M-18.
#[test]
fn a_slice_becomes_a_buffer_without_a_copy_and_a_buffer_a_slice_with_one() {
    let slice = SharedSlice::new([1.5, 2.5]).unwrap();
    let at = slice.as_ptr();
    let buffer = Buffer::from(slice);
    assert_eq!((buffer.as_ptr(), &buffer[..]), (at, &[1.5, 2.5][..]));
    let slice = SharedSlice::new(&buffer).unwrap();
    assert_eq!(slice[..], buffer[..]);
    assert_eq!(buffer.into_vec(), [1.5, 2.5]);
}

/// M-4.
#[test]
fn a_length_that_overflows_is_an_error() {
    for len in [usize::MAX, usize::MAX / 8, isize::MAX as usize / 8 + 1, 1 << 58] {
        let error = SharedVec::<u64>::zeroed(len).unwrap_err();
        let text = format!("{error}");
        assert_eq!(text, "there is no shared memory for the elements");
        assert!(std::error::Error::source(&error).is_some());
    }
}

/// M-16: a limit on files, which the memory is to the system.
#[test]
fn memory_beyond_a_limit_is_an_error_and_no_signal() {
    let name = "slices::memory_beyond_a_limit_is_an_error_and_no_signal";
    if part().is_some() {
        assert!(getrlimit(Resource::Fsize).current.is_some());
        let ipc::Error::Io { source, .. } = SharedSlice::new(vec![1_u8; 200_000]).unwrap_err()
        else {
            panic!("another error")
        };
        assert!(source.to_string().contains("RLIMIT_FSIZE"), "{source}");
        assert!(SharedVec::<u8>::zeroed(200_000).is_err());
        assert_eq!(SharedSlice::new(vec![1_u8; 50_000]).unwrap().len(), 50_000);
        return say(&[1]);
    }
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("ulimit -f 100\nexec \"$0\" \"$@\"");
    shell.arg(std::env::current_exe().unwrap());
    let mut program = Program::of(shell, name, "with a limit");
    assert_eq!(program.hear(), [1], "{}", program.output());
    assert!(program.ended().success(), "{}", program.output());
}

/// M-7: no descriptor, no mapping, no name.
#[test]
fn nothing_is_left_of_slices() {
    alone("slices::nothing_is_left_of_slices", || {
        let names = || fs::read_dir("/dev/shm").map_or(0, |names| names.count());
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let mappings = || {
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().filter(|line| line.contains("memfd")).count()
        };
        let pool = pool(1);
        assert_eq!(pool.submit(call!(sum(SharedSlice::new([1, 2]).unwrap()))).result().unwrap(), 3);
        let before = (names(), descriptors(), mappings());
        for count in 0..1000_u64 {
            let slice = SharedSlice::new(vec![1; count as usize]).unwrap();
            assert_eq!(pool.submit(call!(sum(slice))).result().unwrap(), count);
        }
        // The last content goes with its reply, which is before the result.
        assert_eq!((names(), descriptors(), mappings()), before);
        end(&pool);
    });
}
