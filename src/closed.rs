//! The future of an executor's last moment as an open one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::future::FusedFuture;

use crate::core::StopFlag;
use crate::stop_token::{StopToken, Stopped};

/// Waits until an executor takes no more tasks. From [`ExecutorService::closed`](crate::ExecutorService::closed).
///
/// # Cancel safety
///
/// It can be dropped at any moment, and leaves nothing behind. It does not keep the executor open.
#[must_use = "futures do nothing unless polled"]
pub struct Closed(Stopped);

impl Closed {
    /// The flag is set when the executor closes; without one it never does.
    pub(crate) fn new(flag: Option<Arc<StopFlag>>) -> Self {
        Self(StopToken::of(flag.into_iter().collect()).stopped())
    }
}

impl Future for Closed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl FusedFuture for Closed {
    fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").finish_non_exhaustive()
    }
}
