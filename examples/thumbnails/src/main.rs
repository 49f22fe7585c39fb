//! Thumbnails of a directory of pictures, on all CPUs. A picture that is broken fails alone.
//!
//! ```text
//! cargo run --release -p thumbnails
//! ```
//!
//! Prints a line for each picture, in the order in which they finish, then a total: the time it took,
//! and the time that the jobs took together, which one thread would need. The pictures are made up; their
//! directory is removed at the end.
//!
//! A decoder in C, or one that strangers may send pictures to, belongs in a worker process, as in the
//! example `untrusted_input`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, io, process};

use concurrent_futures::ThreadPoolExecutor;
use image::{ImageResult, Rgb, RgbImage};

const PICTURES: usize = 24;
/// The longer side of a thumbnail.
const SIDE: u32 = 128;

struct Thumbnail {
    file: PathBuf,
    size: (u32, u32),
    time: Duration,
}

/// The job. It reads and writes files itself, so there are no more pictures in memory than workers.
fn thumbnail(file: PathBuf) -> ImageResult<Thumbnail> {
    let start = Instant::now();
    let small = image::open(&file)?.thumbnail(SIDE, SIDE);
    let file = file.with_extension("small.png");
    small.save(&file)?;
    Ok(Thumbnail { file, size: (small.width(), small.height()), time: start.elapsed() })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = Scratch::new()?;
    let pool = ThreadPoolExecutor::new();

    // Each is needed, so the first error ends `try_map`.
    let to = dir.0.clone();
    let files = pool.try_map(move |n| paint(n, &to), 0..PICTURES).await?;
    println!("{PICTURES} pictures in {}", dir.0.display());
    // One was cut off, as when a disk is full; one is something else.
    let whole = fs::read(&files[7])?;
    fs::write(&files[7], &whole[..whole.len() / 2])?;
    fs::write(&files[19], "<h1>404 Not Found</h1>")?;

    // Here an error is that of one picture: `map`.
    let start = Instant::now();
    let (mut made, mut failed, mut time) = (0, Vec::new(), Duration::ZERO);
    let mut done = pool.map(thumbnail, files.clone()).unordered();
    while let Some((index, outcome)) = done.next().await {
        let number = made + failed.len() + 1;
        print!("{number:3} of {PICTURES}, {}: ", files[index].display());
        match outcome {
            Ok(Ok(thumbnail)) => {
                let (width, height) = thumbnail.size;
                println!("{width} x {height} in {:.1?}", thumbnail.time);
                made += 1;
                time += thumbnail.time;
                assert!(thumbnail.file.exists() && width.max(height) == SIDE);
            }
            // The inner result is the job's own. The outer one tells whether it ran to its end.
            Ok(Err(error)) => {
                println!("failed: {error}");
                failed.push(index);
            }
            Err(error) => {
                println!("failed: {error}");
                failed.push(index);
            }
        }
    }
    let (took, workers) = (start.elapsed(), pool.max_workers());
    print!("{made} thumbnails, {} pictures failed: ", failed.len());
    println!("{took:.1?} on {workers} workers, {time:.1?} on one thread");

    failed.sort_unstable();
    assert_eq!((made, failed), (PICTURES - 2, vec![7, 19]));
    Ok(())
}

/// Slopes and waves, high or wide, which no two pictures have alike.
fn paint(n: usize, dir: &Path) -> ImageResult<PathBuf> {
    let (width, height) = if n % 3 == 0 { (480, 640) } else { (640, 480) };
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
        let wave = ((u * 9.0 + v * n as f32).sin() + 1.0) * 60.0;
        Rgb([u * 130.0 + wave, v * 130.0 + wave, (1.0 - u) * 130.0 + wave].map(|c| c as u8))
    });
    let file = dir.join(format!("picture-{n:02}.png"));
    picture.save(&file)?;
    Ok(file)
}

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let dir = env::temp_dir().join(format!("thumbnails-{}", process::id()));
        fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
