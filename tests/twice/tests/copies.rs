//! Two copies of the crate in one program, of the same version: each starts helpers of its own.

#![cfg(target_os = "linux")]

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn the_copies_have_one_version() {
    let version = |manifest: &str| {
        let manifest = std::fs::read_to_string(manifest).unwrap();
        manifest
            .lines()
            .find_map(|line| line.strip_prefix("version = ")?.split(' ').next().map(str::to_owned))
    };
    let folder = env!("CARGO_MANIFEST_DIR");
    let again = version(&format!("{folder}/Cargo.toml"));
    assert!(again.is_some());
    assert_eq!(again, version(&format!("{folder}/../../Cargo.toml")));
}

#[test]
fn each_copy_has_workers() {
    let once = concurrent_futures::ProcessPoolExecutor::new().unwrap();
    let again = concurrent_futures_again::ProcessPoolExecutor::new().unwrap();
    for n in 0..10 {
        let (first, second) = (
            once.submit(concurrent_futures::call!(square(n))),
            again.submit(concurrent_futures_again::call!(square(n))),
        );
        assert_eq!((first.result().unwrap(), second.result().unwrap()), (n * n, n * n));
    }
}

/// A worker of one copy is like any process to the other one.
#[test]
fn a_task_of_one_copy_has_a_pool_of_the_other() {
    fn by_the_other(n: u64) -> u64 {
        let pool = concurrent_futures::ProcessPoolExecutor::builder().max_workers(1);
        pool.build().unwrap().submit(concurrent_futures::call!(square(n))).result().unwrap()
    }
    let pool = concurrent_futures_again::ProcessPoolExecutor::new().unwrap();
    assert_eq!(pool.submit(concurrent_futures_again::call!(by_the_other(3))).result().unwrap(), 9);
}
