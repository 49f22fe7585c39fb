//! What the benchmarks share.

#[cfg(feature = "charts")]
pub mod charts;
pub mod comparison;
#[cfg(feature = "http")]
pub mod http;
pub mod machine;
pub mod options;
pub mod program;
pub mod stats;
pub mod text;
