//! A queue between processes: ten numbers from one process to another, and then many of each.
//!
//! ```text
//! cargo run --release --example producer_consumer
//! ```

use concurrent_futures::ipc::{Receiver, Sender, channel};
use concurrent_futures::{ProcessPoolExecutor, as_completed, call};

fn produce(queue: Sender<u32>) {
    for number in 0..10 {
        // Waits while four numbers are in the queue that nobody has taken yet.
        queue.send_blocking(number).expect("there is a consumer");
        println!("process {} has sent {number}", std::process::id());
    }
}

fn consume(queue: Receiver<u32>) -> Vec<u32> {
    // Ends when all senders are gone.
    queue.blocking().map(|number| number.expect("it can be decoded")).collect()
}

fn produce_from(first: u32, queue: Sender<u32>) {
    for number in first..first + 10_000 {
        queue.send_blocking(number).expect("there are consumers");
    }
}

fn add_up(queue: Receiver<u32>) -> (u32, u64) {
    let numbers = queue.blocking().map(|number| number.expect("it can be decoded"));
    numbers.fold((0, 0), |(count, sum), number| (count + 1, sum + u64::from(number)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ProcessPoolExecutor::new()?;

    let (sender, receiver) = channel(4)?;
    let producer = pool.submit(call!(produce(sender)));
    let consumer = pool.submit(call!(consume(receiver)));
    println!("received: {:?}", consumer.await?);
    producer.await?;

    // Many of both. The handles that stay here are dropped: else the stream would have no end.
    let (sender, receiver) = channel(100)?;
    let producers: Vec<_> =
        (0..4).map(|n| pool.submit(call!(produce_from(n * 10_000, sender.clone())))).collect();
    let consumers: Vec<_> = (0..4).map(|_| pool.submit(call!(add_up(receiver.clone())))).collect();
    drop((sender, receiver));
    let (mut numbers, mut total) = (0, 0);
    let mut done = as_completed(consumers);
    while let Some((consumer, added)) = done.next().await {
        let (count, sum) = added?;
        println!("consumer {consumer} has had {count} numbers");
        numbers += count;
        total += sum;
    }
    for producer in producers {
        producer.await?;
    }
    assert_eq!((numbers, total), (40_000, 39_999 * 40_000 / 2));
    println!("{numbers} numbers, their sum is {total}");
    Ok(())
}
