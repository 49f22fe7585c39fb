//! What processes wait for: a lock around a file, two permits for a device, a start signal, and rounds.
//!
//! ```text
//! cargo run --release --example locks
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use concurrent_futures::ipc::{Barrier, Event, Lock, Semaphore, SharedArray, Value};
use concurrent_futures::{ProcessPoolExecutor, call};
use serde::{Deserialize, Serialize};

/// All that a task has in common with the others.
#[derive(Clone, Serialize, Deserialize)]
struct Shared {
    start: Event,
    /// Of the file.
    lock: Lock,
    file: PathBuf,
    /// Two at a time may use the device.
    device: Semaphore,
    /// The number of those who use it now, and the most that ever did.
    users: SharedArray<u32>,
    rounds: Barrier,
    log: Value<Vec<String>>,
}

fn add_line(file: &Path, line: &str) -> std::io::Result<()> {
    let text = fs::read_to_string(file)?;
    fs::write(file, format!("{text}{line}\n"))
}

fn work(shared: Shared, number: u32) -> Result<(), String> {
    shared.start.wait_blocking();
    {
        // If a holder is killed, the next one is told.
        let guard = shared.lock.lock_blocking();
        assert!(!guard.was_abandoned());
        add_line(&shared.file, &format!("task {number}")).map_err(|error| error.to_string())?;
    }
    for _ in 0..100 {
        let _permit = shared.device.acquire_blocking();
        let users = shared.users.add(0, 1) + 1;
        shared.users.max(1, users);
        shared.users.sub(0, 1);
    }
    for round in 0..3 {
        // Nobody begins a round before all have done the one before.
        let turn = shared.rounds.wait_blocking().map_err(|error| error.to_string())?;
        if turn.is_leader() {
            let logged = shared.log.with_blocking(|log| log.push(format!("round {round}")));
            logged.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    const TASKS: u32 = 5;
    // Fewer workers than tasks that wait for each other: one that waits lends its place out.
    let pool = ProcessPoolExecutor::builder().max_workers(2).build()?;
    let file = std::env::temp_dir().join(format!("locks-{}", std::process::id()));
    fs::write(&file, "")?;
    let shared = Shared {
        start: Event::new()?,
        lock: Lock::new()?,
        file: file.clone(),
        device: Semaphore::new(2)?,
        users: SharedArray::zeroed(2)?,
        rounds: Barrier::new(TASKS as usize)?,
        log: Value::new(Vec::new())?,
    };
    let tasks: Vec<_> =
        (0..TASKS).map(|number| pool.submit(call!(work(shared.clone(), number)))).collect();
    println!("{TASKS} tasks wait for the start");
    shared.start.set();
    for task in tasks {
        task.await??;
    }
    let lines = fs::read_to_string(&file)?.lines().count();
    fs::remove_file(&file)?;
    let log = shared.log.get()?;
    println!("{lines} lines, at most {} at the device, {log:?}", shared.users.load(1));
    assert_eq!(lines, TASKS as usize);
    assert!(shared.users.load(1) <= 2);
    assert_eq!(log, ["round 0", "round 1", "round 2"]);
    Ok(())
}
