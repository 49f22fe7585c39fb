//! Worker processes of this machine as the transport of a pool: sockets, shared memory, and the helper
//! process, which starts workers and tells how they ended. In the pool's process.

pub(crate) mod memory;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::memory::MemoryLimit;
use crate::error::{BrokenPool, Error, LossCause};
use crate::local::family::{self, Family};
use crate::local::start;
use crate::local::start::zygote::{
    Exit, Launch, Notice, WorkerSettings, WorkerStderr, Zygote, ZygoteSettings,
};
use crate::local::worker_handle::{
    Connection, DEATH_LIMIT, Limits, REPORT_LIMIT, Received, WorkerHandle,
};
use crate::reactor::{Reactor, Ready, Registration, UserCode};
use crate::remote::scheduler::Pool;
use crate::remote::scheduler::config::Config;
use crate::remote::scheduler::state::State;
use crate::remote::scheduler::transport::{EndBy, Hub, Loss, NotStarted, Transport, WorkerLink};
use crate::remote::scheduler::worker::Life;
use crate::sys::{self, AsFd, ExitStatus, Signal, explain};
use crate::timer::{Timer, deadline};

/// The number of the helper process's control socket in the reactor. Numbers of workers are lower.
const HELPER: u32 = u32::MAX;

pub(crate) type ProcessPool = Pool<Processes>;

/// Settings of the worker processes of a pool.
pub(crate) struct Settings {
    pub(crate) max_workers: usize,
    pub(crate) name: String,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) max_result_size: u64,
    pub(crate) stderr: WorkerStderr,
    /// For the control block of each worker.
    pub(crate) of_worker: u32,
    pub(crate) zygote: ZygoteSettings,
}

pub(crate) struct Processes {
    settings: Settings,
    /// Everything that a zygote is started with. Dropped at the end of the pool.
    launch: Option<Launch>,
    zygote: Option<Zygote>,
    /// The zygote has reported that it can fork.
    zygote_is_ready: bool,
    /// The zygote's end is waited for, without the lock; meanwhile no other one is started.
    zygote_is_ending: bool,
    /// The end of the last zygote in words, if that came before it was ready.
    failed_start: Option<String>,
    memory: MemoryLimit,
}

/// The helper process of a pool that has ended, and what it was started with.
pub(crate) struct Remains {
    zygote: Option<Zygote>,
    launch: Option<Launch>,
    memory: MemoryLimit,
}

/// Makes a pool of worker processes.
pub(crate) fn new_pool(config: Config, settings: Settings) -> Result<Arc<ProcessPool>, Error> {
    let broken = |error: io::Error| Error::from(BrokenPool::new(error));
    start::check_can_start().map_err(broken)?;
    let launch = Launch::new(&settings.zygote).map_err(broken)?;
    let zygote = Zygote::start(&launch).map_err(broken)?;
    // `check_limit` takes the notice that would say so.
    let zygote_is_ready = settings.memory_limit.is_some();
    let zygote = match settings.memory_limit {
        Some(limit) => memory::check_limit(zygote, limit)?,
        None => zygote,
    };
    let pool = Reactor::join(|registration| {
        let memory = MemoryLimit::new(settings.memory_limit);
        let processes = Processes {
            settings,
            launch: Some(launch),
            zygote: Some(zygote),
            zygote_is_ready,
            zygote_is_ending: false,
            failed_start: None,
            memory,
        };
        Pool::new(config, processes, registration)
    });
    let pool = pool.map_err(broken)?;
    let watched = match &pool.state().transport.zygote {
        Some(zygote) => watch_helper(&pool.hub, zygote),
        None => Ok(()),
    };
    // What is dropped then, with the pool, has destructors of the user's, and so no lock is held.
    watched.map_err(|error| {
        pool.hub.leave();
        Reactor::join_ended();
        broken(error)
    })?;
    let mut state = pool.state();
    pool.dispatch(&mut state); // for `min_workers`
    pool.release(state);
    Ok(pool)
}

