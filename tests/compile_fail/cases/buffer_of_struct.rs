//! The elements of a buffer have `bytemuck`'s derives, which check that they are plain memory.

use concurrent_futures::{Buffer, Error, ProcessPoolExecutor, call};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Point {
    x: f32,
    y: f32,
}

fn width(points: Buffer<Point>) -> f32 {
    points.iter().map(|point| point.x + point.y).fold(0.0, f32::max)
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let points = Buffer::from(vec![Point { x: 1.0, y: 2.0 }]);
    println!("{}", pool.submit(call!(width(points))).result()?);
    Ok(())
}
