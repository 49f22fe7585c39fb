//! The code of the guide's page on progress, which is compiled and run with the documentation tests.

/// The page.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/progress.md")]
pub mod guide {}
