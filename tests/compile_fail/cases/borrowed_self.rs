//! A method's job can't borrow `self`.

use concurrent_futures::{TaskFuture, ThreadPoolExecutor};

struct Index {
    pool: ThreadPoolExecutor,
    words: Vec<String>,
}

impl Index {
    fn longest(&self) -> TaskFuture<Option<usize>> {
        self.pool.submit(|| self.words.iter().map(String::len).max())
    }
}

fn main() {
    let index = Index { pool: ThreadPoolExecutor::new(), words: vec!["seven".to_owned()] };
    println!("{:?}", index.longest().result());
}
