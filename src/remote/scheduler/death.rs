//! How workers die, and what becomes of what they had.

use std::sync::Arc;
use std::time::Duration;

use super::state::{Place, State};
use super::{Completion, Pool};
use crate::error::{Error, HowEnded, WorkerLost};
use crate::local::family;
use crate::local::start::zygote::{Exit, Notice};
use crate::local::worker_handle::{Life, Worker};
use crate::process_pool::builder::WorkerStderr;
use crate::remote::submission::Suspect;
use crate::sys;
use crate::sys::{AsFd, ExitStatus};

/// A worker whose socket has been closed for so long and that is not known to be dead may have closed
/// it itself. It is killed.
const DEATH_LIMIT: Duration = Duration::from_millis(500);

/// How long the pool then waits to be told how it died: as long as a machine with much else to do
/// may take.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

impl Pool {
    /// The worker sends what is no frame, so it is not believed any more.
    pub(super) fn distrust(self: &Arc<Self>, state: &mut State, number: u32, text: String) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        worker.is_distrusted = true;
        worker.fault.get_or_insert(format!("it was killed, since it had sent {text}"));
        worker.kill(state.zygote.as_ref());
        self.closed(state, number);
    }

    /// The socket of a worker is closed: nothing more comes from it.
    pub(super) fn closed(self: &Arc<Self>, state: &mut State, number: u32) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        if worker.life == Life::Gone {
            return;
        }
        worker.life = Life::Gone;
        let _ = self.registration.remove(worker.link.socket.as_fd());
        let pool = Arc::clone(self);
        worker.end_timer = Some(self.timer(DEATH_LIMIT, move || pool.death_is_overdue(number)));
        let is_orphaned = worker.is_orphaned;
        state.inherit(number);
        if is_orphaned {
            self.bury(state, number, None); // Nobody will tell how it died.
        }
    }

    fn death_is_overdue(self: &Arc<Self>, number: u32) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(worker) = state.workers.get_mut(&number) else { return };
        worker.is_overdue = true;
        worker.strike(state.zygote.as_ref());
        let pool = Arc::clone(self);
        let timer = self.timer(REPORT_LIMIT, move || pool.is_buried(number, None));
        let old = worker.end_timer.replace(timer);
        drop(guard);
        drop(old);
    }

    /// It is known how a worker ended, or will not be.
    pub(super) fn is_buried(self: &Arc<Self>, number: u32, exit: Option<Exit>) {
        let mut state = self.state.lock();
        self.bury(&mut state, number, exit.as_ref());
        self.dispatch(&mut state);
        self.release_to_reader(state);
        self.registration.wake(); // This may be the timer's thread.
    }

    pub(super) fn bury(self: &Arc<Self>, state: &mut State, number: u32, exit: Option<&Exit>) {
        self.closed(state, number);
        let Some(mut worker) = state.workers.remove(&number) else { return };
        let may_run_again = state.may_run_again();
        // The end of the helper process is not the worker's, and is counted once.
        let mut had_begun = worker.replies > 0 || worker.is_condemned || worker.is_orphaned;
        if exit.is_none() {
            // Its socket is closed, but nobody has said that it has ended; it may have done that itself.
            worker.kill(state.zygote.as_ref());
        }
        let has_failed =
            |exit: &Exit| ![ExitStatus::KILLED, ExitStatus::UNFIT].contains(&exit.status);
        if let (Some(next), true) = (worker.next, exit.is_some_and(has_failed)) {
            had_begun = true; // with receiving it
            if let Some(task) = state.tasks.get_mut(&next) {
                task.near_misses += 1;
            }
        }
        if !worker.was_dismissed {
            let how = || self.describe(&worker, exit).how();
            state.outbox.worker_lost(how, worker.is_condemned);
        }
        let mut suspect = None;
        for sent in &worker.sent {
            let task = state.tasks.get_mut(&sent.number).filter(|task| task.is_with(number));
            let Some(task) = task else { continue };
            // It was not taken back, so it had started.
            had_begun = true;
            suspect = suspect.or(task.sink.suspect());
            state.workers_lost += 1;
            let mut lost = self.describe(&worker, exit);
            if task.retries > 0 && may_run_again {
                task.retries -= 1;
                task.lost.push(lost);
                task.place = Place::Queued;
                task.run_timer = None;
                state.queue.push_front(sent.number);
                state.queued += 1;
            } else if let Some(mut task) = state.remove(sent.number) {
                task.sink.salvage(worker.link.block.area());
                lost.earlier = std::mem::take(&mut task.lost);
                state.done.push(Completion::failed(self, *task, Error::WorkerLost(Box::new(lost))));
            }
        }
        if let (Some(suspect), Some(exit)) = (suspect, exit.filter(|exit| has_failed(exit))) {
            self.blame(state, suspect, exit.pid);
        }
        if had_begun || worker.was_dismissed {
            return;
        }
        self.began_in_vain(state, || self.describe(&worker, exit).how());
    }

    /// A worker has died of a call that another one has made up, as it seems: if the task that has
    /// submitted the call still runs there, it is lost as well.
    fn blame(self: &Arc<Self>, state: &mut State, suspect: Suspect, victim: u32) {
        let submitter = state.worker(suspect.worker);
        let task = submitter.and_then(|worker| worker.sent.front());
        if task.is_some_and(|task| task.number == suspect.task) {
            let text = format!(
                "a call of what may be no function, of which worker process {victim} has died"
            );
            self.distrust(state, suspect.worker, text);
        }
    }

    pub(super) fn describe(&self, worker: &Worker, exit: Option<&Exit>) -> WorkerLost {
        let stderr = exit.map(|exit| String::from_utf8_lossy(&exit.stderr_tail).into_owned());
        let stderr = stderr.unwrap_or_default();
        let HowEnded { signal, exit_code } = ExitStatus::describe(exit.map(|exit| exit.status));
        let cause = worker.fault.clone().or_else(|| {
            if signal.is_some_and(|signal| worker.link.block.is_stack_overflow(signal)) {
                return Some("stack overflow".to_owned());
            }
            if exit.is_some_and(|exit| exit.out_of_memory) {
                return Some("probably by the system, for want of memory".to_owned());
            }
            // It may as well have been dead for long, and the notice late: then this is not the signal.
            if worker.is_overdue && exit.is_none_or(|exit| exit.status == ExitStatus::KILLED) {
                return Some("probably since it had closed its socket and lived on".to_owned());
            }
            // An allocation that fails is an abort like any other. What Rust's standard library says
            // before it is known only where stderr is kept.
            let aborted = exit.is_some_and(|exit| exit.status == ExitStatus::ABORTED);
            let limit = self.config.memory_limit.filter(|_| aborted)?;
            match self.config.stderr {
                WorkerStderr::Inherit => {
                    Some(format!("perhaps because the memory limit of {limit} bytes was reached"))
                }
                WorkerStderr::Tail => stderr
                    .contains("memory allocation of")
                    .then(|| format!("memory limit of {limit} bytes reached")),
            }
        });
        let pid = exit.map(|exit| exit.pid).or(worker.pid()).unwrap_or(0);
        WorkerLost { pid, signal, exit_code, cause, stderr, earlier: Vec::new() }
    }

    /// What the poller has seen at the socket of the helper process.
    pub(crate) fn on_control(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let Some(zygote) = &state.zygote else { return };
            match zygote.receive() {
                Ok(None) => return,
                Ok(Some(Notice::Ready)) => {
                    state.zygote_is_ready = true;
                    state.failed_start = None;
                }
                Ok(Some(Notice::Refused(text))) => {
                    self.break_with(&mut state, text.into());
                    self.release_to_reader(state);
                }
                Ok(Some(Notice::Spawned { number, pid, pidfd })) => {
                    let State { workers, zygote, .. } = &mut *state;
                    if let Some(worker) = workers.get_mut(&number) {
                        worker.is_born(pid, pidfd, zygote.as_ref());
                        self.on_spawned(&mut state);
                        self.release_to_reader(state);
                    }
                }
                Ok(Some(Notice::Stopped { number, is_stopped })) => {
                    self.stopped(&mut state, number, is_stopped);
                    self.release(state);
                }
                Ok(Some(Notice::SpawnFailed { number, error })) => {
                    self.on_spawn_failed(&mut state, number, &error);
                    self.release_to_reader(state);
                }
                Ok(Some(Notice::KillFailed { number, error })) => {
                    if let Some(worker) = state.workers.get_mut(&number) {
                        let text = format!("since it could not be killed, and may go on: {error}");
                        worker.fault = Some(text);
                    }
                    drop(state);
                    self.is_buried(number, None);
                }
                Ok(Some(Notice::Exited(exit))) => {
                    let number = exit.number;
                    let link = state.worker(number).map(|worker| Arc::clone(&worker.link));
                    drop(state);
                    if let Some(link) = link {
                        // What it had sent before.
                        let first = self.read(number, &link, true);
                        self.registration.deliver_next(first);
                    }
                    self.is_buried(number, Some(exit));
                }
                Err(_gone) => {
                    let Some(zygote) = state.zygote.take() else { return };
                    state.zygote_is_ending = true;
                    drop(state);
                    let _ = self.registration.remove(zygote.fd());
                    let status = zygote.end();
                    let mut state = self.state.lock();
                    state.zygote_is_ending = false;
                    let families: Vec<_> = state.workers.values().map(|w| w.family).collect();
                    self.orphaned(&mut state, status);
                    self.release_to_reader(state);
                    // Nobody is left whose children they are.
                    if !families.is_empty() {
                        family::kill_families(&families);
                    }
                    return;
                }
            }
        }
    }

    /// A signal has stopped a worker, or continued it. While it is stopped, others do what it has
    /// not begun, as they do beside a worker whose task waits.
    fn stopped(self: &Arc<Self>, state: &mut State, number: u32, is_stopped: bool) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        worker.is_stopped = is_stopped;
        if is_stopped {
            state.take_back(number, 0);
        } else {
            self.fill_up(state, number);
        }
        self.dispatch(state);
    }

    /// The helper process has died, and its workers with it; another one is started when there is
    /// work, unless the same has just happened to the one before. What the workers' tasks have started
    /// is killed here.
    pub(super) fn orphaned(self: &Arc<Self>, state: &mut State, status: Option<ExitStatus>) {
        let how = format!("the process that starts workers {}", ExitStatus::describe(status));
        if !state.zygote_is_ready {
            let how = format!("{how} before it could begin");
            if state.failed_start.replace(how.clone()).is_some_and(|before| before == how) {
                self.break_with(state, how.into());
            }
        }
        if !state.workers.is_empty() && !state.workers.values().any(Worker::has_begun) {
            self.began_in_vain(state, || how.clone());
        }
        let all: Vec<u32> = state.workers.keys().copied().collect();
        for number in all {
            let Some(worker) = state.workers.get_mut(&number) else { continue };
            worker.is_orphaned = true;
            worker.fault.get_or_insert_with(|| format!("since {how}"));
            // One that has not told its number has done nothing yet.
            let killed = worker.process.as_ref().map_or(Ok(()), |(pid, _)| sys::kill_group(*pid));
            if let Err(error) = killed {
                let fault = worker.fault.get_or_insert_default();
                *fault += &format!("; what its tasks had started could not be killed: {error}");
            }
            if worker.life == Life::Gone {
                self.bury(state, number, None);
            }
        }
        self.dispatch(state);
    }

    /// Kills a worker for the task of this claim, which it has begun; what it has not begun goes
    /// elsewhere. If it has begun with another one since then, the task has ended by itself, and its
    /// reply is on the way.
    pub(super) fn condemn(state: &mut State, number: u32, slot: u16) {
        state.take_back(number, 0);
        let Some(worker) = state.workers.get_mut(&number) else { return };
        let behind = worker.sent.iter().skip_while(|sent| sent.slot != slot).skip(1);
        if !behind.clone().any(|sent| worker.claim(sent.slot).has_started()) {
            worker.kill(state.zygote.as_ref());
        }
    }
}
