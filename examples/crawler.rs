//! A crawler: pages link to further pages, so the set of tasks grows while its results are taken.
//!
//! ```text
//! cargo run --release --example crawler
//! ```
//!
//! The web is made up, and each page of it takes some milliseconds to arrive. To fetch is to wait, which
//! holds no worker; to parse is to compute, which keeps no thread of the runtime from its I/O.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, TaskSet, ThreadPoolExecutor};
use tokio::time::sleep;

const PAGES: u64 = 2_000;

/// Brings a page. This one links to three others, or, as any page does, to some that were seen before.
async fn fetch(page: u64) -> String {
    sleep(Duration::from_millis(5)).await;
    let links = [2 * page + 1, 2 * page + 2, page * page].map(|link| link % PAGES);
    links.map(|link| format!("<p>See <a href=\"/{link}\">page {link}</a>.</p>")).join("\n")
}

/// The pages that `html` links to.
fn links(html: &str) -> Vec<u64> {
    let targets = html.split("href=\"/").skip(1).filter_map(|rest| rest.split('"').next());
    targets.filter_map(|target| target.parse().ok()).collect()
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let pool = ThreadPoolExecutor::new();
    let visit = |page| pool.submit_future(async move { links(&fetch(page).await) });

    let start = Instant::now();
    let mut seen = HashSet::from([0]);
    let mut visits = TaskSet::new();
    visits.push(0, visit(0));
    let (mut visited, mut found, mut most) = (0, 0, 0);
    while let Some((_page, links)) = visits.next().await {
        visited += 1;
        for link in links? {
            found += 1;
            if seen.insert(link) {
                visits.push(link, visit(link));
            }
        }
        most = most.max(visits.len());
    }

    println!("{visited} pages with {found} links in {:.1?}, up to {most} at once", start.elapsed());
    println!("one after the other they would take {:?}", Duration::from_millis(5 * visited));
    assert_eq!((visited, found), (PAGES, 3 * PAGES));
    Ok(())
}
