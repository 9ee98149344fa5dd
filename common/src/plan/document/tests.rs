//! Documents as users write them, and what they are told.

use serde_json::{Value, json};

use super::*;
use crate::plan::fields::{self, Shape};
use crate::plan::{Arrival, Body, Executor, Load, OnAgentLoss, Step};
use crate::units::Micros;

pub(super) const FULL_YAML: &str = r#"
name: checkout
target: https://shop.example.com/base
timeout: 10s
headers: { accept: application/json, x-build: 7 }
http:
  version: auto
  connections: 40
  redirects: 5
  cookies: true
  dns: { refresh: 30s, family: ipv4, resolve: [ "shop.example.com:443:10.0.0.7,10.0.0.8" ] }
  local_ips: [ 127.0.0.2, 10.0.0.0/30 ]
  tls: { insecure: true, cert: client.pem, key: client.key, server_name: a.example, min_version: 1.2, max_version: "1.3", resumption: false }
variables: { region: eu, quote: 'a "b"' }
agents: { count: 3, labels: { zone: a } }
load: per_agent
elastic: true
trace: { sample: 0.5% }
success_status: [ 200-299, 304 ]
scenarios:
  browse:
    executor: ramping-arrival-rate
    arrival: poisson
    start_rate: 100/s
    stages: [ { duration: 1m, target: 2000/s }, { duration: 5m, target: 2000/s } ]
    max_vus: 5000
    steps:
      - name: login
        post: /login
        json: { user: "{{ quote }}", ok: true }
      - think: 1s..3s
      - get: /home?region={{ region }}
        headers: { authorization: "Bearer {{ region }}" }
      - get: /home
        timeout: 500ms
  background:
    executor: constant-vus
    vus: 2
    duration: 6m
    steps: [ { method: PURGE, url: "https://cache.example.com/x", body: "a" } ]
thresholds:
  - p95<300ms
  - { expr: "error_rate{step=login} < 1%", abort: true, grace: 10s, window: 10s }
"#;

pub(super) fn simple_json() -> Value {
    json!({
        "name": "old", "target_url": "http://localhost:8080/api?q=1", "method": "POST", "headers": { "A": "b" },
        "body": { "x": [1, "{{ id }}"] }, "users": 20, "ramp_up_sec": 5, "duration_sec": 60, "timeout_ms": 2500,
        "target_rps": 0, "rate_pattern": "fixed", "think_time_ms": 100, "success_status_codes": [200, 201],
        "variables": { "id": 7 },
        "sla": { "max_p95_latency": 250, "max_p99_latency": 0.5, "max_error_rate": 1.5, "min_rps": 10 }
    })
}

fn yaml(text: &str) -> Result<PlanDocument, Problems> {
    read(text.as_bytes(), Format::Yaml)
}

/// The problems as people see them.
fn told(result: Result<PlanDocument, Problems>) -> Vec<String> {
    result.unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_full_plan_is_read_as_it_is_meant() {
    let document = yaml(FULL_YAML).unwrap();
    let plan = document.plan.plan();
    assert!(!document.is_simple);
    assert_eq!(
        (plan.load, plan.elastic, plan.on_agent_loss),
        (Load::PerAgent, true, OnAgentLoss::Redistribute)
    );
    assert_eq!(plan.success_status, [(200, 299), (304, 304)]);
    assert_eq!(plan.headers[1].value.to_string(), "7");
    assert_eq!(plan.thresholds[0].expr, "p(95) < 300ms");
    assert_eq!((plan.interval, plan.timeout), (Micros::from_secs(1), Micros::from_secs(10)));
    let names: Vec<&str> = plan.steps().map(|step| step.step.name.as_str()).collect();
    assert_eq!(names, ["login", "GET /home", "GET /home #2", "PURGE /x"]);
    let Executor::RampingArrivalRate { open, .. } = &plan.scenarios[0].executor else { panic!("{plan:?}") };
    assert_eq!((open.arrival, open.max_vus, open.pre_allocated_vus), (Arrival::Poisson, 5000, 200));
    assert_eq!(
        plan.scenarios[0].steps[1],
        Step::Think { least: Micros::from_secs(1), most: Micros::from_secs(3) }
    );
    let login = plan.steps().next().unwrap().step;
    let Some(Body::Text(body)) = &login.request.body else { panic!("{login:?}") };
    let body = body.render(&plan.variables);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({ "user": "a \"b\"", "ok": true }));
    assert_eq!(login.request.headers[0].name, "content-type");
    assert_eq!(document.source["scenarios"]["browse"]["steps"][0]["post"], "/login");
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let text = r#"
name: ""
target: shop.example.com
tiemout: 10s
http: { version: 3, proxy: a }
interval: 5
scenarios:
  browse:
    executor: constant-arrival-rate
    rate: 500/s
    vus: 3
    max_vus: 0
    maxDuration: 1m
    steps:
      - get: /a
        headers: { content-length: 3, "x y": z }
      - post: "/{{ regoin }}"
        extract: { a: b }
      - name: both
        get: /a
        put: /b
  other:
    executor: externally-controlled
    rate: 5/s
    vus: 3
    duration: 1m
    steps: [ { think: 3s..1s }, 7 ]
thresholds:
  - p95 < 300
  - { expr: "max{step=logn} < 1s", window: 10s }
"#;
    let told = told(yaml(text));
    for part in [
        "line 2, column 7: name: a name has 1 to 200",
        "line 3, column 9: target: `shop.example.com` is not a whole URL",
        "line 4, column 1: tiemout: unknown field `tiemout` in a plan; did you mean `timeout`?",
        "line 5, column 18: http.version: `3` is not a version of HTTP that is spoken here; use auto, 1.1 or 2",
        "http.proxy: `proxy` is not available in this version",
        "interval: 5 has no unit; write 5s or 5ms",
        "scenarios.browse.duration: is missing",
        "line 11, column 5: scenarios.browse.vus: `vus` is no option of constant-arrival-rate; it takes: rate, duration",
        "scenarios.browse.max_vus: 0 cannot carry 500/s; give at least 1",
        "scenarios.browse.maxDuration: unknown field `maxDuration` in a scenario; did you mean `max_duration`?",
        "scenarios.browse.steps[0].headers.content-length: `content-length` cannot be given",
        "scenarios.browse.steps[0].headers[\"x y\"]: `x y` is not a header name",
        "line 17, column 15: scenarios.browse.steps[1].post: there is no variable `regoin`",
        "scenarios.browse.steps[1].extract: `extract` is not available in this version",
        "scenarios.browse.steps[2].put: a step sends one request",
        "scenarios.other.vus: cannot stand beside `rate`",
        "scenarios.other.max_vus: is missing; give the most VUs",
        "scenarios.other.steps[0].think: 3s..1s is empty",
        "scenarios.other.steps[1]: the number 7 is not a step",
        "thresholds[1]: there is no step `logn`",
        "thresholds[1]: grace and window say when to abort",
        "thresholds[0]: the bound `300` has no unit; write 300ms",
    ] {
        assert!(told.iter().any(|line| line.contains(part)), "{part}\n{}", told.join("\n"));
    }
    assert_eq!(told.len(), 22, "{}", told.join("\n"));
}

