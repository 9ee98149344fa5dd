//! What a request asks for, in words that no client made up: for whatever counts, logs or spans requests, so that it has as many names as there are
//! routes.

use axum::extract::{MatchedPath, Request};
use axum::http::Method;

/// A request's method and its path's template.
pub(super) struct Route {
    /// `_OTHER`, as traces say it, where it is none of HTTP's own.
    pub method: &'static str,
    path: Option<MatchedPath>,
}

impl Route {
    /// Of a request that was routed.
    pub fn of(request: &Request) -> Self {
        Self { method: name(request.method()), path: request.extensions().get::<MatchedPath>().cloned() }
    }

    /// `(none)`: it leads nowhere.
    pub fn path(&self) -> &str {
        self.path.as_ref().map_or("(none)", MatchedPath::as_str)
    }
}

fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_made_up_has_no_name() {
        let method = Method::from_bytes(b"MADE-UP").unwrap();
        let request =
            axum::http::Request::builder().method(method).uri("/made/up").body(axum::body::Body::empty());
        let route = Route::of(&request.unwrap());
        assert_eq!((route.method, route.path()), ("_OTHER", "(none)"));
    }
}
