//! Who is answered what over HTTP: other machines what is public, this machine all, web pages no order.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use volcanion_common::net::listen;
use volcanion_common::net::public::Public;

/// The layer.
pub async fn check(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    State(public): State<Public>,
    request: Request,
    next: Next,
) -> Response {
    let said = match request.uri().path() {
        "/drain" => drain_refusal(peer, request.headers()),
        path if !listen::is_loopback(peer) && !is_public(public, path) => {
            Some("only this machine is answered here; --public opens it\n")
        }
        _ => None,
    };
    match said {
        Some(why) => (StatusCode::FORBIDDEN, why).into_response(),
        None => next.run(request).await,
    }
}

fn is_public(public: Public, path: &str) -> bool {
    match path {
        "/metrics" => public.metrics,
        _ => public.health,
    }
}

/// Why an order to drain is not taken. A page that a browser on this machine has open comes from this machine too; but it says where it is from, or, where it
/// has a name of its own resolve to the loopback, asks for that name.
fn drain_refusal(peer: SocketAddr, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let is_ours = |host: &header::HeaderValue| host.to_str().is_ok_and(listen::is_loopback_host);
    if !listen::is_loopback(peer) {
        Some("only this machine may have the agent drain; ask the master elsewhere\n")
    } else if headers.contains_key(header::ORIGIN) {
        Some("a web page may not have the agent drain\n")
    } else if !hosts.all(is_ours) {
        Some("the host is not this machine's loopback; ask for localhost, 127.0.0.1 or [::1]\n")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_a_program_on_this_machine_has_the_agent_drain() {
        let here = SocketAddr::from(([127, 0, 0, 1], 40_000));
        assert_eq!(drain_refusal(here, &headers(&[("host", "localhost:9090")])), None);
        assert_eq!(drain_refusal(here, &headers(&[("host", "[::1]:9090")])), None);
        for foreign in [
            &[("host", "localhost:9090"), ("origin", "http://evil.example")][..],
            &[("host", "localhost:9090"), ("origin", "null")],
            &[("host", "evil.example:9090")],
            &[("host", "10.0.0.1:9090")],
        ] {
            assert!(drain_refusal(here, &headers(foreign)).is_some(), "{foreign:?}");
        }
        let elsewhere = SocketAddr::from(([10, 0, 0, 1], 40_000));
        assert!(drain_refusal(elsewhere, &headers(&[("host", "localhost")])).is_some());
    }

    #[test]
    fn each_page_is_open_or_closed_by_its_own_word() {
        let pages = |health, metrics| {
            ["/metrics", "/health", "/livez", "/readyz"]
                .map(|path| is_public(Public { health, metrics }, path))
        };
        assert_eq!(pages(true, true), [true; 4]);
        assert_eq!(pages(true, false), [false, true, true, true]);
        assert_eq!(pages(false, true), [true, false, false, false]);
    }
}
