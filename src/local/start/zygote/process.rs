//! The zygote itself: what it does from before `main` to its end.
//!
//! It has one thread and keeps it so. Its memory is that of every worker: a `HashMap` here, for
//! example, would give all of them the same random keys.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use super::fork::{Fork, Sacrifice};
use super::message::{Boot, Request};
use super::stderr::{Backlog, Tail};
use super::{Exit, Notice, WorkerSettings};
use crate::function;
use crate::local::family::{self, Family};
use crate::local::worker::{self, WorkerStart};
use crate::local::{crash, start};
use crate::panic::{catch, install_hook};
use crate::sys::{
    self, AsFd, BorrowedFd, ChildSignals, Event, ExitStatus, Kept, OwnedFd, PidFd, Poller, Signal,
    SingleThreaded, control, explain, pipe,
};

// Keys of the poller. The stderr of a worker has its process's number.
const CONTROL: u64 = 1 << 32;
const CHILDREN: u64 = CONTROL + 1;
const PARENT: u64 = CONTROL + 2;
const STDERR: u64 = CONTROL + 3;

/// Longest time that the zygote waits at its end for what is about to happen, so that whoever waits for it finds
/// nothing left to come: the end of its children, and what workers have written.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// Longest time that it waits for children that it has killed. They need a processor to end, one after the
/// other where each is the child of the one before.
const LAST_WAIT_FOR_KILLED: Duration = Duration::from_secs(2);

/// Longest time between two looks of the zygote for further children at its end.
const LAST_LOOKS: Duration = Duration::from_millis(20);

/// With so little to do, it can look at the kernel's counters for the first time.
const IDLE: Duration = Duration::from_millis(20);

/// Becomes the zygote. `constructors` are those that the program would still run before `main`.
pub(crate) fn main(control: OwnedFd, constructors: impl FnOnce()) -> ! {
    // What tools show would be "exe" otherwise.
    sys::set_name("futures-zygote");
    let failed = |error| format!("the process that starts workers can't do so: {error}");
    let prepared = receive_boot(&control).map_err(failed).and_then(|boot| {
        let single = prepare(&boot, constructors)?;
        Zygote::new(&control, &boot, single).map_err(failed)
    });
    match prepared {
        Ok(Some(mut zygote)) => {
            let end = zygote.serve();
            zygote.end(end)
        }
        Ok(None) => sys::exit_now(0), // nobody is there any more
        Err(reason) => refuse(control.as_fd(), reason),
    }
}

/// Tells the pool why there is no zygote, and ends.
pub(crate) fn refuse(control: BorrowedFd<'_>, reason: String) -> ! {
    // If nobody is there to receive it, nobody misses it.
    let _ = Notice::Refused(reason).send(control);
    std::process::exit(1)
}

/// It was sent before this process was started.
fn receive_boot(control: &OwnedFd) -> io::Result<Boot> {
    let mut message = [0; control::MAX_MESSAGE];
    let (length, _) = control::receive(control.as_fd(), &mut message)?;
    Boot::decode(&message[..length])
}

/// Advice for the case that a library starts the threads.
const OF_LIBRARIES: &str = ", or, if a library starts them, keep it from that in worker processes by a variable: `.env(\"OPENBLAS_NUM_THREADS\", \"1\")` of the pool's builder for OpenBLAS, `.env(\"MALLOC_CONF\", \"background_thread:false\")` for jemalloc (`_RJEM_MALLOC_CONF` where that is linked by a Rust crate)";

