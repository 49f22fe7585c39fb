//! What the benchmarks that compare share.

pub mod machine;
pub mod program;
pub mod stats;
pub mod text;
