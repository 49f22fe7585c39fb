//! A sensitivity analysis: how does a slow model's result move with its parameters? Ten rows of
//! three parameters, first one after the other, then on all CPUs.
//!
//! ```text
//! cargo run --release --example sensitivity
//! ```
//!
//! The parallel results are printed as they come, each with the number of its row.

use std::time::Instant;

use concurrent_futures::{Error, ThreadPoolExecutor, as_completed};

/// Amplitude, damping and frequency of an oscillation: a base case, then each moved by itself.
const ROWS: [[f64; 3]; 10] = [
    [1.00, 0.50, 3.0],
    [0.50, 0.50, 3.0],
    [0.90, 0.50, 3.0],
    [1.10, 0.50, 3.0],
    [1.00, 0.25, 3.0],
    [1.00, 0.45, 3.0],
    [1.00, 0.55, 3.0],
    [1.00, 0.50, 1.5],
    [1.00, 0.50, 2.7],
    [1.00, 0.50, 3.3],
];

/// The slow model: the area under `amplitude * exp(-damping * t) * sin(frequency * t)` from t = 0
/// on, added up in small steps. All of it is work for a CPU.
fn model([amplitude, damping, frequency]: [f64; 3]) -> f64 {
    const END: f64 = 100.0;
    const STEPS: u32 = 4_000_000;
    let dt = END / f64::from(STEPS);
    let mut area = 0.0;
    for step in 0..STEPS {
        let t = (f64::from(step) + 0.5) * dt;
        area += amplitude * (-damping * t).exp() * (frequency * t).sin() * dt;
    }
    area
}

/// What the model should find, from a table of integrals.
fn exact([amplitude, damping, frequency]: [f64; 3]) -> f64 {
    amplitude * frequency / (damping * damping + frequency * frequency)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let start = Instant::now();
    let serial = ROWS.map(model);
    let serial_time = start.elapsed();

    let pool = ThreadPoolExecutor::new();
    let start = Instant::now();
    let mut done = as_completed(ROWS.map(|row| pool.submit(move || model(row))));
    while let Some((row, area)) = done.next().await {
        let area = area?;
        println!("row {row}: {:?} -> {area:.6}", ROWS[row]);
        assert_eq!(area, serial[row], "the same computation, wherever it runs");
        assert!((area - exact(ROWS[row])).abs() < 1e-6);
    }
    let parallel_time = start.elapsed();

    println!("serial {serial_time:.1?}, {} workers {parallel_time:.1?}", pool.max_workers());
    Ok(())
}
