//! The settings of a channel. In the process that makes it.

use std::io;

use super::end::End;
use super::shared::{Channel, Side};
use super::{Duplex, Receiver, Sender};
use crate::codec::handle::Descriptor;
use crate::ipc::Error;
use crate::portable::Portable;
use crate::sys::control;

/// The most items that a channel may have.
const MOST_ITEMS: usize = 1 << 20;

/// The bytes that wait in a channel; of these only what is used is memory.
const BYTES: usize = 16 << 20;

const LEAST_BYTES: usize = 4 << 10;
const MOST_BYTES: usize = 1 << 30;

/// Builds a [`channel`](super::channel()) or a [`duplex`](super::duplex) connection, with settings.
///
/// ```
/// use concurrent_futures::ipc::ChannelBuilder;
///
/// // Rows of some megabytes, of which at most 256 MiB are under way.
/// let (rows, receiver) = ChannelBuilder::new(1_000).bytes(256 << 20).build::<Vec<f64>>()?;
/// # drop((rows, receiver));
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
///
/// A clone makes a second channel with the same settings.
#[derive(Clone, Debug)]
#[must_use = "a builder makes a channel only when `build` or `build_duplex` is called"]
pub struct ChannelBuilder {
    capacity: usize,
    bytes: usize,
}

impl ChannelBuilder {
    /// Begins a channel in which at most `capacity` items wait: 1 to 1,048,576. Other numbers are an error of
    /// [`build`](Self::build).
    pub fn new(capacity: usize) -> Self {
        Self { capacity, bytes: BYTES }
    }

    /// The bytes that items may take while they wait in the channel, as they are encoded, with some bytes more for
    /// each. A sender waits for room as it does for the number of items. Memory is taken as it is used, and kept until
    /// the channel is gone. An item of more than a quarter goes through memory of its own, which costs some system
    /// calls, and takes few bytes here.
    ///
    /// Default: 16 MiB. Less than 4 KiB or more than 1 GiB is an error of [`build`](Self::build).
    pub fn bytes(mut self, n: usize) -> Self {
        self.bytes = n;
        self
    }

    /// Makes the channel.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](Error::InvalidSetting) if the capacity or the bytes are out of range. [`Io`](Error::Io) if
    /// the system refuses memory, a descriptor (a channel takes three) or a thread.
    pub fn build<T: Portable>(self) -> Result<(Sender<T>, Receiver<T>), Error> {
        let Self { capacity, bytes } = self;
        if !(1..=MOST_ITEMS).contains(&capacity) {
            return Err(Error::InvalidSetting("the capacity of a channel is 1 to 1,048,576 items"));
        }
        if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes) {
            return Err(Error::InvalidSetting("the bytes of a channel are 4,096 to 1,073,741,824"));
        }
        let ends = || -> io::Result<_> {
            let channel = Channel::new(capacity as u64, bytes.div_ceil(8))?;
            let (sender, receiver) = control::pair()?;
            let sender = End::new(&channel, Side::Sender, Descriptor::new(sender.into()));
            let receiver = End::new(&channel, Side::Receiver, Descriptor::new(receiver.into()));
            Ok((Sender::of(sender), Receiver::of(receiver)))
        };
        ends().map_err(Error::io("the channel can't be made"))
    }

    /// Makes two channels with these settings, one in each direction, as [`duplex`](super::duplex).
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    #[allow(clippy::type_complexity, reason = "it is two of them")]
    pub fn build_duplex<A: Portable, B: Portable>(
        self,
    ) -> Result<(Duplex<A, B>, Duplex<B, A>), Error> {
        let (to, from) = self.clone().build()?;
        let (back, answer) = self.build()?;
        Ok(((to, answer), (back, from)))
    }
}
