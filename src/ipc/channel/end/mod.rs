//! A side of a channel in one process: it takes and puts items, and waits. In any process.
//!
//! Each side holds its end of a pair of sockets, the *lane*, by which the kernel knows whether the other side is still
//! there, in any process or on its way to one. Descriptors that items have go through it.

#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use super::error::{Failure, refused};
use super::item::{Incoming, Outgoing};
use super::ring::State;
use super::shared::{CLOSED, Channel, Side};
use crate::codec::handle::Descriptor;
use crate::ipc::room::Room;
use crate::ipc::waiting::Waiting;
use crate::ipc::waits::{BlockingWait, WaitList, Watched};
use crate::ipc::{Error, event_word};
use crate::sys::{self, AsFd, RobustGuard, control};

/// Number of items between two looks of a sender that never has to wait whether anybody can still receive.
const SENDS: u32 = 64;

/// The room that is asked for at a time, in words.
const STEP: usize = 8 << 10;

/// A side, once in each process that has it.
pub(super) struct End {
    /// Dropped first: whoever is woken by the drop of the other field finds that it is closed.
    pub(super) lane: Descriptor,
    closing: Closing,
    sends: AtomicU32,
    pub(super) encoded: Room<u8>,
    pub(super) received: Room<u64>,
}

struct Closing {
    channel: Arc<Channel>,
    side: Side,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.channel.wake_all(self.side.other() as usize);
        if self.side == Side::Receiver {
            self.channel.wake_all(CLOSED);
        }
    }
}

/// The outcome of an attempt.
enum Attempt<R> {
    Done(R),
    /// The word, as it is while nothing happens.
    Wait(u32),
}

impl End {
    pub(super) fn new(channel: &Arc<Channel>, side: Side, lane: Descriptor) -> Arc<Self> {
        let mut ends = channel.kind.ends.lock();
        // One that came here again is the one that is here.
        if let Some(end) = ends[side as usize].upgrade() {
            return end;
        }
        let (encoded, received) = Default::default();
        let closing = Closing { channel: Arc::clone(channel), side };
        let end = Arc::new(Self { lane, closing, sends: AtomicU32::new(0), encoded, received });
        ends[side as usize] = Arc::downgrade(&end);
        end
    }

    pub(super) fn channel(&self) -> &Arc<Channel> {
        &self.closing.channel
    }

    pub(super) fn side(&self) -> Side {
        self.closing.side
    }

    /// Returns whether nobody has the other side any more.
    pub(super) fn is_alone(&self) -> bool {
        control::is_hung_up(self.lane.as_fd())
    }

    // ---- Under the lock ----

