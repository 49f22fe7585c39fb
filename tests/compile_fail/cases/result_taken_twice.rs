//! `result` takes the future.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let future = ThreadPoolExecutor::new().submit(|| 7);
    println!("{:?}", future.result());
    println!("{:?}", future.result());
}