/// Makes the process what all workers are to be from their start. `Err` is why that can't be.
fn prepare(boot: &Boot, constructors: impl FnOnce()) -> Result<SingleThreaded, String> {
    if function::program_digest().ok() != Some(boot.program) {
        return Err(
            "the process that starts workers was to run the same program as this one, but runs another; restart the program".to_owned()
        );
    }
    let single = SingleThreaded::check().map_err(|error| {
        format!(
            "worker processes can't be forked, since the program starts threads before `main`, or before it calls `concurrent_futures::init()` ({error}); let it start them later{OF_LIBRARIES}"
        )
    })?;
    single.remove_variable(start::VARIABLE);
    boot.attributes.apply();
    start::helper::ignore_sigpipe();
    install_hook();
    constructors();
    if let Some(function) = boot.preload {
        let function = function::resolve_preload(function).map_err(|error| error.to_string())?;
        catch(function).map_err(|panicked| {
            let at = panicked.location().map(|at| format!(" at {at}")).unwrap_or_default();
            format!("the preloaded function panicked{at}: {}", panicked.message())
        })?;
    }
    let single = SingleThreaded::check().map_err(|error| {
        format!(
            "worker processes can't be forked, since the preloaded function or a constructor has left threads behind ({error}); let it join them{OF_LIBRARIES}"
        )
    })?;
    // Otherwise each worker would print it at its end.
    let _ = io::stdout().flush();
    sys::flush_c_streams(&single);
    crash::install(&single)
        .map_err(|error| format!("the handler of faults can't be installed: {error}"))?;
    Ok(single)
}

struct Zygote<'a> {
    single: SingleThreaded,
    control: &'a OwnedFd,
    /// Before all descriptors that workers don't keep.
    kept: Kept,
    sacrifice: Sacrifice,
    poller: Poller,
    children: ChildSignals,
    /// Is told of by the poller, as long as it is there.
    _parent: PidFd,
    /// By the number of the process.
    workers: BTreeMap<u32, Worker>,
    /// This process's own, if it belongs to a worker of another pool itself.
    own_family: Option<Family>,
    /// Notices for which there was no room in the socket.
    outbox: VecDeque<Notice>,
    backlog: Backlog,
    /// Nothing is read from workers, since the backlog is not empty.
    is_held_up: bool,
    /// The kernel's count of kills for want of memory, at the last look.
    out_of_memory_kills: Option<u64>,
    has_looked: bool,
}

struct Worker {
    number: u32,
    family: Family,
    tail: Option<Tail>,
}

/// Why the zygote ends.
enum End {
    /// The pool has closed the control socket.
    Closed,
    /// The pool's process is dead.
    Orphaned,
}

impl<'a> Zygote<'a> {
    /// `None`: the process that has started this one is dead.
    fn new(control: &'a OwnedFd, boot: &Boot, single: SingleThreaded) -> io::Result<Option<Self>> {
        sys::adopt_orphans().map_err(explain("it can't adopt what workers leave behind"))?;
        let kept = Kept::all_but(control.as_fd())?;
        let Some(parent) = PidFd::of_parent(boot.parent) else { return Ok(None) };
        let children = ChildSignals::instead_of_all_others()
            .map_err(explain("the end of workers can't be watched for"))?;
        let poller = Poller::new().map_err(explain("there is nothing to wait with"))?;
        poller.add(control.as_fd(), CONTROL, true, false)?;
        poller.add(children.as_fd(), CHILDREN, true, false)?;
        if let Some(parent) = parent.fd() {
            poller.add(parent, PARENT, true, false)?;
        } // else the end of the control socket has to do
        Ok(Some(Self {
            single,
            control,
            kept,
            sacrifice: Sacrifice::new(),
            poller,
            children,
            _parent: parent,
            workers: BTreeMap::new(),
            own_family: Family::own(),
            outbox: VecDeque::new(),
            backlog: Backlog::default(),
            is_held_up: false,
            out_of_memory_kills: None,
            has_looked: false,
        }))
    }

    /// Does as it is told until there is nobody to tell it.
    fn serve(&mut self) -> End {
        self.send(Notice::Ready);
        let mut events = Vec::new();
        loop {
            let limit = (!self.has_looked).then_some(IDLE);
            if self.poller.wait(&mut events, limit).is_err() {
                return End::Closed;
            }
            if events.is_empty() && !self.has_looked {
                self.has_looked = true;
                self.out_of_memory_kills = sys::out_of_memory_kills();
            }
            for Event { key, readable, writable } in events.drain(..) {
                match key {
                    PARENT => return End::Orphaned,
                    CHILDREN => self.look_at_children(),
                    STDERR => self.forward(),
                    CONTROL => {
                        if writable {
                            self.flush();
                        }
                        if readable && self.take_requests().is_err() {
                            return End::Closed;
                        }
                    }
                    pid => self.read_stderr(pid as u32),
                }
            }
        }
    }

