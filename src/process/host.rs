//! A zygote and the processes that it forks, each of which makes one call. In the process that spawns them.
//!
//! A process is asked for, and sent its call once it has announced itself: so one that was to end before
//! that never begins with it. One lock guards what is known of the processes, and is not held while user
//! code runs. What is told of one process, its start, its value or error, and its exit, goes through its
//! [`Reports`], in this order.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::exit::ProcessExit;
use super::handle::{ProcessHandle, Progress};
use super::reports::{Reports, Tell};
use super::spawn::{NotStarted, Spawn, SpawnAgain};
use crate::error::{BrokenPool, Error, LossCause};
use crate::fork::Own;
use crate::local::family::{self, Family};
use crate::local::memory_limit::{self, PAUSE};
use crate::local::start::zygote::{
    Exit, Launch, Notice, WorkerSettings, WorkerStderr, Zygote, ZygoteSettings,
};
use crate::local::worker_handle::{
    Connection, DEATH_LIMIT, Limits, REPORT_LIMIT, Received, WorkerHandle,
};
use crate::reactor::{Reactor, Ready, Registration, UserCode};
use crate::remote::frame::{Content, Frame, Header, Kind};
use crate::remote::scheduler::transport::{EndBy, Hub, WorkerLink};
use crate::remote::submission::ReplySink;
use crate::remote::trace_relay;
use crate::sync::Mutex;
use crate::sys::{AsFd, ExitStatus, PidFd, Signal, explain};
use crate::timer::Timer;
use crate::trace::{Outbox, TaskTrace};

/// The number of the zygote's control socket in the reactor. Numbers of processes are lower.
const ZYGOTE: u32 = u32::MAX;

/// The slot of the one call.
const SLOT: u16 = 0;

pub(super) struct Host {
    registration: Registration,
    // A forked child has none of it: the processes are its parent's.
    state: Own<Mutex<State>>,
    /// Set if it ends with its one process. The others share the default one, which stays.
    is_private: bool,
}

#[derive(Default)]
struct State {
    zygote: Option<Zygote>,
    /// It has told that it can fork.
    is_ready: bool,
    /// Its reason for not being able to.
    refusal: Option<String>,
    /// Why there is no zygote any more, if it has ended before its processes. There is none after it.
    lost: Option<String>,
    /// Calls whose processes were asked for as the zygote was ending.
    stranded: Vec<(Spawn, Content)>,
    processes: BTreeMap<u32, Spawned>,
    next: u32,
}

/// A process, from the moment in which it is asked for.
struct Spawned {
    worker: WorkerHandle,
    handle: ProcessHandle,
    progress: Progress,
    task: u64,
    /// The call, until it is sent, or was not to be.
    call: Option<Content>,
    /// Set until it is known whether there is a value.
    sink: Option<Box<dyn ReplySink>>,
    trace: TaskTrace,
    limits: Limits,
    max_result_size: u64,
    memory_timer: Option<Timer>,
    /// Nothing more is taken from it; how it ended is not known yet.
    is_gone: bool,
    reports: Arc<Reports>,
}

/// The end of a private host, which may take its time.
struct Leave(Arc<Host>, Option<Zygote>);

impl UserCode for Leave {
    fn run(self: Box<Self>) {
        let Self(host, zygote) = *self;
        if let Some(zygote) = zygote {
            let _ = host.registration.remove(zygote.fd());
            drop(zygote); // and waits for it
        }
        host.registration.leave();
    }
}

impl Host {
    pub(super) fn new(settings: &ZygoteSettings, is_private: bool) -> io::Result<Arc<Self>> {
        let zygote = Zygote::start(&Launch::new(settings)?)?;
        let host = Reactor::join(|registration| {
            let state = Own::new(Mutex::new(State::default()), Mutex::default);
            Arc::new(Self { registration, state, is_private })
        })?;
        let watched = host.registration.add(zygote.fd(), ZYGOTE);
        let mut state = host.state.lock();
        state.zygote = Some(zygote);
        if let Err(error) = watched {
            host.leave(&mut state);
            return Err(explain("the process that starts workers can't be waited for")(error));
        }
        drop(state);
        Ok(host)
    }

    /// Returns whether the zygote has ended.
    pub(super) fn is_lost(&self) -> bool {
        self.state.lock().lost.is_some()
    }

