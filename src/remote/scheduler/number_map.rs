//! A table by the numbers of tasks. In the pool's process, under the pool's lock.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table whose keys are numbers that this process has given, one after the other; so no worker can choose
/// keys that meet. A worker may ask for any number, which finds nothing.
pub(super) type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

/// Spreads numbers by one multiplication, where the hasher of the standard library takes as long as the
/// rest of a look.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        // An odd factor: numbers that follow each other differ in their lowest bits, which choose the place,
        // and in the highest ones, by which entries are told apart. By Fibonacci hashing, from "The Art of
        // Computer Programming", volume 3.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
