//! What the two benchmarks of the operations have in common: `benches/operations.rs` takes the
//! time, `src/main.rs` counts instructions.

mod gate;
mod input;

pub use self::gate::Gate;
pub use self::input::{ITEMS, opaque, square, vec};

use concurrent_futures::{TaskFuture, ThreadPoolExecutor};

/// Tasks of a burst.
pub const TASKS: usize = 10_000;

/// A pool with so many workers, all of them started.
pub fn pool(workers: usize) -> ThreadPoolExecutor {
    let pool = ThreadPoolExecutor::builder().max_workers(workers).build();
    let pool = pool.expect("the number of workers is valid");
    drop(Gate::close(&pool));
    pool
}

/// Tasks that do nothing.
pub fn submit_all(pool: &ThreadPoolExecutor) -> Vec<TaskFuture<()>> {
    (0..TASKS).map(|_| pool.submit(|| ())).collect()
}

/// One after the other.
pub async fn await_all(futures: Vec<TaskFuture<()>>) {
    for future in futures {
        future.await.expect("no task fails");
    }
}
