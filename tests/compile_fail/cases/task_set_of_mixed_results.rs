//! The tasks of a set have values of one type.

use concurrent_futures::{TaskSet, ThreadPoolExecutor};

fn main() {
    let pool = ThreadPoolExecutor::new();
    let mut set = TaskSet::new();
    set.push("length", pool.submit(|| "seven".len()));
    set.push("upper", pool.submit(|| "seven".to_uppercase()));
    for (key, value) in set.blocking() {
        println!("{key}: {value:?}");
    }
}
