//! The call has been made already; its value is not a job.

use concurrent_futures::ThreadPoolExecutor;

fn double(n: u32) -> u32 {
    2 * n
}

fn main() {
    let pool = ThreadPoolExecutor::new();
    println!("{:?}", pool.submit(double(4)).result());
}
