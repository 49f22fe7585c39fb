//! Completing takes the completer.

use concurrent_futures::TaskFuture;

fn main() {
    let (completer, future) = TaskFuture::promise();
    completer.complete(Ok(1));
    completer.complete(Ok(2));
    println!("{:?}", future.result());
}
