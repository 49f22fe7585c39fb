//! Messages over the control socket, of numbers and strings. Both ends.

use std::io::{self, ErrorKind};

use super::{Exit, Notice, WorkerSettings};
use crate::local::family::Family;
use crate::sys::{Attributes, BorrowedFd, ExitStatus, OwnedFd, PidFd, Signal, Usage, control};

/// The first message to a zygote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    /// The process that has started it.
    pub(crate) parent: u32,
    /// The digest of the program that runs there.
    pub(crate) program: u64,
    /// The file of the call to preload comes along.
    pub(crate) has_preload: bool,
    pub(crate) attributes: Attributes,
}

impl Boot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut message = Writer::default();
        message.u32(self.parent);
        message.u64(self.program);
        message.u8(self.has_preload.into());
        message.attributes(&self.attributes);
        message.0
    }

    pub(crate) fn decode(message: &[u8]) -> io::Result<Self> {
        whole(message, |rest| {
            Some(Self {
                parent: rest.u32()?,
                program: rest.u64()?,
                has_preload: rest.u8()? == 1,
                attributes: rest.attributes()?,
            })
        })
    }
}

/// A request of the pool to a zygote.
pub(super) enum Request {
    /// A worker. Its ends of the socket and the control block come along.
    Spawn(WorkerSettings),
    /// A signal for a worker.
    Signal { pid: u32, signal: Signal },
}

impl Request {
    const SPAWN: u8 = 0;
    const TERMINATE: u8 = 1;
    const KILL: u8 = 2;

    pub(super) fn encode_spawn(settings: &WorkerSettings) -> Vec<u8> {
        let mut message = Writer::default();
        message.u8(Self::SPAWN);
        message.u32(settings.number);
        message.optional(settings.index, Writer::u32);
        message.u64(settings.family.0);
        message.optional(settings.memory_limit, Writer::u64);
        message.u8(settings.keep_stderr.into());
        message.text(&settings.pool);
        message.0
    }

    pub(super) fn encode_signal(pid: u32, signal: Signal) -> Vec<u8> {
        let mut message = Writer::default();
        message.u8(match signal {
            Signal::Terminate => Self::TERMINATE,
            Signal::Kill => Self::KILL,
        });
        message.u32(pid);
        message.0
    }

    pub(super) fn decode(message: &[u8]) -> io::Result<Self> {
        whole(message, |rest| {
            Some(match rest.u8()? {
                Self::SPAWN => Self::Spawn(WorkerSettings {
                    number: rest.u32()?,
                    index: rest.optional(Reader::u32)?,
                    family: Family(rest.u64()?),
                    memory_limit: rest.optional(Reader::u64)?,
                    keep_stderr: rest.u8()? == 1,
                    pool: rest.text()?,
                }),
                Self::TERMINATE => Self::Signal { pid: rest.u32()?, signal: Signal::Terminate },
                Self::KILL => Self::Signal { pid: rest.u32()?, signal: Signal::Kill },
                _ => return None,
            })
        })
    }
}

impl Notice {
    const READY: u8 = 0;
    const REFUSED: u8 = 1;
    const SPAWNED: u8 = 2;
    const SPAWN_FAILED: u8 = 3;
    const EXITED: u8 = 4;
    const STOPPED: u8 = 5;
    const KILL_FAILED: u8 = 6;

    fn encode(&self) -> Vec<u8> {
        let mut message = Writer::default();
        match self {
            Self::Ready => message.u8(Self::READY),
            Self::Refused(reason) => {
                message.u8(Self::REFUSED);
                message.text(reason);
            }
            Self::Spawned { number, pid, .. } => {
                message.u8(Self::SPAWNED);
                message.u32(*number);
                message.u32(*pid);
            }
            Self::SpawnFailed { number, error } => {
                message.u8(Self::SPAWN_FAILED);
                message.u32(*number);
                message.error(error);
            }
            Self::KillFailed { number, error } => {
                message.u8(Self::KILL_FAILED);
                message.u32(*number);
                message.error(error);
            }
            Self::Stopped { number, is_stopped } => {
                message.u8(Self::STOPPED);
                message.u32(*number);
                message.u8((*is_stopped).into());
            }
            Self::Exited(exit) => {
                message.u8(Self::EXITED);
                message.exit(exit);
            }
        }
        message.0
    }

