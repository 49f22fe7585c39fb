//! The sealed memory that this process has mapped: each file once, however often it arrives. In any process.

use std::io;
use std::sync::Arc;

use super::registry::{self, Entry};
use crate::codec::handle::{Descriptor, Identity};
use crate::sys::{self, SealedMemory};

/// In bytes. Memory from this length on stays mapped in a worker between its tasks: to map it again costs as much, for
/// page faults, as to read it once.
const KEPT: usize = 1 << 20;

/// Sealed memory, and the descriptor that it is sent by.
pub(super) struct Mapped {
    pub(super) memory: Arc<SealedMemory>,
    pub(super) descriptor: Descriptor,
    _entry: Entry,
}

impl Mapped {
    /// Memory that was made here.
    pub(super) fn new(memory: SealedMemory, descriptor: Descriptor) -> io::Result<Arc<Self>> {
        Ok(Self::enter(sys::identity(&*descriptor)?, memory, descriptor))
    }

    pub(super) fn enter(
        identity: Identity,
        memory: SealedMemory,
        descriptor: Descriptor,
    ) -> Arc<Self> {
        let memory = Arc::new(memory);
        if memory.len() >= KEPT {
            descriptor.keep_as(identity);
        }
        registry::enter(identity, |_entry| Self { memory, descriptor, _entry })
    }

    /// Memory that has arrived.
    pub(super) fn of(descriptor: Descriptor) -> io::Result<Arc<Self>> {
        // As long as it is mapped the file is there, and no other one has its identity.
        let identity = sys::identity(&*descriptor)?;
        match registry::find(identity) {
            Some(mapped) => Ok(mapped),
            None => Ok(Self::enter(identity, SealedMemory::map(&*descriptor)?, descriptor)),
        }
    }
}
