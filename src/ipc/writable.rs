//! The memory of arrays that all write to, as this process has it mapped: each file once, however often it arrives. In
//! any process.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use super::error::FreezeError;
use super::mapped::Mapped;
use super::registry::{self, Entry};
use crate::codec::handle::{Descriptor, Identity};
use crate::sys::{self, WritableMemory};

/// Memory of elements of the type, and the descriptor that it is sent by.
///
/// No worker keeps it between its tasks: nobody could freeze it as long as an idle worker has it mapped.
pub(super) struct Writable<T> {
    pub(super) memory: WritableMemory,
    pub(super) descriptor: Descriptor,
    entry: Entry,
    elements: PhantomData<fn(T) -> T>,
}

impl<T: 'static> Writable<T> {
    /// New memory for so many elements, all of whose bytes are zero.
    pub(super) fn create(len: usize) -> io::Result<Arc<Self>> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize);
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let (memory, descriptor) = WritableMemory::create(bytes)?;
        Ok(Self::enter(sys::identity(&descriptor)?, memory, Descriptor::new(descriptor.into())))
    }

    /// Memory that has arrived.
    pub(super) fn of(descriptor: Descriptor) -> io::Result<Arc<Self>> {
        // As long as it is mapped the file is there, and no other one has its identity.
        let identity = sys::identity(&*descriptor)?;
        registry::keep_for_items(identity);
        if let Some(writable) = registry::find(identity) {
            return Ok(writable);
        }
        let memory = WritableMemory::map(&*descriptor)?;
        if memory.len() % size_of::<T>() != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a whole number of elements",
            ));
        }
        Ok(Self::enter(identity, memory, descriptor))
    }

    fn enter(identity: Identity, memory: WritableMemory, descriptor: Descriptor) -> Arc<Self> {
        let elements = PhantomData;
        registry::enter(identity, |entry| Self { memory, descriptor, entry, elements })
    }

    /// Seals the memory, if this is the only handle to it.
    pub(super) fn freeze(self: Arc<Self>) -> Result<Arc<Mapped>, FreezeError<Arc<Self>>> {
        drop(registry::forget(self.entry.identity()));
        // What is on its way to another process has the descriptor alone, which a pool may keep for a moment longer than
        // the task: that keeps nobody from writing, and so is none.
        let writable = Arc::try_unwrap(self).map_err(FreezeError::OtherHandle)?;
        let Self { memory, descriptor, entry, .. } = writable;
        let identity = entry.identity();
        drop(entry);
        match memory.seal(&*descriptor) {
            Ok(sealed) => Ok(Mapped::enter(identity, sealed, descriptor)),
            Err((memory, error)) => {
                Err(FreezeError::of(error, Self::enter(identity, memory, descriptor)))
            }
        }
    }
}