#[test]
fn a_part_that_cannot_be_read_is_not_complained_about_twice() {
    let text =
        "name: [1]\ntarget: 5.5\nscenarios: { a: { executor: constant-vus, vus: x, duration: 1, steps: 7 } }";
    let told = told(yaml(text));
    assert_eq!(told.len(), 5, "{}", told.join("\n"));
}

#[test]
fn a_name_with_numbers_in_it_is_text_and_ambiguous_numbers_are_asked_for() {
    let with = |value: &str| {
        yaml(&format!(
            "name: n\nvariables: {{ v: {value} }}\nscenarios: {{ a: {{ executor: constant-vus, duration: 1s, steps: [ get: http://h/ ] }} }}"
        ))
    };
    let check =
        |value: &str, text: &str| assert_eq!(with(value).unwrap().plan.variables["v"], text, "{value}");
    check("8080", "8080");
    check("'007'", "007");
    check("true", "true");
    check("\"1.10\"", "1.10");
    check("yes", "yes");
    check("!!str 1.10", "1.10");
    for wrong in ["007", "1.10", "0x1f", "1e3", "[a]", "~x: 1"] {
        assert!(with(wrong).is_err(), "{wrong}");
    }
    assert!(told(with("007"))[0].contains("quotes"));
}

#[test]
fn yaml_and_json_that_is_none_says_where() {
    let check = |text: &str, format: Format, part: &str| {
        let told = read(text.as_bytes(), format).unwrap_err().to_string();
        assert!(told.contains(part), "{text}: {told}");
    };
    check("name: a\nname: b\n", Format::Yaml, "line 2, column 1: the field `name` is there twice");
    check("{\"name\": 1, \"name\": 2}", Format::Json, "the field `name` is there twice");
    check("{\"name\": }", Format::Json, "line 1, column 10: not a JSON document: expected value");
    check("a: [", Format::Yaml, "not a YAML document");
    check("", Format::Yaml, "empty");
    check("", Format::Json, "EOF");
    check("{} {}", Format::Json, "trailing");
    check("a: 1\n---\nb: 2\n", Format::Yaml, "second document");
    check("? [a]\n: b\n", Format::Yaml, "cannot be a key");
    check("a: !wrong b", Format::Yaml, "tag");
    check("[]", Format::Json, "a list is not a plan");
    check("just text", Format::Yaml, "not a");
}

#[test]
fn certificates_come_as_text_or_from_beside_the_plan() {
    let text = "name: n\nhttp: { tls: { ca: ca.pem } }\nscenarios: { a: { executor: constant-vus, duration: 1s, steps: [ get: https://h/ ] } }";
    assert!(told(yaml(text))[0].contains("http.tls.ca: `ca.pem` names a file"));
    let folder = tempfile::tempdir().unwrap();
    let with_files = || read_with_files(text.as_bytes(), Format::Yaml, folder.path());
    assert!(told(with_files())[0].starts_with("line 2, column 20: http.tls.ca: cannot read `ca.pem`"));
    let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
    let document = with_files().unwrap();
    assert_eq!(document.plan.http.tls.ca_pem.as_deref(), Some(pem));
    assert_eq!(from_json(&document.source).unwrap(), document);
    std::fs::write(folder.path().join("ca.pem"), "-----BEGIN NOTHING-----").unwrap();
    assert!(with_files().is_err());
}

