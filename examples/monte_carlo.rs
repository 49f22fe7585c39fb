//! A Monte Carlo run: the price of an option, as the mean over a million random walks.
//!
//! ```text
//! cargo run --release --example monte_carlo
//! ```
//!
//! Each batch has a seed of its own, its number. So the result is the same on any number of workers, and
//! the batches can be added up in order.

use std::time::Instant;

use concurrent_futures::{Error, ThreadPoolExecutor};

const BATCHES: u64 = 200;
const WALKS: u64 = 5_000;
const DAYS: u32 = 50;

/// A generator of random numbers in 0..1, by the steps of SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal, nearly: the sum of four uniform numbers, scaled to a variance of 1.
    fn step(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.next()).sum();
        (sum - 2.0) * 3.0_f64.sqrt()
    }
}

/// The sum of what the option is worth at the end of each walk of a batch.
fn batch(number: u64) -> f64 {
    let mut random = Random(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut worth = || {
        let days = (0..DAYS).fold(100.0, |price, _| price * (1.0 + 0.01 * random.step()));
        (days - 100.0).max(0.0)
    };
    (0..WALKS).map(|_| worth()).sum()
}

fn main() -> Result<(), Error> {
    let walks = (BATCHES * WALKS) as f64;

    let start = Instant::now();
    let serial: f64 = (0..BATCHES).map(batch).sum();
    println!("one thread: {:.6} in {:.1?}", serial / walks, start.elapsed());

    let pool = ThreadPoolExecutor::new();
    let start = Instant::now();
    let parallel: f64 = pool.map(batch, 0..BATCHES).result()?.into_iter().sum();
    let (workers, time) = (pool.max_workers(), start.elapsed());
    println!("{workers} workers: {:.6} in {time:.1?}", parallel / walks);

    assert_eq!(serial, parallel, "to the last bit");
    Ok(())
}
