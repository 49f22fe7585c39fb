//! A server that computes and keeps answering: its single I/O thread hands the work to a pool.
//!
//! ```text
//! cargo run --release --example io_and_compute
//! ```
//!
//! It brings its own clients, on loopback. Four ask for computations that keep all CPUs busy; one
//! sends ping after ping meanwhile and measures how long the worst answer takes.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use concurrent_futures::ThreadPoolExecutor;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const LIMIT: u64 = 1_000_000;
const PRIMES: &str = "78498";

/// All of it is work for a CPU. Called in an async function, it would hold up every connection.
fn count_primes(limit: u64) -> usize {
    let is_prime = |n| (2..).take_while(|d| d * d <= n).all(|d| n % d != 0);
    (2..limit).filter(|n| is_prime(*n)).count()
}

async fn listen(listener: TcpListener) -> Result<()> {
    let pool = ThreadPoolExecutor::new();
    loop {
        let (connection, _) = listener.accept().await?;
        let pool = pool.clone(); // another handle of the same workers
        tokio::spawn(async move {
            if let Err(error) = serve(connection, pool).await {
                eprintln!("closed a connection: {error}");
            }
        });
    }
}

/// Answers line by line: `ping` with `pong`, `primes N` with the number of primes below N.
async fn serve(connection: TcpStream, pool: ThreadPoolExecutor) -> Result<()> {
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    while connection.read_line(&mut line).await? > 0 {
        let answer = if line == "ping\n" {
            "pong\n".to_owned()
        } else if let Some(limit) = line.strip_prefix("primes ") {
            let limit = limit.trim_end().parse()?;
            // While this waits for the pool, the thread serves other connections.
            let primes = pool.submit(move || count_primes(limit)).await?;
            format!("{primes}\n")
        } else {
            return Err(format!("unknown request {line:?}").into());
        };
        connection.write_all(answer.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

async fn connect(server: SocketAddr) -> Result<BufReader<TcpStream>> {
    Ok(BufReader::new(TcpStream::connect(server).await?))
}

async fn ask(connection: &mut BufReader<TcpStream>, request: &str) -> Result<String> {
    connection.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_line(&mut answer).await?;
    Ok(answer.trim_end().to_owned())
}

async fn ask_for_primes(server: SocketAddr) -> Result<String> {
    ask(&mut connect(server).await?, &format!("primes {LIMIT}")).await
}

// A single thread for all I/O, server and clients: whatever blocked it would show in the pings.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?; // 0: any free port
    let server = listener.local_addr()?;
    tokio::spawn(listen(listener));

    let start = Instant::now();
    let computations = [server; 4].map(|server| tokio::spawn(ask_for_primes(server)));
    let mut connection = connect(server).await?;
    let (mut pings, mut worst) = (0, Duration::ZERO);
    while !computations.iter().all(|answer| answer.is_finished()) {
        let sent = Instant::now();
        let answer = ask(&mut connection, "ping").await?;
        assert_eq!(answer, "pong");
        pings += 1;
        worst = worst.max(sent.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    println!("4 computations took {:.1?} together", start.elapsed());
    println!("{pings} pings were answered meanwhile, the slowest in {worst:.1?}");

    for answer in computations {
        assert_eq!(answer.await??, PRIMES);
    }
    // Computed on this thread, the four would let a handful of pings through between them.
    assert!(pings > 10, "the computations held up the pings");
    Ok(())
}
