//! Work while workers die.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use bench_common::comparison::Better;
use bench_common::stats;

use super::{Bar, Contender, Kind, Measure, Metric, TWO};
use crate::bench::on_runtime;
use crate::python;
use crate::sides::{Ours, Procspawn, Side, Submitted};
use crate::system;

const COUNT: usize = 10_000;
/// Between two kills.
const PERIOD: Duration = Duration::from_millis(50);
/// Of a task: some 0.2 ms, so that all take about a second.
const STEPS: u64 = 450_000;

pub(super) fn measure() -> Measure {
    let mut contenders = vec![
        Contender::here(Ours::NAME, Kind::Ours, COUNT, run::<Ours>),
        Contender::here(Procspawn::NAME, Kind::Peer, COUNT, run::<Procspawn>)
            .note("no retries: what a lost worker ran is missing; 64 pending at a time"),
    ];
    contenders.extend(
        python::rows("chaos", &["fork"], COUNT)
            .map(|row| row.note("the first lost worker breaks the pool, and all that is pending")),
    );
    Measure {
        name: "chaos",
        title: "10,000 tasks while a random worker is killed every 50 ms",
        about: "Tasks of about 0.2 ms on a pool of two, with retries where the pool has them. \
                Each value is checked.",
        cpus: TWO,
        metrics: vec![
            Metric {
                name: "right values",
                unit: "of 10,000",
                better: Better::Higher,
                bar: Some(Bar::Value(COUNT as f64)),
            },
            Metric::higher("workers killed", ""),
            Metric::lower("time", "ms"),
        ],
        contenders,
    }
}

fn run<S: Side>(count: usize) -> Vec<f64> {
    let side = Arc::new(S::new(TWO));
    let done = Arc::new(AtomicBool::new(false));
    let killer = thread::spawn({
        let (side, done) = (Arc::clone(&side), Arc::clone(&done));
        move || kill_until(&*side, &done)
    });
    let start = Instant::now();
    let right = on_runtime(async move {
        let work = spin();
        let mut right = 0;
        let mut pending = VecDeque::with_capacity(count.min(S::WINDOW));
        for number in 0..count as u64 {
            if pending.len() == S::WINDOW {
                right += oldest_is_right(&mut pending, work).await;
            }
            pending.push_back((number, side.submit_retried(spin_and_add, number)));
        }
        while !pending.is_empty() {
            right += oldest_is_right(&mut pending, work).await;
        }
        right
    });
    let time = start.elapsed();
    done.store(true, Relaxed);
    let killed = killer.join().expect("the killer does not panic");
    assert!(killed > 0 || time < 4 * PERIOD, "no worker was found to kill: nothing is proven");
    vec![f64::from(right), f64::from(killed), stats::millis(time)]
}

/// 1 if it is.
async fn oldest_is_right<H: Submitted<u64>>(pending: &mut VecDeque<(u64, H)>, work: u64) -> u32 {
    let Some((number, submitted)) = pending.pop_front() else { return 0 };
    u32::from(submitted.result().await == Ok(work.wrapping_add(number)))
}

fn spin_and_add(number: u64) -> u64 {
    spin().wrapping_add(number)
}

/// A chain in which each step needs the one before it.
fn spin() -> u64 {
    let mut x = black_box(1_u64);
    for _ in 0..STEPS {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    x
}

/// How many it killed.
fn kill_until<S: Side>(side: &S, done: &AtomicBool) -> u32 {
    let mut killed = 0;
    let mut random = 88_172_645_463_325_252_u64;
    loop {
        thread::sleep(PERIOD);
        if done.load(Relaxed) {
            break killed;
        }
        // Xorshift.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let workers = side.worker_pids();
        if !workers.is_empty() {
            system::kill(workers[random as usize % workers.len()]);
            killed += 1;
        }
    }
}
