//! The sides: each does the same work with the other process.

use std::io::{Read, Write, stdin, stdout};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench_common::program;
use concurrent_futures::ipc::{Receiver, Sender, channel};
use concurrent_futures::{ProcessPoolExecutor, call};
use ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// The work of the other process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Sends each item back.
    RoundTrip,
    /// Takes them all, and says so.
    Stream,
    /// The same; items are text.
    StreamText,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round_trip",
            Self::Stream => "stream",
            Self::StreamText => "stream_text",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        [Self::RoundTrip, Self::Stream, Self::StreamText]
            .into_iter()
            .find(|work| work.name() == name)
            .expect("it is one of them")
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Other {
    pub(crate) work: Work,
    pub(crate) size: usize,
    pub(crate) count: usize,
    pub(crate) cpu: usize,
}

fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).expect("there is such a CPU");
}

/// Microseconds for an item.
pub(crate) fn run(side: &str, job: Other, cpu: usize) -> f64 {
    let time = match side {
        "channel" if job.work == Work::StreamText => texts(job, cpu),
        "channel" => channels(job, cpu, false),
        "channel, async" => channels(job, cpu, true),
        "pipe" => pipes(job, cpu),
        "stream socket" => sockets(job, cpu),
        "ipc-channel" => ipc_channels(job, cpu),
        _ => return python(job, cpu) * 1e6 / job.count as f64,
    };
    time.as_secs_f64() * 1e6 / job.count as f64
}

pub(crate) fn other(side: &str, job: Other, address: Option<&str>) {
    pin(job.cpu);
    match side {
        "pipe" => answer(job, &mut stdin(), &mut stdout()),
        "stream socket" => {
            let socket = rustix::io::dup(stdin()).expect("it is a socket");
            let mut socket = UnixStream::from(socket);
            answer(job, &mut socket.try_clone().expect("it can be"), &mut socket);
        }
        _ => ipc_channel_answers(job, address.expect("its name")),
    }
}

// ---- This crate ----

fn answer_channel(job: Other, requests: Receiver<Vec<u8>>, replies: Sender<Vec<u8>>) {
    pin(job.cpu);
    replies.send_blocking(Vec::new()).expect("it waits for that");
    for _ in 0..job.count {
        let item = requests.recv_blocking().expect("it is sent");
        if job.work == Work::RoundTrip {
            replies.send_blocking(item).expect("it waits for that");
        }
    }
    replies.send_blocking(Vec::new()).expect("it waits for that");
}

fn channels(job: Other, cpu: usize, is_async: bool) -> Duration {
    let pool = ProcessPoolExecutor::builder().max_workers(1).build().expect("it can be made");
    let (sender, requests) = channel(1_000).expect("it can be made");
    let (replies, receiver) = channel(1_000).expect("it can be made");
    let other = pool.submit(call!(answer_channel(job, requests, replies)));
    receiver.recv_blocking().expect("it begins");
    pin(cpu);
    let item = vec![7; job.size];
    let begin = Instant::now();
    if is_async {
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("it can be made");
        runtime.block_on(async {
            for _ in 0..job.count {
                sender.send(item.clone()).await.expect("it is received");
                receiver.recv().await.expect("it is sent back");
            }
        });
    } else {
        for _ in 0..job.count {
            sender.send_blocking(item.clone()).expect("it is received");
            if job.work == Work::RoundTrip {
                receiver.recv_blocking().expect("it is sent back");
            }
        }
    }
    receiver.recv_blocking().expect("it ends");
    let time = begin.elapsed();
    other.result().expect("it has ended");
    time
}

fn take_texts(job: Other, requests: Receiver<String>, replies: Sender<()>) {
    pin(job.cpu);
    replies.send_blocking(()).expect("it waits for that");
    for _ in 0..job.count {
        requests.recv_blocking().expect("it is sent");
    }
    replies.send_blocking(()).expect("it waits for that");
}

fn texts(job: Other, cpu: usize) -> Duration {
    let pool = ProcessPoolExecutor::builder().max_workers(1).build().expect("it can be made");
    let (sender, requests) = channel(1_000).expect("it can be made");
    let (replies, receiver) = channel(1).expect("it can be made");
    let other = pool.submit(call!(take_texts(job, requests, replies)));
    receiver.recv_blocking().expect("it begins");
    pin(cpu);
    let item = "x".repeat(job.size);
    let begin = Instant::now();
    for _ in 0..job.count {
        sender.send_blocking(item.clone()).expect("it is received");
    }
    receiver.recv_blocking().expect("it ends");
    let time = begin.elapsed();
    other.result().expect("it has ended");
    time
}

