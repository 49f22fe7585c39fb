//! Plain functions, which know nothing of worker processes and run in them nevertheless.
//!
//! ```
//! use concurrent_futures::{ProcessPoolExecutor, call};
//!
//! fn double(n: u64) -> u64 {
//!     2 * n
//! }
//!
//! let pool = ProcessPoolExecutor::new()?;
//! assert_eq!(pool.submit(call!(double(21))).result()?, 42);
//! assert_eq!(pool.submit(call!(dependent::square(3))).result()?, 9);
//! assert_ne!(pool.submit(call!(std::process::id())).result()?, std::process::id());
//! # Ok::<(), concurrent_futures::Error>(())
//! ```

/// The square of `n`.
pub fn square(n: u64) -> u64 {
    n * n
}

/// The largest of the items, if there are any.
pub fn largest<T: Ord>(items: Vec<T>) -> Option<T> {
    items.into_iter().max()
}

/// Functions of another module.
pub mod shapes {
    /// The area of a rectangle.
    pub fn area(width: u32, height: u32) -> u32 {
        width * height
    }
}

#[cfg(test)]
mod tests {
    use concurrent_futures::{Error, ProcessPoolExecutor, call};

    fn cube(n: u64) -> u64 {
        n * super::square(n)
    }

    #[test]
    fn functions_of_a_unit_test_and_of_its_crate() -> Result<(), Error> {
        let pool = ProcessPoolExecutor::new()?;
        assert_eq!(pool.submit(call!(cube(3))).result()?, 27);
        assert_eq!(pool.map(super::square, 0..4).result()?, [0, 1, 4, 9]);
        assert_ne!(pool.submit(call!(std::process::id())).result()?, std::process::id());
        Ok(())
    }
}
