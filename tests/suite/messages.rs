//! Redirects, cookies and bodies from files: what the target counted is what the report says, over both versions of HTTP.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::harness::process::volcanion;

/// Requests by version, path and status, and the bytes of their bodies.
type Counts = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

/// A shop: its door leads in by two redirects and gives a cookie, which its rooms ask for.
async fn answer(State(counts): State<Counts>, request: Request) -> Response<Body> {
    let (version, path) = (request.version(), request.uri().path().to_owned());
    let has_cookie =
        request.headers().get(header::COOKIE).is_some_and(|value| value.as_bytes() == b"session=open");
    let mut answer = Response::new(Body::from("ok"));
    let to = match path.as_str() {
        "/door" => {
            answer.headers_mut().insert(header::SET_COOKIE, "session=open".parse().unwrap());
            Some("hall")
        }
        "/hall" if has_cookie => Some("/room"),
        "/room" | "/upload" if has_cookie => None,
        _ => {
            *answer.status_mut() = StatusCode::FORBIDDEN;
            None
        }
    };
    if let Some(to) = to {
        *answer.status_mut() = StatusCode::FOUND;
        answer.headers_mut().insert(header::LOCATION, to.parse().unwrap());
    }
    let mut bytes = 0;
    let mut body = request.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        bytes += piece.map_or(0, |piece| piece.len() as u64);
    }
    let key = format!("{version:?} {path} {}", answer.status().as_u16());
    let mut counts = counts.lock().unwrap();
    let (requests, sum) = counts.entry(key).or_default();
    (*requests, *sum) = (*requests + 1, *sum + bytes);
    answer
}

async fn shop() -> (String, Counts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let counts = Counts::default();
    let router = Router::new().fallback(answer).with_state(counts.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_cookies_and_files_are_counted_as_the_target_counts_them() {
    const FILE_BYTES: u64 = 700_000;
    const ITERATIONS: u64 = 20;
    let folder = TempDir::new().expect("a temporary folder can be made");
    fs::write(folder.path().join("body.bin"), vec![b'x'; FILE_BYTES as usize]).expect("it can be written");
    for (version, spoken) in [("1.1", "HTTP/1.1"), ("2", "HTTP/2.0")] {
        let (url, counts) = shop().await;
        let plan = json!({
            "name": "shop", "target": url,
            "http": { "version": version, "redirects": 3, "cookies": true },
            "scenarios": { "s": {
                "executor": "per-vu-iterations", "vus": 4, "iterations": 5, "max_duration": "60s",
                "steps": [
                    { "name": "locked", "get": "/room" },
                    { "name": "enter", "post": "/door", "body": "knock" },
                    { "name": "upload", "put": "/upload", "body_file": "body.bin" },
                ],
            } },
        });
        let path = folder.path().join("plan.json");
        fs::write(&path, plan.to_string()).expect("it can be written");
        let files = folder.path().display().to_string();
        let output = volcanion(&["run", &path.display().to_string(), "--json", "--files", &files]).await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        let metrics: Value = serde_json::from_str(&output.stdout).expect("stdout is the JSON alone");
        let expected = BTreeMap::from(
            [
                ("/room 403", 0),
                ("/door 302", 5),
                ("/hall 302", 0),
                ("/room 200", 0),
                ("/upload 200", FILE_BYTES),
            ]
            .map(|(key, bytes)| (format!("{spoken} {key}"), (ITERATIONS, ITERATIONS * bytes))),
        );
        assert_eq!(*counts.lock().unwrap(), expected, "over HTTP/{version}");
        assert_eq!(metrics["errors"], json!({}), "over HTTP/{version}");
        assert_eq!(metrics["total_requests"], 5 * ITERATIONS, "every hop is a request");
        assert_eq!(metrics["redirects"], 2 * ITERATIONS, "and told apart");
        assert_eq!(metrics["failed_requests"], ITERATIONS, "an iteration begins without cookies");
        assert_eq!(
            metrics["status_codes"],
            json!({ "200": 2 * ITERATIONS, "302": 2 * ITERATIONS, "403": ITERATIONS })
        );
        let steps: Vec<_> = metrics["steps"]
            .as_array()
            .expect("there are steps")
            .iter()
            .map(|step| (step["requests"].as_u64(), step["redirects"].as_u64()))
            .collect();
        let each = |requests, redirects| (Some(requests * ITERATIONS), Some(redirects * ITERATIONS));
        assert_eq!(steps, [each(1, 0), each(3, 2), each(1, 0)]);
        let sent = metrics["bytes_sent"].as_u64().expect("it is a number");
        assert!(sent > ITERATIONS * FILE_BYTES && sent < ITERATIONS * (FILE_BYTES + 10_000), "{sent} bytes");
    }
}