    /// Asks for a process.
    pub(super) fn start(self: &Arc<Self>, spawn: Spawn, call: Content) -> Result<(), NotStarted> {
        let mut state = self.state.lock();
        let number = state.next;
        // Used up also if this fails: what has come of it all the same is told by this number.
        state.next = number.wrapping_add(1) % ZYGOTE;
        let worker = match (self.ask_for(&state, number, &spawn), &state.lost) {
            (Ok(worker), _) => worker,
            (Err(_), Some(_)) if self.may_have_successor(&state) => {
                return Err(NotStarted::HostIsLost(Box::new((spawn, call))));
            }
            (Err(_), Some(cause)) => return Err(NotStarted::Refused(spawn, cause.clone().into())),
            (Err(error), None) if error.kind() == ErrorKind::BrokenPipe => {
                // The zygote has ended. Its last words are still to be read.
                state.stranded.push((spawn, call));
                return Ok(());
            }
            (Err(error), None) => {
                if self.is_private {
                    self.leave(&mut state);
                }
                return Err(NotStarted::Refused(spawn, error.into()));
            }
        };
        let Spawn { handle, progress, task, sink, trace, memory_limit, max_result_size, stderr } =
            spawn;
        let ended_by = handle.place_at(self, number);
        // Under the lock under which its end is taken in.
        handle.enter();
        let limits = Limits { memory: memory_limit, keeps_stderr: stderr == WorkerStderr::Tail };
        let spawned = Spawned {
            worker,
            handle,
            progress,
            task,
            call: Some(call),
            sink: Some(sink),
            trace,
            limits,
            max_result_size,
            memory_timer: None,
            is_gone: false,
            reports: Arc::default(),
        };
        state.processes.insert(number, spawned);
        let ended = ended_by.and_then(|how| state.end(number, how));
        drop(state);
        drop(ended);
        Ok(())
    }

    /// Returns whether another host may take the place of this one, whose zygote has ended. A zygote that could
    /// not begin would not the next time either.
    fn may_have_successor(&self, state: &State) -> bool {
        !self.is_private && state.is_ready
    }

    fn ask_for(&self, state: &State, number: u32, spawn: &Spawn) -> io::Result<WorkerHandle> {
        let zygote = state.zygote.as_ref().ok_or(ErrorKind::BrokenPipe)?;
        let settings = WorkerSettings {
            number,
            index: None,
            pool: spawn.handle.name().to_owned(),
            family: Family::new().map_err(explain("there are no random numbers"))?,
            memory_limit: spawn.memory_limit,
            keep_stderr: spawn.stderr == WorkerStderr::Tail,
        };
        let most = spawn.max_result_size;
        WorkerHandle::ask_for(&settings, zygote, &self.registration, most, |_| ())
    }

    /// Ends the zygote, if there is one, and leaves the reactor.
    fn leave(self: &Arc<Self>, state: &mut State) {
        let leave = Leave(Arc::clone(self), state.zygote.take());
        self.deliver(Box::new(leave));
    }

    /// Leaves the reactor after the last process, unless further ones may be asked for.
    fn leave_if_done(self: &Arc<Self>, state: &mut State) {
        if state.processes.is_empty() && (self.is_private || state.lost.is_some()) {
            self.leave(state);
        }
    }

    /// Leaves user code to the thread that reads. This may be another one.
    fn deliver(&self, job: Box<dyn UserCode>) {
        self.registration.deliver(std::iter::once(job));
        self.registration.wake();
    }

    /// Has something told of a process, after all that was to be told of it before.
    fn tell(&self, reports: &Arc<Reports>, report: impl FnOnce() + Send + 'static) {
        reports.push(report);
        self.deliver(Box::new(Tell(Arc::clone(reports))));
    }

    // ---- The caller's side ----

    /// Ends a process. If its function has not begun, that will not.
    pub(super) fn end(&self, number: u32, how: EndBy) {
        let mut state = self.state.lock();
        let dropped = state.end(number, how);
        drop(state);
        drop(dropped);
    }

    /// Withdraws a call that was not sent; asks one that was to stop, if `stop` says so.
    pub(super) fn withdraw(&self, number: u32, stop: bool) -> bool {
        let state = self.state.lock();
        let Some(spawned) = state.processes.get(&number) else { return false };
        if spawned.call.is_some() {
            drop(state);
            return self.kill(number);
        }
        if stop && spawned.sink.is_some() {
            spawned.worker.ask_to_stop(SLOT);
        }
        false
    }

    /// Kills a process whose value is not wanted any more. `false`: it has one, or an error.
    pub(super) fn kill(&self, number: u32) -> bool {
        let mut state = self.state.lock();
        let Some(spawned) = state.processes.get_mut(&number) else { return false };
        let Some(sink) = spawned.sink.take() else { return false };
        let trace = std::mem::replace(&mut spawned.trace, TaskTrace::none());
        let dropped = state.end(number, EndBy::Kill);
        drop(state);
        trace.outcome(Some(&Error::Cancelled));
        drop((sink, dropped));
        true
    }

