//! The feature `anyhow`: an error that has crossed to another process, as one of `anyhow`, and back.

#![cfg(feature = "anyhow")]

use std::error::Error;
use std::{fmt, io};

use concurrent_futures::{PortableError, ThreadPoolExecutor};

#[derive(Debug)]
struct Refused(io::Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seat 7 is refused")
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn refused() -> Refused {
    Refused(io::Error::other("no licence"))
}

#[test]
fn anyhow_shows_the_chain_once() {
    fn context() -> anyhow::Result<()> {
        use anyhow::Context;
        Err(anyhow::Error::from(PortableError::from(refused()))).context("in a worker")
    }
    let text = format!("{:#}", context().unwrap_err());
    assert_eq!(text, "in a worker: seat 7 is refused: no licence");
    let from_anyhow = PortableError::from(anyhow::anyhow!("leaf").context("branch"));
    assert_eq!(from_anyhow.chain().collect::<Vec<_>>(), ["branch", "leaf"]);
    let pool = ThreadPoolExecutor::builder().initializer(|| Err::<(), _>(refused())).build();
    let broken = pool.unwrap().submit(|| ()).result().unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(broken));
    assert_eq!(text.matches("no licence").count(), 1, "{text}");
}
