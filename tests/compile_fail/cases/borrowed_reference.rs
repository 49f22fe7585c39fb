//! `move` moves a reference, and not what it refers to.

use concurrent_futures::ThreadPoolExecutor;

fn length(pool: &ThreadPoolExecutor, text: &str) -> usize {
    pool.submit(move || text.len()).result().unwrap()
}

fn main() {
    println!("{}", length(&ThreadPoolExecutor::new(), "seven"));
}
