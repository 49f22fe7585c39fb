//! The hard parts: the window of a map, waits inside of jobs, the bounded queue, and
//! the order of starts.

mod capacity;
mod map;
mod nesting;
mod order;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;

use concurrent_futures::ThreadPoolExecutor;

/// Waits until no worker has a task and none is queued. What happens after that is the doing of
/// the test.
fn until_quiet(pool: &ThreadPoolExecutor) {
    loop {
        let now = pool.metrics();
        if now.queued == 0 && now.idle == now.workers {
            return;
        }
        std::thread::yield_now();
    }
}

/// Small random numbers, to disturb the schedule (xorshift).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Gives the processor away, now and then.
    fn disturb(&mut self) {
        if self.below(4) == 0 {
            for _ in 0..self.below(4) {
                std::thread::yield_now();
            }
        }
    }
}
