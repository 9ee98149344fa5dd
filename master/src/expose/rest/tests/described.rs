//! The OpenAPI document and its page: everything that is served is described, and nothing is asked of the internet.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Method;
use serde_json::{Map, Value};

use super::{Api, request};

async fn paths(api: &Api) -> Map<String, Value> {
    let answer = api.get("/api/openapi.json").await;
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    document["paths"].as_object().unwrap().clone()
}

#[tokio::test]
async fn every_call_of_the_contract_is_described_and_served_under_both_prefixes() {
    let api = Api::new().await;
    let described = paths(&api).await;
    let described: BTreeSet<String> = described
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let api_calls = [
        "GET /test-plans",
        "POST /test-plans",
        "GET /test-plans/{id}",
        "PUT /test-plans/{id}",
        "DELETE /test-plans/{id}",
        "POST /test-plans/{id}/clone",
        "POST /test-plans/{id}/validate",
        "POST /test-plans/validate",
        "POST /test-plans/{id}/run",
        "GET /plan.schema.json",
        "POST /test-runs/start",
        "GET /test-runs",
        "GET /test-runs/{id}",
        "PATCH /test-runs/{id}",
        "POST /test-runs/{id}/stop",
        "GET /test-runs/{id}/live",
        "GET /test-runs/{id}/metrics",
        "GET /test-runs/{id}/events",
        "GET /test-runs/{id}/ws/metrics",
        "GET /test-runs/{id}/intervals",
        "GET /agents",
        "POST /agents/{id}/drain",
        "GET /agents/{id}/profile",
        "GET /agents/{id}/memory",
        "POST /kill",
        "GET /audit-logs",
        "GET /audit-logs/export",
        "GET /keys",
        "POST /keys",
        "DELETE /keys/{id}",
    ];
    let root_calls = [
        "GET /health",
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
        "GET /debug/pprof/profile",
        "GET /debug/memory",
    ];
    let expected: BTreeSet<String> = api_calls
        .iter()
        .map(|call| call.replacen(" /", " /api/v1/", 1))
        .chain(root_calls.iter().map(|call| (*call).to_owned()))
        .collect();
    assert_eq!(described, expected, "described, against what api.md lists");

    for call in expected.iter().flat_map(|call| [call.clone(), call.replace("/api/v1/", "/api/")]) {
        let (method, path) = call.split_once(' ').unwrap();
        let path = path.replace("{id}", "0198c0de-0000-7000-8000-000000000000");
        // A profile of no length takes no time.
        let path = if path.ends_with("/profile") { format!("{path}?seconds=0") } else { path };
        let method: Method = method.parse().unwrap();
        let answer = api.call(request(method, &path).body(Body::empty()).unwrap()).await;
        let is_routed = answer.status != 405 && !answer.text().contains("there is nothing at");
        assert!(is_routed, "{call}: {}", answer.text());
    }
}

#[tokio::test]
async fn every_call_describes_its_errors_and_has_a_name_of_its_own() {
    let api = Api::new().await;
    let mut names = BTreeSet::new();
    for (path, item) in paths(&api).await {
        for (method, call) in item.as_object().unwrap() {
            let name = call["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} twice");
            assert!(call["summary"].is_string() && call["tags"].is_array(), "{method} {path}");
            let responses = call["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2') || status == "101"),
                "{method} {path}"
            );
            if path.contains("{id}") {
                assert!(responses.contains_key("404"), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let api = Api::new().await;
    let document = api.get("/api/openapi.json").await.json();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let api = Api::new().await;
    assert_eq!(api.get("/api/docs").await.header("location"), "/api/docs/");
    let page = api.get("/api/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").starts_with("default-src 'self'"));
    let html = page.text();
    let mut loaded = 0;
    for attribute in ["src=\"", "href=\""] {
        for part in html.split(attribute).skip(1) {
            let target = part.split('"').next().unwrap();
            assert!(!target.contains("//"), "{target} is elsewhere");
            let path = format!("/api/docs/{}", target.trim_start_matches("./"));
            assert_eq!(api.get(&path).await.status, 200, "{path}");
            loaded += 1;
        }
    }
    assert!(loaded >= 4, "{html}");
    let setting = api.get("/api/docs/swagger-initializer.js").await.text();
    assert!(
        setting.contains("/api/openapi.json") && setting.contains("\"validatorUrl\": \"none\""),
        "{setting}"
    );
    assert!(!setting.contains("petstore") && !setting.contains("https://"), "{setting}");
    api.get("/api/docs/nothing.js").await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn the_schema_of_plans_is_served() {
    let api = Api::new().await;
    let answer = api.get("/api/plan.schema.json").await;
    assert_eq!(answer.header("content-type"), "application/schema+json");
    assert!(answer.json()["$schema"].is_string());
}
