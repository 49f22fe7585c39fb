//! What a task of this pool computes: a job, or a future.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::core::Body;
use crate::job::Job;

/// A job: ready at its first poll.
pub(super) struct Once<J>(Option<J>);

impl<J> Once<J> {
    pub(super) fn new(job: J) -> Self {
        Self(Some(job))
    }

    pub(super) fn into_job(self) -> Option<J> {
        self.0
    }
}

impl<J: Job> Body for Once<J> {
    type Output = J::Output;

    const ASYNC: bool = false;

    fn poll(&mut self, _waker: &dyn Fn() -> Waker) -> Poll<J::Output> {
        match self.0.take() {
            Some(job) => Poll::Ready(job.run()),
            None => unreachable!("a job is polled once"),
        }
    }
}

/// An async computation. In a box, since the cell hands its body out by value.
pub(super) struct Async<F>(Pin<Box<F>>);

impl<F> Async<F> {
    pub(super) fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

impl<F> Body for Async<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = F::Output;

    const ASYNC: bool = true;

    fn poll(&mut self, waker: &dyn Fn() -> Waker) -> Poll<F::Output> {
        self.0.as_mut().poll(&mut Context::from_waker(&waker()))
    }
}
