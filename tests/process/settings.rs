//! Settings of a process.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use concurrent_futures::{Error, LossCause, Process, call};

use crate::assert_exit;
use crate::support::within_limit;
use crate::tools::{lost, own_pid, parent_of};
use crate::watch::assert_is_gone_soon;

fn surroundings() -> (Option<String>, Option<String>, String) {
    let variable = |name| std::env::var(name).ok();
    let directory = std::env::current_dir().unwrap();
    (variable("A"), variable("PATH"), directory.display().to_string())
}

#[test]
fn environment_and_directory_are_those_that_were_set() {
    within_limit(|| {
        let here = std::env::current_dir().unwrap().display().to_string();
        let path = std::env::var("PATH").ok();
        let plain = Process::spawn(call!(surroundings())).result().unwrap();
        assert_eq!(plain, (None, path.clone(), here.clone()));
        let set = Process::builder().env("A", "1").env_remove("PATH").spawn(call!(surroundings()));
        assert_eq!(set.result().unwrap(), (Some("1".to_owned()), None, here));
        let moved = Process::builder().current_dir("/").spawn(call!(surroundings()));
        assert_eq!(moved.result().unwrap(), (None, path, "/".to_owned()));
        let nowhere = Process::builder().current_dir("/no/such").spawn(call!(surroundings()));
        let error = format!("{:?}", nowhere.result().unwrap_err());
        assert!(error.contains("/no/such can't be opened: No such file"), "{error}");
    });
}

/// What a process has been forked from ends with it, if it was for that one alone.
#[test]
fn a_helper_of_its_own_ends_with_the_process() {
    fn parent() -> u32 {
        parent_of(own_pid()).unwrap()
    }
    within_limit(|| {
        let shared = [(); 2].map(|()| Process::spawn(call!(parent())).result().unwrap());
        assert_eq!(shared[0], shared[1]);
        let own = Process::builder().env("A", "1").spawn(call!(parent())).result().unwrap();
        assert_ne!(own, shared[0]);
        assert_is_gone_soon(own);
    });
}

static LOADED: AtomicU32 = AtomicU32::new(0);

#[test]
fn the_preloaded_function_runs_before() {
    fn load(n: u32) -> Result<(), String> {
        LOADED.store(n, SeqCst);
        if n == 0 { Err("nothing to load".to_owned()) } else { Ok(()) }
    }
    fn loaded() -> u32 {
        LOADED.load(SeqCst)
    }
    within_limit(|| {
        let process = |n| Process::builder().preload(call!(load(n))).spawn(call!(loaded()));
        assert_eq!(process(7).result().unwrap(), 7);
        let failed = process(0);
        let exit = failed.join_blocking();
        assert_eq!((exit.pid(), exit.to_string()), (None, "the process never started".to_owned()));
        let started = futures::executor::block_on(failed.started());
        let error = format!("{:?}", failed.result().unwrap_err());
        assert_eq!(format!("{:?}", started.unwrap_err()), error);
        let text = "the process could not be started; try again once the cause is fixed: the \
                    preloaded function failed: nothing to load";
        assert!(error.contains(text), "{error}");
    });
}

#[test]
fn more_memory_than_the_limit_ends_it() {
    fn fill(bytes: usize, is_held: bool) -> usize {
        let all = std::hint::black_box(vec![1_u8; bytes]);
        if is_held {
            loop {
                std::thread::park();
            }
        }
        all.len()
    }
    within_limit(|| {
        let limited = || Process::builder().memory_limit(64 << 20);
        let small = limited().spawn(call!(fill(1 << 20, false)));
        assert_eq!(small.result().unwrap(), 1 << 20);
        // What is used is looked at; an allocation far beyond the limit fails.
        for (bytes, signal, is_certain) in [(100 << 20, 9, true), (1 << 40, 6, false)] {
            let large = limited().spawn(call!(fill(bytes, true)));
            assert_exit(&large.join_blocking(), None, Some(signal));
            match lost(large.result()).cause {
                Some(LossCause::MemoryLimit { limit, is_certain: it, .. }) => {
                    assert_eq!((limit, it), (64 << 20, is_certain));
                }
                cause => panic!("{cause:?}"),
            }
        }
    });
}

#[test]
fn a_value_that_is_too_long_is_an_error() {
    fn long() -> Vec<u8> {
        vec![7; 1 << 16]
    }
    within_limit(|| {
        let process = Process::builder().max_result_size(1 << 10).spawn(call!(long()));
        assert_exit(&process.join_blocking(), Some(0), None);
        assert!(matches!(process.result(), Err(Error::Codec(_))));
    });
}

#[test]
fn settings_that_make_no_sense_are_the_error() {
    within_limit(|| {
        let settings = [Process::builder().name("a\0b"), Process::builder().max_result_size(0)];
        for (builder, name) in settings.into_iter().zip(["name", "max_result_size"]) {
            let process = builder.clone().spawn(call!(own_pid()));
            assert!(!process.is_running());
            process.terminate();
            process.kill();
            assert_eq!(process.join_blocking().pid(), None);
            assert!(matches!(
                process.result(),
                Err(Error::InvalidSetting { setting, .. }) if setting == name
            ));
        }
    });
}

#[test]
fn two_threads_that_begin_at_once_share_a_helper() {
    fn parent() -> u32 {
        parent_of(own_pid()).unwrap()
    }
    crate::alone("settings::two_threads_that_begin_at_once_share_a_helper", || {
        let threads = [(); 8]
            .map(|()| std::thread::spawn(|| Process::spawn(call!(parent())).result().unwrap()));
        let parents = threads.map(|thread| thread.join().unwrap());
        assert!(parents.iter().all(|parent| *parent == parents[0]), "{parents:?}");
    });
}
