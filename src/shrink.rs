//! Memory that a burst of work has taken for a table goes back to the system when the burst is over.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

/// Tables with room for no more entries than this keep it.
const FEW: usize = 1024;

/// A table that keeps the room that it has once needed.
pub(crate) trait Table {
    fn len(&self) -> usize;

    fn capacity(&self) -> usize;

    fn shrink_to(&mut self, capacity: usize);
}

impl<T> Table for VecDeque<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn shrink_to(&mut self, capacity: usize) {
        self.shrink_to(capacity);
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Table for HashMap<K, V, S> {
    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn shrink_to(&mut self, capacity: usize) {
        self.shrink_to(capacity);
    }
}

/// Lets go of the room that a table has not needed for long. To be called after an entry was taken
/// out.
///
/// The entries that are left are moved, at most an eighth of those for which there is room, and as
/// many were taken out since there last was so little room: so it takes O(1) on average, and a table
/// that grows and shrinks again and again by a factor of less than four is left alone.
#[inline]
pub(crate) fn shrink(table: &mut impl Table) {
    let (len, capacity) = (table.len(), table.capacity());
    if capacity > FEW && len < capacity / 8 {
        shrink_now(table);
    }
}

#[cold]
fn shrink_now(table: &mut impl Table) {
    table.shrink_to(2 * table.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_little_more_room_than_it_needs() {
        const ENTRIES: u32 = if cfg!(miri) { 2_000 } else { 100_000 };
        let mut queue: VecDeque<u32> = (0..ENTRIES).collect();
        let mut map: HashMap<u32, u32> = (0..ENTRIES).map(|n| (n, n)).collect();
        for left in (0..ENTRIES as usize).rev() {
            queue.pop_front();
            map.remove(&(left as u32));
            shrink(&mut queue);
            shrink(&mut map);
            let most = FEW.max(8 * (left + 1));
            assert!(queue.capacity() <= most && map.capacity() <= 2 * most, "{left}");
        }
    }

    #[test]
    fn room_that_is_needed_again_and_again_is_kept() {
        const ENTRIES: usize = if cfg!(miri) { 2_000 } else { 10_000 };
        let mut queue = VecDeque::from(vec![0_u32; ENTRIES]);
        let capacity = queue.capacity();
        for _ in 0..if cfg!(miri) { 2 } else { 10 } {
            while queue.len() > capacity / 4 {
                queue.pop_front();
                shrink(&mut queue);
            }
            queue.resize(ENTRIES, 0);
            assert_eq!(queue.capacity(), capacity);
        }
    }
}
