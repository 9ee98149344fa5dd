//! REST: the routes, and the layers around them.
//!
//! Takes [`RestState`], gives an [`axum::Router`]. The calls stand under `/api/v1` and, for scripts that know the
//! original's paths, under `/api`; health and metrics stand at the root. Invariants: every answer that is an error is a problem document (RFC 9457);
//! every answer carries an `X-Request-Id`; every route but the pages of the documentation is in the OpenAPI document.

mod access;
mod adjust;
mod agents;
mod audit;
mod body;
mod count;
mod debug;
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
mod quota;
mod route;
mod runs;
mod socket;
mod streams;
#[cfg(test)]
mod tests;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::{Router, middleware};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use volcanion_common::net::public::Public;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::telemetry::trace::Tracer;
use volcanion_common::units::Rate;

use crate::access::Access;
use crate::access::audit::Audit;
use crate::leader::Office;
use crate::run::table::Runs;
use count::Requests;
use forward::Forwarder;
use guard::Guard;
pub use limit::TimeLimits;
use quota::Quotas;
use streams::Streams;

/// How REST is to behave.
#[derive(Clone, Debug, Default)]
pub struct RestOptions {
    /// What is answered without a key.
    pub public: Public,
    /// What one client may ask for; `None`: whatever it wants.
    pub rate_limit: Option<Rate>,
    /// Web pages of these origins may ask too.
    pub origins: Vec<HeaderValue>,
    /// Whether clients speak TLS.
    pub is_tls: bool,
    /// How the leader is spoken to over TLS; the system's authorities where absent.
    pub leaders_tls: Option<Arc<rustls::ClientConfig>>,
    /// Seals what one master says of a client to another.
    pub cluster_key: ClusterKey,
    /// Takes a span for each request.
    pub tracer: Tracer,
    /// How long clients may take.
    pub limits: TimeLimits,
}

/// What the routes need.
#[derive(Clone)]
pub struct RestState {
    office: Office,
    forwarder: Forwarder,
    guard: Guard,
    access: Access,
    audit: Audit,
    quotas: Quotas,
    options: Arc<RestOptions>,
    /// Ends event streams, so that a stopping master need not wait for their readers.
    stop: CancellationToken,
    streams: Streams,
    requests: Requests,
}

impl RestState {
    /// `listen` is the address that is listened at: on loopback only requests that name the loopback, or this address, are
    /// answered, and none from web pages of elsewhere but of the origins that are named. `stop` ends the event streams.
    pub(crate) fn new(
        office: Office,
        access: Access,
        audit: Audit,
        options: RestOptions,
        listen: SocketAddr,
        stop: CancellationToken,
    ) -> Self {
        let (streams, requests) = (Streams::new(), Requests::default());
        let forwarder = Forwarder::new(options.leaders_tls.clone());
        let guard = Guard::new(listen, options.origins.clone());
        let (quotas, options) = (Quotas::new(options.rate_limit), Arc::new(options));
        Self { office, forwarder, guard, access, audit, quotas, options, stop, streams, requests }
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
    let router = root
        .nest("/api", short)
        .merge(documentation)
        .fallback(problem::no_such_path)
        .layer(middleware::from_fn_with_state(state.clone(), audit::note))
        .layer(middleware::from_fn_with_state(state.clone(), forward::layer))
        .layer(middleware::from_fn_with_state(state.options.limits, limit::refuse_large))
        .layer(middleware::from_fn_with_state(state.clone(), access::check))
        .layer(middleware::from_fn_with_state(state.guard.clone(), guard::check))
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(middleware::map_response_with_state(state.clone(), problem::dress));
    // Browsers ask beforehand whether they may; that is answered before anybody is asked for a key.
    let router = match cors(&state.options.origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    let router = router.layer(middleware::from_fn_with_state(state.requests.clone(), count::layer));
    router.layer(middleware::from_fn_with_state(state.clone(), trace::trace)).with_state(state)
}

/// What pages of other origins may ask; none where no origin is named.
fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    let headers =
        ["authorization", "x-api-key", "content-type", "idempotency-key", "last-event-id", "x-request-id"];
    let shown = ["link", "location", "x-request-id", "retry-after", "ratelimit", "ratelimit-policy"];
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins.to_vec())
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers(headers.map(HeaderName::from_static))
            .expose_headers(shown.map(HeaderName::from_static))
            .max_age(Duration::from_secs(600))
    })
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
        .routes(routes!(debug::agent_profile))
        .routes(routes!(debug::agent_memory))
        .routes(routes!(agents::kill))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
}

fn at_root() -> OpenApiRouter<RestState> {
    OpenApiRouter::default()
        .routes(routes!(health::health))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(debug::profile))
        .routes(routes!(debug::memory))
}
