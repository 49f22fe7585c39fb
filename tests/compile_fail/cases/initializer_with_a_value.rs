//! An initializer returns nothing, or a `Result` of nothing.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::builder().initializer(|| 7).build();
    println!("{pool:?}");
}
