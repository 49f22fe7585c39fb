//! A worker process is told which function to call, with which arguments.

use concurrent_futures::ProcessPoolExecutor;

fn prepare() {}

fn main() {
    let pool = ProcessPoolExecutor::builder().initializer(prepare).build();
    println!("{pool:?}");
}
