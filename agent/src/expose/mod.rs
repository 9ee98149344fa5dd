//! What the agent shows over HTTP: its metrics and whether it is well.

mod door;
mod health;
mod metrics;
pub mod seen;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::sync::watch;
use volcanion_common::telemetry::prometheus;
use volcanion_common::telemetry::trace::{self, Tracer};

use crate::config::Public;
use crate::session::desk::{Census, DeskHandle};
use crate::session::lease::Lease;
use seen::Seen;

/// What the pages are made of.
pub struct Sources {
    /// What the runs did.
    pub seen: Arc<Seen>,
    /// Which runs are here.
    pub census: watch::Receiver<Census>,
    /// Where an order to drain goes.
    pub desk: DeskHandle,
    /// Whether the registry has the agent.
    pub lease: Lease,
    /// Counts its spans.
    pub tracer: Tracer,
    /// What other machines are answered.
    pub public: Public,
}

/// `/metrics`, `/livez`, `/readyz`, `/health`, and `POST /drain` from this machine. What is not public is answered to this machine alone, with 403 to
/// others. To be served with its clients' addresses.
pub fn router(sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(health::ready))
        .route("/health", get(health::health))
        .route("/drain", post(health::drain))
        .layer(middleware::from_fn_with_state(sources.public, door::check))
        .with_state(sources)
}

async fn metrics_page(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    let mut families = metrics::families(&sources.seen, &sources.census.borrow());
    families.extend(trace::family("volcanion_agent_trace_spans_total", &sources.tracer));
    ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::encode(families))
}
