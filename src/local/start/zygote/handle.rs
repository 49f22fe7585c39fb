//! The zygote as the pool sees it.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::message::{Boot, Request};
use super::{Notice, WorkerSettings, ZygoteSettings, preload};
use crate::function;
use crate::local::start;
use crate::local::start::helper::{Helper, Surroundings};
use crate::sys::{AsFd, BorrowedFd, ExitStatus, OwnedFd, Signal, control, explain, socket};

/// Longest time that a request waits for room in the control socket. The zygote takes them out all the
/// time, so it has gone wrong then.
const PATIENCE: Duration = Duration::from_secs(1);

/// A zygote. When this is dropped, the zygote kills the workers that are left, and ends; that takes
/// well below a millisecond if there are none, and seconds at the very most.
pub(crate) struct Zygote {
    control: Control, // dropped first: the helper ends by it
    helper: Helper,
}

/// The pool's end of the control socket. Its drop ends the connection. A close would not do: a child that
/// was made by a bare `fork` may have a copy. Such a child must not end the connection either.
struct Control {
    socket: OwnedFd,
    owner: u32,
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = socket::end(self.socket.as_fd());
        }
    }
}

/// Everything that it takes to start a zygote, as it was when this was made.
pub(crate) struct Launch {
    surroundings: Surroundings,
    /// The digest of the program.
    program: u64,
    /// The call to preload; see [`preload`].
    preload: Option<OwnedFd>,
}

impl Launch {
    pub(crate) fn new(settings: &ZygoteSettings) -> io::Result<Self> {
        let copy = function::copy_name().map_err(io::Error::other)?;
        let mut variables = settings.env.clone();
        // Last, so that it counts even if the settings have a variable of that name.
        variables.push((start::VARIABLE.into(), Some(copy.into())));
        Ok(Self {
            surroundings: Surroundings::take(&variables, settings.current_dir.as_deref())?,
            program: function::program_digest().map_err(io::Error::other)?,
            preload: settings
                .preload
                .as_deref()
                .map(preload::write)
                .transpose()
                .map_err(explain("the arguments of the preloaded function can't be sent"))?,
        })
    }

    /// For a program that is not this one.
    #[cfg(test)]
    pub(crate) fn for_program(self, program: u64) -> Self {
        Self { program, ..self }
    }
}

impl Zygote {
    /// Starts it, and does not wait until it is ready: workers can be asked for at once.
    pub(crate) fn start(launch: &Launch) -> io::Result<Self> {
        let (socket, theirs) = control::pair()
            .map_err(explain("the socket to the process that starts workers can't be made"))?;
        let first = Boot {
            parent: std::process::id(),
            program: launch.program,
            has_preload: launch.preload.is_some(),
            attributes: launch.surroundings.attributes.clone(),
        };
        // Before there is a process: the socket keeps the message for it.
        let control = Control { socket, owner: first.parent };
        let preload: Vec<_> = launch.preload.iter().map(AsFd::as_fd).collect();
        control::send(control.socket.as_fd(), &first.encode(), &preload)
            .map_err(explain("the process that starts workers can't be told what to do"))?;
        // `theirs` is closed on return: only the helper has that end, and its death is seen by it.
        let helper = Helper::start(theirs.as_fd(), &launch.surroundings)?;
        Ok(Self { control, helper })
    }

    /// Waits until it can fork, or says why it can't.
    pub(crate) fn wait_until_ready(&self) -> io::Result<()> {
        loop {
            control::wait_for_message(self.fd())?;
            match self.receive()? {
                Some(Notice::Ready) => return Ok(()),
                Some(Notice::Refused(reason)) => return Err(io::Error::other(reason)),
                _ => {}
            }
        }
    }

    /// Can be read when there is something to [`receive`](Self::receive).
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.control.socket.as_fd()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Ends it as a drop does. Returns how it ended, if that is known.
    pub(crate) fn end(self) -> Option<ExitStatus> {
        let Self { control, mut helper } = self;
        drop(control);
        helper.end()
    }

    /// Asks for a worker that is to have these ends of its socket and its control block. An error means that
    /// the zygote is gone or going: what it had to say is still to be received.
    pub(crate) fn spawn(
        &self,
        settings: &WorkerSettings,
        socket: OwnedFd,
        block: BorrowedFd<'_>,
    ) -> io::Result<()> {
        self.send(&Request::encode_spawn(settings), &[socket.as_fd(), block])
    }

    /// Asks it to signal one of its workers, which it does if it has not reaped that. A kill that fails
    /// is reported.
    pub(crate) fn signal(&self, pid: u32, signal: Signal) -> io::Result<()> {
        self.send(&Request::encode_signal(pid, signal), &[])
    }

    fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            match control::send(self.fd(), message, descriptors) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // This may be under the pool's lock. The wait is short: the zygote never waits
                    // for the pool to take its notices, and so comes to these requests.
                    if !control::wait_for_room(self.fd(), PATIENCE)? {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                sent => return sent,
            }
        }
    }

    /// Receives the next notice; `None` if there is none yet. `UnexpectedEof` is its end.
    pub(crate) fn receive(&self) -> io::Result<Option<Notice>> {
        let mut message = [0; control::MAX_MESSAGE];
        loop {
            let (length, descriptors) = match control::receive(self.fd(), &mut message) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                // It has ended with requests unread. The kernel reports this once, before what it
                // had sent.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
                Err(error) => return Err(error),
            };
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let descriptor = descriptors.into_iter().next();
            return Notice::decode(&message[..length], descriptor).map(Some);
        }
    }
}
