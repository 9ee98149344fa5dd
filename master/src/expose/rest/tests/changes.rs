//! The trail of changes, the headers of every answer, pages of other origins.

use axum::body::Body;
use axum::http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{Api, JSON, LOOPBACK, RestOptions, request, simple_plan};

const ADMIN: &str = "0123456789abcdef";

async fn ask(api: &Api, method: Method, path: &str, key: &str, body: &Value) -> super::Answer {
    let request = request(method, path).header("x-api-key", key).header(header::CONTENT_TYPE, JSON);
    api.call(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn what_was_changed_is_told_with_who_and_when_and_no_secret() {
    let api = Api::with_options(LOOPBACK, Some(ADMIN), RestOptions::default()).await;
    let made = ask(&api, Method::POST, "/api/v1/keys", ADMIN, &json!({ "name": "ci", "role": "operator" }))
        .await
        .json();
    let key = made["key"].as_str().unwrap().to_owned();
    let mut plan = simple_plan("a plan");
    plan["headers"] = json!({ "authorization": "canary-of-a-plan" });
    let stored = ask(&api, Method::POST, "/api/test-plans", &key, &plan).await;
    assert_eq!(stored.status, 201);
    let id = stored.json()["id"].as_str().unwrap().to_owned();
    // None of these changes anything.
    ask(&api, Method::POST, "/api/v1/test-plans/validate?canary-of-a-query", &key, &plan).await;
    ask(&api, Method::POST, "/api/v1/test-plans", &key, &json!({ "name": "" })).await;
    ask(&api, Method::DELETE, "/api/v1/keys/0198c7d0-0000-7000-8000-000000000001", &key, &json!(null)).await;
    ask(&api, Method::GET, "/api/v1/test-plans", &key, &json!(null)).await;
    ask(&api, Method::DELETE, &format!("/api/v1/test-plans/{id}"), &key, &json!(null)).await;

    let list = ask(&api, Method::GET, "/api/v1/audit-logs", ADMIN, &json!(null)).await;
    let text = list.text();
    let changes = list.json();
    let told: Vec<String> = changes
        .as_array()
        .unwrap()
        .iter()
        .map(|change| format!("{} {} {}", change["who"], change["action"], change["status"]).replace('"', ""))
        .collect();
    assert_eq!(
        told,
        [
            "ci DELETE /api/v1/test-plans/{id} 204",
            "ci POST /api/test-plans 201",
            "first admin POST /api/v1/keys 201",
        ]
    );
    assert_eq!(changes[0]["path"], format!("/api/v1/test-plans/{id}"));
    assert_eq!(changes[0]["who_id"], made["id"]);
    assert!(changes[1]["made"].as_str().unwrap().ends_with(&id), "{text}");
    for secret in [&*key, ADMIN, "canary"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let page = ask(&api, Method::GET, "/api/v1/audit-logs?limit=1&who=ci", ADMIN, &json!(null)).await;
    assert!(page.headers[header::LINK].to_str().unwrap().contains("cursor="));
    let export = ask(&api, Method::GET, "/api/v1/audit-logs/export", ADMIN, &json!(null)).await;
    assert_eq!(export.headers[header::CONTENT_TYPE], "application/x-ndjson");
    let lines: Vec<Value> = export.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::from(lines), changes);
    let wrong = ask(&api, Method::GET, "/api/v1/audit-logs?from=yesterday&whom=x", ADMIN, &json!(null)).await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["errors"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn every_answer_keeps_browsers_from_doing_more_than_showing_it() {
    let options = RestOptions { is_tls: true, ..RestOptions::default() };
    let api = Api::with_options(LOOPBACK, Some(ADMIN), options).await;
    for path in ["/livez", "/api/v1/test-plans", "/api/docs", "/nowhere", "/api/openapi.json"] {
        let headers = ask(&api, Method::GET, path, ADMIN, &json!(null)).await.headers;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(headers[name], value, "{path}");
        }
        assert!(
            headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!headers.contains_key("access-control-allow-origin"), "{path}");
    }
}

#[tokio::test]
async fn pages_of_named_origins_may_ask_and_no_others() {
    let ours = "https://load.example.com";
    let options = RestOptions { origins: vec![HeaderValue::from_static(ours)], ..RestOptions::default() };
    let api = Api::with_options(LOOPBACK, Some(ADMIN), options).await;
    let with = async |method: Method, origin: &str, key: Option<&str>| {
        let mut request = request(method.clone(), "/api/v1/test-plans").header(header::ORIGIN, origin);
        if method == Method::OPTIONS {
            request = request
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "x-api-key");
        }
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        api.call(request.body(Body::empty()).unwrap()).await
    };
    let asked = with(Method::OPTIONS, ours, None).await;
    assert_eq!(asked.status, 200, "{}", asked.text());
    assert_eq!(asked.headers["access-control-allow-origin"], ours);
    let answered = with(Method::GET, ours, Some(ADMIN)).await;
    assert_eq!(
        (answered.status.as_u16(), &answered.headers["access-control-allow-origin"]),
        (200, &HeaderValue::from_static(ours))
    );
    let refused = with(Method::GET, ours, None).await;
    assert_eq!(refused.status, 401);
    let other = with(Method::OPTIONS, "https://evil.example.com", None).await;
    assert!(!other.headers.contains_key("access-control-allow-origin"));
    assert_eq!(with(Method::GET, "https://evil.example.com", Some(ADMIN)).await.status, 403);
}
