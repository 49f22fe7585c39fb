//! Serves until it is told to stop, then ends in order.

use std::future::Future;
use std::io;
use std::time::Duration;

use concurrent_futures::ShutdownReport;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::app::{Service, app};

/// How long finished answers may take on their way: a client that does not read holds up no end.
const DELIVERY: Duration = Duration::from_secs(1);

/// Serves until `stop`. Then it takes no more connections, and what was accepted is computed and
/// answered, within `limit`. The report says what became of it; `None` if the backend can't tell.
///
/// # Errors
///
/// That of the listener.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    stop: impl Future<Output = ()>,
    limit: Duration,
) -> io::Result<Option<ShutdownReport>> {
    let backend = service.backend.clone();
    let (close, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, app(service)).with_graceful_shutdown(async {
        let _ = closed.await;
    });
    let mut server = tokio::spawn(server.into_future());
    tokio::select! {
        ended = &mut server => {
            ended??;
            return Ok(None);
        }
        () = stop => {}
    }
    let end = Instant::now() + limit;
    drop(close); // no new connections, and no second request on those that there are
    let report = backend.shutdown(limit).await;
    if let Ok(ended) = timeout_at(end + DELIVERY, server).await {
        ended??;
    }
    Ok(report)
}
