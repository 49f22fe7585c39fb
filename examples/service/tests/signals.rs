//! The program itself: how SIGUSR1 has it tell what it does, and SIGTERM ends it.

use std::io::{BufRead, BufReader, Cursor};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bench_common::http::Client;
use bytes::Bytes;
use hyper::StatusCode;
use image::{ImageFormat, RgbImage};
use rustix::process::{Pid, Signal, kill_process};
use service::backend::Kind;
use tokio::task::JoinSet;

/// Ends with the test, whatever becomes of that.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes long to shrink, and is small to send.
fn large_picture() -> Bytes {
    let mut file = Cursor::new(Vec::new());
    RgbImage::new(1_500, 1_000).write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner().into()
}

/// How many thumbnails the pool has taken so far.
async fn accepted(client: &Client) -> u64 {
    let counters = client.get("/metrics").await.unwrap().into_body();
    let counters = String::from_utf8(counters.to_vec()).unwrap();
    let counted = ["pool_queued ", "pool_running ", "pool_tasks_total{outcome=\"completed\"} "];
    let lines = counters.lines();
    lines
        .filter_map(|line| counted.iter().find_map(|name| line.strip_prefix(name)))
        .map(|n| n.parse::<u64>().unwrap())
        .sum()
}

#[tokio::test]
async fn a_terminated_service_answers_what_it_has_accepted() {
    for kind in [Kind::Threads, Kind::Processes] {
        let mut program = Program(
            Command::new(env!("CARGO_BIN_EXE_service"))
                .args(["--port", "0", "--workers", "1", "--queue-capacity", "8"])
                .args(["--backend", kind.name(), "--shutdown-limit", "600"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let stdout = BufReader::new(program.0.stdout.take().unwrap());
        let mut lines = stdout.lines().map(Result::unwrap);
        let line = lines.next().unwrap();
        let address = line.split([' ', ',']).find_map(|word| word.strip_prefix("http://"));
        let client = Arc::new(Client::new(address.unwrap().parse().unwrap()));

        let picture = large_picture();
        let mut requests = JoinSet::new();
        for _ in 0..4 {
            let (client, picture) = (Arc::clone(&client), picture.clone());
            requests.spawn(async move {
                client.post("/thumbnail?within=600000", picture).await.unwrap().status()
            });
        }
        while accepted(&client).await < 4 {}

        let pid = Pid::from_child(&program.0);
        kill_process(pid, Signal::USR1).unwrap();
        let stderr = BufReader::new(program.0.stderr.take().unwrap());
        let mut dump = stderr.lines().map(Result::unwrap);
        let first = dump.next().unwrap();
        assert!(first.contains("1 worker of at most 1"), "{first}");
        assert!(dump.any(|line| line.contains("\"thumbnail\" for ")));

        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(requests.join_all().await, [StatusCode::OK; 4]);
        assert!(program.0.wait().unwrap().success());
        assert_eq!(lines.next().as_deref(), Some("finishing what was accepted"));
        let report = lines.next().unwrap();
        assert!(report.ends_with("failed 0, withdrawn 0, left running 0"), "{report}");
        assert!(!report.starts_with("finished 0,"), "there was nothing left to do: {report}");
    }
}