    /// Sends it to the pool, if there is room for it.
    pub(crate) fn send(&self, to: BorrowedFd<'_>) -> io::Result<()> {
        let message = self.encode();
        if let Self::Spawned { pidfd, .. } = self {
            if let Some(descriptor) = pidfd.fd() {
                match control::send(to, &message, &[descriptor]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                    // Too many descriptors are in flight, for example. The process's number has to
                    // do.
                    Err(_) => {}
                    Ok(()) => return Ok(()),
                }
            }
        }
        control::send(to, &message, &[])
    }

    pub(super) fn decode(message: &[u8], descriptor: Option<OwnedFd>) -> io::Result<Self> {
        whole(message, |rest| {
            Some(match rest.u8()? {
                Self::READY => Self::Ready,
                Self::REFUSED => Self::Refused(rest.text()?),
                Self::SPAWNED => {
                    let (number, pid) = (rest.u32()?, rest.u32()?);
                    let pidfd = PidFd::from_parts(pid, descriptor);
                    Self::Spawned { number, pid, pidfd }
                }
                Self::SPAWN_FAILED => {
                    Self::SpawnFailed { number: rest.u32()?, error: rest.error()? }
                }
                Self::KILL_FAILED => Self::KillFailed { number: rest.u32()?, error: rest.error()? },
                Self::STOPPED => Self::Stopped { number: rest.u32()?, is_stopped: rest.u8()? == 1 },
                Self::EXITED => Self::Exited(rest.exit()?),
                _ => return None,
            })
        })
    }
}

/// Numbers are in the machine's own order: both ends are the same program.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_ne_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    // No message has two of these, so that each fits into `control::MAX_MESSAGE`, 16 KiB.
    const MAX_BYTES: usize = 8 * 1024;

    fn bytes(&mut self, bytes: &[u8]) {
        // Longer ones are not sent: a text is cut, and the tails of stderr are short.
        let bytes = &bytes[..bytes.len().min(Self::MAX_BYTES)];
        self.u32(bytes.len() as u32);
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn error(&mut self, error: &io::Error) {
        // The reader uses the text only where there is no code.
        self.optional(error.raw_os_error(), |message, code| message.u32(code.unsigned_abs()));
        self.text(&error.to_string());
    }

    fn attributes(&mut self, attributes: &Attributes) {
        self.optional(attributes.umask, Self::u32);
        self.u32(attributes.nice as u32);
        self.u32(attributes.cpus.len() as u32);
        attributes.cpus.iter().for_each(|cpu| self.u32(*cpu));
        attributes.limits.iter().flatten().for_each(|limit| self.u64(*limit));
    }

    fn exit(&mut self, exit: &Exit) {
        self.u32(exit.number);
        self.u32(exit.pid);
        let (is_signal, value) = match exit.status {
            ExitStatus::Code(code) => (false, code),
            ExitStatus::Signal(signal) => (true, signal),
        };
        self.u8(is_signal.into());
        self.u32(value as u32);
        self.u64(exit.usage.cpu_time.as_nanos() as u64);
        self.u64(exit.usage.peak_memory);
        self.u8(exit.out_of_memory.into());
        self.bytes(&exit.stderr_tail);
    }
}

/// Reads a message that must be nothing but what `read` makes of it.
fn whole<T>(message: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> io::Result<T> {
    let mut rest = Reader(message);
    read(&mut rest).filter(|_| rest.0.is_empty()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "a control message makes no sense")
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            _ => read(self).map(Some),
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn error(&mut self) -> Option<io::Error> {
        let code = self.optional(|rest| i32::try_from(rest.u32()?).ok())?;
        let text = self.text()?;
        Some(code.map_or_else(|| io::Error::other(text), io::Error::from_raw_os_error))
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let (umask, nice) = (self.optional(Self::u32)?, self.u32()? as i32);
        let cpus = (0..self.u32()?).map(|_| self.u32()).collect::<Option<_>>()?;
        let mut limits = Attributes::NO_LIMITS;
        for limit in limits.iter_mut().flatten() {
            *limit = self.u64()?;
        }
        Some(Attributes { umask, nice, cpus, limits })
    }

    fn exit(&mut self) -> Option<Exit> {
        let (number, pid) = (self.u32()?, self.u32()?);
        let (is_signal, value) = (self.u8()? == 1, self.u32()? as i32);
        let status = if is_signal { ExitStatus::Signal(value) } else { ExitStatus::Code(value) };
        let cpu_time = std::time::Duration::from_nanos(self.u64()?);
        let peak_memory = self.u64()?;
        let out_of_memory = self.u8()? == 1;
        let stderr_tail = self.bytes()?.to_vec();
        let usage = Usage { cpu_time, peak_memory };
        Some(Exit { number, pid, status, usage, out_of_memory, stderr_tail })
    }
}
