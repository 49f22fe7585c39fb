//! Routes and handlers.
//!
//! ```text
//! GET  /thumbnail                 the names of the pictures
//! GET  /thumbnail/NAME?width=320  a thumbnail of one of them
//! POST /thumbnail?width=320       a thumbnail of the picture in the body; 2 MB at most
//! GET  /health                    ok
//! GET  /metrics                   the pool's counters
//! ```
//!
//! `&within=300` asks for the answer within so many milliseconds, or for none at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use serde::Deserialize;

use crate::backend::{ANSWER_WITHIN, Backend};
use crate::failure::Failure;
use crate::metrics;

/// What all handlers share.
#[derive(Clone, Debug)]
pub struct Service {
    /// What computes.
    pub backend: Backend,
    /// The service's own pictures, by name.
    pub pictures: Arc<BTreeMap<&'static str, Bytes>>,
}

#[derive(Deserialize)]
struct Options {
    #[serde(default = "usual_width")]
    width: u32,
    /// In milliseconds.
    within: Option<u64>,
}

fn usual_width() -> u32 {
    320
}

/// The service as axum serves it.
pub fn app(service: Service) -> Router {
    Router::new()
        .route("/thumbnail", get(names).post(of_body))
        .route("/thumbnail/{name}", get(of_picture))
        .route("/health", get(async || "ok\n"))
        .route("/metrics", get(counters))
        .with_state(service)
}

async fn names(State(service): State<Service>) -> String {
    service.pictures.keys().map(|name| format!("{name}\n")).collect()
}

async fn of_picture(
    State(service): State<Service>,
    Path(name): Path<String>,
    Query(options): Query<Options>,
) -> Result<impl IntoResponse, Failure> {
    let picture = service.pictures.get(name.as_str()).ok_or(Failure::NoSuchPicture)?;
    answer(&service, picture.clone(), options).await
}

async fn of_body(
    State(service): State<Service>,
    Query(options): Query<Options>,
    picture: Bytes,
) -> Result<impl IntoResponse, Failure> {
    answer(&service, picture, options).await
}

async fn answer(
    service: &Service,
    picture: Bytes,
    Options { width, within }: Options,
) -> Result<impl IntoResponse + use<>, Failure> {
    let within = within.map_or(ANSWER_WITHIN, Duration::from_millis);
    let jpeg = service.backend.thumbnail(picture, width, within).await?;
    Ok(([(CONTENT_TYPE, "image/jpeg")], jpeg))
}

async fn counters(State(service): State<Service>) -> impl IntoResponse {
    let text = service.backend.metrics().as_ref().map(metrics::prometheus);
    let text = text.unwrap_or_else(|| "# this backend counts nothing\n".to_owned());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
