//! What systems without worker processes get, so far all but Linux. On Linux it can be seen with
//! `RUSTFLAGS="--cfg no_process_pool" cargo test --test other_systems`.

#![cfg(all(feature = "process", any(not(target_os = "linux"), no_process_pool)))]

use std::io;

use concurrent_futures::{Error, Process, ProcessPoolExecutor, ThreadPoolExecutor, call};

#[test]
fn a_process_pool_is_refused_with_the_reason_and_a_way_out() {
    concurrent_futures::init(); // does nothing
    let Err(Error::BrokenPool(refused)) = ProcessPoolExecutor::new() else {
        panic!("there are no worker processes here");
    };
    let cause: &io::Error = refused.cause().downcast_ref().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::Unsupported);
    let text = cause.to_string();
    assert!(text.contains("Linux only") && text.contains("use ThreadPoolExecutor"), "{text}");
}

#[test]
fn a_process_is_refused_by_the_error_of_its_value() {
    let process = Process::spawn(call!(u64::pow(2, 10)));
    assert!(!process.is_running() && Process::running().is_empty());
    assert_eq!(process.join_blocking().pid(), None);
    let Err(Error::BrokenPool(refused)) = process.result() else {
        panic!("there are no worker processes here");
    };
    assert!(refused.cause().to_string().contains("Linux only"));
}

#[test]
fn a_channel_is_refused() {
    let refused = concurrent_futures::ipc::channel::<u32>(1).unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("Linux only"), "{source}");
}

#[test]
fn the_same_calls_run_on_threads() {
    let pool = ThreadPoolExecutor::new();
    assert_eq!(pool.submit(call!(u64::pow(2, 10))).result().unwrap(), 1024);
}
