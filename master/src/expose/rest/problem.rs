//! Every answer that is an error, as RFC 9457 problem details.
//!
//! Takes a [`MasterError`], a panic, or an answer that axum or a layer gave in its own words; gives `application/problem+json`.

use std::any::Any;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use utoipa::ToResponse;
use volcanion_common::plan::suggest;
use volcanion_common::problem::{Problem, Problems};
use volcanion_common::view::{ErrorCode, ProblemDetails};

use super::RestState;
use crate::run::table::MasterError;

/// What a page of ours may load: what this master serves.
const PAGE_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
/// The content type of problem details.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a call was not answered. Boxed: it goes through every handler's `Result`.
#[derive(Debug)]
pub(super) struct Refusal(Box<ProblemDetails>);

/// For the OpenAPI document: what every error looks like.
#[derive(ToResponse)]
#[response(description = "Problem details (RFC 9457)", content_type = "application/problem+json")]
#[allow(dead_code, reason = "it is only described, never made")]
pub(super) struct Refused(ProblemDetails);

impl Refusal {
    /// An error without a list of problems.
    pub(super) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Box::new(ProblemDetails::new(code, detail)))
    }

    /// An input with problems; `problems` is not empty.
    pub(super) fn invalid(problems: Vec<Problem>) -> Self {
        Self(Box::new(ProblemDetails::invalid(problems)))
    }
}

impl From<MasterError> for Refusal {
    fn from(error: MasterError) -> Self {
        Self(Box::new(error.to_problem_details()))
    }
}

impl From<ProblemDetails> for Refusal {
    fn from(details: ProblemDetails) -> Self {
        Self(Box::new(details))
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self::invalid(problems.0)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // Every status of an `ErrorCode` is a legal one; what `dress` makes keeps the status of the answer that it dresses.
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(detail = %self.0.detail, "a request failed by our fault");
        }
        let is_over_soon = self.0.error == ErrorCode::NoLeader;
        let asks_for_a_key = self.0.error == ErrorCode::Unauthorized;
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], Json(*self.0)).into_response();
        if asks_for_a_key {
            let challenge = HeaderValue::from_static("Bearer realm=\"volcanion\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if is_over_soon {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A name that is not known, with the nearest one that is.
pub(super) fn unknown(name: &str, known: &[&str]) -> Problem {
    let shown: String = name.chars().take(100).collect();
    let way_out = match suggest::nearest(name, known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if known.is_empty() => "nothing is taken here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    };
    Problem::new(shown.clone(), format!("unknown field `{shown}`; {way_out}"))
}

/// For paths that lead nowhere.
pub(super) async fn no_such_path(method: Method, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::new(
        ErrorCode::NotFound,
        format!("there is nothing at {method} {path}; /api/docs lists what there is"),
    )
}

/// For a panic in a handler: the text goes to the log, the client learns that it was our fault.
pub(super) fn of_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    tracing::error!(panic = text, "a handler panicked");
    Refusal::new(ErrorCode::InternalError, "the master could not answer this; its log says why")
        .into_response()
}

/// Gives problem details to an error that axum or a layer answered in words of its own, and headers that keep browsers from
/// guessing and caching to every answer.
pub(super) async fn dress(State(state): State<RestState>, response: Response) -> Response {
    let mut response = if is_undressed_error(&response) { dressed(response).await } else { response };
    let headers = response.headers_mut();
    let is_page =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { "default-src 'none'; frame-ancestors 'none'" };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if state.options.is_tls {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn is_undressed_error(response: &Response) -> bool {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON);
    (status.is_client_error() || status.is_server_error()) && !is_problem
}

async fn dressed(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let said = axum::body::to_bytes(body, 4_096).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let code = match parts.status {
        StatusCode::NOT_FOUND => ErrorCode::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorCode::UnsupportedMediaType,
        status if status.is_server_error() => ErrorCode::InternalError,
        _ => ErrorCode::ValidationError,
    };
    let detail = match (code, parts.headers.get(header::ALLOW).and_then(|allow| allow.to_str().ok())) {
        (ErrorCode::MethodNotAllowed, Some(allow)) => format!("this path takes {allow} only"),
        _ if said.is_empty() => code.title().to_lowercase(),
        _ => said.into_owned(),
    };
    let details = ProblemDetails { status: parts.status.as_u16(), ..ProblemDetails::new(code, detail) };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    // Strings and numbers only, so writing it cannot fail.
    Response::from_parts(parts, Body::from(serde_json::to_vec(&details).unwrap_or_default()))
}
