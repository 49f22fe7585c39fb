//! Passes: types among the generic arguments need not read like expressions.

use concurrent_futures::{ThreadPoolExecutor, call};

fn size<T>() -> usize {
    size_of::<T>()
}

fn main() {
    let pool = ThreadPoolExecutor::new();
    let pairs = pool.submit(call!(size::<(u8, &'static str)>()));
    assert_eq!(pairs.result().unwrap(), size_of::<(u8, &'static str)>());
    let functions = pool.submit(call!(size::<(fn(u32) -> u32,)>()));
    assert_eq!(functions.result().unwrap(), size_of::<fn(u32) -> u32>());
}