    /// `Err`: there will be no more.
    fn take_requests(&mut self) -> io::Result<()> {
        let mut message = [0; control::MAX_MESSAGE];
        loop {
            let (length, descriptors) = match control::receive(self.control.as_fd(), &mut message) {
                Ok((0, _)) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            match Request::decode(&message[..length])? {
                Request::Spawn(settings) => {
                    if let Err(error) = self.spawn(&settings, descriptors) {
                        self.send(Notice::SpawnFailed { number: settings.number, error });
                    }
                }
                Request::Signal { pid, signal } => self.signal(pid, signal),
            }
        }
    }

    /// Signals a worker, which the pool may not do.
    fn signal(&mut self, pid: u32, signal: Signal) {
        // It is not reaped, so the number is still its own.
        let Some(&Worker { number, .. }) = self.workers.get(&pid) else { return };
        if let (Err(error), Signal::Kill) = (PidFd::by_number(pid).signal(signal), signal) {
            self.send(Notice::KillFailed { number, error });
        }
    }

    fn spawn(&mut self, settings: &WorkerSettings, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let Ok([socket, block]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            let text = "the process that starts workers has no room for more open files";
            return Err(io::Error::other(text));
        };
        let (tail, stderr) = match settings.keep_stderr.then(Tail::new).transpose()? {
            Some((tail, theirs)) => (Some(tail), Some(theirs)),
            None => (None, None),
        };
        let fork = Fork {
            settings,
            socket,
            block,
            stderr,
            control: self.control.as_fd(),
            kept: &self.kept,
            sacrifice: &self.sacrifice,
        };
        let pid = self.single.fork(fork, main_of(settings))?;
        // The worker does that as well; whoever comes second finds it done.
        sys::lead_group(pid);
        if let (Some(tail), false) = (&tail, self.is_held_up) {
            self.watch(pid, tail);
        }
        self.workers.insert(pid, Worker { number: settings.number, family: settings.family, tail });
        Ok(())
    }

    fn look_at_children(&mut self) {
        self.children.clear();
        self.report_stopped();
        self.bury();
    }

    /// Reports workers that a signal has stopped, and those that it has continued.
    fn report_stopped(&mut self) {
        while let Ok(Some((pid, is_stopped))) = sys::stopped_child() {
            if let Some(&Worker { number, .. }) = self.workers.get(&pid) {
                self.send(Notice::Stopped { number, is_stopped });
            }
        }
    }

    /// Reaps children that have ended, and reports those that were workers.
    fn bury(&mut self) {
        while let Ok(Some(pid)) = sys::ended_child() {
            let worker = self.workers.remove(&pid);
            if worker.is_some() {
                let _ = sys::kill_group(pid); // as long as its number is still taken
            }
            let Ok((status, usage)) = sys::reap(pid) else { return };
            self.kill_left_behind();
            // Others are what workers had started and left behind.
            let Some(worker) = worker else { continue };
            let stderr_tail = worker.tail.map(|tail| {
                let _ = self.poller.remove(tail.fd()); // if it is there
                tail.end(&mut self.backlog)
            });
            self.forward();
            let out_of_memory = status == ExitStatus::KILLED && self.has_run_out_of_memory();
            self.send(Notice::Exited(Exit {
                number: worker.number,
                pid,
                status,
                usage,
                out_of_memory,
                stderr_tail: stderr_tail.unwrap_or_default(),
            }));
        }
    }

    /// Kills what is left of the families of dead workers. It became this process's own when its
    /// parents ended, and what it has started in turn does so when it ends itself.
    ///
    /// What is in no family stays until the end of this process: the preloaded function has started
    /// it, or it has changed its limits.
    fn kill_left_behind(&self) {
        let is_dead = |family: Family| {
            Some(family) != self.own_family
                && self.workers.values().all(|worker| worker.family != family)
        };
        for child in family::children() {
            let is_worker = self.workers.contains_key(&child);
            if !is_worker && Family::of(child).is_some_and(is_dead) {
                sys::kill_child(child);
            }
        }
    }

    /// Returns whether the kernel has killed some process for want of memory since the last call.
    fn has_run_out_of_memory(&mut self) -> bool {
        let now = sys::out_of_memory_kills();
        let before = std::mem::replace(&mut self.out_of_memory_kills, now);
        self.has_looked = true;
        before.is_some() && now > before
    }

    fn read_stderr(&mut self, pid: u32) {
        let Some(worker) = self.workers.get_mut(&pid) else { return };
        let Some(tail) = worker.tail.as_mut().filter(|_| !self.is_held_up) else { return };
        if !tail.read(&mut self.backlog) && !tail.is_open() {
            let _ = self.poller.remove(tail.fd());
        }
        self.forward();
    }

    /// Writes what was read from workers; reads no more as long as that is not possible.
    fn forward(&mut self) {
        self.backlog.flush();
        let is_held_up = !self.backlog.is_empty();
        if is_held_up == self.is_held_up {
            return;
        }
        self.is_held_up = is_held_up;
        let tails =
            self.workers.iter().filter_map(|(pid, worker)| Some((*pid, worker.tail.as_ref()?)));
        if is_held_up {
            // Files, which the poller does not take, never hold up.
            let _ = self.poller.add(pipe::stderr(), STDERR, false, true);
            tails.for_each(|(_, tail)| drop(self.poller.remove(tail.fd())));
        } else {
            let _ = self.poller.remove(pipe::stderr());
            tails.for_each(|(pid, tail)| self.watch(pid, tail));
        }
    }

    fn watch(&self, pid: u32, tail: &Tail) {
        if tail.is_open() {
            let _ = self.poller.add(tail.fd(), pid.into(), true, false);
        }
    }

    fn send(&mut self, notice: Notice) {
        self.outbox.push_back(notice);
        if self.outbox.len() == 1 {
            self.flush();
        }
    }

    /// Sends what there is room for.
    fn flush(&mut self) {
        while let Some(notice) = self.outbox.front() {
            match notice.send(self.control.as_fd()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // If nobody is there, that shows with the next request.
                _ => drop(self.outbox.pop_front()),
            }
        }
        let is_waiting = !self.outbox.is_empty();
        let _ = self.poller.change(self.control.as_fd(), CONTROL, true, is_waiting);
    }

    /// Ends with all that it is the parent of. Children of its children are its own once their parents
    /// are gone, so they take some rounds.
    fn end(&mut self, end: End) -> ! {
        self.workers.keys().for_each(|pid| drop(sys::kill_group(*pid)));
        // If the pool's process is dead, nobody waits for what its workers have written.
        let is_orphaned = matches!(end, End::Orphaned);
        let start = Instant::now();
        // The poller would go on reporting that the control socket has ended.
        let poller = Poller::new().and_then(|poller| {
            poller.add(self.children.as_fd(), CHILDREN, true, false)?;
            Ok(poller)
        });
        let Ok(poller) = poller else { sys::exit_now(0) };
        while sys::has_children() || !(self.backlog.is_empty() || is_orphaned) {
            let killed =
                family::children().into_iter().filter(|child| sys::kill_child(*child)).count();
            let limit = if killed > 0 { LAST_WAIT_FOR_KILLED } else { LAST_WAIT };
            let Some(left) = limit.checked_sub(start.elapsed()) else { break };
            if self.is_held_up {
                let _ = poller.add(pipe::stderr(), STDERR, false, true); // or it is there
            }
            let _ = poller.wait(&mut Vec::new(), Some(left.min(LAST_LOOKS)));
            self.look_at_children();
            self.forward();
        }
        if is_orphaned {
            sys::exit_now(0);
        }
        std::process::exit(0)
    }
}

/// The main function of a worker.
#[cfg(not(test))]
fn main_of(_: &WorkerSettings) -> fn(WorkerStart) -> i32 {
    worker::main
}

/// Or what a test has for it.
#[cfg(test)]
fn main_of(settings: &WorkerSettings) -> fn(WorkerStart) -> i32 {
    start::tests::main_of(&settings.name).unwrap_or(worker::main)
}
