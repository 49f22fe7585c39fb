//! The code of the guide's page on rayon, which is compiled and run with the documentation tests.

/// The page.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/from_rayon.md")]
pub mod guide {}
