//! REST: the routes, and the layers around them.
//!
//! Takes [`RestState`], gives an [`axum::Router`]. The calls stand under `/api/v1` and, for scripts that know the
//! original's paths, under `/api`; health and metrics stand at the root. Invariants: every answer that is an error is a problem document (RFC 9457);
//! every answer carries an `X-Request-Id`; every route but the pages of the documentation is in the OpenAPI document.

mod access;
mod adjust;
mod agents;
mod body;
mod events;
mod forward;
mod guard;
mod health;
mod ids;
mod intervals;
mod keys;
mod limit;
mod lists;
mod openapi;
mod parameters;
mod plans;
mod problem;
mod runs;
mod socket;
#[cfg(test)]
mod tests;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRef;
use axum::{Router, middleware};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::Access;
use crate::leader::Office;
use crate::run::table::Runs;
pub use access::Public;
use forward::Forwarder;
use guard::Guard;

/// Most event streams (SSE and WebSocket together) at a time; one more is refused until one ends.
const STREAMS_MAX: usize = 1_000;

/// What the routes need.
#[derive(Clone)]
pub struct RestState {
    office: Office,
    forwarder: Forwarder,
    guard: Guard,
    access: Access,
    public: Public,
    /// Ends event streams, so that a stopping master need not wait for their readers.
    stop: CancellationToken,
    streams: Arc<Semaphore>,
}

impl RestState {
    /// `listen` is the address that is listened at: on loopback only requests that name the loopback, or this address, are
    /// answered, and none from web pages of elsewhere. `stop` ends the event streams.
    pub(crate) fn new(
        office: Office,
        access: Access,
        public: Public,
        listen: SocketAddr,
        stop: CancellationToken,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let (forwarder, guard) = (Forwarder::default(), Guard::new(listen));
        Self { office, forwarder, guard, access, public, stop, streams }
    }
}

impl FromRef<RestState> for Office {
    fn from_ref(state: &RestState) -> Self {
        state.office.clone()
    }
}

impl FromRef<RestState> for Runs {
    fn from_ref(state: &RestState) -> Self {
        state.office.runs()
    }
}

/// All routes with their layers, ready to be served.
pub fn router(state: RestState) -> Router {
    let (root, documented) = OpenApiRouter::with_openapi(openapi::document())
        .merge(at_root())
        .nest("/api/v1", api())
        .split_for_parts();
    let documentation = openapi::routes(openapi::finish(documented));
    let (short, _) = api().split_for_parts();

    // The last layer is the outermost: a request passes them from the bottom up.
    root.nest("/api", short)
        .merge(documentation)
        .fallback(problem::no_such_path)
        .layer(middleware::from_fn_with_state(state.clone(), forward::layer))
        .layer(middleware::from_fn(limit::refuse_large))
        .layer(middleware::from_fn_with_state(state.clone(), access::check))
        .layer(middleware::from_fn_with_state(state.guard.clone(), guard::check))
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(middleware::map_response(problem::dress))
        .layer(middleware::from_fn(trace::trace))
        .with_state(state)
}

/// What stands under `/api/v1` and `/api`.
fn api() -> OpenApiRouter<RestState> {
    OpenApiRouter::default()
        .routes(routes!(plans::list, plans::create))
        .routes(routes!(plans::validate_document))
        .routes(routes!(plans::get, plans::replace, plans::delete))
        .routes(routes!(plans::clone))
        .routes(routes!(plans::validate))
        .routes(routes!(plans::run))
        .routes(routes!(plans::schema))
        .routes(routes!(runs::list))
        .routes(routes!(runs::start))
        .routes(routes!(runs::get, adjust::adjust))
        .routes(routes!(runs::stop))
        .routes(routes!(runs::live))
        .routes(routes!(runs::metrics))
        .routes(routes!(intervals::intervals))
        .routes(routes!(events::events))
        .routes(routes!(socket::socket))
        .routes(routes!(agents::list))
        .routes(routes!(agents::drain))
        .routes(routes!(agents::kill))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
}

fn at_root() -> OpenApiRouter<RestState> {
    OpenApiRouter::default()
        .routes(routes!(health::health))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}
