//! Code that is to run on any executor passes values that could cross to another process.

use concurrent_futures::{Executor, call};

struct Image(Vec<u8>);

fn size(image: Image) -> usize {
    image.0.len()
}

fn measured<E: Executor>(executor: &E, image: Image) -> usize {
    executor.submit(call!(size(image))).result().unwrap()
}

fn main() {
    println!("{}", measured(&concurrent_futures::InlineExecutor::new(), Image(vec![7])));
}
