//! Lists: a bare array, and the way to the next page in a `Link` header (RFC 8288).

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;

use super::parameters::{Address, Parameters};
use crate::store::Page;

/// Longest page that a client may ask for.
const LIMIT_MAX: u32 = 200;
const LIMIT_DEFAULT: u32 = 50;

/// `limit` and `cursor`.
pub(super) fn page_of(parameters: &mut Parameters) -> (u32, Option<String>) {
    let limit = parameters.number("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
    let cursor = parameters.read("cursor", |text| match text.parse::<Uuid>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            let shown: String = text.chars().take(100).collect();
            Err(format!("`{shown}` is not a cursor; take it from the page before, or leave it away"))
        }
    });
    (limit, cursor)
}

/// The answer: the items, each as `show` makes it.
pub(super) fn answer<T, V: Serialize>(address: &Address, page: Page<T>, show: impl Fn(T) -> V) -> Response {
    let link = page.next.map(|cursor| format!("<{}>; rel=\"next\"", address.with("cursor", &cursor)));
    let items: Vec<V> = page.items.into_iter().map(show).collect();
    match link {
        Some(link) => ([(header::LINK, link)], Json(items)).into_response(),
        None => Json(items).into_response(),
    }
}
