//! The slots of a worker: numbers for the tasks that it has been sent. In the pool's process.

/// Maximum number of tasks that a worker has at a time: one bit of a `u64` for each.
pub(crate) const SLOTS: usize = 64;

/// The slots that are not in use.
pub(crate) struct FreeSlots(u64);

impl FreeSlots {
    pub(crate) fn all() -> Self {
        const { assert!(SLOTS == u64::BITS as usize) };
        Self(u64::MAX)
    }

    pub(crate) fn take(&mut self) -> Option<u16> {
        let slot = self.0.trailing_zeros();
        (slot < u64::BITS).then(|| {
            self.0 &= !(1 << slot);
            slot as u16
        })
    }

    pub(crate) fn give_back(&mut self, slot: u16) {
        // The caller has compared the slot with one that was taken, so it is in range.
        self.0 |= 1 << slot;
    }
}
