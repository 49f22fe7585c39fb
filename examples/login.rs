//! A login handler: a password's hash is slow on purpose, so logins are what a service has too many of
//! first. The queue is as long as clients are patient; the others are told at once to come again.
//!
//! ```text
//! cargo run --release --example login
//! ```
//!
//! It brings its own clients: a crowd that comes at once, and one that hangs up.

use std::error::Error as StdError;
use std::hint::black_box;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, ThreadPoolExecutor};
use tokio::task::JoinSet;
use tokio::time::timeout;

const CLIENTS: usize = 200;
/// A client waits for half a second, say, and a hash takes some 20 ms: 25 for each worker.
const QUEUE_FOR_EACH_WORKER: usize = 25;

/// Stands for argon2: some 20 ms of work.
fn hash(password: &str) -> u64 {
    let seed = password.bytes().fold(7, |hash: u64, byte| hash * 31 + u64::from(byte));
    (0..10_000_000).fold(seed, |hash, round| black_box((hash ^ round).rotate_left(5)))
}

#[derive(Debug, PartialEq)]
enum Answer {
    Welcome,
    Refused,
    TryAgain,
}

async fn login(pool: ThreadPoolExecutor, expected: u64, password: String) -> Result<Answer, Error> {
    match pool.task().label("login").submit(move || hash(&password)).await {
        Ok(hash) if hash == expected => Ok(Answer::Welcome),
        Ok(_) => Ok(Answer::Refused),
        Err(Error::QueueFull { .. }) => Ok(Answer::TryAgain),
        Err(error) => Err(error),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let workers = ThreadPoolExecutor::new().max_workers();
    let capacity = workers * QUEUE_FOR_EACH_WORKER;
    let pool = ThreadPoolExecutor::builder().queue_capacity(capacity).build()?;
    let expected = hash("sesame");

    let start = Instant::now();
    let crowd = (0..CLIENTS).map(|n| {
        let password = if n % 2 == 0 { "sesame" } else { "simsim" };
        login(pool.clone(), expected, password.to_owned())
    });
    let answers = crowd.collect::<JoinSet<_>>().join_all().await;
    let answers: Vec<_> = answers.into_iter().collect::<Result<_, _>>()?;
    let count = |answer| answers.iter().filter(|other| **other == answer).count();
    let (welcome, refused) = (count(Answer::Welcome), count(Answer::Refused));
    let turned_away = count(Answer::TryAgain);
    println!("{welcome} are in, {refused} had the wrong password, {turned_away} may try again");
    println!("that took {:.1?}, with {workers} workers and a queue of {capacity}", start.elapsed());
    assert_eq!(welcome + refused + turned_away, CLIENTS);
    assert!(welcome + refused >= capacity.min(CLIENTS));

    // All workers have something to do; a client waits behind that, and hangs up.
    let busy: Vec<_> = (0..2 * workers).map(|_| pool.submit(|| hash("other"))).collect();
    let client = login(pool.clone(), expected, "sesame".to_owned());
    assert!(timeout(Duration::from_millis(1), client).await.is_err());
    println!("one has hung up: {} task was withdrawn", pool.metrics().cancelled);
    assert_eq!(pool.metrics().cancelled, 1);
    drop(busy);
    Ok(())
}
