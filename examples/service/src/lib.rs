//! An HTTP service that computes: thumbnails of pictures, on a pool, beside handlers that are to
//! stay quick whatever the load.
//!
//! ```sh
//! cargo run --release -p service                  # on 127.0.0.1:3000
//! curl -so dunes.jpg 'localhost:3000/thumbnail/dunes.jpg?width=320'
//! cargo run --release -p service-load             # what becomes of it under load
//! ```
//!
//! To copy from it, begin with `backend.rs`; the rest is what any axum service has.
//!
//! ```text
//! program.rs    the command line and the signals
//! server.rs     serves until it is told to stop, then ends in order
//! app.rs        routes and handlers
//! backend.rs    the pool: its bound, its priority, deadlines, its end    <- what this is about
//! failure.rs    what can keep a request from its picture, and how that is answered
//! metrics.rs    the pool's counters as Prometheus reads them
//! picture.rs    the computation
//! peers.rs      the same on spawn_blocking and on rayon
//! ```
//!
//! The load test is in `benches/service`.

pub mod app;
pub mod backend;
pub mod failure;
pub mod metrics;
mod peers;
pub mod picture;
pub mod program;
pub mod server;
