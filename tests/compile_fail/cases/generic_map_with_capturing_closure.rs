//! Code that is to run on any executor maps with a plain function.

use concurrent_futures::Executor;

fn scaled<E: Executor>(executor: &E, by: u32) -> Vec<u32> {
    executor.map(move |n: u32| n * by, 0..10).result().unwrap()
}

fn main() {
    println!("{:?}", scaled(&concurrent_futures::InlineExecutor::new(), 2));
}
