//! A service that survives its parser: what an input can do to the parser, it does to a worker
//! process, and to nobody else.
//!
//! ```text
//! cargo run --release --example untrusted_input
//! ```
//!
//! It brings its own clients, on loopback. Some send numbers, which the service adds up; others
//! what the parser has no answer to: it refuses one, aborts at another, and never ends with a third.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use concurrent_futures::{PortableError, ProcessPoolExecutor, WorkerStderr, call};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// An honest input takes microseconds, and next to no memory.
const TIME_LIMIT: Duration = Duration::from_millis(500);
const MEMORY_LIMIT: u64 = 256 << 20;

/// Adds up numbers. Nobody has told its author of byte order marks.
fn parse(input: Vec<u8>) -> Result<u64, PortableError> {
    match input.as_slice() {
        [0xff, 0xfe, ..] => std::process::abort(),
        [0xfe, 0xff, ..] => loop {
            std::hint::spin_loop();
        },
        _ => {}
    }
    let text = String::from_utf8(input)?;
    let numbers = text.split(' ').map(str::parse::<u64>);
    Ok(numbers.sum::<Result<u64, _>>()?)
}

async fn listen(listener: TcpListener, pool: ProcessPoolExecutor) -> io::Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(serve(connection, pool.clone()));
    }
}

/// Answers one request: the input's length in two bytes, and the input.
async fn serve(mut connection: TcpStream, pool: ProcessPoolExecutor) -> io::Result<()> {
    let mut input = vec![0; connection.read_u16().await?.into()];
    connection.read_exact(&mut input).await?;
    let parsed = pool.task().timeout(TIME_LIMIT).submit(call!(parse(input))).await;
    let answer = match parsed {
        Ok(Ok(sum)) => format!("the sum is {sum}"),
        Ok(Err(message)) => format!("bad request: {message}"),
        Err(error) => {
            println!("service: {error:?}"); // to the operator, not to whoever sent that
            "the request can't be handled".to_owned()
        }
    };
    connection.write_all(answer.as_bytes()).await
}

async fn ask(server: SocketAddr, input: &[u8]) -> Result<String> {
    let mut connection = TcpStream::connect(server).await?;
    connection.write_u16(input.len().try_into()?).await?;
    connection.write_all(input).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    println!("client: \"{}\": {answer}", input.escape_ascii());
    Ok(answer)
}

#[tokio::main]
async fn main() -> Result<()> {
    let pool = ProcessPoolExecutor::builder()
        .memory_limit(MEMORY_LIMIT)
        .stderr(WorkerStderr::Tail) // to have a parser's last words in the error
        .build()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?; // 0: any free port
    let server = listener.local_addr()?;
    tokio::spawn(listen(listener, pool));

    let inputs: [(&[u8], _); 6] = [
        (b"1 2 3", "the sum is 6"),
        (b"\xff\xfe1", "the request can't be handled"),
        (b"4 five", "bad request: invalid digit found in string"),
        (b"\xfe\xff1", "the request can't be handled"),
        (b"6 7", "the sum is 13"),
        (b"8", "the sum is 8"),
    ];
    let clients = inputs.map(|(input, expected)| (tokio::spawn(ask(server, input)), expected));
    for (answer, expected) in clients {
        assert_eq!(answer.await??, expected);
    }
    assert_eq!(ask(server, b"9 10").await?, "the sum is 19");
    Ok(())
}
