//! The zygote itself: what it does from before `main` to its end.
//!
//! It has one thread and keeps it so. Its memory is that of every worker: a `HashMap` here, for
//! example, would give all of them the same random keys.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use super::fork::{Fork, OomScore};
use super::message::{Boot, Request};
use super::stderr::{Backlog, Tail};
use super::{Exit, Notice, WorkerSettings, preload};
use crate::function;
use crate::local::family::{self, Family};
use crate::local::worker::{self, WorkerStart};
use crate::local::{crash, start};
use crate::panic::install_hook;
use crate::sys::{
    self, AsFd, BorrowedFd, ChildSignals, Event, ExitStatus, Kept, OwnedFd, PidFd, Poller, Signal,
    SingleThreaded, control, explain, pipe,
};

// Keys of the poller. The key of a worker's stderr is the number of its process, below 2^32.
const CONTROL: u64 = 1 << 32;
const CHILDREN: u64 = CONTROL + 1;
const PARENT: u64 = CONTROL + 2;
const STDERR: u64 = CONTROL + 3;

/// Longest time that the zygote waits at its end for what it can't hasten: children that it may not
/// kill, and room in stderr for what workers have written.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// Longest time that the zygote waits at its end while there are children for it to kill. Each
/// needs a processor to end, one after the other where each is the child of the one before.
const LAST_WAIT_FOR_KILLED: Duration = Duration::from_secs(2);

/// Longest time between two looks of the zygote for further children at its end.
const LAST_LOOKS: Duration = Duration::from_millis(20);

/// Time without an event after which the zygote reads the kernel's counters for the first time: no
/// start of a worker is to wait for that.
const IDLE: Duration = Duration::from_millis(20);