    pub(super) fn is_running(&self, number: u32) -> bool {
        let state = self.state.lock();
        let spawned = state.processes.get(&number);
        spawned.is_some_and(|it| it.call.is_none() && it.sink.is_some())
    }

    // ---- The side of the process ----

    /// Takes in what a process has sent: what there is, or, if it is dead, to the last byte.
    fn read(self: &Arc<Self>, number: u32, connection: &Connection, to_the_end: bool) {
        let Received { mut frames, is_end, garbage } = connection.receive(to_the_end);
        let mut state = self.state.lock();
        if let Some(spawned) = state.processes.get_mut(&number) {
            let mut wrong = garbage;
            for (_, frame) in frames.drain(..) {
                // Of one that has sent something wrong nothing more is believed.
                if !spawned.is_gone && wrong.is_none() {
                    wrong = self.take_frame(spawned, frame).err();
                }
            }
            if let Some(sent) = wrong {
                spawned.worker.fault.get_or_insert(LossCause::Hostile { sent });
                let _call = state.end(number, EndBy::Kill);
                self.on_gone(&mut state, number);
            } else if is_end {
                self.on_gone(&mut state, number);
            }
        }
        drop(state);
        frames.clear();
        connection.reuse(frames);
    }

    fn take_frame(&self, spawned: &mut Spawned, frame: Frame) -> Result<(), String> {
        match frame.header.kind {
            // Nobody waits for a place of a pool, and no call follows.
            Kind::Waits | Kind::GoesOn | Kind::Retires => Ok(()),
            // An event that is longer than results may be is dropped.
            Kind::Event if frame.unread.is_some() => Ok(()),
            Kind::Event => {
                let mut outbox = Outbox::new();
                let pid = spawned.worker.pid();
                if !trace_relay::take(&frame, pid, Some(&spawned.trace), &mut outbox) {
                    return Err("an event that is none".to_owned());
                }
                self.tell(&spawned.reports, || outbox.tell());
                Ok(())
            }
            kind if kind.is_reply() && kind != Kind::Skipped => {
                let is_its = frame.header.number == spawned.task && spawned.call.is_none();
                if !is_its {
                    return Err("a reply to a task that it was not given".to_owned());
                }
                // One whose value is not wanted any more has no sink.
                if let Some(sink) = spawned.sink.take() {
                    let trace = std::mem::replace(&mut spawned.trace, TaskTrace::none());
                    trace.ran(frame.header.detail);
                    self.tell(&spawned.reports, move || {
                        sink.complete(Ok(frame), &trace, &|_| ());
                    });
                }
                Ok(())
            }
            _ => Err("a frame that only the pool may send".to_owned()),
        }
    }

    /// Records that a process has announced itself, and sends its call, once it is told that it has started.
    fn on_spawned(self: &Arc<Self>, state: &mut State, number: u32, pid: u32, process: PidFd) {
        let State { zygote, processes, .. } = state;
        let Some(spawned) = processes.get_mut(&number) else { return };
        let _first = spawned.handle.shared.pid.set(pid);
        spawned.worker.on_spawned(pid, process, zygote.as_ref());
        match spawned.call.take() {
            Some(call) => {
                let header =
                    Header { kind: Kind::Call, slot: SLOT, number: spawned.task, detail: 0 };
                spawned.worker.send(header, &call.into());
                spawned.trace.started(|| 0);
            }
            // It was to end before; should it take no notice of the signal, there is nothing to do for it.
            None => spawned.worker.end(EndBy::Dismissal, zygote.as_ref()),
        }
        if spawned.limits.memory.is_some() {
            let host = Arc::clone(self);
            let look = Box::new(move || host.look_at_memory(number));
            spawned.memory_timer = Some(self.registration.timer(PAUSE[0], look));
        }
        let (started, connection) = (spawned.progress.started.take(), spawned.worker.to_flush());
        self.tell(&spawned.reports, move || {
            if let Some(started) = started {
                started.complete(Ok(pid));
            }
            connection.flush();
        });
    }

