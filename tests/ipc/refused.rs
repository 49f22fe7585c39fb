//! Shared memory where the system refuses something: as older kernels do, or a container.

use std::process::Command;

use concurrent_futures::call;
use concurrent_futures::ipc::{Shared, SharedSlice};

use crate::program::{Program, alone, part, say};
use crate::slices::attempts;
use crate::tools::{end, pool};

/// Refuses shared mappings for reading alone from here on, in this process and those that it starts: of files that are
/// sealed, kernels before 6.7 refuse these.
fn refuse_shared_mappings() {
    let step = |code, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, offset);
    let unless = |jf, value| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jf, value);
    let end = |k| step(libc::BPF_RET | libc::BPF_K, 0, k);
    // Of an argument of 64 bits the lower half.
    let argument = |n: u32| 16 + 8 * n + if cfg!(target_endian = "little") { 0 } else { 4 };
    let mut program = [
        load(0), // the number of the call
        unless(5, libc::SYS_mmap as u32),
        load(argument(2)),
        unless(3, libc::PROT_READ as u32),
        load(argument(3)),
        unless(1, libc::MAP_SHARED as u32),
        end(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let filter = program.as_mut_ptr();
    let program = libc::sock_fprog { len: program.len() as u16, filter };
    // SAFETY: the program is made of valid instructions, and read before the call returns.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (set, all_threads) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
        assert_eq!(libc::syscall(libc::SYS_seccomp, set, all_threads, &program), 0);
    }
}

/// M-9, where the mapping is the process's own.
#[test]
fn a_private_mapping_does_where_a_shared_one_is_refused() {
    /// Has the kernel write to the mapping, which this process may have made writable. Returns what is there then.
    fn write(slice: SharedSlice<u8>) -> u8 {
        let page = slice.as_ptr().cast_mut();
        // SAFETY: these are the pages of the slice. No reference to their bytes is used from here on.
        unsafe {
            let flags = rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE;
            if rustix::mm::mprotect(page.cast(), slice.len(), flags).is_ok() {
                let zeros = std::fs::File::open("/dev/zero").unwrap();
                assert_eq!(libc::read(std::os::fd::AsRawFd::as_raw_fd(&zeros), page.cast(), 1), 1);
            }
            page.read_volatile()
        }
    }
    fn first(slice: SharedSlice<u8>) -> u8 {
        slice[0]
    }
    fn look(value: Shared<Vec<String>>) -> usize {
        value.iter().map(String::len).sum()
    }
    alone("refused::a_private_mapping_does_where_a_shared_one_is_refused", || {
        refuse_shared_mappings();
        let pools = [pool(1), pool(1)];
        let slice = SharedSlice::new(vec![7; 12_345]).unwrap();
        let outcomes = pools[0].submit(call!(attempts(slice.clone()))).result().unwrap();
        let (protect, attempts) = outcomes.split_last().unwrap();
        assert!(protect.contains(" r--p ") || protect.contains(" rw-p "), "{protect}");
        let denied = format!("{:?}", [libc::EPERM; 3]);
        assert!(!attempts.is_empty() && attempts.iter().all(|it| *it == denied), "{attempts:?}");
        // What a process has made of its own pages, no other one sees, nor itself in the next mapping.
        assert_eq!(pools[0].submit(call!(write(slice.clone()))).result().unwrap(), 0);
        assert_eq!(pools[1].submit(call!(first(slice.clone()))).result().unwrap(), 7);
        assert_eq!(pools[0].submit(call!(first(slice.clone()))).result().unwrap(), 7);
        assert!(slice.iter().all(|byte| *byte == 7));
        let built = SharedSlice::build(1 << 20, |bytes| bytes.fill(3_u8)).unwrap();
        assert_eq!(pools[1].submit(call!(first(built))).result().unwrap(), 3);
        let value = Shared::new(vec!["ab".to_owned(); 100]).unwrap();
        assert_eq!(pools[1].submit(call!(look(value))).result().unwrap(), 200);
        pools.iter().for_each(end);
    });
}

/// M-17.
#[test]
fn the_size_of_dev_shm_does_not_matter() {
    fn sum(slice: SharedSlice<u64>) -> u64 {
        slice.iter().sum()
    }
    let name = "refused::the_size_of_dev_shm_does_not_matter";
    if part().is_some() {
        let size = rustix::fs::statvfs("/dev/shm").unwrap();
        assert_eq!(size.f_blocks * size.f_frsize, 1 << 20);
        // 64 MiB.
        let slice = SharedSlice::build(8 << 20, |numbers| numbers.fill(1)).unwrap();
        let pool = pool(1);
        assert_eq!(pool.submit(call!(sum(slice))).result().unwrap(), 8 << 20);
        end(&pool);
        return say(&[1]);
    }
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        unshare.arg("mount -t tmpfs -o size=1m none /dev/shm && exec \"$0\" \"$@\"");
        unshare
    };
    match unshare().arg("true").output() {
        Ok(output) if output.status.success() => {}
        refused => return println!("left out: no mount of its own can be made here: {refused:?}"),
    }
    let mut unshare = unshare();
    unshare.arg(std::env::current_exe().unwrap());
    let mut program = Program::of(unshare, name, "with a small /dev/shm");
    assert_eq!(program.hear(), [1], "{}", program.output());
    assert!(program.ended().success(), "{}", program.output());
}
