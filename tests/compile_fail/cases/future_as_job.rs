//! An async computation is not a job; there is `submit_future` for it.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    println!("{:?}", pool.submit(async { 7 }).result());
}
