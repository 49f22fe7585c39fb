//! Processes are killed while they hold a lock, a permit or an item, and the others go on: the books are right at the
//! end.
//!
//! ```text
//! cargo run --release --example survive_kill
//! ```

use std::collections::HashMap;

use concurrent_futures::ipc::{Lock, Receiver, Semaphore, Sender, SharedArray, Value, channel};
use concurrent_futures::{Process, call};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Books {
    /// The orders that were booked, and their sum.
    orders: u64,
    sum: u64,
}

/// All that the processes share.
#[derive(Clone, Serialize, Deserialize)]
struct Shop {
    orders: Receiver<u64>,
    books: Value<Books>,
    tills: Semaphore,
    door: Lock,
    /// The number of orders that were taken, and that of guards that were found abandoned.
    counts: SharedArray<u64>,
}

const TAKEN: usize = 0;
const ABANDONED: usize = 1;

fn clerk(shop: Shop) {
    for order in shop.orders.clone().blocking() {
        let order = order.expect("it can be decoded");
        shop.counts.add(TAKEN, 1);
        let _till = shop.tills.acquire_blocking();
        let door = shop.door.lock_blocking();
        if door.was_abandoned() {
            shop.counts.add(ABANDONED, 1);
        }
        // Happens as a whole, or not at all.
        let booked = shop.books.with_blocking(|books| {
            books.orders += 1;
            books.sum += order;
        });
        booked.expect("it can be encoded");
    }
}

fn send_orders(orders: Sender<u64>, count: u64) {
    (1..=count).for_each(|order| orders.send_blocking(order).expect("there are clerks"));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    const CLERKS: u64 = 4;
    const KILLS: u64 = 100;
    const ORDERS: u64 = 200_000;
    let (sender, orders) = channel(100)?;
    let shop = Shop {
        orders,
        books: Value::new(Books::default())?,
        tills: Semaphore::new(2)?,
        door: Lock::new()?,
        counts: SharedArray::zeroed(2)?,
    };
    let customers = Process::spawn(call!(send_orders(sender, ORDERS)));
    let hire = || Process::spawn(call!(clerk(shop.clone())));
    let mut clerks: HashMap<u64, Process<()>> = (0..CLERKS).map(|n| (n, hire())).collect();
    let mut killed = 0;
    while killed < KILLS {
        // After some hundred orders more the next clerk is killed, wherever it is.
        let next = (killed + 1) * (ORDERS / 2 / KILLS);
        shop.books.wait_until(|books| books.orders >= next).await?;
        let clerk = clerks.insert(killed % CLERKS, hire()).expect("there is one");
        clerk.kill();
        clerk.join().await;
        killed += 1;
    }
    customers.await?;
    for (_, clerk) in clerks {
        // The queue is empty, and has no sender any more.
        clerk.await?;
    }
    let (books, taken) = (shop.books.get()?, shop.counts.load(TAKEN));
    let abandoned = shop.counts.load(ABANDONED);
    println!("{killed} of the clerks were killed, {abandoned} with the key of the door");
    println!(
        "{ORDERS} orders sent, {taken} taken, {} booked, their sum is {}",
        books.orders, books.sum
    );
    // Each kill can have lost the one order that the clerk had, and no other.
    assert!(taken <= ORDERS && books.orders <= ORDERS && books.orders + killed >= ORDERS);
    assert!(books.sum <= ORDERS * (ORDERS + 1) / 2);
    assert_eq!((shop.tills.available(), shop.door.try_lock().is_some()), (2, true));
    Ok(())
}
