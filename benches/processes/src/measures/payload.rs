//! An argument of many bytes.

use std::time::{Duration, Instant};

use concurrent_futures::Buffer;
use serde_bytes::ByteBuf;

use super::{Bar, Contender, Kind, Measure, Metric, TWO};
use crate::bench::{median_millis, on_runtime};
use crate::floors;
use crate::python;
use crate::sides::{Bytes, Ours, Procspawn, Side, Submitted, sum};

/// In MiB.
const COUNT: usize = 64;
/// A round's value is the median of these, after two that are not counted.
const TIMES: usize = 5;
const WARM_UP: usize = 2;

pub(super) fn measure() -> Measure {
    let mut contenders = vec![
        Contender::here("memcpy into a warm buffer, and read", Kind::Floor, COUNT, floor),
        Contender::here(Ours::NAME, Kind::Ours, COUNT, run::<Ours, Buffer<u8>>)
            .note("as a `Buffer<u8>`"),
        Contender::here(Procspawn::NAME, Kind::Peer, COUNT, run::<Procspawn, ByteBuf>)
            .note("as a `serde_bytes::ByteBuf`"),
    ];
    contenders.extend(
        python::rows("payload", &["fork"], COUNT)
            .map(|row| row.note("`bytes`, of which the worker counts one value instead of a sum")),
    );
    Measure {
        name: "payload",
        title: "Argument of 64 MiB",
        about: "Bytes that the caller has in its memory are handed to a worker, which answers \
                with their sum. Median of five, after two for warming up.",
        cpus: TWO,
        metrics: vec![Metric::lower("time", "ms").bar(Bar::Value(35.0))],
        contenders,
    }
}

fn run<S: Side, B: Bytes>(mebibytes: usize) -> Vec<f64> {
    let bytes = pattern(mebibytes);
    let right = sum(&bytes);
    on_runtime(async move {
        let side = S::new(1);
        let mut times = Vec::with_capacity(WARM_UP + TIMES);
        for _ in 0..WARM_UP + TIMES {
            let argument = bytes.clone();
            let start = Instant::now();
            let sum = side.submit(sum_of::<B>, B::of(argument)).result().await;
            times.push(start.elapsed());
            assert_eq!(sum, Ok(right));
        }
        median_of_warm(&times)
    })
}

fn sum_of<B: Bytes>(bytes: B) -> u64 {
    bytes.sum()
}

fn floor(mebibytes: usize) -> Vec<f64> {
    let from = pattern(mebibytes);
    let mut to = vec![1; from.len()];
    let mut copy_and_read = || {
        let (sum_of_copy, time) = floors::copy_and_read(&from, &mut to);
        assert_eq!(sum_of_copy, sum(&from));
        time
    };
    let times: Vec<_> = (0..WARM_UP + TIMES).map(|_| copy_and_read()).collect();
    median_of_warm(&times)
}

fn pattern(mebibytes: usize) -> Vec<u8> {
    (0..mebibytes << 20).map(|i| (i % 251) as u8).collect()
}

fn median_of_warm(times: &[Duration]) -> Vec<f64> {
    vec![median_millis(&times[WARM_UP..])]
}
