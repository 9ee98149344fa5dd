//! Plans and the start of runs, as a client meets them.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;

use super::{Api, JSON, YAML, request, simple_plan};

#[tokio::test]
async fn a_plan_lives_from_post_to_delete() {
    let api = Api::new().await;
    let made = api.post("/api/v1/test-plans", &simple_plan("one")).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let plan = made.json();
    let path = made.header("location").to_owned();
    assert_eq!(path, format!("/api/v1/test-plans/{}", plan["id"].as_str().unwrap()));
    assert_eq!(
        (&plan["name"], &plan["users"], &plan["target_url"]),
        (&json!("one"), &json!(2), &json!("http://127.0.0.1:9/"))
    );
    assert_eq!(plan["created_at"], plan["updated_at"]);
    assert_eq!(api.get(&path).await.json(), plan);
    assert_eq!(api.get(&path.replace("/v1", "")).await.json(), plan, "the original's path");

    // What was read may be sent back with a change, as it is.
    let mut changed = plan.clone();
    changed["users"] = json!(3);
    let replaced = api.send(Method::PUT, &path, JSON, changed.to_string()).await;
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    let replaced = replaced.json();
    assert_eq!(
        (&replaced["users"], &replaced["id"], &replaced["created_at"]),
        (&json!(3), &plan["id"], &plan["created_at"])
    );
    assert_eq!(api.get(&path).await.json(), replaced);

    let copy = api.post_nothing(&format!("{path}/clone")).await;
    assert_eq!(copy.status, 201);
    assert_eq!(copy.json()["users"], 3);
    assert_ne!(copy.json()["id"], plan["id"]);
    assert_eq!(api.get(copy.header("location")).await.json(), copy.json());

    let gone = api.call(request(Method::DELETE, &path).body(Body::empty()).unwrap()).await;
    assert_eq!((gone.status.as_u16(), gone.body.len()), (204, 0));
    api.get(&path).await.assert_problem(404, "not_found");
    api.send(Method::PUT, &path, JSON, changed.to_string()).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn yaml_is_stored_as_the_same_document() {
    let api = Api::new().await;
    let made = api
        .send(
            Method::POST,
            "/api/test-plans",
            YAML,
            "name: home\ntarget_url: http://127.0.0.1:9/\nusers: 1\nduration_sec: 5\n",
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["duration_sec"], 5);
}

#[tokio::test]
async fn every_problem_of_a_plan_is_named_and_nothing_stored() {
    let api = Api::new().await;
    let mut plan = simple_plan("one");
    plan["users"] = json!(0);
    plan["duration_sec"] = json!(-1);
    plan["metod"] = json!("GET");
    for path in ["/api/v1/test-plans", "/api/v1/test-plans/validate"] {
        let details = api.post(path, &plan).await.assert_problem(400, "validation_error");
        let fields: Vec<_> =
            details["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
        for field in ["users", "duration_sec", "metod"] {
            assert!(fields.contains(&field), "{field} is not in {details}");
        }
        assert!(details["detail"].as_str().unwrap().contains("method"), "the nearest known field: {details}");
    }
    assert_eq!(api.get("/api/v1/test-plans").await.json(), json!([]));
}

#[tokio::test]
async fn validation_says_what_a_plan_amounts_to_and_stores_nothing() {
    let api = Api::new().await;
    let said = api.post("/api/v1/test-plans/validate", &simple_plan("one")).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let said = said.json();
    assert_eq!(
        (&said["valid"], &said["duration_ms"], &said["max_vus"]),
        (&json!(true), &json!(1000), &json!(2))
    );
    assert_eq!(api.get("/api/v1/test-plans").await.json(), json!([]));
    let id = api.plan("one").await;
    assert_eq!(api.post_nothing(&format!("/api/v1/test-plans/{id}/validate")).await.json(), said);
}

#[tokio::test]
async fn without_agents_no_run_starts_and_none_is_left_behind() {
    let api = Api::new().await;
    let id = api.plan("one").await;
    api.post("/api/v1/test-runs/start", &json!({"plan_id": id})).await.assert_problem(503, "no_agents");
    api.post_nothing(&format!("/api/test-plans/{id}/run")).await.assert_problem(503, "no_agents");
    let keyed = |key: String| {
        let path = format!("/api/test-plans/{id}/run");
        request(Method::POST, &path).header("idempotency-key", key).body(Body::empty()).unwrap()
    };
    api.call(keyed("k".repeat(255))).await.assert_problem(503, "no_agents");
    api.call(keyed("k".repeat(256))).await.assert_problem(400, "validation_error");
    api.call(keyed(String::new())).await.assert_problem(400, "validation_error");
    assert_eq!(api.get("/api/v1/test-runs").await.json(), json!([]));
    assert_eq!(api.get("/api/v1/agents").await.json(), json!([]));
}

#[tokio::test]
async fn health_is_told_apart_from_readiness() {
    let api = Api::new().await;
    let health = api.get("/health").await.json();
    assert_eq!(
        (&health["status"], &health["ready"], &health["agents"]),
        (&json!("ok"), &json!(true), &json!(0))
    );
    assert_eq!(api.get("/livez").await.status, 200);
    assert_eq!(api.get("/readyz").await.status, 200);
    drop(api.stop);
    let router = api.router;
    let answer =
        tower::ServiceExt::oneshot(router, request(Method::GET, "/readyz").body(Body::empty()).unwrap())
            .await;
    assert_eq!(answer.unwrap().status(), 503, "a master that is ending takes no writes");
}
