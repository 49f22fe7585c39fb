//! The metrics of a pool, where Prometheus scrapes them.
//!
//! `cargo run -p prometheus-endpoint -- 127.0.0.1:9000`, then `curl 127.0.0.1:9000/metrics`. It ends
//! with the end of its input.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use concurrent_futures::{ThreadPoolExecutor, export_metrics};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let listener = TcpListener::bind(&address).await?;

    // Before the pool, which registers its series when it is made.
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_seconds".to_owned()),
            &[0.000_1, 0.001, 0.01, 0.1, 1.0, 10.0],
        )?
        .install_recorder()?;
    let scrape = move || {
        export_metrics(); // the numbers of all pools, as they are now
        std::future::ready(recorder.render())
    };
    let server = axum::serve(listener, Router::new().route("/metrics", get(scrape)));
    let server = tokio::spawn(server.into_future());

    let pool = ThreadPoolExecutor::builder().name("fib").build()?;

    let futures: Vec<_> = (0..100).map(|n| pool.submit(move || fib(n % 20))).collect();
    let mut sum = 0;
    for future in futures {
        sum += future.await?;
    }
    let failing = pool.submit(|| panic!("to be counted"));
    assert!(failing.await.is_err());

    println!("the sum is {sum}; metrics are at http://{address}/metrics");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    server.abort();
    Ok(())
}