#[test]
fn a_plan_that_was_answered_can_be_sent_again() {
    let mut sent = simple_json();
    sent["id"] = json!("0190");
    sent["created_at"] = json!("2024-01-01T00:00:00Z");
    assert_eq!(from_json(&sent).unwrap().source, simple_json());
}

/// The schema must know the names that the decoder knows, no more and no fewer.
#[test]
fn the_schema_knows_the_names_that_the_decoder_knows() {
    let schema: Value = serde_json::from_str(JSON_SCHEMA).unwrap();
    let check = |at: &str, shape: &Shape, more: &[&str]| {
        let found = schema.pointer(&format!("{at}/properties")).unwrap_or_else(|| panic!("{at}"));
        let mut found: Vec<&str> = found.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known: Vec<&str> = shape.known.iter().chain(more).copied().collect();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known, "{at}");
        assert_eq!(schema.pointer(&format!("{at}/additionalProperties")), Some(&json!(false)), "{at}");
    };
    check("", &fields::PLAN, fields::READ_ONLY);
    check("/properties/trace", &fields::TRACE, &[]);
    check("/$defs/http", &fields::HTTP, &[]);
    check("/$defs/dns", &fields::DNS, &[]);
    check("/$defs/tls", &fields::TLS, &[]);
    check("/$defs/agents", &fields::AGENTS, &[]);
    check("/$defs/scenario", &fields::SCENARIO, &[]);
    check("/$defs/stage", &fields::STAGE, &[]);
    check("/$defs/step", &fields::STEP, &[]);
    check("/$defs/threshold", &fields::THRESHOLD, &[]);
    let executors: Vec<&str> = fields::EXECUTORS.iter().map(|(name, _)| *name).collect();
    assert_eq!(schema.pointer("/$defs/scenario/properties/executor/enum"), Some(&json!(executors)));
    for (_, options) in fields::EXECUTORS {
        assert!(options.iter().all(|option| fields::SCENARIO.known.contains(option)));
    }
}

#[test]
fn the_schema_takes_good_plans_and_refuses_wrong_ones() {
    let schema: Value = serde_json::from_str(JSON_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = yaml(FULL_YAML).unwrap();
    for document in [&good.source, &to_json(&good.plan)] {
        let errors: Vec<String> = validator.iter_errors(document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    for (at, wrong) in
        [("/load", json!("half")), ("/timeout", json!(10)), ("/scenarios", json!({})), ("/name", Value::Null)]
    {
        let mut document = good.source.clone();
        *document.pointer_mut(at).unwrap() = wrong;
        assert!(!validator.is_valid(&document), "{at}");
        assert!(at == "/name" || from_json(&document).is_err(), "{at}");
    }
}

#[test]
fn the_share_of_traced_requests_is_read_in_every_form_and_nothing_else() {
    let mut document = yaml(FULL_YAML).unwrap().source;
    let mut read = |sample: Value| {
        document["trace"]["sample"] = sample;
        from_json(&document).map(|document| document.plan.trace_sample.map(|share| share.to_string()))
    };
    for (written, expected) in [
        (json!("1%"), "1%"),
        (json!(0.01), "1%"),
        (json!(1), "100%"),
        (json!("0.5"), "50%"),
        (json!(0), "0%"),
    ] {
        assert_eq!(read(written.clone()).unwrap().as_deref(), Some(expected), "{written}");
    }
    for wrong in [json!(2), json!("101%"), json!(-0.1), json!("often"), json!(true), Value::Null] {
        let problems = read(wrong.clone()).unwrap_err();
        assert!(problems.0.iter().all(|problem| problem.field == "trace.sample"), "{wrong}: {problems:?}");
    }
    document["trace"] = Value::Null;
    assert_eq!(from_json(&document).unwrap().plan.trace_sample, None);
}

/// What the full language has and this version has not is told as such, all at once.
#[test]
fn later_features_are_named_as_such() {
    let text = r#"
name: checkout
target: https://shop.example.com
http: { version: auto, redirects: 5, cookies: true, connections: per_vu, compression: true }
data: { users: { file: users.csv, pick: unique } }
scenarios:
  browse:
    executor: constant-vus
    duration: 1s
    steps:
      - name: login
        post: /login
        json: { user: "{{ users.name }}" }
        extract: { token: { jsonpath: $.token } }
        check: [ { status: 200 } ]
      - get: /
        if: "{{ token != '' }}"
"#;
    let told = told(yaml(text));
    let later = told.iter().filter(|line| line.contains("is not available in this version")).count();
    assert_eq!((later, told.len()), (5, 6), "{}", told.join("\n"));
    assert!(told.iter().any(|line| line.contains("`{{ users.name }}` is not the name of a variable")));
}
