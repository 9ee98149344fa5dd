//! `PATCH` of a run: whatever cannot be done is said, with the field.

use std::sync::Arc;

use axum::http::Method;
use serde_json::{Value, json};
use volcanion_common::plan::document;
use volcanion_common::view::RunStatus;

use super::{Api, JSON};
use crate::run::table::Live;
use crate::store::samples::any_view;

impl Api {
    /// A going run of a plan with these scenarios, that nobody drives.
    fn going(&self, scenarios: &[(&str, Value)]) -> String {
        self.adopted(RunStatus::Running, scenarios)
    }

    fn adopted(&self, status: RunStatus, scenarios: &[(&str, Value)]) -> String {
        let mut document = json!({ "name": "t", "target": "http://127.0.0.1:9", "scenarios": {} });
        for (name, executor) in scenarios {
            let mut scenario = executor.clone();
            scenario["steps"] = json!([{ "name": name, "get": "/" }]);
            document["scenarios"][*name] = scenario;
        }
        let plan = document::from_json(&document).unwrap_or_else(|problems| panic!("{problems}")).plan;
        let view = any_view(status);
        let id = view.id.to_string();
        self.runs.adopt(Live::new(view, Arc::new(plan)));
        id
    }

    async fn patch(&self, run: &str, body: &Value) -> super::Answer {
        self.send(Method::PATCH, &format!("/api/v1/test-runs/{run}"), JSON, body.to_string()).await
    }

    /// The one field that is said to be wrong, and what is said.
    async fn wrong(&self, run: &str, body: Value) -> (String, String) {
        let details = self.patch(run, &body).await.assert_problem(400, "validation_error");
        let errors = details["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{details}");
        let text = |key: &str| errors[0][key].as_str().unwrap().to_owned();
        (text("field"), text("message"))
    }
}

fn vus() -> Value {
    json!({ "executor": "externally-controlled", "vus": 2, "max_vus": 8, "duration": "1m" })
}

fn rate() -> Value {
    json!({ "executor": "externally-controlled", "rate": "2/s", "max_vus": 8, "duration": "1m" })
}

#[tokio::test]
async fn what_a_scenario_cannot_take_is_named() {
    let api = Api::new().await;
    let (closed, open) = (api.going(&[("browse", vus())]), api.going(&[("browse", rate())]));
    let check = async |run: &str, body: Value, field: &str, part: &str| {
        let (found, message) = api.wrong(run, body.clone()).await;
        assert_eq!(found, field, "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    };
    check(&closed, json!({ "vus": 9 }), "vus", "9 is more than max_vus of `browse` (8)").await;
    check(&closed, json!({ "vus": -1 }), "vus", "whole number from 0 on, not -1").await;
    check(&closed, json!({ "vus": 1.5 }), "vus", "not 1.5").await;
    check(&closed, json!({ "vus": "3" }), "vus", "not text").await;
    check(&closed, json!({ "rate": "5/s" }), "rate", "closed loop").await;
    check(&open, json!({ "vus": 5 }), "vus", "open loop").await;
    check(&open, json!({ "rate": 900 }), "rate", "a rate such as 900/s, not a number").await;
    check(&open, json!({ "rate": "900" }), "rate", "not a rate").await;
    check(&open, json!({ "rate": "10000001/s" }), "rate", "too fast").await;
    check(&open, json!({ "rate": "5/s", "vus": 5 }), "rate", "beside `vus`").await;
    check(&open, json!({}), "", "give `vus` or `rate`").await;
    check(&open, json!({ "rate": null }), "", "give `vus` or `rate`").await;
    check(&open, json!({ "vus": 5, "rate": null, "scenario": null }), "vus", "open loop").await;
    check(&open, json!({ "rte": "5/s" }), "rte", "did you mean `rate`?").await;
    check(&open, json!({ "rate": "5/s", "scenario": "brows" }), "scenario", "give one of `browse`").await;
    check(&open, json!({ "rate": "5/s", "scenario": 7 }), "scenario", "must be text").await;

    let both = api.going(&[
        ("a", vus()),
        ("plain", json!({ "executor": "constant-vus", "duration": "1m" })),
        ("b", rate()),
    ]);
    check(&both, json!({ "vus": 1 }), "scenario", "say which is meant: `a`, `b`").await;
    check(&both, json!({ "vus": 1, "scenario": "plain" }), "scenario", "give one of `a`, `b`").await;
    check(&both, json!({ "vus": 1, "scenario": "b" }), "vus", "`b` is an open loop").await;
    let all = api.patch(&both, &json!({ "vus": true, "rate": [], "x": 1 })).await;
    assert_eq!(all.assert_problem(400, "validation_error")["errors"].as_array().unwrap().len(), 3);
    let twice = r#"{"scenario": "a", "vus": 1, "vus": 7}"#;
    let twice = api.send(Method::PATCH, &format!("/api/v1/test-runs/{both}"), JSON, twice).await;
    let problem = twice.assert_problem(400, "validation_error");
    assert_eq!(problem["errors"][0]["field"], "vus", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("there twice"), "{problem}");
    for kind in ["text/plain", "application/yaml"] {
        let text = api.send(Method::PATCH, &format!("/api/v1/test-runs/{both}"), kind, "vus: 1").await;
        let problem = text.assert_problem(415, "unsupported_media_type");
        assert!(problem["detail"].as_str().unwrap().contains("only JSON"), "{problem}");
    }
}

#[tokio::test]
async fn what_is_not_there_does_not_go_or_is_not_led_from_outside_is_not_changed() {
    let api = Api::new().await;
    for id in ["0198c0de-0000-7000-8000-000000000000", "no-id"] {
        api.patch(id, &json!({ "vus": 1 })).await.assert_problem(404, "not_found");
    }
    let plain = api.going(&[("a", json!({ "executor": "constant-vus", "duration": "1m" }))]);
    let problem = api.patch(&plain, &json!({ "vus": 1 })).await.assert_problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("externally-controlled"), "{problem}");
    let ended = api.adopted(RunStatus::Completed, &[("a", vus())]);
    let problem = api.patch(&ended, &json!({ "vus": 1 })).await.assert_problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("is completed"), "{problem}");
}
