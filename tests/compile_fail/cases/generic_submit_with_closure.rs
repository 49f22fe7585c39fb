//! Code that is to run on any executor submits calls.

use concurrent_futures::Executor;

fn sum<E: Executor>(executor: &E, a: u32, b: u32) -> u32 {
    executor.submit(move || a + b).result().unwrap()
}

fn main() {
    println!("{}", sum(&concurrent_futures::InlineExecutor::new(), 1, 2));
}
