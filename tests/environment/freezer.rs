//! Workers that a freezer of the system has frozen, as `systemctl freeze` and `docker pause` do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use concurrent_futures::call;

use crate::left_out;
use crate::support::within_limit;
use crate::tools::{Gate, Reports, assert_timed_out, builder, end, hold, occupy, own_pid};
use crate::watch::Watched;

/// Nothing here takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(20);

/// A control group of the test's own, of either version.
struct Freezer {
    group: PathBuf,
    /// The file that freezes and thaws, and the text for each; the file and the line that tell that all
    /// are frozen.
    switch: (&'static str, [&'static str; 2]),
    state: (&'static str, &'static str),
}

impl Freezer {
    fn version_2() -> Option<Self> {
        let has_it = |root: &&str| Path::new(root).join("cgroup.controllers").exists();
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].into_iter().find(has_it)?;
        Self::new(root, ("cgroup.freeze", ["1", "0"]), ("cgroup.events", "frozen 1"))
    }

    fn version_1() -> Option<Self> {
        let switch = ("freezer.state", ["FROZEN", "THAWED"]);
        Self::new("/sys/fs/cgroup/freezer", switch, ("freezer.state", "FROZEN"))
    }

    fn new(
        root: &str,
        switch: (&'static str, [&'static str; 2]),
        state: (&'static str, &'static str),
    ) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let name = format!("concurrent-futures-test-{process}-{number}");
        let group = Path::new(root).join(name);
        fs::create_dir(&group).ok()?;
        let freezer = Self { group, switch, state };
        fs::exists(freezer.group.join(switch.0)).unwrap().then_some(freezer)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.group.join(file), text).unwrap();
    }

    fn freeze(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
        self.write(self.switch.0, self.switch.1[0]);
        let (file, line) = self.state;
        while !fs::read_to_string(self.group.join(file)).unwrap().contains(line) {
            std::thread::yield_now();
        }
    }

    fn thaw(&self) {
        self.write(self.switch.0, self.switch.1[1]);
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        while fs::read_to_string(self.group.join("cgroup.procs")).is_ok_and(|all| !all.is_empty()) {
            std::thread::yield_now();
        }
        let _ = fs::remove_dir(&self.group);
    }
}

/// Calls `test` with a freezer of each version that there is, and whether a kill ends what it has frozen.
fn with_freezers(test: fn(&Freezer, bool)) {
    let freezers = [(Freezer::version_2(), true), (Freezer::version_1(), false)];
    if freezers.iter().all(|(freezer, _)| freezer.is_none()) {
        return left_out("no control group can be made");
    }
    within_limit(move || {
        for (freezer, is_killable) in freezers {
            freezer.inspect(|freezer| test(freezer, is_killable));
        }
    });
}

#[test]
fn a_frozen_worker_is_in_the_dump() {
    with_freezers(|freezer, _| {
        let pool = builder(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let worker = pool.worker_pids()[0];
        freezer.freeze(worker);
        let dump = pool.dump();
        assert!(dump.workers[0].is_frozen);
        assert!(dump.to_string().contains(&format!("process {worker}, frozen: task")), "{dump}");
        freezer.thaw();
        gate.open();
        assert_eq!(held.result().unwrap(), worker);
        assert!(!pool.dump().workers[0].is_frozen);
        end(&pool);
    });
}

#[test]
fn a_time_limit_ends_a_task_whose_worker_is_frozen() {
    with_freezers(|freezer, is_killable| {
        let limit = Duration::from_secs(1);
        let pool = builder(1).build().unwrap();
        let (started, gate) = (Reports::new(), Gate::new());
        let task = pool.task().timeout(limit);
        let future = task.submit(call!(hold(started.clone(), gate.clone(), 0)));
        let worker = started.wait_for(1)[0];
        freezer.freeze(worker);
        let process = Watched::all(&[worker]).remove(0);
        assert_timed_out(&future.result(), limit, true);
        // Another worker does what comes next.
        assert_ne!(pool.submit(call!(own_pid())).result().unwrap(), worker);
        assert_eq!(
            process.ends_within(if is_killable { HANG } else { Duration::ZERO }),
            is_killable
        );
        freezer.thaw();
        assert!(process.ends_within(HANG));
        end(&pool);
    });
}
