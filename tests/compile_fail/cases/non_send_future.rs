//! An async body moves between workers, and with it what it holds over an await.

use std::rc::Rc;

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    let future = pool.submit_future(async {
        let shared = Rc::new(7);
        std::future::ready(()).await;
        *shared
    });
    println!("{:?}", future.result());
}
