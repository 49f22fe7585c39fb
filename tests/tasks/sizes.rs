//! Jobs and results of every size and alignment: small ones lie together in memory, others alone.

use std::sync::Arc;

use concurrent_futures::{Error, Shutdown, TaskFuture, ThreadPoolExecutor};

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

/// A closed pool refuses a job that is in the memory of its task already.
#[test]
fn jobs_come_back_from_a_closed_pool_whatever_their_size_and_alignment() {
    fn comes_back<T: Copy + PartialEq + Send + 'static>(pool: &ThreadPoolExecutor, item: T) {
        let token = Arc::new(());
        let captured = (Arc::clone(&token), item);
        let refused = pool.try_submit(move || captured).unwrap_err();
        assert!(matches!(refused.error(), Error::ShutDown));
        assert_eq!(Arc::strong_count(&token), 2);
        let (inside, same) = refused.into_job()();
        assert!(Arc::ptr_eq(&inside, &token) && same == item);
        drop(inside);
        assert_eq!(Arc::strong_count(&token), 1);

        // One that does not come back is dropped, once.
        let captured = (Arc::clone(&token), item);
        let refused = pool.submit(move || captured);
        assert_eq!(Arc::strong_count(&token), 1);
        assert!(matches!(refused.result(), Err(Error::ShutDown)));
    }

    within_limit(|| {
        let pool = pool(1);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(pool.try_submit(|| 4).unwrap_err().into_job()(), 4);
        comes_back(&pool, ());
        comes_back(&pool, 1u8);
        comes_back(&pool, [2u64; 3]);
        comes_back(&pool, 3u128 << 100);
        comes_back(&pool, CacheLine([4; 64]));
        comes_back(&pool, Page([5; 4096]));
        comes_back(&pool, [6u8; 20_000]);
    });
}
