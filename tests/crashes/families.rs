//! Processes that tasks start and that leave the group of their worker, or their parent as well.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use concurrent_futures::{ProcessPoolExecutor, call};

use crate::deaths::{Death, square, status};
use crate::program::{Program, alone, part, say, wait_for_go};
use crate::support::within_limit;
use crate::tools::{Gate, Reports, end, family, lost, parent_of, pool};
use crate::watch::{Watched, kill};

fn in_a_session(mut command: Command) -> Command {
    // SAFETY: the call may be made after a fork, and changes nothing but the process's session.
    let leave = || match unsafe { libc::setsid() } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: it makes that one call.
    unsafe { command.pre_exec(leave) };
    command
}

/// Starts a process with a session of its own, and one that is a daemon beside that: its parent has
/// ended.
fn start_both() -> [u32; 2] {
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let session = in_a_session(sleep).spawn().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "sleep 1000 >/dev/null & echo $!"]).stdout(Stdio::piped());
    let mut shell = in_a_session(shell).spawn().unwrap();
    let mut daemon = String::new();
    shell.stdout.take().unwrap().read_to_string(&mut daemon).unwrap();
    shell.wait().unwrap();
    let both = [session.id(), daemon.trim().parse().unwrap()];
    std::mem::forget(session); // Nobody waits for it.
    both
}

fn start_and_report(started: Reports) {
    start_both().into_iter().for_each(|pid| started.add(pid));
}

fn start_and_hold(started: Reports, gate: Gate) {
    start_and_report(started);
    gate.wait();
}

fn start_and_die(started: Reports, death: Death) {
    start_and_report(started);
    death.die();
}

/// Has a pool of its own, whose worker starts them.
fn nest_and_hold(started: Reports, gate: Gate) {
    let inner = pool(1);
    inner.submit(call!(start_and_report(started.clone()))).result().unwrap();
    family(&inner).into_iter().for_each(|pid| started.add(pid));
    gate.wait();
}

/// Each of some may become known to who kills it only when the one before has ended, so this is not
/// about how soon they do.
#[track_caller]
fn assert_all_end(all: &[Watched]) {
    const HANG: Duration = Duration::from_secs(30);
    assert!(all.iter().all(|process| process.ends_within(HANG)), "not all have ended");
}

#[test]
fn what_has_left_the_group_of_its_worker_ends_with_the_worker() {
    within_limit(|| {
        let pool = pool(2);
        let (others, gate) = (Reports::new(), Gate::new());
        let held = pool.submit(call!(start_and_hold(others.clone(), gate.clone())));
        let others = Watched::all(&others.wait_for(2));
        for death in Death::ALL {
            let started = Reports::new();
            let future = pool.submit(call!(start_and_die(started.clone(), death)));
            assert_eq!(status(&lost(future.result())), death.status());
            let both: Vec<_> = started.wait_for(2).into_iter().filter_map(Watched::new).collect();
            assert_all_end(&both);
        }
        let (started, never) = (Reports::new(), Gate::new());
        let future = pool.submit(call!(start_and_hold(started.clone(), never.clone())));
        let both = Watched::all(&started.wait_for(2));
        assert!(future.kill());
        assert_all_end(&both);
        // Those of another worker are none of its business, also when their task is done.
        gate.open();
        held.result().unwrap();
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        assert!(others.iter().all(Watched::is_alive));
        end(&pool);
        assert_all_end(&others);
    });
}

/// The program, and what the test is to find ended with it.
fn with_all_kinds(name: &str) -> Option<(Program, Vec<u32>)> {
    if part().is_none() {
        let mut program = Program::start(name, "program");
        let all = program.hear();
        return Some((program, all));
    }
    let pool = pool(3);
    let (started, gate) = (Reports::new(), Gate::new());
    let _held = pool.submit(call!(start_and_hold(started.clone(), gate.clone())));
    let _nests = pool.submit(call!(nest_and_hold(started.clone(), gate.clone())));
    pool.submit(call!(start_and_report(started.clone()))).result().unwrap();
    let mut all = started.wait_for(8);
    all.extend(family(&pool));
    say(&all);
    wait_for_go();
    None
}

#[test]
fn what_has_left_the_group_of_its_worker_ends_with_the_program() {
    const NAME: &str = "families::what_has_left_the_group_of_its_worker_ends_with_the_program";
    for _ in 0..3 {
        let Some((mut program, all)) = with_all_kinds(NAME) else { return };
        let all = Watched::all(&all);
        program.kill();
        program.ended();
        assert_all_end(&all);
    }
}

fn helper_of(pool: &ProcessPoolExecutor) -> u32 {
    parent_of(pool.worker_pids()[0]).unwrap()
}

#[test]
fn what_has_left_the_group_of_its_worker_ends_when_the_helper_is_killed() {
    alone("families::what_has_left_the_group_of_its_worker_ends_when_the_helper_is_killed", || {
        let pool = pool(2);
        let (started, gate) = (Reports::new(), Gate::new());
        let held = pool.submit(call!(start_and_hold(started.clone(), gate.clone())));
        let nests = pool.submit(call!(nest_and_hold(started.clone(), gate.clone())));
        let mut all = started.wait_for(6);
        all.extend(family(&pool));
        let all = Watched::all(&all);
        kill(helper_of(&pool));
        drop((lost(held.result()), lost(nests.result())));
        assert_all_end(&all);
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        end(&pool);
    });
}
