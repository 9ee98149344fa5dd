//! Who may call what: default closed, and one table that says what is open.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use volcanion_common::net::public::Public;
use volcanion_common::view::{ErrorCode, Role};

use super::RestState;
use super::problem::Refusal;
use super::quota::Quotas;
use crate::access::{Caller, Denied};
use crate::run::table::MasterError;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing.
    Nothing,
    /// A key of this role, or a higher one.
    Role(Role),
}

/// What stands at the root, beside the calls.
const HEALTH: [&str; 3] = ["/health", "/livez", "/readyz"];

/// What a viewer may read.
const VIEWER_READS: [&str; 19] = [
    "/health",
    "/livez",
    "/readyz",
    "/metrics",
    "openapi.json",
    "docs",
    "docs/",
    "docs/{*rest}",
    "plan.schema.json",
    "test-plans",
    "test-plans/{id}",
    "test-runs",
    "test-runs/{id}",
    "test-runs/{id}/live",
    "test-runs/{id}/metrics",
    "test-runs/{id}/events",
    "test-runs/{id}/ws/metrics",
    "test-runs/{id}/intervals",
    "agents",
];

/// What a viewer may send, since it changes nothing.
const VIEWER_QUESTIONS: [&str; 2] = ["test-plans/validate", "test-plans/{id}/validate"];

/// What an operator may change.
const OPERATOR_CHANGES: [&str; 8] = [
    "test-plans",
    "test-plans/{id}",
    "test-plans/{id}/clone",
    "test-plans/{id}/run",
    "test-runs/start",
    "test-runs/{id}",
    "test-runs/{id}/stop",
    "kill",
];

impl Need {
    /// Of a call, by the route's template; `None`: a path that leads nowhere. What is not listed is the admin's, be it read or written.
    fn of(method: &Method, route: Option<&str>, public: Public) -> Self {
        let Some(route) = route else { return Self::Role(Role::Viewer) };
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let call = route.strip_prefix("/api/v1/").or_else(|| route.strip_prefix("/api/")).unwrap_or(route);
        let is_public = public.health && HEALTH.contains(&call) || public.metrics && call == "/metrics";
        let is_viewers =
            if is_read { VIEWER_READS.contains(&call) } else { VIEWER_QUESTIONS.contains(&call) };
        match (is_read, is_viewers) {
            (true, _) if is_public => Self::Nothing,
            (_, true) => Self::Role(Role::Viewer),
            (false, _) if OPERATOR_CHANGES.contains(&call) => Self::Role(Role::Operator),
            _ => Self::Role(Role::Admin),
        }
    }
}

/// The layer: who is let in is known to what follows as a [`Caller`].
pub(super) async fn check(State(state): State<RestState>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Need::Role(needed) = Need::of(request.method(), route, state.options.public) else {
        return next.run(request).await;
    };
    let from = peer(&request);
    let caller = match caller(&state, request.headers(), from).await {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let client = match from {
        Some(from) if !state.access.asks_for_keys() => Quotas::client_at(from),
        _ => caller.id.clone(),
    };
    // Without an address a request did not come over the network.
    let left = match from.map(|_| state.quotas.client(&client)).transpose() {
        Ok(left) => left,
        Err(refused) => return *refused,
    };
    let mut response = if caller.role >= needed {
        request.extensions_mut().insert(caller);
        next.run(request).await
    } else {
        let (name, role) = (caller.name, caller.role);
        tracing::warn!(client = name, %role, %needed, route, "a client was refused");
        let detail = format!("this needs the role {needed}; `{name}` has the role {role}");
        Refusal::new(ErrorCode::Forbidden, detail).into_response()
    };
    if let Some(left) = left {
        left.dress(response.headers_mut());
    }
    response
}

/// Where a request comes from.
pub(super) fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical())
}

async fn caller(
    state: &RestState,
    headers: &HeaderMap,
    from: Option<IpAddr>,
) -> Result<Caller, Box<Response>> {
    let shown = shown(headers).map_err(|refusal| Box::new(refusal.into_response()))?;
    if let (Some(from), Some(shown)) = (from, shown)
        && !state.access.is_known(shown)
    {
        state.quotas.stranger(from)?;
    }
    state.access.caller(shown).await.map_err(|denied| {
        let refusal = match denied {
            Denied::Store(error) => MasterError::from(error).into(),
            denied => Refusal::new(ErrorCode::Unauthorized, denied.to_string()),
        };
        Box::new(refusal.into_response())
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_the_admins_be_it_read_or_written() {
        let public = Public { health: true, metrics: true };
        let need = |method: Method, route| Need::of(&method, Some(route), public);
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
            for route in [
                "/api/v1/debug",
                "/api/debug",
                "/debug",
                "/api/v1/test-plans/{id}/secrets",
                "/api/v1/test-runs/{id}/{*rest}",
                "/metrics/x",
            ] {
                assert_eq!(need(method.clone(), route), Need::Role(Role::Admin), "{method} {route}");
            }
        }
        assert_eq!(need(Method::GET, "/api/v1/test-plans"), Need::Role(Role::Viewer));
        assert_eq!(need(Method::POST, "/api/test-plans"), Need::Role(Role::Operator));
        assert_eq!(need(Method::GET, "/metrics"), Need::Nothing);
        assert_eq!(need(Method::POST, "/metrics"), Need::Role(Role::Admin));
    }
}
