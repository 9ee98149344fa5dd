//! REST over a real master without agents: what clients see of inputs, lists, streams and safety.

mod access;
mod adjust;
mod agents;
mod changes;
mod described;
mod forwarded;
mod guarded;
mod inputs;
mod lists;
mod plans;
mod scraped;
mod slow;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;
use volcanion_common::net::public::Public;
use volcanion_common::registry::local::LocalRegistry;
use volcanion_common::session::seal::ClusterKey;

use super::{RestOptions, RestState, router};
use crate::access::AdminKey;
use crate::config::Config;
use crate::run::table::Runs;
use crate::store::StoreUrl;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const LOOPBACK: &str = "127.0.0.1:8080";

/// A master with its routes.
struct Api {
    router: Router,
    runs: Runs,
    stop: DropGuard,
    _folder: TempDir,
}

/// An answer, read whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Api {
    async fn new() -> Self {
        Self::listening_at(LOOPBACK).await
    }

    async fn listening_at(address: &str) -> Self {
        Self::with(address, None, Public::default()).await
    }

    /// With the first admin's key, clients are asked for keys.
    async fn with(address: &str, admin_key: Option<&str>, public: Public) -> Self {
        Self::with_options(address, admin_key, RestOptions { public, ..RestOptions::default() }).await
    }

    async fn with_options(address: &str, admin_key: Option<&str>, options: RestOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let stop = CancellationToken::new();
        let store = StoreUrl::SqliteFile(folder.path().join("store.db"));
        let admin_key = admin_key.map(|key| AdminKey::new(key).unwrap());
        let config = Config { store, admin_key, ..Config::embedded(ClusterKey::random()) };
        let master = crate::start(config, Arc::new(LocalRegistry::new()), stop.clone()).await.unwrap();
        let runs = master.runs();
        let access = master.access().clone();
        let audit = access.trail(stop.clone());
        let address = address.parse().unwrap();
        let router = router(RestState::new(master.office(), access, audit, options, address, stop.clone()));
        Self { router, runs, stop: stop.drop_guard(), _folder: folder }
    }

    /// Ends with the test.
    fn stop(&self) -> CancellationToken {
        self.stop.token().clone()
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: impl Into<Body>) -> Answer {
        self.call(request(method, path).header(header::CONTENT_TYPE, kind).body(body.into()).unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, JSON, body.to_string()).await
    }

    async fn post_nothing(&self, path: &str) -> Answer {
        self.call(request(Method::POST, path).body(Body::empty()).unwrap()).await
    }

    /// The id of a new plan.
    async fn plan(&self, name: &str) -> String {
        let answer = self.post("/api/v1/test-plans", &simple_plan(name)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// On a real port, until the test ends.
    async fn on_a_port(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, self.router.clone()).into_future());
        address
    }
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// It is an error, whole and in the one form.
    #[track_caller]
    fn assert_problem(&self, status: u16, error: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let details = self.json();
        assert_eq!(details["error"], error, "{details}");
        assert_eq!(details["status"], status, "{details}");
        assert_eq!(details["type"], format!("urn:volcanion:error:{error}"), "{details}");
        assert!(details["title"].as_str().is_some_and(|title| !title.is_empty()), "{details}");
        assert!(details["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{details}");
        assert!(!self.header("x-request-id").is_empty());
        details
    }
}

fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, LOOPBACK)
}

fn simple_plan(name: &str) -> Value {
    json!({
        "name": name, "target_url": "http://127.0.0.1:9/", "method": "GET", "users": 2, "ramp_up_sec": 0, "duration_sec": 1
    })
}
