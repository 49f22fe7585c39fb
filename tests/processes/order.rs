//! The order of starts, and what a worker has in front of it: tasks are sent ahead to workers that
//! are quick, and others take them over.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use concurrent_futures::call;

use crate::support::within_limit;
use crate::tools::{Reports, end, pool};

fn report(ran: Reports, n: u32) -> u32 {
    ran.add(n);
    n
}

/// Keeps the processor for a while: quick, or not so quick.
fn spin_and_report(ran: Reports, n: u32) -> u32 {
    let end = Instant::now() + Duration::from_micros(if n % 16 == 0 { 700 } else { 5 });
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    report(ran, n)
}

#[test]
fn every_task_runs_once_whoever_takes_it_over() {
    within_limit(|| {
        for size in [2, 4] {
            let pool = pool(size);
            for _ in 0..5 {
                let ran = Reports::new();
                let futures: Vec<_> = (0..2_000)
                    .map(|n| pool.submit(call!(spin_and_report(ran.clone(), n))))
                    .collect();
                for (n, future) in (0..).zip(futures) {
                    assert_eq!(future.result().unwrap(), n);
                }
                let mut twice = ran.get();
                twice.sort_unstable();
                let once = twice.iter().copied().collect::<BTreeSet<_>>();
                for n in &once {
                    twice.remove(twice.binary_search(n).unwrap());
                }
                assert_eq!((once.len(), twice), (2_000, Vec::new()));
            }
            end(&pool);
        }
    });
}
