//! The light endpoint, asked at a fixed rate.
//!
//! By a thread of its own with blocking calls: its answers take a fraction of a millisecond, and
//! tokio's timer knows only whole ones. It has one connection, so a request that is due while the
//! one before it waits is sent late; its time counts from when it was due all the same.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bench_common::http::Error;
use bench_common::stats::percentile;

use crate::Plan;

const EVERY: Duration = Duration::from_millis(5);
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// How each answer ends.
const END: &[u8] = b"\r\n\r\nok\n";

/// Of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Percentiles {
    /// `None` if there is nothing.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        if times.is_empty() {
            return None;
        }
        Some(Self { p50: percentile(&mut times, 0.5), p99: percentile(&mut times, 0.99) })
    }
}

pub(crate) struct Probe(JoinHandle<Result<Vec<Duration>, Error>>);

impl Probe {
    /// Runs for the time that a load takes.
    pub(crate) fn start(server: SocketAddr, plan: &Plan) -> Result<Self, Error> {
        let mut connection = TcpStream::connect(server)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        let begin = Instant::now();
        let (counts_from, end) = (begin + plan.warm_up, begin + plan.warm_up + plan.window);
        Ok(Self(thread::spawn(move || {
            let mut times = Vec::new();
            let mut due = begin;
            while due < end {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                ask(&mut connection)?;
                if due >= counts_from {
                    times.push(due.elapsed());
                }
                due += EVERY;
            }
            Ok(times)
        })))
    }

    pub(crate) fn finish(self) -> Result<Percentiles, Error> {
        let times = self.0.join().map_err(|_| "the thread that asks for /health panicked")??;
        Percentiles::of(times).ok_or_else(|| "no time to ask for /health".into())
    }
}

fn ask(connection: &mut TcpStream) -> Result<(), Error> {
    connection.write_all(REQUEST)?;
    let mut answer = [0; 1024];
    let mut length = 0;
    while !answer[..length].ends_with(END) {
        match connection.read(&mut answer[length..])? {
            0 => return Err("the service does not answer /health".into()),
            n => length += n,
        }
    }
    Ok(())
}
