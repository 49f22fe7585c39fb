//! The pool that the libraries of a program share.

use std::sync::OnceLock;

use super::runtime::Runtime;
use super::{ThreadPoolBuilder, ThreadPoolExecutor};
use crate::error::Error;
use crate::fork::{self, Own};
use crate::settings;

/// A forked child makes its own.
static GLOBAL: Own<OnceLock<ThreadPoolExecutor>> = Own::from_start(OnceLock::new(), OnceLock::new);

impl ThreadPoolExecutor {
    /// The pool of the whole program, for libraries that have something to compute and take no executor from
    /// their caller: several with a pool each would start more threads than there are CPUs.
    ///
    /// It is made at its first use, with one worker per CPU that this process may use. Its jobs see the tokio
    /// runtime that they are submitted in, and its initializer none. A program that wants it otherwise calls
    /// [`build_global`](ThreadPoolBuilder::build_global) first. It is never ended: `shutdown` leaves it
    /// open, and the report says so by [`ended`](crate::ShutdownReport::ended).
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// /// A library's function.
    /// pub async fn checksum(data: Vec<u8>) -> Result<u32, Error> {
    ///     let sum = move || data.iter().map(|byte| u32::from(*byte)).sum();
    ///     ThreadPoolExecutor::global().submit(sum).await
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(checksum(vec![1, 2, 3]).await?, 6);
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    pub fn global() -> &'static Self {
        fork::watch(); // Before a child can find this cell half made.
        GLOBAL.get().get_or_init(|| match ThreadPoolBuilder::global().finish(Runtime::none()) {
            Ok(pool) => pool,
            Err(error) => unreachable!("the defaults are valid: {error:?}"),
        })
    }
}

impl ThreadPoolBuilder {
    fn global() -> Self {
        let mut builder = Self::default().name("global");
        builder.is_global = true;
        builder
    }

    /// Makes the pool that [`ThreadPoolExecutor::global`] gives from now on. For programs, at their start, and
    /// not for libraries.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and if there is such a pool already: after its first use, or a second time.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(2).build_global()?;
    /// assert_eq!(ThreadPoolExecutor::global().max_workers(), 2);
    /// assert!(ThreadPoolExecutor::builder().build_global().is_err());
    /// # assert_eq!(pool.submit(|| 1).result()?, 1);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn build_global(mut self) -> Result<&'static ThreadPoolExecutor, Error> {
        self.is_global = true;
        let pool = self.build()?; // Has forks counted.
        let mut is_first = false;
        let global = GLOBAL.get().get_or_init(|| {
            is_first = true;
            pool
        });
        let rule = "must come once, and before the first use of the global pool";
        if is_first { Ok(global) } else { Err(settings::invalid("build_global", rule)) }
    }
}
