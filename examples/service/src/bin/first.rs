//! The smallest service that computes on a pool. `docs/guide/service.md` begins with it.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use concurrent_futures::{Error, ThreadPoolExecutor};
use tokio::net::TcpListener;

fn fib(n: u32) -> u64 {
    if n < 2 { n.into() } else { fib(n - 1) + fib(n - 2) }
}

async fn compute(State(pool): State<ThreadPoolExecutor>, Path(n): Path<u32>) -> Response {
    match pool.submit(move || fib(n.min(50))).await {
        Ok(value) => format!("{value}\n").into_response(),
        Err(Error::QueueFull { .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "busy\n").into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ThreadPoolExecutor::builder().queue_capacity(50).build()?;
    let app = Router::new()
        .route("/fib/{n}", get(compute))
        .route("/health", get(async || "ok\n"))
        .with_state(pool);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}