fn watch_helper(registration: &Registration, zygote: &Zygote) -> io::Result<()> {
    registration
        .add(zygote.fd(), HELPER)
        .map_err(explain("the process that starts workers can't be waited for"))
}

impl Hub for Registration {
    type Timer = Timer;

    /// Has the thread that reads keep the time if the system refuses a thread for timers.
    fn timer(&self, limit: Duration, action: Box<dyn FnOnce() + Send>) -> Timer {
        let (timer, is_kept) = Timer::with_stand_in(deadline(limit), action);
        if !is_kept {
            self.wake();
        }
        timer
    }

    fn now(&self) -> Duration {
        sys::monotonic_now()
    }

    fn deliver(&self, jobs: impl Iterator<Item = Box<dyn UserCode>>) {
        Self::deliver(self, jobs);
    }

    fn wake(&self) {
        Self::wake(self);
    }

    fn leave(&self) {
        Self::leave(self);
    }

    fn join_ended(&self) {
        Reactor::join_ended();
    }
}

impl Transport for Processes {
    type Worker = WorkerHandle;
    type Hub = Registration;
    type Remains = Remains;

    fn abroad() -> Self {
        Self {
            settings: Settings {
                max_workers: 0,
                name: String::new(),
                memory_limit: None,
                max_result_size: 0,
                stderr: WorkerStderr::Inherit,
                of_worker: 0,
                zygote: ZygoteSettings::default(),
            },
            launch: None,
            zygote: None,
            zygote_is_ready: false,
            zygote_is_ending: false,
            failed_start: None,
            memory: MemoryLimit::new(None),
        }
    }

    fn start(
        &mut self,
        hub: &Registration,
        number: u32,
        index: u32,
    ) -> Result<WorkerHandle, NotStarted> {
        if self.zygote_is_ending {
            return Err(NotStarted::StarterIsGone);
        }
        self.ask_for_worker(hub, number, index).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => NotStarted::StarterIsGone,
            _ => NotStarted::Refused(error),
        })
    }

    fn end(&mut self, worker: &mut WorkerHandle, how: EndBy, reason: Option<LossCause>) {
        worker.fault = worker.fault.take().or(reason);
        worker.end(how, self.zygote.as_ref());
    }

    fn on_sent(pool: &Arc<ProcessPool>, state: &mut State<Self>) {
        pool.watch_memory(state);
    }

    fn on_gone(pool: &Arc<ProcessPool>, state: &mut State<Self>, number: u32) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        let handle = &mut worker.link;
        // A socket that has ended would be reported as readable for ever.
        let _ = pool.hub.remove(handle.connection.socket.as_fd());
        let overdue = Arc::clone(pool);
        let timer = pool.timer(DEATH_LIMIT, move || overdue.on_death_overdue(number));
        handle.end_timer = Some(timer);
        if handle.is_orphaned {
            pool.on_exit(state, number, None); // Nobody will tell how it died.
        }
    }

    fn may_end(&self) -> bool {
        !self.zygote_is_ending
    }

    fn take_remains(&mut self) -> Remains {
        let memory = std::mem::replace(&mut self.memory, MemoryLimit::new(None));
        Remains { zygote: self.zygote.take(), launch: self.launch.take(), memory }
    }

    fn let_go(hub: &Registration, remains: Remains) {
        let Remains { zygote, launch, memory } = remains;
        drop((launch, memory));
        if let Some(zygote) = zygote {
            // Before the drop closes it: a fork of this process may have a copy, which keeps it in
            // the poller.
            let _ = hub.remove(zygote.fd());
            drop(zygote); // and waits for it
        }
    }
}

