//! The way from a fork of the zygote to a worker. In the zygote, and in the worker.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Notice, WorkerSettings};
use crate::local::control_block::SharedControlBlock;
use crate::local::worker::WorkerStart;
use crate::local::{UNFIT, crash, start};
use crate::sys::descriptors::{self, Kept};
use crate::sys::process::{self, PidFd, SingleThreaded};
use crate::sys::{control, signals};
use crate::worker_info::WorkerInfo;

/// The parts of a new worker.
pub(crate) struct Fork<'a> {
    pub(crate) settings: &'a WorkerSettings,
    pub(crate) socket: OwnedFd,
    pub(crate) block: OwnedFd,
    /// Its stderr, if that is not the zygote's.
    pub(crate) stderr: Option<OwnedFd>,
    /// The zygote's control socket. The worker announces itself there, then its own socket takes
    /// the number.
    pub(crate) control: BorrowedFd<'a>,
    /// The descriptors that the worker keeps.
    pub(crate) kept: &'a Kept,
    pub(crate) oom_score: &'a OomScore,
}

impl SingleThreaded {
    /// Starts a worker: a copy of this process that runs `main` and exits with its result. Returns
    /// its process's number.
    pub(crate) fn fork(&self, fork: Fork<'_>, main: fn(WorkerStart) -> i32) -> io::Result<u32> {
        // Before the fork: the worker compares its parent's number with this one.
        let zygote = std::process::id();
        // SAFETY: this process has one thread, so whatever the copy finds in memory, nobody was about
        // to change it.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // Unwinding further would lead into the zygote's work.
                let code = catch_unwind(AssertUnwindSafe(|| fork.run(zygote, main)));
                let code = code.unwrap_or_else(|payload| {
                    std::mem::forget(payload); // its destructor may panic as well
                    UNFIT
                });
                std::process::exit(code)
            }
            pid => Ok(pid.unsigned_abs()),
        }
    }
}

impl Fork<'_> {
    /// Runs in the worker, and returns its exit code. What the zygote owns is not touched: the
    /// caller exits.
    fn run(self, zygote: u32, main: fn(WorkerStart) -> i32) -> i32 {
        match self.set_up(zygote) {
            Ok(start) => {
                start::become_worker();
                main(start)
            }
            Err(error) => {
                eprintln!("concurrent-futures: a worker process could not be set up: {error}");
                UNFIT
            }
        }
    }

    /// Tells the pool which process this is. The zygote could do so as well; but it may be held up, or
    /// killed, when the worker has done much already.
    fn announce(&self) -> io::Result<()> {
        /// The pool takes notices all the time. If it can't any more, the zygote ends, and this
        /// process with it.
        const PATIENCE: Duration = Duration::from_secs(10);
        let (number, pid) = (self.settings.number, std::process::id());
        // Opened by the process itself, whose number can't mean another one.
        let notice = Notice::Spawned { number, pid, pidfd: PidFd::open(pid) };
        loop {
            match notice.send(self.control) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Also if the time is up: the next try shows whether there is room.
                    control::wait_for_room(self.control, PATIENCE)?;
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    process::exit_now(UNFIT) // nobody is there any more
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn set_up(self, zygote: u32) -> io::Result<WorkerStart> {
        use rustix::process::{Signal, set_parent_process_death_signal};
        // In this order: a zygote that has died before the call is missing as the parent after it,
        // and one that dies later takes this process with it.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if process::parent_pid() != zygote {
            process::exit_now(UNFIT); // it has died before it could be said
        }
        // Before this process starts any other: group and family are inherited, and are how the
        // zygote finds what is left behind.
        process::lead_group(std::process::id());
        self.settings.family.begin();
        if let Some(stderr) = &self.stderr {
            descriptors::set_stderr(stderr)?;
        }
        let block = SharedControlBlock::map(&self.block)?;
        // Before the announcement: a worker that the pool knows has its control block.
        crash::write_to(&block);
        block.pid.store(std::process::id(), Release);
        self.announce()?;
        // From here on the number is that of the worker's own socket. No worker may keep the
        // control socket: the pool sees the death of the zygote by the end of it.
        let at = self.control.as_raw_fd();
        // SAFETY: the control socket is the zygote's; its owner in this copy of the zygote is never
        // used or dropped again, so the number is free to be taken, and owned by who takes it.
        let socket = unsafe {
            if libc::dup3(self.socket.as_raw_fd(), at, libc::O_CLOEXEC) == -1 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(at)
        };
        let WorkerSettings { index, pool, .. } = self.settings;
        let info = index.map(|index| WorkerInfo::new(index as usize, pool));
        let name = info.as_ref().map_or_else(|| pool.clone(), WorkerInfo::worker_name);
        // Tools show 15 bytes of it.
        process::set_name(&name);
        let start = WorkerStart { socket, block, name, info };
        if let Some(limit) = self.settings.memory_limit {
            limit_memory(limit)?;
        }
        self.oom_score.set();
        // Forgotten, not dropped: `close_others` closes the numbers, and a drop would close them a
        // second time.
        let (kept, forgotten) = (self.kept, (self.socket, self.block, self.stderr));
        std::mem::forget(forgotten);
        // SAFETY: what owns the others was forgotten just now, or is the zygote's, see above.
        unsafe { kept.close_others(BorrowedFd::borrow_raw(at))? };
        // Last: the zygote blocks all signals, so a SIGTERM sent since the announcement is
        // delivered here, to a worker that is set up.
        signals::unblock_all()?;
        Ok(start)
    }
}

/// Limits the private memory that this process can reserve, so that an allocation far beyond `limit`
/// fails. The pool looks at what is used. Beside that, allocators and stacks of threads reserve
/// address space, some of it before this: so it is twice the limit, and what there is by now.
fn limit_memory(limit: u64) -> io::Result<()> {
    let reserved = process::private_memory(std::process::id())?.unwrap_or_default().reserved;
    let limit = reserved.saturating_add(limit.saturating_mul(2));
    let before = getrlimit(Resource::Data).maximum;
    let limit = Some(before.map_or(limit, |before| before.min(limit)));
    // The hard limit as well, so that a task without privileges cannot raise it again.
    Ok(setrlimit(Resource::Data, Rlimit { current: limit, maximum: limit })?)
}

/// The OOM score of workers. It is high, so that the kernel ends a worker when memory runs out, which loses a
/// task, and not the program, which loses everything.
pub(crate) struct OomScore(Option<String>);

impl OomScore {
    const FILE: &'static str = "/proc/self/oom_score_adj";

    /// Reads the score of this process, the zygote: workers rank half of the machine's memory above
    /// it.
    pub(crate) fn new() -> Self {
        let own = std::fs::read_to_string(Self::FILE).ok();
        let own = own.and_then(|score| score.trim().parse::<i32>().ok());
        Self(own.map(|own| (own + 500).min(1000).to_string()))
    }

    /// Sets the score of this process, a worker.
    fn set(&self) {
        if let Some(score) = &self.0 {
            // Without it all is well, only less so when memory runs out.
            let _ = std::fs::write(Self::FILE, score);
        }
    }
}
