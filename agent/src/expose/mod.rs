//! What the agent shows over HTTP: its metrics, whether it is well, and to this machine where its time and memory go.

mod door;
mod debug;
mod health;
mod metrics;
mod own_metrics;
pub mod seen;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::sync::watch;
use volcanion_common::net::public::Public;
use volcanion_common::registry::RegistryCounts;
use volcanion_common::telemetry::prometheus;
use volcanion_common::telemetry::trace::{self, Tracer};

use crate::session::desk::{Census, DeskHandle};
use crate::session::lease::Lease;
use crate::session::tally::Tally;
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
    /// What was counted of streams and orders.
    pub tally: Arc<Tally>,
    /// What went wrong with the registry.
    pub registry: Arc<RegistryCounts>,
    /// Whether profiles are shown beyond this machine too.
    pub remote_debug: bool,
}

/// `/metrics`, `/livez`, `/readyz`, `/health`, and from this machine `POST /drain`, `/debug/pprof/profile` and `/debug/memory`. What is not public is
/// answered to this machine alone, with 403 to others. To be served with its clients' addresses.
pub fn router(sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(health::ready))
        .route("/health", get(health::health))
        .route("/drain", post(health::drain))
        .layer(middleware::from_fn_with_state(sources.public, door::check))
        // These have a door of their own.
        .route("/debug/pprof/profile", get(debug::cpu_profile))
        .route("/debug/memory", get(debug::memory_figures))
        .with_state(sources)
}

async fn metrics_page(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    let mut families = metrics::families(&sources.seen, &sources.census.borrow());
    families.extend(trace::family("volcanion_agent_trace_spans_total", &sources.tracer));
    families.extend(own_metrics::families(&sources));
    ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::encode(families))
}
