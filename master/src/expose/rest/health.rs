//! Health and metrics, at the root.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Refusal, Refused};
use crate::expose::prometheus;
use crate::run::table::Runs;

/// How the master is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
    /// Whether writes can be served.
    ready: bool,
    /// Registered agents.
    agents: usize,
    /// Runs that are going.
    active_runs: usize,
}

#[utoipa::path(
    get, path = "/health", tag = "health", operation_id = "health", summary = "How the master is; needs no leader",
    responses((status = 200, description = "It answers", body = Health))
)]
pub(super) async fn health(State(runs): State<Runs>) -> Json<Health> {
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        ready: runs.check_ready().is_ok(),
        agents: runs.agents().len(),
        active_runs: runs.going(),
    })
}

#[utoipa::path(
    get, path = "/livez", tag = "health", operation_id = "livez", summary = "The process answers",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

#[utoipa::path(
    get, path = "/readyz", tag = "health", operation_id = "readyz", summary = "Writes can be served",
    responses(
        (status = 200, description = "They can", body = String, content_type = "text/plain"),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn readyz(State(runs): State<Runs>) -> Result<&'static str, Refusal> {
    runs.check_ready()?;
    Ok("ok\n")
}

#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "prometheus",
    summary = "The merged truth for Prometheus; an ended run's series leave after 10 minutes",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(runs): State<Runs>) -> Response {
    let text = prometheus::text(&runs.totals(), &runs.agents());
    ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response()
}
