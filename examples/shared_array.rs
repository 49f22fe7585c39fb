//! Arrays that all processes write to: the letters of many texts are counted in one array, to which each task adds
//! what it finds.
//!
//! ```text
//! cargo run --release --example shared_array
//! ```

use std::error::Error;

use concurrent_futures::ProcessPoolExecutor;
use concurrent_futures::ipc::{SharedArray, SharedSlice};

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
    Ok(())
}
