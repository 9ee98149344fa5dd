//! Every route against every kind of key: exactly what the documentation says, and nothing but health without one.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Method, header};
use serde_json::{Value, json};
use volcanion_common::net::public::Public;

use super::{Answer, Api, JSON, LOOPBACK, request};

const ADMIN: &str = "0123456789abcdef";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    Nobody,
    Viewer,
    Operator,
    Admin,
    Revoked,
    Expired,
}

/// Whom each call needs at least. A call that is not here fails the test.
const NEEDS: [(&str, Asks); 36] = [
    ("GET /health", Asks::Nobody),
    ("GET /livez", Asks::Nobody),
    ("GET /readyz", Asks::Nobody),
    ("GET /metrics", Asks::Viewer),
    ("GET /test-plans", Asks::Viewer),
    ("POST /test-plans", Asks::Operator),
    ("GET /test-plans/{id}", Asks::Viewer),
    ("PUT /test-plans/{id}", Asks::Operator),
    ("DELETE /test-plans/{id}", Asks::Operator),
    ("POST /test-plans/{id}/clone", Asks::Operator),
    ("POST /test-plans/{id}/validate", Asks::Viewer),
    ("POST /test-plans/validate", Asks::Viewer),
    ("POST /test-plans/{id}/run", Asks::Operator),
    ("GET /plan.schema.json", Asks::Viewer),
    ("POST /test-runs/start", Asks::Operator),
    ("GET /test-runs", Asks::Viewer),
    ("GET /test-runs/{id}", Asks::Viewer),
    ("PATCH /test-runs/{id}", Asks::Operator),
    ("POST /test-runs/{id}/stop", Asks::Operator),
    ("GET /test-runs/{id}/live", Asks::Viewer),
    ("GET /test-runs/{id}/metrics", Asks::Viewer),
    ("GET /test-runs/{id}/events", Asks::Viewer),
    ("GET /test-runs/{id}/ws/metrics", Asks::Viewer),
    ("GET /test-runs/{id}/intervals", Asks::Viewer),
    ("GET /agents", Asks::Viewer),
    ("POST /agents/{id}/drain", Asks::Admin),
    ("GET /agents/{id}/profile", Asks::Admin),
    ("GET /agents/{id}/memory", Asks::Admin),
    ("GET /debug/pprof/profile", Asks::Admin),
    ("GET /debug/memory", Asks::Admin),
    ("POST /kill", Asks::Operator),
    ("GET /audit-logs", Asks::Admin),
    ("GET /audit-logs/export", Asks::Admin),
    ("GET /keys", Asks::Admin),
    ("POST /keys", Asks::Admin),
    ("DELETE /keys/{id}", Asks::Admin),
];

async fn locked(public: Public) -> Api {
    Api::with(LOOPBACK, Some(ADMIN), public).await
}

async fn ask(api: &Api, method: &str, path: &str, key: Option<&str>, body: &Value) -> Answer {
    let mut request = request(method.parse::<Method>().unwrap(), path);
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let has_body = !matches!(method, "GET" | "DELETE");
    let body = if has_body { Body::from(body.to_string()) } else { Body::empty() };
    api.call(request.header(header::CONTENT_TYPE, JSON).body(body).unwrap()).await
}

