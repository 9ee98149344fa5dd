//! Bad input: always 4xx, always a problem document, everything wrong named at once.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, header};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Api, JSON, YAML, request, simple_plan};

#[tokio::test]
async fn every_route_answers_bad_input_with_a_problem() {
    let api = Api::new().await;
    let unknown = "0198c0de-0000-7000-8000-000000000000";
    let plan = api.plan("one").await;
    for prefix in ["/api/v1", "/api"] {
        let check = async |method: Method, path: String, status: u16, error: &str| {
            let path = format!("{prefix}{path}");
            let answer = api.call(request(method.clone(), &path).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
            answer.assert_problem(status, error);
        };
        for id in [unknown, "no-id", "%00", "..%2F..", "%FF%FE"] {
            for path in ["", "/clone", "/validate", "/run"] {
                let method = if path.is_empty() { Method::GET } else { Method::POST };
                check(method, format!("/test-plans/{id}{path}"), 404, "not_found").await;
            }
            check(Method::DELETE, format!("/test-plans/{id}"), 404, "not_found").await;
            for path in ["", "/live", "/metrics", "/intervals", "/events"] {
                check(Method::GET, format!("/test-runs/{id}{path}"), 404, "not_found").await;
            }
            check(Method::POST, format!("/test-runs/{id}/stop"), 404, "not_found").await;
        }
        check(Method::GET, "/nowhere".into(), 404, "not_found").await;
        check(Method::PATCH, format!("/test-plans/{plan}"), 405, "method_not_allowed").await;
        check(Method::PUT, "/test-runs/start".into(), 405, "method_not_allowed").await;
        check(Method::POST, "/agents".into(), 405, "method_not_allowed").await;
        check(Method::GET, format!("/test-runs/{unknown}/ws/metrics"), 400, "validation_error").await;
        for query in
            ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=1&limit=2", "limt=5", "cursor=%F0%9F"]
        {
            check(Method::GET, format!("/test-plans?{query}"), 400, "validation_error").await;
            check(Method::GET, format!("/test-runs?{query}"), 400, "validation_error").await;
        }
        for query in ["status=done", "plan_id=7", "from=yesterday", "to=1"] {
            check(Method::GET, format!("/test-runs?{query}"), 400, "validation_error").await;
        }
        for query in ["from=x", "to=-1", "step=0", "from=10s&to=5s", "width=1"] {
            check(Method::GET, format!("/test-runs/{unknown}/intervals?{query}"), 400, "validation_error")
                .await;
        }
    }
    api.get("/nowhere").await.assert_problem(404, "not_found");
    api.send(Method::POST, "/health", JSON, "{}").await.assert_problem(405, "method_not_allowed");
}

#[tokio::test]
async fn everything_wrong_with_a_query_is_said_at_once() {
    let api = Api::new().await;
    let details = api
        .get("/api/v1/test-runs?status=done&limit=0&cursor=x&stat=1")
        .await
        .assert_problem(400, "validation_error");
    let fields: Vec<_> =
        details["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["status", "limit", "cursor", "stat"]);
    assert!(details.to_string().contains("queued, preparing"), "{details}");
}

#[tokio::test]
async fn the_body_that_starts_a_run_is_read_strictly() {
    let api = Api::new().await;
    let start = "/api/v1/test-runs/start";
    let details = api.post(start, &json!({"plan_idd": "x"})).await.assert_problem(400, "validation_error");
    assert_eq!(details["errors"].as_array().unwrap().len(), 2, "{details}");
    assert!(details["detail"].as_str().unwrap().contains("plan_id"), "{details}");
    api.post(start, &json!({"plan_id": 7})).await.assert_problem(400, "validation_error");
    api.post(start, &json!(["plan_id"])).await.assert_problem(400, "validation_error");
    api.post(start, &json!({"plan_id": "no-id"})).await.assert_problem(404, "not_found");
    let details = api
        .send(Method::POST, start, JSON, "{\n \"plan_id\": }")
        .await
        .assert_problem(400, "validation_error");
    assert_eq!(
        (&details["errors"][0]["line"], &details["errors"][0]["column"]),
        (&json!(2), &json!(13)),
        "{details}"
    );
    api.send(Method::POST, start, YAML, "plan_id: x").await.assert_problem(415, "unsupported_media_type");
    api.post_nothing(start).await.assert_problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn kinds_of_bodies_that_are_not_read_are_named() {
    let api = Api::new().await;
    let plan = simple_plan("one").to_string();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
    ] {
        let answer = api.send(Method::POST, "/api/test-plans", kind, plan.clone()).await;
        let details = answer.assert_problem(415, "unsupported_media_type");
        assert!(details["detail"].as_str().unwrap().contains("application/yaml"), "{details}");
    }
    let id = api.plan("two").await;
    for path in ["clone", "run"] {
        let path = format!("/api/test-plans/{id}/{path}");
        let request = request(Method::POST, &path).header(header::CONTENT_TYPE, "text/plain");
        let answer = api.call(request.header(header::CONTENT_LENGTH, 2).body("{}".into()).unwrap()).await;
        answer.assert_problem(415, "unsupported_media_type");
    }
    let json_kinds = ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"];
    for kind in json_kinds {
        assert_eq!(api.send(Method::POST, "/api/test-plans", kind, plan.clone()).await.status, 201, "{kind}");
    }
    for kind in ["application/yaml", "application/x-yaml", "text/yaml"] {
        assert_eq!(api.send(Method::POST, "/api/test-plans", kind, plan.clone()).await.status, 201, "{kind}");
    }
}

#[tokio::test]
async fn three_hundred_damaged_plans_break_nothing() {
    let api = Api::new().await;
    let full = "name: checkout\ntarget: http://127.0.0.1:9\nscenarios:\n  browse:\n    executor: constant-arrival-rate\n    \
        rate: 10/s\n    duration: 1s\n    max_vus: 5\n    steps:\n      - name: home\n        get: /home?x={{ y }}\nvariables: { y: z }\n\
        thresholds: [ p(95) < 300ms ]\n";
    let simple = simple_plan("damaged").to_string();
    let mut chance = Chance(7);
    let mut refused = 0;
    for round in 0..300 {
        let (text, kind) = if round % 2 == 0 { (simple.as_bytes(), JSON) } else { (full.as_bytes(), YAML) };
        let answer = api.send(Method::POST, "/api/test-plans", kind, chance.damage(text)).await;
        if answer.status != 201 {
            answer.assert_problem(400, "validation_error");
            refused += 1;
        }
    }
    assert!(refused > 150, "{refused} of 300 were refused: the damage is too slight to test anything");
    assert_eq!(api.get("/livez").await.status, 200);
}

#[tokio::test]
async fn documents_of_a_hundred_thousand_levels_are_refused() {
    let api = Api::new().await;
    let levels = 100_000;
    let lists = "[".repeat(levels) + &"]".repeat(levels);
    let objects = "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
    for body in [lists.clone(), objects, "[".repeat(levels), format!("{{\"name\": {lists}}}")] {
        for kind in [JSON, YAML] {
            for path in ["/api/test-plans", "/api/test-plans/validate"] {
                api.send(Method::POST, path, kind, body.clone())
                    .await
                    .assert_problem(400, "validation_error");
            }
        }
    }
    api.send(Method::POST, "/api/test-runs/start", JSON, "[".repeat(60_000))
        .await
        .assert_problem(400, "validation_error");
}

#[tokio::test]
async fn a_large_body_is_refused_while_it_comes() {
    let api = Api::new().await;
    for (method, path) in [(Method::POST, "/api/test-plans"), (Method::POST, "/api/test-plans/validate")] {
        // Without a length, and without end.
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
        api.send(method, path, JSON, Body::from_stream(endless)).await.assert_problem(413, "too_large");
    }
    api.send(Method::POST, "/api/test-runs/start", JSON, vec![b' '; 100_000])
        .await
        .assert_problem(413, "too_large");
}

#[tokio::test]
async fn a_client_that_writes_sixty_megabytes_before_it_reads_gets_its_answer() {
    let address = Api::new().await.on_a_port().await;
    let head = |length: usize| {
        format!(
            "POST /api/test-plans HTTP/1.1\r\nhost: {address}\r\ncontent-type: {JSON}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut whole = TcpStream::connect(address).await.unwrap();
    whole.write_all(head(60 << 20).as_bytes()).await.unwrap();
    let chunk = vec![b' '; 1 << 20];
    for _ in 0..60 {
        whole.write_all(&chunk).await.unwrap();
    }
    assert!(first_bytes(&mut whole).await.starts_with("HTTP/1.1 413"));

    let mut begun = TcpStream::connect(address).await.unwrap();
    begun.write_all(head(60 << 20).as_bytes()).await.unwrap();
    assert!(
        first_bytes(&mut begun).await.starts_with("HTTP/1.1 413"),
        "the answer does not wait for the body"
    );
}

async fn first_bytes(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 256];
    let count = timeout(Duration::from_secs(10), stream.read(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
struct Chance(u64);

const NASTY: &[u8] = b"{}[]:,\"\\-#&*!|>%@`\n\t\0";

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn damage(&mut self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(text.len().max(1));
            let span = at..(at + 1 + self.below(12)).min(text.len());
            if text.is_empty() {
                break;
            }
            match self.below(6) {
                0 => text[at] = self.below(256) as u8,
                1 => drop(text.drain(span)),
                2 => text.truncate(at.max(1)),
                3 => text.insert(at, NASTY[self.below(NASTY.len())]),
                4 => {
                    let copy = text[span].to_vec();
                    text.splice(at..at, copy);
                }
                _ => drop(text.splice(span, *b"-99999999999999999999")),
            }
        }
        text
    }
}
