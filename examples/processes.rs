//! A process for each call, as in the tutorial of Python's `multiprocessing`: start, join, exit codes; one that
//! has no value, and one that is terminated.

use std::time::Duration;

use concurrent_futures::{Error, Process, WorkerStderr, call};

fn task(number: u32) -> u32 {
    println!("task {number} runs in process {}", std::process::id());
    number * number
}

fn fail() {
    eprintln!("no such file");
    std::process::exit(2);
}

fn endless() {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut processes: Vec<_> = (1..=5).map(|number| Process::spawn(call!(task(number)))).collect();
    for process in &mut processes {
        let value = (&mut *process).await?;
        let exit = process.join().await;
        println!("{exit}, with the value {value}");
    }

    let mut process =
        Process::builder().name("fails").stderr(WorkerStderr::Tail).spawn(call!(fail()));
    println!("{:?}", (&mut process).await.unwrap_err());
    let exit = process.join().await;
    println!("exit code {:?}, stderr {:?}", exit.code(), exit.stderr());

    let process = Process::spawn(call!(endless()));
    let pid = process.started().await?;
    assert!(process.is_running());
    assert!(Process::running().iter().any(|running| running.pid() == Some(pid)));
    process.terminate();
    let exit = process.join().await;
    println!("{exit}, or {:?} as Python has it", exit.python_code().unwrap_or_default());
    assert!(Process::running().is_empty());
    Ok(())
}