impl Processes {
    fn ask_for_worker(
        &mut self,
        hub: &Registration,
        number: u32,
        index: u32,
    ) -> io::Result<WorkerHandle> {
        if self.zygote.is_none() {
            let ended = || io::Error::other("the pool has ended");
            let launch = self.launch.as_ref().ok_or_else(ended)?;
            let zygote = Zygote::start(launch)?;
            watch_helper(hub, &zygote)?;
            self.zygote = Some(zygote);
            self.zygote_is_ready = false;
        }
        let Some(zygote) = &self.zygote else { unreachable!("it was started above") };
        let Settings { max_workers, name, memory_limit, max_result_size, stderr, .. } =
            &self.settings;
        let settings = WorkerSettings {
            number,
            index: Some(index),
            pool: name.clone(),
            family: Family::new().map_err(explain("there are no random numbers"))?,
            memory_limit: *memory_limit,
            keep_stderr: *stderr == WorkerStderr::Tail,
        };
        WorkerHandle::ask_for(&settings, zygote, hub, *max_result_size, |block| {
            let most = u32::try_from(*max_workers).unwrap_or(u32::MAX);
            block.max_workers.store(most, Relaxed);
            block.settings.store(self.settings.of_worker, Relaxed);
        })
    }

    /// Describes how a worker was lost. `None`: its end was not reported.
    fn loss(&self, worker: &WorkerHandle, exit: Option<&Exit>) -> Loss {
        let Settings { memory_limit: memory, stderr, .. } = self.settings;
        worker.loss(exit, &Limits { memory, keeps_stderr: stderr == WorkerStderr::Tail })
    }
}

impl Ready for ProcessPool {
    fn on_ready(
        self: Arc<Self>,
        number: u32,
        readable: bool,
        writable: bool,
    ) -> Option<Box<dyn UserCode>> {
        if number == HELPER {
            self.on_notices();
            return None;
        }
        // A clone, so that the socket is used without the lock.
        let worker = self.state().worker(number).map(|worker| worker.link.to_flush())?;
        if writable {
            worker.flush();
        }
        if readable { self.read(number, &worker, false) } else { None }
    }
}

impl ProcessPool {
    /// Takes in what a worker has sent, as [`Connection::receive`] does.
    fn read(
        self: &Arc<Self>,
        number: u32,
        worker: &Connection,
        to_the_end: bool,
    ) -> Option<Box<dyn UserCode>> {
        let Received { mut frames, is_end, garbage } = worker.receive(to_the_end);
        let first = self.received(number, &mut frames, is_end, garbage);
        worker.reuse(frames);
        first
    }

    /// Kills a worker whose socket has been closed for long.
    fn on_death_overdue(self: &Arc<Self>, number: u32) {
        let mut guard = self.state();
        let State { workers, transport, .. } = &mut *guard;
        let Some(worker) = workers.get_mut(&number) else { return };
        // From here on only the report is waited for, or its limit.
        worker.link.is_overdue = true;
        worker.link.signal(Signal::Kill, transport.zygote.as_ref());
        let pool = Arc::clone(self);
        let timer = self.timer(REPORT_LIMIT, move || pool.on_exit_known(number, None));
        let old = worker.link.end_timer.replace(timer);
        drop(guard);
        drop(old);
    }

    /// Takes in how a worker ended. `None`: that will not be known.
    fn on_exit_known(self: &Arc<Self>, number: u32, exit: Option<&Exit>) {
        let mut state = self.state();
        self.on_exit(&mut state, number, exit);
        self.dispatch(&mut state);
        self.release_to_reader(state);
        self.hub.wake(); // This may be the timer's thread.
    }

    fn on_exit(self: &Arc<Self>, state: &mut State<Processes>, number: u32, exit: Option<&Exit>) {
        if exit.is_none() {
            // Its end was not reported, so it may live on: it may have closed its socket itself.
            state.end_worker(number, EndBy::Kill, None);
        }
        let State { workers, transport, .. } = state;
        let Some(worker) = workers.get(&number) else { return };
        let loss = transport.loss(&worker.link, exit);
        self.on_exited(state, number, &loss);
    }