    fn look_at_memory(self: &Arc<Self>, number: u32) {
        let limited = self
            .state
            .lock()
            .processes
            .get(&number)
            .and_then(|spawned| Some((spawned.worker.pid()?, spawned.limits.memory?)));
        let Some((pid, limit)) = limited else { return };
        let looked = memory_limit::look(pid, limit);
        let mut state = self.state.lock();
        let Some(spawned) = state.processes.get_mut(&number).filter(|it| !it.is_gone) else {
            return;
        };
        let old = match looked {
            Ok(pause) => {
                let host = Arc::clone(self);
                let look = Box::new(move || host.look_at_memory(number));
                spawned.memory_timer.replace(self.registration.timer(pause, look))
            }
            Err(reason) => {
                spawned.worker.fault.get_or_insert(reason);
                let _sent = state.end(number, EndBy::Kill);
                None
            }
        };
        drop(state);
        drop(old);
    }

    /// Records that nothing more comes from a process.
    fn on_gone(self: &Arc<Self>, state: &mut State, number: u32) {
        let Some(spawned) = state.processes.get_mut(&number).filter(|it| !it.is_gone) else {
            return;
        };
        spawned.is_gone = true;
        // A socket that has ended would be reported as readable for ever.
        let _ = self.registration.remove(spawned.worker.connection.socket.as_fd());
        let host = Arc::clone(self);
        let overdue = Box::new(move || host.on_death_overdue(number));
        spawned.worker.end_timer = Some(self.registration.timer(DEATH_LIMIT, overdue));
        if spawned.worker.is_orphaned {
            self.on_exit(state, number, None); // nobody will tell how it died
        }
    }

    /// Kills a process whose socket has been closed for long.
    fn on_death_overdue(self: &Arc<Self>, number: u32) {
        let mut state = self.state.lock();
        let State { zygote, processes, .. } = &mut *state;
        let Some(spawned) = processes.get_mut(&number) else { return };
        spawned.worker.is_overdue = true;
        spawned.worker.signal(Signal::Kill, zygote.as_ref());
        let host = Arc::clone(self);
        let report = Box::new(move || host.on_exit(&mut host.state.lock(), number, None));
        let timer = self.registration.timer(REPORT_LIMIT, report);
        let old = spawned.worker.end_timer.replace(timer);
        drop(state);
        drop(old);
    }

    /// Records how a process has ended. `None`: that will not be known.
    fn on_exit(self: &Arc<Self>, state: &mut State, number: u32, exit: Option<&Exit>) {
        if exit.is_none() {
            // It may live on: it may have closed its socket itself.
            let _call = state.end(number, EndBy::Kill);
        }
        let Some(Spawned { worker, limits, .. }) = state.processes.get(&number) else { return };
        let (lost, exit) = (worker.loss(exit, limits).lost, ProcessExit::new(worker.pid(), exit));
        self.on_over(state, number, lost.into(), exit);
    }

    /// Lets go of a process. The error is for those to whom it still owes something.
    fn on_over(self: &Arc<Self>, state: &mut State, number: u32, error: Error, exit: ProcessExit) {
        let Some(spawned) = state.processes.remove(&number) else { return };
        let _ = self.registration.remove(spawned.worker.connection.socket.as_fd()); // if it is there
        let reports = Arc::clone(&spawned.reports);
        self.tell(&reports, move || {
            let Spawned { worker, handle, progress, call, sink, trace, memory_timer, .. } = spawned;
            drop((worker, call, memory_timer));
            if let Some(started) = progress.started {
                started.complete(Err(error.clone()));
            }
            if let Some(sink) = sink {
                sink.complete(Err(error), &trace, &|_| ());
            }
            handle.leave();
            progress.exited.complete(Ok(exit));
        });
        self.leave_if_done(state);
    }

