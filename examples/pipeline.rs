//! Three stages, each a process, with bounded channels between them: whoever is slow slows down those before it, up
//! to the code that feeds the first. At both ends is async code, which has the channels as futures and streams.
//!
//! ```text
//! cargo run --release --example pipeline
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use concurrent_futures::ipc::{Receiver, RecvError, Sender, channel};
use concurrent_futures::{Process, call};
use futures::TryStreamExt;

const PAGES: usize = 2_000;

/// Items in each of the four channels.
const CAPACITY: usize = 4;

/// Runs a stage: what it makes of each item goes to the next one, until there are no more.
fn stage<A: concurrent_futures::Portable, B: concurrent_futures::Portable>(
    from: Receiver<A>,
    to: Sender<B>,
    make: impl Fn(A) -> B,
) {
    for item in from.blocking() {
        // Waits while the next stage has as many as it may.
        to.send_blocking(make(item.expect("it can be decoded"))).expect("there is a next stage");
    }
}

fn strip(pages: Receiver<String>, texts: Sender<String>) {
    stage(pages, texts, |page: String| page.replace(['<', '>', '/'], " "));
}

fn split(texts: Receiver<String>, words: Sender<Vec<String>>) {
    stage(texts, words, |text: String| text.split_whitespace().map(str::to_lowercase).collect());
}

fn count(words: Receiver<Vec<String>>, counts: Sender<BTreeMap<String, u32>>) {
    stage(words, counts, |words: Vec<String>| {
        let mut counts = BTreeMap::new();
        words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
        counts
    });
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (pages, first) = channel(CAPACITY)?;
    let (texts, second) = channel(CAPACITY)?;
    let (words, third) = channel(CAPACITY)?;
    let (counted, counts) = channel(CAPACITY)?;
    let stages = [
        Process::spawn(call!(strip(first, texts))),
        Process::spawn(call!(split(second, words))),
        Process::spawn(call!(count(third, counted))),
    ];

    let sent = Arc::new(AtomicUsize::new(0));
    let fed = Arc::clone(&sent);
    let feeder = tokio::spawn(async move {
        for number in 0..PAGES {
            pages.send(format!("<p>Page {number} of a book</p>")).await?;
            fed.fetch_add(1, Relaxed);
        }
        // The first stage comes to its end when `pages` is dropped, and each next one with the one before it.
        Ok::<_, concurrent_futures::ipc::SendError<String>>(())
    });

    let (mut received, mut most) = (0, 0);
    let totals = counts.try_fold(BTreeMap::<String, u32>::new(), |mut totals, counts| {
        received += 1;
        most = most.max(sent.load(Relaxed).saturating_sub(received));
        counts.into_iter().for_each(|(word, count)| *totals.entry(word).or_default() += count);
        async { Ok::<_, RecvError>(totals) }
    });
    let totals = totals.await?;
    feeder.await??;
    for process in stages {
        process.await?;
    }

    println!("{received} pages, {} words; at most {most} pages were under way", totals.len());
    assert_eq!((received, totals["book"], totals["1999"]), (PAGES, PAGES as u32, 1));
    // What the channels have room for, and one in the hands of each stage.
    assert!(most <= 4 * CAPACITY + 3);
    Ok(())
}
