//! What else processes share: locks, values, and channels between many, or with much in an item.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bench_common::program;
use concurrent_futures::ipc::{
    Barrier, Event, Lock, Receiver, Semaphore, Sender, SharedArray, Value, channel,
};
use concurrent_futures::{Buffer, Process, ProcessPoolExecutor, call};

/// What is measured: its name, the rows, and the number of operations.
pub(crate) const MEASURES: [(&str, &[&str], usize); 8] = [
    ("lock and unlock", &["Lock", "std Mutex", "Semaphore", "mp.Lock"], 500_000),
    ("lock and unlock, four processes in turn", &["Lock", "Semaphore", "mp.Lock"], 50_000),
    ("change of a u64", &["Value::with", "SharedArray::add", "mp.Value with its lock"], 100_000),
    ("a killed holder's lock, from the kill on", &["Lock, blocking", "Lock, async"], 200),
    ("round of a barrier of four", &["Barrier", "mp.Barrier"], 2_000),
    ("stream of 64 B", &["channel, four to four", "channel, one to one"], 100_000),
    ("64 MiB to another process", &["Buffer in an item", "Buffer in an argument"], 5),
    ("making and dropping", &["channel"], 10_000),
];

/// Microseconds for an operation.
pub(crate) fn run(measure: usize, side: &str, count: usize) -> f64 {
    let time = match (measure, side) {
        (0, "Lock") => {
            let lock = Lock::new().expect("it can be made");
            timed(count, || drop(lock.lock_blocking()))
        }
        (0, "std Mutex") => {
            let lock = Mutex::new(());
            timed(count, || drop(black_box(&lock).lock().expect("nobody panics")))
        }
        (0, "Semaphore") => {
            let slots = Semaphore::new(1).expect("it can be made");
            timed(count, || drop(slots.acquire_blocking()))
        }
        (1, "Lock") => turns(Turn::Lock(Lock::new().expect("it can be made")), count),
        (1, "Semaphore") => turns(Turn::Slots(Semaphore::new(1).expect("it can be made")), count),
        (2, "Value::with") => {
            let value = Value::new(0_u64).expect("it can be made");
            timed(count, || value.with_blocking(|it| *it += 1).expect("it fits"))
        }
        (2, "SharedArray::add") => {
            let array = SharedArray::<u64>::zeroed(1).expect("it can be made");
            timed(count, || assert!(black_box(array.add(0, 1)) < u64::MAX))
        }
        (3, side) => kills(count, side == "Lock, async"),
        (4, "Barrier") => rounds(count),
        (5, side) => stream(count, if side == "channel, one to one" { 1 } else { 4 }),
        (6, side) => large(count, side == "Buffer in an item"),
        (7, _) => timed(count, || drop(channel::<u64>(10).expect("it can be made"))),
        (_, _) => return python(measure, count) * 1e6 / count as f64,
    };
    time.as_secs_f64() * 1e6 / count as f64
}

fn timed(count: usize, mut operation: impl FnMut()) -> Duration {
    // What is made with the first one is not counted.
    operation();
    let begin = Instant::now();
    (0..count).for_each(|_| operation());
    begin.elapsed()
}

