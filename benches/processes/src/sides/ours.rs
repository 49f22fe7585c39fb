//! The crate itself.

use concurrent_futures::{Buffer, Call, ProcessPoolExecutor, TaskFuture};

use super::{Bytes, Side, Submitted, Value, sum};

pub(crate) struct Ours {
    pub(crate) pool: ProcessPoolExecutor,
}

impl Side for Ours {
    const NAME: &'static str = "concurrent-futures";

    type Submitted<R: Value> = TaskFuture<R>;

    fn new(workers: usize) -> Self {
        let built = ProcessPoolExecutor::builder().max_workers(workers).build();
        Self { pool: built.expect("a pool starts") }
    }

    fn submit<A: Value, R: Value>(&self, function: fn(A) -> R, argument: A) -> TaskFuture<R> {
        self.pool.submit(Call::new(function, argument))
    }

    fn submit_retried<A: Value, R: Value>(
        &self,
        function: fn(A) -> R,
        argument: A,
    ) -> TaskFuture<R> {
        self.pool.task().retries(100).submit(Call::new(function, argument))
    }

    fn worker_pids(&self) -> Vec<u32> {
        self.pool.worker_pids()
    }
}

impl<R: Value> Submitted<R> for TaskFuture<R> {
    fn kill(&mut self) {
        assert!(TaskFuture::kill(self), "it can't have ended");
    }

    async fn result(self) -> Result<R, String> {
        self.await.map_err(|error| error.to_string())
    }
}

impl Bytes for Buffer<u8> {
    fn of(bytes: Vec<u8>) -> Self {
        Self::from(bytes)
    }

    fn sum(&self) -> u64 {
        sum(self)
    }
}
