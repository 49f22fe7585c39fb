//! A process that owns a map and serves requests for it, in place of Python's `Manager`: any process that has a
//! client asks it, and a request carries the channel for its reply.
//!
//! ```text
//! cargo run --release --example actor
//! ```

use std::collections::HashMap;

use concurrent_futures::ipc::{Receiver, Sender, channel};
use concurrent_futures::{Process, ProcessPoolExecutor, call};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Request {
    Add { name: String, amount: i64 },
    Balance { name: String, reply: Sender<Option<i64>> },
}

/// The process that has the accounts. It ends when there are no clients any more, with the accounts as its value.
fn serve(requests: Receiver<Request>) -> HashMap<String, i64> {
    let mut accounts = HashMap::new();
    for request in requests.blocking() {
        match request.expect("it can be decoded") {
            Request::Add { name, amount } => *accounts.entry(name).or_default() += amount,
            Request::Balance { name, reply } => {
                // A client that does not wait for its reply any more is no matter of the accounts.
                let _ = reply.send_blocking(accounts.get(&name).copied());
            }
        }
    }
    accounts
}

/// What asks the process. It can be cloned, and sent to other processes.
#[derive(Clone, Serialize, Deserialize)]
struct Accounts {
    requests: Sender<Request>,
}

impl Accounts {
    async fn add(&self, name: &str, amount: i64) -> Result<(), Box<dyn std::error::Error>> {
        let request = Request::Add { name: name.to_owned(), amount };
        Ok(self.requests.send(request).await.map_err(|_| "the process is gone")?)
    }

    async fn balance(&self, name: &str) -> Result<Option<i64>, Box<dyn std::error::Error>> {
        // A channel for each request is simple, and takes some 50 us; a client that asks often keeps one.
        let (reply, balance) = channel(1)?;
        let request = Request::Balance { name: name.to_owned(), reply };
        self.requests.send(request).await.map_err(|_| "the process is gone")?;
        Ok(balance.recv().await?)
    }
}

/// A task of a pool is a client as well, and blocks.
fn deposit(accounts: Accounts, name: String) {
    for _ in 0..100 {
        let request = Request::Add { name: name.clone(), amount: 1 };
        accounts.requests.send_blocking(request).map_err(|_| "the process is gone").unwrap();
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (requests, receiver) = channel(16)?;
    let bank = Process::spawn(call!(serve(receiver)));
    let accounts = Accounts { requests };

    accounts.add("Ada", 50).await?;
    accounts.add("Ada", -20).await?;
    assert_eq!(accounts.balance("Ada").await?, Some(30));
    assert_eq!(accounts.balance("Bob").await?, None);

    let pool = ProcessPoolExecutor::new()?;
    let tasks: Vec<_> =
        (0..4).map(|_| pool.submit(call!(deposit(accounts.clone(), "Bob".to_owned())))).collect();
    for task in tasks {
        task.await?;
    }
    // What was sent before is in the queue before.
    println!("Bob has {:?}", accounts.balance("Bob").await?);
    assert_eq!(accounts.balance("Bob").await?, Some(400));

    drop(accounts); // the last client
    let all = bank.await?;
    println!("at the end: {all:?}");
    assert_eq!(all, HashMap::from([("Ada".to_owned(), 30), ("Bob".to_owned(), 400)]));
    Ok(())
}
