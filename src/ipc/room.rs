//! Memory that is used again. In any process.

use crate::sync::Mutex;

/// Memory that a value was in, for the next one: fresh memory costs page faults.
#[derive(Default)]
pub(super) struct Room<T>(Mutex<Vec<T>>);

/// More is not kept, in bytes.
const LARGEST_ROOM: usize = (1 << 20) + 4096;

impl<T> Room<T> {
    pub(super) fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock())
    }

    pub(super) fn leave(&self, room: Vec<T>) {
        if room.capacity() * size_of::<T>() <= LARGEST_ROOM {
            *self.0.lock() = room;
        }
    }
}
