//! One task to a worker process, and its result back.
//!
//! ```sh
//! cargo bench -p dependent
//! ```

#![allow(missing_docs, reason = "what criterion's macros make has none")]

use concurrent_futures::{ProcessPoolExecutor, call};
use criterion::{Criterion, criterion_group, criterion_main};
use dependent::square;

fn round_trip(criterion: &mut Criterion) {
    let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
    criterion.bench_function("round trip", |b| {
        b.iter(|| assert_eq!(pool.submit(call!(square(12))).result().unwrap(), 144));
    });
}

criterion_group!(benches, round_trip);
criterion_main!(benches);
