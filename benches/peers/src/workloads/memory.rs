//! What a task costs while it waits in the queue. Each measurement is a process of its own: this
//! program, started with `--memory-of`.

use std::env;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;

use bench_common::program;

use super::{Metric, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, Gate, on_runtime, warm_up};
use crate::memory::{Count, resident};
use crate::peers::Peer;

pub(super) fn workload() -> Workload {
    Workload {
        name: "memory",
        title: "Memory per pending task, 1,000,000 queued",
        about: "What 1,000,000 queued tasks add, each with a closure of 8 bytes, while both \
                workers are busy. First the resident memory of a fresh process, which has all in \
                it; then the bytes of live heap blocks as they were asked for, without what the \
                allocator adds. The `Vec` that the handles are in is left out of both, for all \
                alike; the third table has the size of a handle.",
        count: Memory::COUNT,
        unit: "tasks",
        metrics: vec![
            Metric::lower("resident", "bytes per task"),
            Metric::lower("asked for", "bytes per task").not_compared(),
            Metric::lower("handle", "bytes per handle, in the caller's `Vec`").not_compared(),
        ],
        contenders: on_peers::<Memory>(),
    }
}

struct Memory;

impl OnPeers for Memory {
    const COUNT: usize = 1_000_000;

    fn plan(peer: &str) -> Plan {
        match peer {
            "spawn_blocking, 512 threads" => {
                Plan::Skip("it starts 512 threads before it queues; see spawn_blocking")
            }
            _ => Plan::Run,
        }
    }

    fn run<P: Peer>(_bench: &Bench, count: usize) -> Vec<f64> {
        let program = env::current_exe().expect("it runs, so it is somewhere");
        let mut command = Command::new(program);
        command.args(["--memory-of", P::NAME, &count.to_string()]);
        program::values(&mut command).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The other process: prints a value for each metric.
pub(super) fn of_peer(name: &str, count: usize) {
    let contenders = on_peers::<InThisProcess>();
    let contender = contenders.iter().find(|contender| contender.name == name);
    let run = contender.and_then(|contender| contender.run.as_ref());
    for value in run.expect("the name of a peer")(&Bench::default(), count) {
        println!("{value}");
    }
}

struct InThisProcess;

impl OnPeers for InThisProcess {
    const COUNT: usize = Memory::COUNT;

    fn run<P: Peer>(_bench: &Bench, count: usize) -> Vec<f64> {
        let per_task = move |bytes: usize| bytes as f64 / count as f64;
        on_runtime(async move |peer: Arc<P>| {
            warm_up(&*peer).await;
            let gate = Gate::close(&*peer).await;
            let before = resident();
            let memory = Count::start();

            let held = peer.hold((0..count).map(|i| move || black_box(i)));

            let asked_for = memory.live().max(0) as usize - held.bytes_of_vec;
            drop(memory);
            let after = resident();
            let handles = held.bytes_of_vec;
            drop(held);
            drop(gate);
            let grown = after.zip(before).map(|(after, before)| {
                per_task(after.saturating_sub(before).saturating_sub(handles))
            });
            vec![grown.unwrap_or(f64::NAN), per_task(asked_for), per_task(handles)]
        })
    }
}
