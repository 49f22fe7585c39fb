//! Arrays that all processes write to: the letters of many texts are counted in one array, to which each task adds
//! what it finds; and the rows of a picture are drawn in one memory, each by whichever process has its lock.
//!
//! ```text
//! cargo run --release --example shared_array
//! ```

use std::error::Error;

use concurrent_futures::ipc::{Chunk, SharedArray, SharedChunks, SharedSlice};
use concurrent_futures::{PortableError, ProcessPoolExecutor, call};

/// Counts the letters of a text. Several processes may add to an element at the same time.
fn count((counts, text): (SharedArray<u64>, String)) {
    for letter in text.bytes().filter(u8::is_ascii_alphabetic) {
        counts.add(usize::from(letter.to_ascii_lowercase() - b'a'), 1);
    }
}

/// A text of words that were made up.
fn text(seed: u32) -> String {
    let syllables = ["ba", "do", "ke", "lu", "mi", "na", "re", "so", "ta", "zu"];
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let word = |n| if n % 7 == 0 { "\n" } else { syllables[n as usize % syllables.len()] };
    (0..20_000).map(|_| word(next())).collect()
}

const WIDTH: usize = 78;
const HEIGHT: usize = 30;

/// Draws a row of the Mandelbrot set: for each point the number of steps after which it is far away.
fn draw(row: Chunk<u16>) -> Result<(), PortableError> {
    let y = row.index() as f64 / HEIGHT as f64 * 2.4 - 1.2;
    // If a process had been killed within the row, that would be an error.
    let mut pixels = row.lock_blocking()?;
    for (column, pixel) in pixels.iter_mut().enumerate() {
        let x = column as f64 / WIDTH as f64 * 3.2 - 2.2;
        let (mut re, mut im) = (0.0_f64, 0.0_f64);
        *pixel = 0;
        while *pixel < 1_000 && re * re + im * im < 4.0 {
            (re, im) = (re * re - im * im + x, 2.0 * re * im + y);
            *pixel += 1;
        }
    }
    Ok(())
}

/// The middle of the picture, as any process may read it now.
fn middle(picture: SharedSlice<u16>) -> u16 {
    picture[HEIGHT / 2 * WIDTH + WIDTH / 2]
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = ProcessPoolExecutor::new()?;

    let counts = SharedArray::<u64>::zeroed(26)?;
    let texts: Vec<String> = (0..40).map(text).collect();
    let items: Vec<_> = texts.iter().map(|text| (counts.clone(), text.clone())).collect();
    pool.map(count, items).await?;
    // No task has it any more: from here on nobody can write to it, and it is read as a slice.
    let counts: SharedSlice<u64> = counts.freeze()?;
    for (letter, count) in ('a'..='z').zip(&counts).filter(|(_, count)| **count > 0) {
        println!("{letter} {count:>7} {}", "#".repeat((count / 2_000) as usize));
    }
    let letters = texts.iter().flat_map(|text| text.bytes()).filter(u8::is_ascii_alphabetic);
    assert_eq!(counts.iter().sum::<u64>(), letters.count() as u64);

    let picture = SharedChunks::<u16>::zeroed(WIDTH * HEIGHT, WIDTH)?;
    pool.try_map(draw, picture.chunks()).await?;
    let picture = picture.freeze()?;
    for row in picture.chunks(WIDTH) {
        let shade = |steps: &u16| match steps {
            0..4 => ' ',
            4..8 => '.',
            8..40 => '+',
            _ => '#',
        };
        println!("{}", row.iter().map(shade).collect::<String>());
    }
    assert_eq!(pool.submit(call!(middle(picture))).await?, 1_000);
    Ok(())
}
