//! Jobs and results of every size and alignment: small ones lie together in memory, others alone.

use concurrent_futures::{TaskFuture, ThreadPoolExecutor};

use crate::support::{POOL_SIZES, pool, scaled, within_limit};

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
struct CacheLine([u8; 64]);

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(4096))]
struct Page([u8; 4096]);

/// A job that is as large as `item`, and a result that is.
fn there_and_back<T>(pool: &ThreadPoolExecutor, item: T) -> TaskFuture<(usize, T)>
where
    T: Copy + Send + 'static,
{
    pool.submit(move || (std::ptr::from_ref(&item).addr() % align_of::<T>(), item))
}

#[test]
fn jobs_and_results_come_through_whatever_their_size_and_alignment() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            // All of them at the same time, so that they are neighbours.
            for round in 0..scaled(50) as u8 {
                let nothing = there_and_back(&pool, ());
                let byte = there_and_back(&pool, round);
                let words = there_and_back(&pool, [u64::from(round); 3]);
                let wide = there_and_back(&pool, u128::from(round) << 100);
                let line = there_and_back(&pool, CacheLine([round; 64]));
                let limit = there_and_back(&pool, [round; 256 - 56]);
                let beyond = there_and_back(&pool, [round; 256 - 55]);
                let page = there_and_back(&pool, Page([round; 4096]));
                let large = there_and_back(&pool, [round; 20_000]);
                assert_eq!(nothing.result().unwrap(), (0, ()));
                assert_eq!(byte.result().unwrap(), (0, round));
                assert_eq!(words.result().unwrap(), (0, [u64::from(round); 3]));
                assert_eq!(wide.result().unwrap(), (0, u128::from(round) << 100));
                assert_eq!(line.result().unwrap(), (0, CacheLine([round; 64])));
                assert_eq!(limit.result().unwrap(), (0, [round; 256 - 56]));
                assert_eq!(beyond.result().unwrap(), (0, [round; 256 - 55]));
                assert_eq!(page.result().unwrap(), (0, Page([round; 4096])));
                assert_eq!(large.result().unwrap(), (0, [round; 20_000]));
            }
        }
    });
}
