//! Who may call what: default closed, and one table that says what is open.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use volcanion_common::view::{ErrorCode, Role};

use super::RestState;
use super::problem::Refusal;
use crate::access::Denied;
use crate::run::table::MasterError;

/// Which of what stands at the root is answered without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public {
    /// `/health`, `/livez` and `/readyz`.
    pub health: bool,
    /// `/metrics`.
    pub metrics: bool,
}

impl Default for Public {
    fn default() -> Self {
        Self { health: true, metrics: false }
    }
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing.
    Nothing,
    /// A key of this role, or a higher one.
    Role(Role),
}

impl Need {
    /// Of a call, by the route's template; `None`: a path that leads nowhere. What is not listed is the admin's.
    fn of(method: &Method, route: Option<&str>, public: Public) -> Self {
        let Some(route) = route else { return Self::Role(Role::Viewer) };
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let call = route.strip_prefix("/api/v1/").or_else(|| route.strip_prefix("/api/"));
        let role = match (is_read, call.unwrap_or(route)) {
            (true, "/health" | "/livez" | "/readyz") if public.health => return Self::Nothing,
            (true, "/metrics") if public.metrics => return Self::Nothing,
            (_, path) if path == "keys" || path.starts_with("keys/") => Role::Admin,
            (true, _) => Role::Viewer,
            // It changes nothing.
            (false, "test-plans/validate" | "test-plans/{id}/validate") => Role::Viewer,
            (false, "kill") => Role::Operator,
            (false, path) if path.starts_with("test-plans") || path.starts_with("test-runs") => {
                Role::Operator
            }
            (false, _) => Role::Admin,
        };
        Self::Role(role)
    }
}

/// The layer.
pub(super) async fn check(State(state): State<RestState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Need::Role(needed) = Need::of(request.method(), route, state.public) else {
        return next.run(request).await;
    };
    match allow(&state, request.headers(), needed).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn allow(state: &RestState, headers: &HeaderMap, needed: Role) -> Result<(), Refusal> {
    match state.access.caller(shown(headers)?).await {
        Ok(caller) if caller.role >= needed => Ok(()),
        Ok(caller) => {
            let (name, role) = (caller.name, caller.role);
            let detail = format!("this needs the role {needed}; `{name}` is a key of the role {role}");
            Err(Refusal::new(ErrorCode::Forbidden, detail))
        }
        Err(Denied::Store(error)) => Err(MasterError::from(error).into()),
        Err(denied) => Err(Refusal::new(ErrorCode::Unauthorized, denied.to_string())),
    }
}

/// The key that a request shows.
fn shown(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let bearer = match one(headers, header::AUTHORIZATION.as_str())? {
        None => None,
        Some(value) => match value.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Some(key.trim()),
            _ => return Err(unfit("the header Authorization must be `Bearer KEY`")),
        },
    };
    match (bearer, one(headers, "x-api-key")?.map(str::trim)) {
        (Some(bearer), Some(plain)) if bearer != plain => {
            Err(unfit("the headers Authorization and X-API-Key show two keys; send one"))
        }
        (bearer, plain) => Ok(bearer.or(plain)),
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| unfit(&format!("the header {name} is not text")))
        }
        _ => Err(unfit(&format!("the header {name} is there more than once"))),
    }
}

fn unfit(detail: &str) -> Refusal {
    Refusal::new(ErrorCode::Unauthorized, detail)
}
