//! The endpoint is scraped as Prometheus does it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Starts the example at a free port. Another program may take the port first: then the next one.
fn start() -> (Child, String) {
    for _ in 0..10 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_prometheus-endpoint"))
            .arg(&free)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.contains(&format!("http://{free}/metrics")) {
            return (child, free);
        }
        child.wait().unwrap();
    }
    panic!("no port is free");
}

#[test]
fn prometheus_gets_the_numbers() {
    let (mut child, address) = start();
    let mut connection = TcpStream::connect(&address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for line in [
        "# TYPE concurrent_futures_tasks_completed_total counter",
        "concurrent_futures_tasks_submitted_total{pool=\"fib\"} 101",
        "concurrent_futures_tasks_completed_total{pool=\"fib\"} 100",
        "concurrent_futures_tasks_failed_total{pool=\"fib\"} 1",
        "concurrent_futures_tasks_queued{pool=\"fib\"} 0",
        "concurrent_futures_tasks_running{pool=\"fib\"} 0",
        "# TYPE concurrent_futures_run_seconds histogram",
        "concurrent_futures_run_seconds_count{pool=\"fib\"} 101",
        "concurrent_futures_queue_seconds_bucket{pool=\"fib\",le=\"+Inf\"} 101",
    ] {
        assert!(answer.lines().any(|other| other == line), "{line} is not in\n{answer}");
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
