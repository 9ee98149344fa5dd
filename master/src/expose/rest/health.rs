//! Health and metrics, at the root.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use volcanion_common::telemetry::prometheus::encode;
use volcanion_common::telemetry::trace;

use super::problem::{Refusal, Refused};
use super::{RestState, forward};
use crate::expose::own_metrics::{self, Led, Own};
use crate::expose::prometheus;
use crate::leader::Leader;

/// How the master is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
    /// Whether writes can be served, here or by the leader.
    ready: bool,
    /// `leader`, or `standby`: it answers reads, and sends writes on.
    role: &'static str,
    /// Where the leader is reached, for a standby that knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    /// Registered agents.
    agents: usize,
    /// Runs that this master drives.
    active_runs: usize,
}

#[utoipa::path(
    get, path = "/health", tag = "health", operation_id = "health", summary = "How the master is; needs no leader",
    responses((status = 200, description = "It answers", body = Health))
)]
pub(super) async fn health(State(state): State<RestState>, headers: HeaderMap) -> Json<Health> {
    let runs = state.office.runs();
    let (role, leader) = match state.office.leader() {
        Leader::Here => ("leader", None),
        Leader::At(leader) => ("standby", Some(leader)),
        // One of another store is no leader of this master.
        Leader::Hidden | Leader::Nobody | Leader::OfAnotherStore(_) => ("standby", None),
    };
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        ready: forward::check_ready(&state, &headers).await.is_ok(),
        role,
        leader,
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
    get, path = "/readyz", tag = "health", operation_id = "readyz", summary = "Writes can be served: here, or by a leader that is reached",
    responses(
        (status = 200, description = "They can", body = String, content_type = "text/plain"),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn readyz(
    State(state): State<RestState>,
    headers: HeaderMap,
) -> Result<&'static str, Refusal> {
    forward::check_ready(&state, &headers).await?;
    Ok("ok\n")
}

#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "prometheus",
    summary = "The merged truth and the master itself for Prometheus; an ended run's series leave after 10 minutes, a standby has none",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(state): State<RestState>) -> Response {
    let runs = state.office.runs();
    let store = runs.store_state();
    let shared = &runs.shared;
    let (audit, streams) = (state.audit.filling(), state.streams.filling());
    let outgoing = shared.outgoing.as_deref();
    let own = Own { store: &*shared.store, agents: &shared.agents, audit, streams, outgoing };
    let (mut text, mut families) = match state.office.leader() {
        Leader::Here => {
            let (totals, agents) = (runs.totals(), runs.agents());
            let led = Led { runs: &totals, agents: &agents };
            (prometheus::text(&totals, &agents, store), own_metrics::families(&own, Some(&led)))
        }
        // What the leader says is not said twice.
        Leader::At(_) | Leader::Hidden | Leader::Nobody | Leader::OfAnotherStore(_) => {
            (prometheus::standby_text(store), own_metrics::families(&own, None))
        }
    };
    let spans = trace::family("volcanion_trace_spans_total", &state.options.tracer);
    families.extend(spans);
    families.extend(state.requests.families());
    families.push(state.streams.family());
    text.extend(encode(families));
    ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response()
}
