//! Whether the agent is well, and whether it takes runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::Sources;

/// What `/health` says.
#[derive(Serialize)]
pub struct Health {
    status: &'static str,
    version: &'static str,
    runs: usize,
    registered: bool,
    draining: bool,
    /// Whether a run's load is being handed over to other agents.
    handing_over: bool,
}

/// 200 while the agent takes runs; 503 with the reason else.
pub async fn ready(State(sources): State<Arc<Sources>>) -> (StatusCode, &'static str) {
    let census = sources.census.borrow();
    if census.is_leaving {
        (StatusCode::SERVICE_UNAVAILABLE, "the agent is leaving\n")
    } else if census.is_draining {
        (StatusCode::SERVICE_UNAVAILABLE, "the agent is draining\n")
    } else if !sources.lease.has_joined() {
        (StatusCode::SERVICE_UNAVAILABLE, "the agent has not joined the registry yet\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// The agent answers, so it is well; the rest is for people.
pub async fn health(State(sources): State<Arc<Sources>>) -> Json<Health> {
    let census = sources.census.borrow();
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        runs: census.runs.len(),
        registered: sources.lease.is_alive(),
        draining: census.closed().is_some(),
        handing_over: sources.seen.any_hands_over(),
    })
}

/// Has the agent drain: for whoever is on this machine, such as a pod's preStop hook; see [`super::door`].
pub async fn drain(State(sources): State<Arc<Sources>>) -> (StatusCode, &'static str) {
    sources.desk.drain_here().await;
    (StatusCode::OK, "draining\n")
}