    /// Puts an item in. `None`: there is no room.
    pub(super) fn put(&self, item: &Outgoing) -> Result<Option<()>, Failure> {
        let ring = self.channel().ring();
        let state = ring.state().inspect_err(|_| ring.clear())?;
        let Some(mut writer) = ring.write(state, item.words()) else { return Ok(None) };
        if let Some(words) = writer.must_reserve {
            let all = self.channel().words().len();
            let words = words.next_multiple_of(STEP).min(all);
            sys::reserve(&*self.channel().descriptor, 0..words)
                .map_err(refused("there is no memory for an item of the channel"))?;
            writer.reserved(words);
        }
        let mut ticket = 0;
        if !item.descriptors.is_empty() {
            ticket = ring.next_ticket();
            let descriptors: Vec<_> = item.descriptors.iter().map(|fd| fd.as_fd()).collect();
            match control::send(self.lane.as_fd(), &ticket.to_ne_bytes(), &descriptors) {
                // Full; or the user has too many descriptors under way, which a later look may find otherwise.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Failure::Disconnected);
                }
                sent => sent.map_err(refused("the descriptors of an item can't be sent"))?,
            }
        }
        item.write(&mut writer, ticket);
        ring.commit(writer.after);
        Ok(Some(()))
    }

    /// Takes an item out. `None`: there is none.
    pub(super) fn take(&self) -> Result<Option<Incoming>, Failure> {
        let taken = self.take_checked();
        if let Err(Failure::Io(Error::Damaged)) = taken {
            self.channel().ring().clear();
        }
        taken
    }

    fn take_checked(&self) -> Result<Option<Incoming>, Failure> {
        let ring = self.channel().ring();
        let mut room = self.received.take();
        loop {
            let state = ring.state()?;
            let Some(mut reader) = ring.read_first(state) else {
                self.clear_lane(state);
                self.received.leave(room);
                return Ok(None);
            };
            let mut item = Incoming::read(&mut reader, std::mem::take(&mut room))?;
            let mut after = reader.after()?;
            let mut is_whole = true;
            if let Some((_, ticket)) = item.sent_with {
                let received = self.descriptors_of(ticket);
                let received = received.map_err(refused("descriptors can't be received"))?;
                is_whole = received.is_some();
                item.descriptors = received.unwrap_or_default();
                after.seen = ticket;
            }
            ring.commit(after);
            // A receiver that has taken its descriptors was killed before it had taken the item.
            if is_whole {
                return Ok(Some(item));
            }
        }
    }

    /// Receives the descriptors with this ticket. Those before are of items that never came to be, as their sender was
    /// killed. `None`: they are not there.
    fn descriptors_of(&self, ticket: u64) -> io::Result<Option<Vec<sys::OwnedFd>>> {
        let mut sent = [0; 8];
        while control::peek(self.lane.as_fd(), &mut sent)?.is_some() {
            let ahead = u64::from_ne_bytes(sent).wrapping_sub(ticket);
            if ahead != 0 && ahead < u64::MAX / 2 {
                break;
            }
            let (_, descriptors) = control::receive(self.lane.as_fd(), &mut sent)?;
            if ahead == 0 {
                return Ok(Some(descriptors));
            }
        }
        Ok(None)
    }

    /// With an empty queue, whatever is in the lane is of a sender that was killed. It may be the last sender of this
    /// very channel.
    fn clear_lane(&self, state: State) {
        let ring = self.channel().ring();
        let last = ring.last_ticket();
        if last != state.seen {
            let mut sent = [0; 8];
            while control::receive(self.lane.as_fd(), &mut sent).is_ok_and(|(length, _)| length > 0)
            {
            }
            let mut after = state;
            after.seen = last;
            ring.commit(after);
        }
    }

    /// Does what is to be done under the lock, and releases it.
    fn attempt<R>(
        &self,
        locked: RobustGuard<'_>,
        operation: &mut impl FnMut(&Self) -> Result<Option<R>, Failure>,
    ) -> Result<Attempt<R>, Failure> {
        let (channel, side) = (self.channel(), self.side());
        match operation(self)? {
            None => {
                let value = channel.arm(side as usize);
                drop(locked);
                Ok(Attempt::Wait(value))
            }
            Some(done) => {
                let word = channel.word(side.other() as usize);
                let notified = event_word::notify(word);
                drop(locked);
                if let Some(value) = notified {
                    event_word::wake(word, value);
                }
                Ok(Attempt::Done(done))
            }
        }
    }

    // ---- Waiting ----

    /// Returns whether it is time for a sender to look at the lane.
    fn is_look_due(&self) -> bool {
        self.side() == Side::Sender && self.sends.fetch_add(1, Relaxed) % SENDS == 0
    }

    /// Tries until it is done, the other side is gone, or `deadline` has come.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn block<R>(
        &self,
        deadline: Option<Instant>,
        mut operation: impl FnMut(&Self) -> Result<Option<R>, Failure>,
    ) -> Result<R, Failure> {
        let (channel, side) = (self.channel(), self.side());
        let mut wait = BlockingWait::new(deadline);
        // What was sent before the last sender went is there; so whether it has gone is looked at before.
        let mut is_alone = self.is_look_due() && self.is_alone();
        loop {
            if is_alone && side == Side::Sender {
                return Err(Failure::Disconnected);
            }
            let locked = channel.memory.lock(deadline).map_err(not_locked)?;
            let value = match locked {
                None => return Err(Failure::WouldWait),
                Some(locked) => match self.attempt(locked, &mut operation)? {
                    Attempt::Done(done) => return Ok(done),
                    Attempt::Wait(value) => value,
                },
            };
            if is_alone {
                return Err(Failure::Disconnected);
            }
            is_alone = self.is_alone();
            if is_alone {
                continue;
            }
            if wait.is_over() {
                return Err(Failure::WouldWait);
            }
            WaitList::block(channel, side as usize, value, &mut wait);
        }
    }

    /// As [`block`](Self::block), for a future.
    pub(super) fn poll<R>(
        &self,
        waiting: &mut Waiting<Channel>,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&Self) -> Result<Option<R>, Failure>,
    ) -> Poll<Result<R, Failure>> {
        let (channel, side) = (self.channel(), self.side());
        waiting.polled(channel, side as usize, cx, |waiting, cx| {
            let mut is_alone = self.is_look_due() && self.is_alone();
            let armed = loop {
                if is_alone && side == Side::Sender {
                    return Poll::Ready(Err(Failure::Disconnected));
                }
                let locked = channel.memory.try_lock_soon().map_err(not_locked)?;
                let Some(locked) = locked else { break None };
                let value = match self.attempt(locked, &mut operation)? {
                    Attempt::Done(done) => return Poll::Ready(Ok(done)),
                    Attempt::Wait(value) => value,
                };
                if is_alone {
                    return Poll::Ready(Err(Failure::Disconnected));
                }
                is_alone = self.is_alone();
                if !is_alone {
                    break Some(value);
                }
            };
            waiting.keep(channel, side as usize, cx, armed);
            Poll::Pending
        })
    }

    /// Waits until the other side is gone.
    pub(super) fn poll_closed(
        &self,
        waiting: &mut Waiting<Channel>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let channel = self.channel();
        waiting.polled(channel, CLOSED, cx, |waiting, cx| {
            let armed = channel.arm(CLOSED);
            if self.is_alone() {
                return Poll::Ready(());
            }
            waiting.keep(channel, CLOSED, cx, Some(armed));
            Poll::Pending
        })
    }
}

fn not_locked(error: io::Error) -> Failure {
    refused("the channel's lock needs a thread in this process")(error)
}
