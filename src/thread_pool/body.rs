//! The body of a task of this pool: a job, or a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};

use crate::core::{Body, Polled, TaskRef, TaskWaker, context};
use crate::job::SendJob;
use crate::panic::{catch, drop_quietly};

/// A job: ready at its first poll.
pub(super) struct Once<J>(pub(super) J);

impl<J: SendJob> Body for Once<J> {
    type Output = J::Output;

    const ASYNC: bool = false;

    fn poll(self, _task: &TaskRef) -> Polled<Self> {
        // `run` consumes the job, so that a panic in the drop of a capture is the task's as well.
        Polled::Ready(Ok(self.0.run()))
    }
}

/// An async computation. In a box, since the cell hands its body out by value.
pub(super) struct Async<F> {
    future: Pin<Box<F>>,
    waker: Weak<TaskWaker>,
}

impl<F> Async<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future: Box::pin(future), waker: Weak::new() }
    }
}

impl<F> Body for Async<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Output = F::Output;

    const ASYNC: bool = true;

    fn poll(mut self, task: &TaskRef) -> Polled<Self> {
        // The body keeps a `Weak`: its waker has a reference to the task, which owns the body, so a
        // strong one would be a cycle.
        let waker = TaskWaker::get(&mut self.waker, task);
        let poll = || self.future.as_mut().poll(&mut Context::from_waker(&waker));
        let outcome = match context::run_polled(|| catch(poll)) {
            Ok(Poll::Pending) => return Polled::Pending(self),
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panicked) => Err(panicked),
        };
        // The destructor is user code: it runs before the result is published, on a worker that is
        // busy.
        drop_quietly(self);
        Polled::Ready(outcome)
    }
}