    /// Takes in what the zygote has to say.
    fn on_notices(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let Some(zygote) = &state.zygote else { return };
            match zygote.receive() {
                Ok(None) => return,
                Ok(Some(Notice::Ready)) => state.is_ready = true,
                Ok(Some(Notice::Stopped { .. })) => {}
                Ok(Some(Notice::Refused(text))) => state.refusal = Some(text),
                Ok(Some(Notice::Spawned { number, pid, pidfd })) => {
                    self.on_spawned(&mut state, number, pid, pidfd);
                }
                Ok(Some(Notice::SpawnFailed { number, error })) => {
                    let error = BrokenPool::of_process(error).into();
                    self.on_over(&mut state, number, error, ProcessExit::default());
                }
                Ok(Some(Notice::KillFailed { number, error })) => {
                    if let Some(spawned) = state.processes.get_mut(&number) {
                        let text = format!("since it could not be killed, and may go on: {error}");
                        spawned.worker.fault = Some(LossCause::Other(text));
                        self.on_exit(&mut state, number, None);
                    }
                }
                Ok(Some(Notice::Exited(exit))) => {
                    let number = exit.number;
                    let spawned = state.processes.get(&number);
                    let connection = spawned.map(|spawned| spawned.worker.to_flush());
                    drop(state);
                    if let Some(connection) = connection {
                        // The report may overtake the socket: the value comes first.
                        self.read(number, &connection, true);
                    }
                    self.on_exit(&mut self.state.lock(), number, Some(&exit));
                }
                Err(_gone) => {
                    let zygote = state.zygote.take();
                    drop(state);
                    return self.on_zygote_lost(zygote);
                }
            }
        }
    }

    /// The zygote has died, and its processes with it. What these have started is killed here.
    fn on_zygote_lost(self: &Arc<Self>, zygote: Option<Zygote>) {
        let Some(zygote) = zygote else { return };
        let _ = self.registration.remove(zygote.fd());
        // Its end may take seconds, so it is waited for without the lock.
        let how = format!("the process that starts workers {}", ExitStatus::describe(zygote.end()));
        let of = |spawned: &Spawned| spawned.worker.family;
        let families: Vec<_> = self.state.lock().processes.values().map(of).collect();
        // What the processes have left has another parent by now, and is found by family.
        let killed = if families.is_empty() { Ok(()) } else { family::kill_families(&families) };
        let mut state = self.state.lock();
        let cause = state.refusal.take().unwrap_or_else(|| how.clone());
        state.lost = Some(cause.clone());
        let mut stranded = std::mem::take(&mut state.stranded);
        if self.may_have_successor(&state) {
            // Nothing has run of those that have not announced themselves.
            for spawned in state.take_unstarted() {
                let _ = self.registration.remove(spawned.worker.connection.socket.as_fd());
                spawned.handle.leave();
                stranded.extend(spawned.into_spawn());
            }
        }
        if !stranded.is_empty() {
            let cause = (!self.may_have_successor(&state)).then(|| cause.clone());
            self.deliver(Box::new(SpawnAgain(stranded, cause)));
        }
        let is_idle = state.processes.is_empty();
        let all: Vec<u32> = state.processes.keys().copied().collect();
        for number in all {
            let Some(spawned) = state.processes.get_mut(&number) else { continue };
            if spawned.worker.process.is_none() {
                let error = BrokenPool::of_process(cause.clone()).into();
                self.on_over(&mut state, number, error, ProcessExit::default());
                continue;
            }
            spawned.worker.on_zygote_lost(&how, &killed);
            // One whose socket has not ended so far is handled by `on_gone` when it has.
            if spawned.is_gone {
                self.on_exit(&mut state, number, None);
            }
        }
        // Otherwise the last process does it.
        if is_idle {
            self.leave(&mut state);
        }
    }
}

impl Spawned {
    /// Returns what was to run there, if it was not sent. Its value is still waited for then.
    fn into_spawn(self) -> Option<(Spawn, Content)> {
        let Self { handle, progress, task, trace, limits, max_result_size, .. } = self;
        let stderr = match limits.keeps_stderr {
            true => WorkerStderr::Tail,
            false => WorkerStderr::Inherit,
        };
        let (memory_limit, sink) = (limits.memory, self.sink?);
        let spawn =
            Spawn { handle, progress, task, sink, trace, memory_limit, max_result_size, stderr };
        Some((spawn, self.call?))
    }
}

impl State {
    /// Takes out the processes that have not announced themselves, and were not ended before that.
    fn take_unstarted(&mut self) -> impl Iterator<Item = Spawned> + use<> {
        let is_unstarted =
            |(_, it): &(u32, Spawned)| it.worker.process.is_none() && it.call.is_some();
        let (unstarted, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.processes).into_iter().partition(is_unstarted);
        self.processes.extend(others);
        unstarted.into_iter().map(|(_, spawned)| spawned)
    }

    /// Ends a process, and returns its call if that was not sent.
    fn end(&mut self, number: u32, how: EndBy) -> Option<Content> {
        let spawned = self.processes.get_mut(&number)?;
        spawned.worker.end(how, self.zygote.as_ref());
        spawned.call.take()
    }
}

impl Ready for Host {
    fn on_ready(
        self: Arc<Self>,
        number: u32,
        readable: bool,
        writable: bool,
    ) -> Option<Box<dyn UserCode>> {
        if number == ZYGOTE {
            self.on_notices();
            return None;
        }
        // A clone, so that the socket is used without the lock.
        let connection = self.state.lock().processes.get(&number)?.worker.to_flush();
        if writable {
            connection.flush();
        }
        if readable {
            self.read(number, &connection, false);
        }
        None
    }
}