/// Becomes the zygote. `constructors` are those that the program would still run before `main`.
pub(crate) fn main(control: OwnedFd, constructors: impl FnOnce()) -> ! {
    // What tools show would be "exe" otherwise.
    sys::set_name("futures-zygote");
    let failed = |error| format!("the process that starts workers can't do so: {error}");
    let prepared = receive_boot(&control).map_err(failed).and_then(|(boot, preload)| {
        let single = prepare(&boot, preload, constructors)?;
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
    // An error means that the pool is gone.
    let _ = Notice::Refused(reason).send(control);
    std::process::exit(1)
}

/// Receives the first message, which was sent before this process was started, and the file that came
/// with it.
fn receive_boot(control: &OwnedFd) -> io::Result<(Boot, Option<OwnedFd>)> {
    let mut message = [0; control::MAX_MESSAGE];
    let (length, descriptors) = control::receive(control.as_fd(), &mut message)?;
    Ok((Boot::decode(&message[..length])?, descriptors.into_iter().next()))
}

/// Advice for the case that a library starts the threads.
const OF_LIBRARIES: &str = ", or, if a library starts them, keep it from that in worker processes by a variable: `.env(\"OPENBLAS_NUM_THREADS\", \"1\")` of the pool's builder for OpenBLAS, `.env(\"MALLOC_CONF\", \"background_thread:false\")` for jemalloc (`_RJEM_MALLOC_CONF` where that is linked by a Rust crate)";

/// Makes the process what all workers are to be from their start. `Err` is why that can't be.
fn prepare(
    boot: &Boot,
    preload: Option<OwnedFd>,
    constructors: impl FnOnce(),
) -> Result<SingleThreaded, String> {
    // First: the preloaded function is called by its offset, which means the same in the same
    // program only.
    if function::program_digest().ok() != Some(boot.program) {
        return Err(
            "the process that starts workers was to run the same program as this one, but runs another; restart the program".to_owned()
        );
    }
    // Checked here and again below, so that the error can say which code has started the threads.
    let single = SingleThreaded::check().map_err(|error| {
        format!(
            "worker processes can't be forked, since the program starts threads before `main`, or before it calls `concurrent_futures::init()` ({error}); let it start them later{OF_LIBRARIES}"
        )
    })?;
    // Before constructors and the preloaded function run: a program that they start is no zygote.
    single.remove_variable(start::VARIABLE);
    boot.attributes.apply();
    start::helper::ignore_sigpipe();
    // Before the preloaded function, so that a panic there is reported with its location.
    install_hook();
    constructors();
    if boot.has_preload {
        preload::run(preload)?;
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
    /// The descriptors that workers keep: those that libraries, constructors and the preloaded function
    /// have opened, for they count on them. They were open before the zygote opened its own.
    kept: Kept,
    oom_score: OomScore,
    poller: Poller,
    children: ChildSignals,
    /// The pool's process, whose end the poller reports as long as this is open.
    _parent: PidFd,
    /// The workers that are not reaped, by the numbers of their processes.
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
        // Before the first fork, so that all that workers leave behind become children of this
        // process.
        sys::adopt_orphans().map_err(explain("it can't adopt what workers leave behind"))?;
        // Before anything below is opened, which no worker is to have.
        let kept = Kept::all_but(control.as_fd())?;
        let Some(parent) = PidFd::of_parent(boot.parent) else { return Ok(None) };
        // From here on all signals are blocked: the zygote ends with its parent, and not because a
        // terminal or a service manager has signalled all processes of the program. A worker inherits
        // that, and ends it in `Fork::set_up`.
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
            oom_score: OomScore::new(),
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

    /// Serves the pool's requests, and reports workers, until the pool or its process is gone.
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
                    // The worker may have been reaped since the wait: its number is looked up.
                    pid => self.read_stderr(pid as u32),
                }
            }
        }
    }

    /// Takes the requests that have arrived. `Err`: there will be no more.
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
        // Only a kill that fails is reported: a SIGTERM is followed by a kill if the worker stays.
        if let (Err(error), Signal::Kill) = (PidFd::by_number(pid).signal(signal), signal) {
            self.send(Notice::KillFailed { number, error });
        }
    }

    fn spawn(&mut self, settings: &WorkerSettings, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        // The kernel leaves out descriptors for which this process has no numbers.
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
            oom_score: &self.oom_score,
        };
        let pid = self.single.fork(fork, main_of(settings))?;
        // The worker calls this as well: whichever is first, the group exists before either goes
        // on. The zygote's copies of the worker's socket and stderr are closed by now, so their end
        // is the worker's.
        sys::lead_group(pid);
        if let (Some(tail), false) = (&tail, self.is_held_up) {
            self.watch(pid, tail);
        }
        // It can have ended, but not been reaped: only `reap_children`, on this thread, does that.
        self.workers.insert(pid, Worker { number: settings.number, family: settings.family, tail });
        Ok(())
    }

    fn look_at_children(&mut self) {
        // Before the looks, so that a child that changes during them is announced once more.
        self.children.clear();
        self.report_stopped();
        self.reap_children();
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
    fn reap_children(&mut self) {
        while let Ok(Some(pid)) = sys::ended_child() {
            // The child is a zombie until `reap`: number and group are still its own.
            let worker = self.workers.remove(&pid);
            if worker.is_some() {
                let _ = sys::kill_group(pid); // as long as its number is still taken
            }
            let Ok((status, usage)) = sys::reap(pid) else { return };
            // The worker is out of the table, so that its family counts as dead.
            self.kill_left_behind();
            // Others are what workers had started and left behind.
            let Some(worker) = worker else { continue };
            let stderr_tail = worker.tail.map(|tail| {
                let _ = self.poller.remove(tail.fd()); // if it is there
                tail.end(&mut self.backlog)
            });
            // Before the report: what the worker has printed is out when its loss is known, if
            // stderr takes it.
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

    /// Kills the processes that are left of the families of dead workers. They became children of
    /// this process when their parents ended; what they have started follows when they end.
    ///
    /// A process in no family stays until the end of this one: the preloaded function has started
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
        // Without an earlier count it is not known whether the kill is a new one.
        before.is_some() && now > before
    }

    fn read_stderr(&mut self, pid: u32) {
        let Some(worker) = self.workers.get_mut(&pid) else { return };
        let Some(tail) = worker.tail.as_mut().filter(|_| !self.is_held_up) else { return };
        // A closed pipe would be reported as readable for ever.
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
        // Unread pipes fill up, and then it is the workers that wait, in their writes.
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
        // With more in line the socket is full, and the poller reports when there is room.
        if self.outbox.len() == 1 {
            self.flush();
        }
    }

    /// Sends what there is room for.
    fn flush(&mut self) {
        while let Some(notice) = self.outbox.front() {
            match notice.send(self.control.as_fd()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Sent; or the pool is gone, which `take_requests` finds out.
                _ => drop(self.outbox.pop_front()),
            }
        }
        let is_waiting = !self.outbox.is_empty();
        let _ = self.poller.change(self.control.as_fd(), CONTROL, true, is_waiting);
    }

    /// Ends, and with it all processes that it is the parent of. The children of these become its
    /// own when their parents end, so some rounds are needed.
    fn end(&mut self, end: End) -> ! {
        self.workers.keys().for_each(|pid| drop(sys::kill_group(*pid)));
        // With the pool's process dead, what its workers have written is not waited for.
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
            } else {
                // It always has room, so the poller would report it without a pause.
                let _ = poller.remove(pipe::stderr());
            }
            let _ = poller.wait(&mut Vec::new(), Some(left.min(LAST_LOOKS)));
            self.look_at_children();
            self.forward();
        }
        // With the pool's process alive, the handlers run that libraries have registered for the
        // exit.
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

/// The main function that a test has for a worker, or else the usual one.
#[cfg(test)]
fn main_of(settings: &WorkerSettings) -> fn(WorkerStart) -> i32 {
    start::tests::main_of(&settings.pool).unwrap_or(worker::main)
}
