//! What workers have of the program is what it had when the pool was made, also if the process that
//! starts them had to be replaced since.

use std::path::PathBuf;

use concurrent_futures::{ProcessPoolExecutor, call};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::program::alone;
use crate::tools::{builder, end, family, until_ended};
use crate::watch::kill;

const VARIABLE: &str = "TEST_SURROUNDINGS";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Surroundings {
    directory: Option<PathBuf>,
    arguments: Vec<String>,
    variable: Option<String>,
    output: [PathBuf; 2],
    umask: u32,
    nice: i32,
    cpus: u32,
    limits: Vec<(Option<u64>, Option<u64>)>,
}

/// In a worker.
fn surroundings() -> Surroundings {
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    let limits = [Resource::Core, Resource::Nofile, Resource::Stack, Resource::Cpu].map(getrlimit);
    Surroundings {
        directory: std::fs::read_link("/proc/self/cwd").ok(),
        arguments: std::env::args().collect(),
        variable: std::env::var(VARIABLE).ok(),
        output: [1, 2].map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap()),
        umask: umask.as_raw_mode(),
        nice: rustix::process::getpriority_process(None).unwrap(),
        cpus: sched_getaffinity(None).unwrap().count(),
        limits: limits.iter().map(|limit| (limit.current, limit.maximum)).collect(),
    }
}

fn replace_helper(pool: &ProcessPoolExecutor) {
    let helper = family(pool)[0];
    kill(helper);
    until_ended(helper);
}

fn set_variable(value: &str) {
    // SAFETY: no other thread of this program reads the environment meanwhile.
    unsafe { std::env::set_var(VARIABLE, value) };
}

fn limit(resource: Resource, to: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(to), maximum }).unwrap();
}

/// A directory of the test's own, below that for temporary files.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

#[test]
fn workers_of_a_helper_that_was_replaced_have_what_those_before_had() {
    alone("surroundings::workers_of_a_helper_that_was_replaced_have_what_those_before_had", || {
        std::env::set_current_dir(directory("first")).unwrap();
        set_variable("first");
        rustix::process::umask(Mode::from(0o027));
        limit(Resource::Core, 4096);
        let pool = builder(1).build().unwrap();
        let before = pool.submit(call!(surroundings())).result().unwrap();
        assert_eq!(before.variable.as_deref(), Some("first"));
        assert_eq!(before.umask, 0o027);
        assert_eq!(before.limits[0].0, Some(4096));

        std::env::set_current_dir(directory("second")).unwrap();
        set_variable("second");
        rustix::process::umask(Mode::from(0o077));
        limit(Resource::Core, 8192);
        limit(Resource::Nofile, before.limits[1].0.unwrap() - 1);
        // Of the thread by which the next helper is started, perhaps.
        rustix::process::setpriority_process(None, before.nice + 3).unwrap();
        let mut one = CpuSet::new();
        let all = sched_getaffinity(None).unwrap();
        one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        let [stdout, stderr] = [rustix::stdio::stdout(), rustix::stdio::stderr()]
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 10).unwrap());
        let other = std::fs::File::create(std::env::temp_dir().join("other")).unwrap();
        rustix::stdio::dup2_stdout(&other).unwrap();
        rustix::stdio::dup2_stderr(&other).unwrap();

        replace_helper(&pool);
        let after = pool.submit(call!(surroundings())).result();
        rustix::stdio::dup2_stdout(&stdout).unwrap();
        rustix::stdio::dup2_stderr(&stderr).unwrap();
        let mut after = after.unwrap();
        if !rustix::process::geteuid().is_root() {
            after.nice = before.nice; // only root may go back
        }
        assert_eq!(after, before);
        // A pool that is made now has what there is now.
        let new = builder(1).build().unwrap();
        let now = new.submit(call!(surroundings())).result().unwrap();
        assert_eq!((now.variable.as_deref(), now.umask, now.cpus), (Some("second"), 0o077, 1));
        assert_ne!((&now.directory, &now.limits), (&before.directory, &before.limits));
        end(&pool);
        end(&new);
    });
}

#[test]
fn a_directory_that_is_deleted_stays_that_of_the_workers() {
    alone("surroundings::a_directory_that_is_deleted_stays_that_of_the_workers", || {
        let gone = directory("gone");
        std::env::set_current_dir(&gone).unwrap();
        let in_it = builder(1).build().unwrap();
        let named = builder(1).current_dir(&gone).build().unwrap();
        std::fs::remove_dir(&gone).unwrap();
        let after_all = builder(1).build().unwrap();
        let deleted = Some(PathBuf::from(format!("{} (deleted)", gone.display())));
        for pool in [in_it, named, after_all] {
            for is_replaced in [false, true] {
                if is_replaced {
                    replace_helper(&pool);
                }
                let worker = pool.submit(call!(surroundings())).result().unwrap();
                assert_eq!(worker.directory, deleted);
            }
            end(&pool);
        }
    });
}

#[test]
fn a_relative_directory_is_looked_up_once() {
    alone("surroundings::a_relative_directory_is_looked_up_once", || {
        let all = directory("all");
        let inner = directory("all/inner");
        std::env::set_current_dir(&all).unwrap();
        let pool = builder(1).current_dir("inner").build().unwrap();
        std::env::set_current_dir("/").unwrap();
        for is_replaced in [false, true] {
            if is_replaced {
                replace_helper(&pool);
            }
            let worker = pool.submit(call!(surroundings())).result().unwrap();
            assert_eq!(worker.directory.as_ref(), Some(&inner));
        }
        end(&pool);
    });
}
