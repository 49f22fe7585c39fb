//! Unobserved failures: tasks that failed after their future was dropped or detached, with no callback.
//!
//! The caller's side gives a result up, and the publisher makes it visible, each in one step on the task's
//! state. One of the two comes second, finds what the other has done, and reports the failure.

use std::fmt;
use std::sync::Arc;

use super::id::TaskId;
use crate::error::{Error, WithCauses};
use crate::panic::{Quiet, quietly};
use crate::trace;

/// A task whose failure is unobserved. Given to
/// [`on_unobserved_failure`](crate::ThreadPoolBuilder::on_unobserved_failure).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UnobservedFailure<'a> {
    /// The name of the pool.
    pub pool: &'a str,
    /// The task's number.
    pub id: TaskId,
    /// The task's label, if it was given one.
    pub label: Option<&'a str>,
    /// The reason that it has no value.
    pub error: &'a Error,
}

impl fmt::Display for UnobservedFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id)?;
        if let Some(label) = self.label {
            write!(f, " {label:?}")?;
        }
        write!(
            f,
            " of pool {:?} failed, and nobody has seen it: {}",
            self.pool,
            WithCauses(self.error)
        )
    }
}

type Hook = Arc<dyn Fn(&UnobservedFailure<'_>) + Send + Sync>;

/// The report of a pool's unobserved failures.
#[derive(Clone, Default)]
pub(crate) struct OnUnobserved {
    hook: Option<Hook>,
}

impl OnUnobserved {
    pub(crate) fn new<F>(hook: F) -> Self
    where
        F: Fn(&UnobservedFailure<'_>) + Send + Sync + 'static,
    {
        let hook = Quiet::new(hook);
        Self { hook: Some(Arc::new(move |failure| hook(failure))) }
    }

    /// Returns whether there is a hook.
    pub(crate) fn is_set(&self) -> bool {
        self.hook.is_some()
    }

    /// Returns whether a report has a receiver: the hook or, without one, a subscriber of `tracing`.
    pub(crate) fn is_heard(&self) -> bool {
        self.is_set() || trace::is_listened_to()
    }

    /// Reports a task. Called without a lock, since it runs user code.
    #[cold]
    pub(crate) fn tell(&self, failure: UnobservedFailure<'_>) {
        // A task that was withdrawn before it started has not failed.
        if matches!(failure.error, Error::Cancelled | Error::TimedOut { started: false, .. }) {
            return;
        }
        match &self.hook {
            // A panic has been reported by the panic hook.
            Some(hook) => quietly(|| hook(&failure)),
            None => {
                trace::unobserved(failure.id.get(), failure.label, failure.pool, failure.error);
            }
        }
    }
}
