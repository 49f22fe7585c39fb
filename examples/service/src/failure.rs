//! What can keep a request from its picture, and how that is answered.

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use concurrent_futures::Error;

/// Why there is no thumbnail.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Whoever sent it should not send it again.
    #[error("the picture can't be read: {0}")]
    BadPicture(String),
    /// There is no picture of that name.
    #[error("there is no such picture; see /thumbnail for those that there are")]
    NoSuchPicture,
    /// The queue is full. Said at once, so that the client can try another server.
    #[error("too many requests wait; try again later")]
    Busy,
    /// It was not the request's turn within its time, and the computation never ran.
    #[error("the request could not be begun in time; try again later")]
    Expired,
    /// The service ends.
    #[error("the service is about to end; try again later")]
    Ending,
    /// A fault of the service.
    #[error("the thumbnail could not be computed")]
    Fault(String),
}

/// What the pool says, in terms of the service.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::QueueFull { .. } => Self::Busy,
            Error::TimedOut { started: false, .. } => Self::Expired,
            Error::ShutDown | Error::Cancelled => Self::Ending,
            fault => Self::Fault(fault.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let text = self.to_string();
        match self {
            Self::BadPicture(_) => (StatusCode::UNPROCESSABLE_ENTITY, text).into_response(),
            Self::NoSuchPicture => (StatusCode::NOT_FOUND, text).into_response(),
            Self::Busy | Self::Ending => {
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
            }
            Self::Expired => {
                (StatusCode::GATEWAY_TIMEOUT, [(RETRY_AFTER, "1")], text).into_response()
            }
            Self::Fault(fault) => {
                eprintln!("service: {fault}"); // to the operator, not to the client
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        }
    }
}
