//! No web page of elsewhere gets through, and every answer has its request's id.

use axum::body::Body;
use axum::http::{Method, Request, header};

use tower::ServiceExt;

use super::{Api, LOOPBACK, request};

async fn ask(api: &Api, method: Method, host: &str, origin: Option<&str>) -> u16 {
    let mut request = Request::builder().method(method).uri("/api/test-plans").header(header::HOST, host);
    if let Some(origin) = origin {
        request = request.header(header::ORIGIN, origin);
    }
    api.call(request.body(Body::empty()).unwrap()).await.status.as_u16()
}

#[tokio::test]
async fn on_loopback_only_names_of_the_loopback_are_answered() {
    let api = Api::new().await;
    for host in [
        "localhost",
        "localhost:9999",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1:1",
        "127.8.9.1",
        "[::1]:80",
        "[::1]",
    ] {
        assert_eq!(ask(&api, Method::GET, host, None).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "[::2]",
        "",
        "a@localhost",
    ] {
        assert_eq!(ask(&api, Method::GET, host, None).await, 403, "{host}");
    }
    let evil = request(Method::GET, "/api/test-plans").header(header::HOST, "evil.example");
    let named_twice = api.call(evil.body(Body::empty()).unwrap()).await;
    assert_eq!(named_twice.status, 403, "of two hosts the wrong one is not overlooked");
}

#[tokio::test]
async fn pages_of_elsewhere_are_refused_and_our_own_are_not() {
    let api = Api::new().await;
    for origin in ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "file://", ""]
    {
        assert_eq!(ask(&api, Method::GET, LOOPBACK, Some(origin)).await, 403, "{origin}");
    }
    let own = format!("http://{LOOPBACK}");
    assert_eq!(ask(&api, Method::GET, LOOPBACK, Some(&own)).await, 200);

    let id = api.plan("one").await;
    for path in [format!("/api/test-plans/{id}/run"), format!("/api/test-plans/{id}/clone")] {
        let evil = request(Method::POST, &path).header(header::ORIGIN, "http://evil.example");
        api.call(evil.body(Body::empty()).unwrap()).await.assert_problem(403, "forbidden");
    }
}

#[tokio::test]
async fn beyond_loopback_any_name_is_answered_but_no_write_of_a_foreign_page() {
    let api = Api::listening_at("0.0.0.0:8080").await;
    assert_eq!(ask(&api, Method::GET, "master.example", None).await, 200);
    assert_eq!(ask(&api, Method::GET, "master.example", Some("http://evil.example")).await, 200);
    assert_eq!(ask(&api, Method::POST, "master.example", Some("http://evil.example")).await, 403);
}

#[tokio::test]
async fn the_requests_id_comes_back_or_is_made() {
    let api = Api::new().await;
    let sent = async |id: &[u8]| {
        let request = request(Method::GET, "/health").header("x-request-id", id);
        let answer = api.call(request.body(Body::empty()).unwrap()).await;
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(sent(b"abc-123").await, "abc-123");
    assert_eq!(sent(&[b'x'; 128]).await, "x".repeat(128));
    for unfit in [&[b'x'; 129][..], b"two words", b"caf\xe9", b""] {
        let made = sent(unfit).await;
        assert!(made.parse::<uuid::Uuid>().is_ok(), "{made}");
    }
    assert!(!api.get("/nowhere").await.header("x-request-id").is_empty());
}

#[tokio::test]
async fn answers_are_neither_guessed_at_nor_cached() {
    let api = Api::new().await;
    for path in ["/api/v1/test-plans", "/nowhere", "/metrics"] {
        let answer = api.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn a_panic_of_ours_is_a_problem_and_tells_nothing() {
    async fn broken() -> &'static str {
        panic!("a secret")
    }
    let layer = tower_http::catch_panic::CatchPanicLayer::custom(super::super::problem::of_panic);
    let router = axum::Router::new().route("/", axum::routing::get(broken)).layer(layer);
    let response = router.oneshot(request(Method::GET, "/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 500);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("internal_error") && !text.contains("secret"), "{text}");
}
