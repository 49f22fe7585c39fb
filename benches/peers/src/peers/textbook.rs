//! The textbook pool: threads that take boxed closures from a crossbeam channel, with a tokio
//! oneshot channel for each result. Twenty lines, and hard to beat.

use std::future::Future;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, unbounded};
use tokio::sync::oneshot;

use super::{Peer, Unwrap};

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Textbook {
    sender: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Textbook {
    /// Queues a job whose result is not awaited.
    pub(crate) fn execute(&self, job: impl FnOnce() + Send + 'static) {
        let sender = self.sender.as_ref().expect("open until the drop");
        sender.send(Box::new(job)).expect("the threads hold the receiver");
    }
}

impl Peer for Textbook {
    const NAME: &'static str = "crossbeam + tokio oneshot";

    fn new(workers: usize) -> Self {
        let (sender, receiver) = unbounded::<Job>();
        let start = |_| {
            let receiver = receiver.clone();
            thread::spawn(move || {
                for job in receiver {
                    job();
                }
            })
        };
        Self { sender: Some(sender), threads: (0..workers).map(start).collect() }
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.execute(move || {
            let _ = sender.send(job());
        });
        Unwrap(receiver)
    }
}

impl Drop for Textbook {
    fn drop(&mut self) {
        drop(self.sender.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
