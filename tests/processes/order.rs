//! The order of starts, and what a worker has in front of it: tasks are sent ahead to workers that
//! are quick, and others take them over.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use concurrent_futures::{ParentPool, call};

use crate::support::within_limit;
use crate::tools::{Gate, Reports, end, hold, occupy_all, pool};

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
fn every_task_runs_once_whichever_worker_takes_it_over() {
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

/// Waits for a task of its own, which runs until the gate is open.
fn wait_for_child(started: Reports, gate: Gate) -> u32 {
    let pool = ParentPool::current().unwrap();
    pool.submit(call!(hold(started, gate, 5))).result().unwrap()
}

/// They may have been sent ahead to its worker.
#[test]
fn what_is_behind_a_task_that_waits_goes_elsewhere() {
    within_limit(|| {
        let pool = pool(2);
        for _ in 0..20 {
            let (first, gate) = (Gate::new(), Gate::new());
            let (ran, started) = (Reports::new(), Reports::new());
            let occupied = occupy_all(&pool, &first);
            // Quick ones, so that the worker is sent several at a time.
            let quick: Vec<_> =
                (0..50).map(|n| pool.submit(call!(report(ran.clone(), n)))).collect();
            let waits = pool.submit(call!(wait_for_child(started.clone(), gate.clone())));
            let behind: Vec<_> =
                (0..10).map(|n| pool.submit(call!(report(ran.clone(), n)))).collect();
            first.open();
            started.wait_for(1);
            for future in quick.into_iter().chain(behind) {
                assert!(future.result().is_ok());
            }
            assert!(!waits.is_done());
            gate.open();
            assert_eq!(waits.result().unwrap(), 5);
            drop(occupied);
        }
        end(&pool);
    });
}
