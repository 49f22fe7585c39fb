//! The arguments of `call!` are checked as in a direct call.

use concurrent_futures::call;

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn main() {
    let _too_few = call!(add(1));
    let _wrong = call!(add(1, "two"));
}