    /// Takes in what the helper process has to say.
    fn on_notices(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            let Some(zygote) = &state.transport.zygote else { return };
            match zygote.receive() {
                Ok(None) => return,
                Ok(Some(Notice::Ready)) => {
                    state.transport.zygote_is_ready = true;
                    state.transport.failed_start = None;
                }
                Ok(Some(Notice::Refused(text))) => {
                    self.break_with(&mut state, text.into());
                    self.release_to_reader(state);
                }
                Ok(Some(Notice::Spawned { number, pid, pidfd })) => {
                    let State { workers, transport, .. } = &mut *state;
                    if let Some(worker) = workers.get_mut(&number) {
                        worker.link.on_spawned(pid, pidfd, transport.zygote.as_ref());
                        self.on_spawned(&mut state, number);
                        self.release_to_reader(state);
                    }
                }
                Ok(Some(Notice::Stopped { number, is_stopped })) => {
                    self.on_stopped(&mut state, number, is_stopped);
                    self.release_to_reader(state);
                }
                Ok(Some(Notice::SpawnFailed { number, error })) => {
                    if let Some(worker) = state.workers.get(&number) {
                        // `on_gone` has removed it from the reactor otherwise.
                        if worker.life != Life::Gone {
                            let _ = self.hub.remove(worker.link.connection.socket.as_fd());
                        }
                    }
                    self.on_refused(&mut state, number, &error);
                    self.release_to_reader(state);
                }
                Ok(Some(Notice::KillFailed { number, error })) => {
                    if let Some(worker) = state.workers.get_mut(&number) {
                        let text = format!("since it could not be killed, and may go on: {error}");
                        worker.link.fault = Some(LossCause::Other(text));
                    }
                    drop(state);
                    self.on_exit_known(number, None);
                }
                Ok(Some(Notice::Exited(exit))) => {
                    let number = exit.number;
                    let worker = state.worker(number).map(|worker| worker.link.to_flush());
                    drop(state);
                    if let Some(worker) = worker {
                        // The report may overtake the socket: what the worker has finished comes
                        // first, and its user code before that of the loss.
                        let first = self.read(number, &worker, true);
                        self.hub.deliver_next(first);
                    }
                    self.on_exit_known(number, Some(&exit));
                }
                Err(_gone) => {
                    // Its end may take seconds, so it is waited for without the lock. Meanwhile no
                    // worker is asked for, and the pool does not end.
                    let Some(zygote) = state.transport.zygote.take() else { return };
                    state.transport.zygote_is_ending = true;
                    drop(state);
                    let _ = self.hub.remove(zygote.fd());
                    let status = zygote.end();
                    let families: Vec<_> =
                        self.state().workers.values().map(|worker| worker.link.family).collect();
                    // What the workers have left has another parent than the helper now, and is
                    // found by family.
                    let killed =
                        if families.is_empty() { Ok(()) } else { family::kill_families(&families) };
                    let mut state = self.state();
                    state.transport.zygote_is_ending = false;
                    self.on_helper_lost(&mut state, status, &killed);
                    self.release_to_reader(state);
                    return;
                }
            }
        }
    }

    /// The helper process has died, and its workers with it; another one is started when there is
    /// work, unless the same has just happened to the one before. What the workers' tasks have started
    /// is killed before.
    fn on_helper_lost(
        self: &Arc<Self>,
        state: &mut State<Processes>,
        status: Option<ExitStatus>,
        families_killed: &io::Result<()>,
    ) {
        let how = format!("the process that starts workers {}", ExitStatus::describe(status));
        if !state.transport.zygote_is_ready {
            let how = format!("{how} before it could begin");
            let before = state.transport.failed_start.replace(how.clone());
            if before.is_some_and(|before| before == how) {
                self.break_with(state, how.into());
            }
        }
        self.on_starter_lost(state, &how);
        let all: Vec<u32> = state.workers.keys().copied().collect();
        for number in all {
            let Some(worker) = state.workers.get_mut(&number) else { continue };
            worker.link.on_zygote_lost(&how, families_killed);
            // A worker whose socket has not ended so far is handled by `on_gone` when it has.
            if worker.life == Life::Gone {
                self.on_exit(state, number, None);
            }
        }
        self.dispatch(state);
    }

    pub(crate) fn worker_pids(&self) -> Vec<u32> {
        let state = self.state();
        let alive = state.workers.values().filter(|worker| worker.life != Life::Gone);
        alive.filter_map(|worker| worker.link.pid()).collect()
    }
}
