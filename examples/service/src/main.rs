//! The service: `cargo run --release -p service -- --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::program::run(std::env::args().skip(1))
}
