//! The pools that are compared, one small file each, used as their documentation advises.

mod ours;
mod procspawn;

pub(crate) use self::ours::Ours;
pub(crate) use self::procspawn::Procspawn;

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can travel to another process.
pub(crate) trait Value: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Value for T {}

/// A pool of processes.
pub(crate) trait Side: Send + Sync + Sized + 'static {
    const NAME: &'static str;

    /// How many calls may be pending.
    const WINDOW: usize = usize::MAX;

    type Submitted<R: Value>: Submitted<R>;

    fn new(workers: usize) -> Self;

    /// Never waits.
    fn submit<A: Value, R: Value>(&self, function: fn(A) -> R, argument: A) -> Self::Submitted<R>;

    /// As `submit`; the call is repeated if its worker is lost, if the pool can do that.
    fn submit_retried<A: Value, R: Value>(
        &self,
        function: fn(A) -> R,
        argument: A,
    ) -> Self::Submitted<R> {
        self.submit(function, argument)
    }

    fn worker_pids(&self) -> Vec<u32>;
}

/// A call that a pool has taken.
pub(crate) trait Submitted<R>: Send + 'static {
    /// Kills the process that runs it.
    fn kill(&mut self);

    /// An error if there is no result, because its worker was lost.
    fn result(self) -> impl Future<Output = Result<R, String>> + Send;
}

/// Many bytes, in the form in which a side prefers them as an argument.
pub(crate) trait Bytes: Value {
    fn of(bytes: Vec<u8>) -> Self;

    fn sum(&self) -> u64;
}

/// Of all bytes, so that all are read. In parts whose sum fits in 16 bits: added up as `u64`s they
/// would take longer than everything else.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let of_part = |part: &[u8]| part.iter().map(|&byte| u16::from(byte)).sum::<u16>();
    bytes.chunks(128).map(|part| u64::from(of_part(part))).sum()
}