fn pool(workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(workers).build().expect("it can be made")
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
enum Turn {
    Lock(Lock),
    Slots(Semaphore),
}

fn take_turns(turn: Turn, ready: Barrier, start: Event, count: usize) {
    ready.wait_blocking().expect("all come");
    start.wait_blocking();
    for _ in 0..count {
        match &turn {
            Turn::Lock(lock) => drop(lock.lock_blocking()),
            Turn::Slots(slots) => drop(slots.acquire_blocking()),
        }
    }
}

/// Four processes, each of which does a quarter.
fn turns(turn: Turn, count: usize) -> Duration {
    let ready = Barrier::new(5).expect("it can be made");
    let start = Event::new().expect("it can be made");
    let spawn = || {
        let (turn, ready, start) = (turn.clone(), ready.clone(), start.clone());
        Process::spawn(call!(take_turns(turn, ready, start, count / 4)))
    };
    let others: Vec<_> = (0..4).map(|_| spawn()).collect();
    ready.wait_blocking().expect("all come");
    let begin = Instant::now();
    start.set();
    others.into_iter().for_each(|other| drop(other.into_task().result()));
    begin.elapsed()
}

fn hold(lock: Lock, held: Sender<()>) {
    let _guard = lock.lock_blocking();
    held.send_blocking(()).expect("it waits for that");
    loop {
        std::thread::park();
    }
}

fn kills(count: usize, is_async: bool) -> Duration {
    let lock = Lock::new().expect("it can be made");
    let mut all = Duration::ZERO;
    for _ in 0..count {
        let (held, is_held) = channel(1).expect("it can be made");
        let holder = Process::spawn(call!(hold(lock.clone(), held)));
        is_held.recv_blocking().expect("it is sent");
        let waits = std::thread::spawn({
            let lock = lock.clone();
            move || {
                let guard = match is_async {
                    true => futures::executor::block_on(lock.lock()),
                    false => lock.lock_blocking(),
                };
                assert!(guard.was_abandoned());
                Instant::now()
            }
        });
        // So that it waits by then; it costs nothing if it does not.
        std::thread::sleep(Duration::from_millis(2));
        let begin = Instant::now();
        holder.kill();
        all += waits.join().expect("it does not panic").duration_since(begin);
    }
    all
}

fn come(barrier: Barrier, count: usize) {
    (0..count).for_each(|_| assert!(barrier.wait_blocking().is_ok()));
}

fn rounds(count: usize) -> Duration {
    let barrier = Barrier::new(4).expect("it can be made");
    let others: Vec<_> =
        (0..3).map(|_| Process::spawn(call!(come(barrier.clone(), count + 1)))).collect();
    let come = || assert!(barrier.wait_blocking().is_ok());
    let time = timed(count, come);
    others.into_iter().for_each(|other| drop(other.into_task().result()));
    time
}

fn send(queue: Sender<Vec<u8>>, ready: Barrier, count: usize) {
    ready.wait_blocking().expect("all come");
    (0..count).for_each(|_| queue.send_blocking(vec![7; 64]).expect("it is received"));
}

fn take_all(queue: Receiver<Vec<u8>>, ready: Barrier) -> usize {
    ready.wait_blocking().expect("all come");
    queue.blocking().map(|item| item.expect("it is one").len()).sum()
}

fn stream(count: usize, many: usize) -> Duration {
    let (sender, receiver) = channel(1_000).expect("it can be made");
    let ready = Barrier::new(2 * many + 1).expect("it can be made");
    let senders: Vec<_> = (0..many)
        .map(|_| Process::spawn(call!(send(sender.clone(), ready.clone(), count / many))))
        .collect();
    let receivers: Vec<_> = (0..many)
        .map(|_| Process::spawn(call!(take_all(receiver.clone(), ready.clone()))))
        .collect();
    drop((sender, receiver));
    ready.wait_blocking().expect("all come");
    let begin = Instant::now();
    let lengths = receivers.into_iter().map(|it| it.into_task().result().expect("it ends"));
    assert_eq!(lengths.sum::<usize>(), count / many * many * 64);
    let time = begin.elapsed();
    senders.into_iter().for_each(|it| it.into_task().result().expect("it ends"));
    time
}

fn look_at(buffer: Buffer<u8>) -> u8 {
    buffer[buffer.len() - 1]
}

fn look_at_items(queue: Receiver<Buffer<u8>>, seen: Sender<u8>) {
    for item in queue.blocking() {
        let item = item.expect("it is one");
        seen.send_blocking(look_at(item)).expect("it waits for that");
    }
}

fn large(count: usize, is_item: bool) -> Duration {
    let buffer = Buffer::from(vec![7_u8; 64 << 20]);
    let pool = pool(1);
    if !is_item {
        return timed(count, || {
            let looks = pool.submit(call!(look_at(buffer.clone())));
            assert_eq!(looks.result().expect("it does"), 7);
        });
    }
    let (sender, queue) = channel(1).expect("it can be made");
    let (seen, is_seen) = channel(1).expect("it can be made");
    let looks = pool.submit(call!(look_at_items(queue, seen)));
    let time = timed(count, || {
        sender.send_blocking(buffer.clone()).expect("it is received");
        assert_eq!(is_seen.recv_blocking().expect("it is sent"), 7);
    });
    drop(sender);
    looks.result().expect("it ends");
    time
}

/// Seconds.
fn python(measure: usize, count: usize) -> f64 {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/locks.py");
    let [measure, count] = [measure, count].map(|it| it.to_string());
    let output = program::python(SCRIPT, &[&measure, &count]).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints seconds")
}