/// Makes a key; itself and its id.
async fn make(api: &Api, body: Value) -> (String, String) {
    let answer = ask(api, "POST", "/api/v1/keys", Some(ADMIN), &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    (made["key"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

async fn keys(api: &Api) -> BTreeMap<Asks, Option<String>> {
    let role = async |role: &str| make(api, json!({ "name": format!("a {role}"), "role": role })).await;
    let (revoked, id) = role("admin").await;
    // It was good, and is remembered as such, until it is revoked.
    assert_eq!(ask(api, "GET", "/api/v1/keys", Some(&revoked), &json!(null)).await.status, 200);
    assert_eq!(
        ask(api, "DELETE", &format!("/api/v1/keys/{id}"), Some(ADMIN), &json!(null)).await.status,
        200
    );
    let expired = make(api, json!({ "name": "short", "role": "admin", "expires_in": "1us" })).await.0;
    BTreeMap::from([
        (Asks::Nobody, None),
        (Asks::Viewer, Some(role("viewer").await.0)),
        (Asks::Operator, Some(role("operator").await.0)),
        (Asks::Admin, Some(role("admin").await.0)),
        (Asks::Revoked, Some(revoked)),
        (Asks::Expired, Some(expired)),
    ])
}

/// What is described: method, path, and the statuses of its answers.
async fn calls(api: &Api) -> Vec<(String, String, Vec<String>)> {
    let document = ask(api, "GET", "/api/openapi.json", Some(ADMIN), &json!(null)).await.json();
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, call) in item.as_object().unwrap() {
            let statuses = call["responses"].as_object().unwrap().keys().cloned().collect();
            calls.push((method.to_uppercase(), path.clone(), statuses));
        }
    }
    calls
}

#[tokio::test]
async fn every_route_answers_every_kind_of_key_as_documented() {
    let api = locked(Public::default()).await;
    let keys = keys(&api).await;
    let calls = calls(&api).await;
    assert_eq!(calls.len(), NEEDS.len(), "every call is in the table, and no other");
    for (method, path, documented) in calls {
        let short = path.strip_prefix("/api/v1").unwrap_or(&path);
        let call = format!("{method} {short}");
        let (_, needed) = NEEDS
            .into_iter()
            .find(|(known, _)| *known == call)
            .unwrap_or_else(|| panic!("{call} is not in the table"));
        let given = path.replace("{id}", "0198c0de-0000-7000-8000-000000000000");
        // A profile of no length takes no time.
        let given = if path.ends_with("/profile") { format!("{given}?seconds=0") } else { given };
        for at in [given.clone(), given.replacen("/api/v1/", "/api/", 1)] {
            for (asks, key) in &keys {
                let answer = ask(&api, &method, &at, key.as_deref(), &json!({})).await;
                let who = format!("{call} at {at} by {asks:?}");
                match asks {
                    _ if needed == Asks::Nobody => {
                        assert!(answer.status.is_success(), "{who}: {}", answer.status)
                    }
                    Asks::Nobody | Asks::Revoked | Asks::Expired => {
                        answer.assert_problem(401, "unauthorized");
                        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"volcanion\"", "{who}");
                    }
                    role if *role < needed => {
                        let details = answer.assert_problem(403, "forbidden");
                        assert!(details["detail"].as_str().unwrap().contains("role"), "{who}: {details}");
                    }
                    _ => {
                        let status = answer.status.as_str();
                        assert!(!matches!(status, "401" | "403"), "{who}: {}", answer.text());
                        assert!(
                            documented.iter().any(|known| known == status),
                            "{who}: {status} is not documented"
                        );
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn nothing_else_is_answered_without_a_key() {
    let api = locked(Public::default()).await;
    for path in [
        "/",
        "/nowhere",
        "/api",
        "/api/docs",
        "/api/docs/",
        "/api/docs/index.html",
        "/api/openapi.json",
        "/api/v2/keys",
    ] {
        ask(&api, "GET", path, None, &json!(null)).await.assert_problem(401, "unauthorized");
    }
    let viewer = make(&api, json!({ "name": "v", "role": "viewer" })).await.0;
    assert_eq!(ask(&api, "GET", "/api/docs/", Some(&viewer), &json!(null)).await.status, 200);
    ask(&api, "GET", "/nowhere", Some(&viewer), &json!(null)).await.assert_problem(404, "not_found");
    ask(&api, "DELETE", "/api/v1/test-plans", Some(&viewer), &json!(null))
        .await
        .assert_problem(403, "forbidden");
}

#[tokio::test]
async fn health_and_metrics_are_open_or_closed_as_told() {
    for (public, health, metrics) in [
        (Public { health: true, metrics: true }, 200, 200),
        (Public { health: false, metrics: false }, 401, 401),
        (Public { health: false, metrics: true }, 401, 200),
    ] {
        let api = locked(public).await;
        for path in ["/health", "/livez", "/readyz"] {
            assert_eq!(ask(&api, "GET", path, None, &json!(null)).await.status, health, "{path} {public:?}");
        }
        assert_eq!(ask(&api, "GET", "/metrics", None, &json!(null)).await.status, metrics, "{public:?}");
    }
}

#[tokio::test]
async fn a_key_comes_in_either_header_and_one_that_is_malformed_is_told() {
    let api = locked(Public::default()).await;
    let (key, _) = make(&api, json!({ "name": "v", "role": "viewer" })).await;
    let ask = async |headers: &[(&str, &str)]| {
        let mut request = request(Method::GET, "/api/v1/agents");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        api.call(request.body(Body::empty()).unwrap()).await
    };
    let bearer = format!("bearer {key}");
    for good in [
        &[("x-api-key", key.as_str())][..],
        &[("authorization", &bearer)],
        &[("authorization", &bearer), ("x-api-key", &key)],
    ] {
        assert_eq!(ask(good).await.status, 200, "{good:?}");
    }
    for (wrong, told) in [
        (&[("authorization", "Basic YTpi")][..], "Bearer KEY"),
        (&[("authorization", &bearer), ("x-api-key", ADMIN)], "two keys"),
        (&[("x-api-key", &key), ("x-api-key", &key)], "more than once"),
        (&[("x-api-key", "vk_0000")], "not known"),
        (&[("x-api-key", "")], "not known"),
    ] {
        let details = ask(wrong).await.assert_problem(401, "unauthorized");
        assert!(details["detail"].as_str().unwrap().contains(told), "{wrong:?}: {details}");
    }
}

#[tokio::test]
async fn keys_are_shown_once_and_listed_without_themselves() {
    let api = locked(Public::default()).await;
    let (key, id) = make(&api, json!({ "name": " ci ", "role": "operator", "expires_in": "90d" })).await;
    assert!(key.starts_with("vk_") && key.len() == 67, "{key}");
    assert_eq!(ask(&api, "GET", "/api/v1/agents", Some(&key), &json!(null)).await.status, 200);
    let list = ask(&api, "GET", "/api/v1/keys", Some(ADMIN), &json!(null)).await;
    assert!(!list.text().contains(&key) && !list.text().contains("hash"), "{}", list.text());
    let listed = list.json()[0].clone();
    assert_eq!(
        (&listed["id"], &listed["name"], &listed["role"]),
        (&json!(id), &json!("ci"), &json!("operator"))
    );
    assert!(listed["expires_at"].is_string() && listed["revoked_at"].is_null(), "{listed}");
    for (body, field) in [
        (json!({ "role": "viewer" }), "name"),
        (json!({ "name": "a" }), "role"),
        (json!({ "name": "a", "role": "root" }), "role"),
        (json!({ "name": "", "role": "viewer" }), "name"),
        (json!({ "name": "a", "role": "viewer", "expires_in": "soon" }), "expires_in"),
        (json!({ "name": "a", "role": "viewer", "expires_in": "0s" }), "expires_in"),
        (json!({ "name": "a", "role": "viewer", "expires": "1d" }), "expires"),
    ] {
        let details = ask(&api, "POST", "/api/v1/keys", Some(ADMIN), &body)
            .await
            .assert_problem(400, "validation_error");
        assert_eq!(details["errors"][0]["field"], field, "{details}");
    }
    let nobody = "/api/v1/keys/0198c0de-0000-7000-8000-000000000000";
    ask(&api, "DELETE", nobody, Some(ADMIN), &json!(null)).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_master_that_asks_for_no_keys_makes_none() {
    let api = Api::new().await;
    let body = json!({ "name": "a", "role": "viewer" });
    let details = api.post("/api/v1/keys", &body).await.assert_problem(409, "conflict");
    assert!(details["detail"].as_str().unwrap().contains("--admin-key-file"), "{details}");
    assert_eq!(api.get("/api/v1/keys").await.json(), json!([]));
}
