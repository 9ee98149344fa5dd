//! The trail of changes: written around every call that changes something, and read.

use std::net::IpAddr;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, OriginalUri, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, TryStreamExt};
use jiff::Timestamp;
use uuid::Uuid;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::view::AuditView;

use super::RestState;
use super::access::peer;
use super::lists;
use super::parameters::Parameters;
use super::problem::{Refusal, Refused};
use super::trace::REQUEST_ID;
use crate::access::Caller;
use crate::run::table::MasterError;
use crate::store::{self, AuditFilter, AuditRecord};

/// What a master that sends a request on says of its client: the address, and a seal by the cluster's key.
pub(super) const CLIENT: HeaderName = HeaderName::from_static("x-volcanion-client");
/// Records of a step of an export.
const EXPORT_PAGE: u32 = 200;

/// The layer: what was changed, or was begun and failed by our fault, is noted.
pub(super) async fn note(State(state): State<RestState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let (Some(route), Some(caller), true) = (route, request.extensions().get::<Caller>().cloned(), is_change)
    else {
        return next.run(request).await;
    };
    if route.ends_with("/validate") {
        return next.run(request).await;
    }
    let path = match request.extensions().get::<OriginalUri>() {
        Some(uri) => uri.path().to_owned(),
        None => request.uri().path().to_owned(),
    };
    let action = format!("{} {route}", request.method());
    let request_id = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok());
    let request_id = request_id.unwrap_or_default().to_owned();
    let from = client(request.headers(), &state.options.cluster_key, &request_id).or_else(|| peer(&request));
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() {
        let made =
            response.headers().get(header::LOCATION).and_then(|at| at.to_str().ok()).map(str::to_owned);
        let record = AuditRecord {
            id: Uuid::now_v7(),
            at: store::now(),
            who: caller.name,
            who_id: caller.id,
            role: caller.role,
            action,
            path,
            status: status.as_u16(),
            made,
            from: from.map(|ip| ip.to_string()),
            request_id,
        };
        state.audit.note(record).await;
    }
    response
}

/// What is said of a client to the master that a request goes on to.
pub(super) fn introduction(from: IpAddr, key: &ClusterKey, request_id: &str) -> Option<HeaderValue> {
    let seal: String =
        key.seal(sealed(from, request_id).as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("{from} {seal}")).ok()
}

/// The client that another master of this cluster speaks for.
fn client(headers: &HeaderMap, key: &ClusterKey, request_id: &str) -> Option<IpAddr> {
    let (address, _) = headers.get(&CLIENT)?.to_str().ok()?.split_once(' ')?;
    let address = address.parse().ok()?;
    (introduction(address, key, request_id).as_ref() == headers.get(&CLIENT)).then_some(address)
}

fn sealed(from: IpAddr, request_id: &str) -> String {
    format!("client {from} {request_id}")
}

#[utoipa::path(
    get, path = "/audit-logs", tag = "audit", operation_id = "listChanges",
    summary = "Changes that were made over REST, newest first; admins only",
    params(
        ("from" = Option<String>, Query, description = "At this time (RFC 3339) or later"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339)"),
        ("who" = Option<String>, Query, description = "Of whoever has this name or id"),
        ("limit" = Option<u32>, Query, description = "Most changes in the answer; 50 where absent", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = Vec<AuditView>,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last"))),
        (status = 400, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn list(
    State(state): State<RestState>,
    mut parameters: Parameters,
) -> Result<Response, Refusal> {
    let filter = filter(&mut parameters);
    let (limit, cursor) = lists::page_of(&mut parameters);
    let address = parameters.finish()?;
    let page = state.access.changes(&AuditFilter { limit, cursor, ..filter }).await?;
    Ok(lists::answer(&address, page, view))
}

#[utoipa::path(
    get, path = "/audit-logs/export", tag = "audit", operation_id = "exportChanges",
    summary = "All changes, newest first, a JSON document a line; admins only",
    params(
        ("from" = Option<String>, Query, description = "At this time (RFC 3339) or later"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339)"),
        ("who" = Option<String>, Query, description = "Of whoever has this name or id"),
    ),
    responses(
        (status = 200, description = "JSON lines; broken off where the store fails meanwhile", body = String, content_type = "application/x-ndjson"),
        (status = 400, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn export(
    State(state): State<RestState>,
    mut parameters: Parameters,
) -> Result<Response, Refusal> {
    let filter = AuditFilter { limit: EXPORT_PAGE, ..filter(&mut parameters) };
    parameters.finish()?;
    let first = state.access.changes(&filter).await?;
    let begin = (state, filter, Some(first));
    let pages = stream::try_unfold(begin, |(state, filter, page)| async move {
        let Some(page) = page else { return Ok::<_, MasterError>(None) };
        let mut lines = Vec::new();
        for record in page.items {
            // Texts and numbers only, so writing it cannot fail.
            lines.extend(serde_json::to_vec(&view(record)).unwrap_or_default());
            lines.push(b'\n');
        }
        let filter = AuditFilter { cursor: page.next, ..filter };
        let next = match filter.cursor {
            Some(_) => Some(state.access.changes(&filter).await?),
            None => None,
        };
        Ok(Some((Bytes::from(lines), (state, filter, next))))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit-logs.jsonl\""),
    ];
    Ok((headers, Body::from_stream(pages.map_err(std::io::Error::other))).into_response())
}

fn filter(parameters: &mut Parameters) -> AuditFilter {
    let from = parameters.value::<Timestamp>("from", "a time such as 2026-01-31T12:00:00Z");
    let to = parameters.value::<Timestamp>("to", "a time such as 2026-01-31T12:00:00Z");
    AuditFilter { from, to, who: parameters.text("who"), limit: 0, cursor: None }
}

fn view(record: AuditRecord) -> AuditView {
    let AuditRecord { id, at, who, who_id, role, action, path, status, made, from, request_id } = record;
    AuditView { id, at: at.to_string(), who, who_id, role, action, path, status, made, from, request_id }
}
