//! Code that is to run on any executor passes what could move to another process.

use std::rc::Rc;

use concurrent_futures::{Error, Executor, InlineExecutor, call};

fn length(text: Rc<str>) -> usize {
    text.len()
}

fn measured<E: Executor>(executor: &E, text: Rc<str>) -> Result<usize, Error> {
    executor.submit(call!(length(text))).result()
}

fn main() {
    println!("{:?}", measured(&InlineExecutor::new(), "seven".into()));
}