// ---- The system ----

fn program(side: &str, job: Other) -> Command {
    let [size, count, cpu] = [job.size, job.count, job.cpu].map(|it| it.to_string());
    let mut command = Command::new(std::env::current_exe().expect("it runs"));
    command.args(["--other", side, job.work.name(), &size, &count, &cpu]);
    command
}

fn answer(job: Other, from: &mut impl Read, to: &mut impl Write) {
    let mut item = vec![0; job.size];
    to.write_all(&[1]).and_then(|()| to.flush()).expect("it waits for that");
    for _ in 0..job.count {
        from.read_exact(&mut item).expect("it is sent");
        if job.work == Work::RoundTrip {
            to.write_all(&item).and_then(|()| to.flush()).expect("it waits for that");
        }
    }
    to.write_all(&[1]).and_then(|()| to.flush()).expect("it waits for that");
}

fn ask(job: Other, cpu: usize, from: &mut impl Read, to: &mut impl Write) -> Duration {
    from.read_exact(&mut [0]).expect("it begins");
    pin(cpu);
    let mut item = vec![7; job.size];
    let begin = Instant::now();
    for _ in 0..job.count {
        to.write_all(&item).expect("it is received");
        if job.work == Work::RoundTrip {
            from.read_exact(&mut item).expect("it is sent back");
        }
    }
    from.read_exact(&mut [0]).expect("it ends");
    begin.elapsed()
}

fn pipes(job: Other, cpu: usize) -> Duration {
    let mut command = program("pipe", job);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let (mut to, mut from) = (child.stdin.take(), child.stdout.take());
    let pair = from.as_mut().zip(to.as_mut()).expect("there are pipes");
    let time = ask(job, cpu, pair.0, pair.1);
    child.wait().expect("it ends");
    time
}

fn sockets(job: Other, cpu: usize) -> Duration {
    let (mut ours, theirs) = UnixStream::pair().expect("it can be made");
    let mut command = program("stream socket", job);
    let mut child = command.stdin(OwnedFd::from(theirs)).spawn().expect("it runs");
    let time = ask(job, cpu, &mut ours.try_clone().expect("it can be"), &mut ours);
    child.wait().expect("it ends");
    time
}

// ---- ipc-channel, with bytes, its quickest ----

type Ends = (IpcBytesSender, IpcBytesReceiver);

fn ipc_channels(job: Other, cpu: usize) -> Duration {
    let (server, name) = IpcOneShotServer::<Ends>::new().expect("it can be made");
    let mut child = program("ipc-channel", job).arg(name).spawn().expect("it runs");
    let (_, (sender, receiver)) = server.accept().expect("it connects");
    receiver.recv().expect("it begins");
    pin(cpu);
    let item = vec![7; job.size];
    let begin = Instant::now();
    for _ in 0..job.count {
        sender.send(&item).expect("it is received");
        if job.work == Work::RoundTrip {
            receiver.recv().expect("it is sent back");
        }
    }
    receiver.recv().expect("it ends");
    let time = begin.elapsed();
    child.wait().expect("it ends");
    time
}

fn ipc_channel_answers(job: Other, name: &str) {
    let server = IpcSender::<Ends>::connect(name.to_owned()).expect("it is there");
    let (to_here, requests) = bytes_channel().expect("it can be made");
    let (replies, to_there) = bytes_channel().expect("it can be made");
    server.send((to_here, to_there)).expect("it waits for that");
    replies.send(&[]).expect("it waits for that");
    for _ in 0..job.count {
        let item = requests.recv().expect("it is sent");
        if job.work == Work::RoundTrip {
            replies.send(&item).expect("it waits for that");
        }
    }
    replies.send(&[]).expect("it waits for that");
}

// ---- Python ----

fn python(job: Other, cpu: usize) -> f64 {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/ipc.py");
    let [size, count, here, there] = [job.size, job.count, cpu, job.cpu].map(|it| it.to_string());
    let mut command = program::python(SCRIPT, &[job.work.name(), &size, &count, &here, &there]);
    let output = command.output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints seconds")
}
