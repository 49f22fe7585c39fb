//! Workers call the function at the same time, so it can't change what it captures.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    let mut sum = 0;
    let sums = pool.map(
        move |n: u32| {
            sum += n;
            sum
        },
        0..3,
    );
    println!("{:?}", sums.result());
}
