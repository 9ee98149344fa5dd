//! The API's own description: OpenAPI 3.1 at `/api/openapi.json`, a page of it at `/api/docs`.
//!
//! Paths come from the handlers, so what is served and what is described cannot part. The page is Swagger UI from within the program; its
//! content policy lets it load nothing from elsewhere.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};
use volcanion_common::view::ProblemDetails;

use super::RestState;
use super::plans::PlanDocument;
use super::problem::Refused;

/// Where the document is.
const DOCUMENT: &str = "/api/openapi.json";

const CONTENT_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Volcanion",
        description = "Distributed HTTP load tests: plans, runs, and what they measured.\n\nEverything under `/api/v1` is served under `/api` as well. \
            Errors are problem details (RFC 9457) whose `errors` name every bad field at once. `X-Request-Id` is taken (up to 128 visible ASCII \
            characters) or made, and given back with every answer. Bodies are at most 8 MiB. Lists are bare arrays, newest first; the next page is in \
            the `Link` header. On loopback, requests of web pages from elsewhere are refused.\n\nA master with \
            `--admin-key-file` asks for a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`. Without one that is good the answer is 401; with one whose \
            role is not enough, 403.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "This master")),
    tags(
        (name = "plans", description = "What to do"),
        (name = "runs", description = "Executions of plans"),
        (name = "metrics", description = "What a run has measured"),
        (name = "events", description = "A run as it goes"),
        (name = "agents", description = "Who makes the load"),
        (name = "keys", description = "Who may ask, and for what"),
        (name = "health", description = "The master itself; at the root"),
        (name = "debug", description = "Where the master's time and memory go; at the root"),
    ),
    components(schemas(ProblemDetails, PlanDocument), responses(Refused))
)]
struct Description;

/// The document without paths.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The document as it is served.
pub(super) fn finish(mut document: utoipa::openapi::OpenApi) -> Bytes {
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    // Maps with text keys throughout, so writing it cannot fail; a test reads what is served.
    Bytes::from(serde_json::to_vec_pretty(&document).unwrap_or_default())
}

/// The document and its page.
pub(super) fn routes(document: Bytes) -> Router<RestState> {
    let serve = Arc::new(document);
    let handler = get(move || {
        let document = Bytes::clone(&serve);
        async move { ([(header::CONTENT_TYPE, "application/json")], document).into_response() }
    });
    // `none` keeps the page from asking a validator on the internet.
    let config = Config::from(DOCUMENT).validator_url("none").deep_linking(true);
    let page: Router<RestState> = SwaggerUi::new("/api/docs").config(config).into();
    Router::new().route(DOCUMENT, handler).merge(page.layer(middleware::map_response(restrict)))
}

async fn restrict(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY);
    response
}
