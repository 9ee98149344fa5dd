//! The simple plan's mapping, and what its users are told.

use serde_json::{Value, json};

use crate::plan::document::from_json;
use crate::plan::{Body, Executor, Plan, Stage, Step};
use crate::units::{Micros, Rate};

fn with(more: Value) -> Value {
    let mut plan = json!({ "name": "n", "target_url": "http://h:1/a", "users": 10, "duration_sec": 60 });
    for (name, value) in more.as_object().unwrap() {
        plan[name] = value.clone();
    }
    plan
}

fn plan(more: Value) -> Plan {
    let document = from_json(&with(more)).unwrap();
    assert!(document.is_simple);
    document.plan.plan().clone()
}

/// The rate over time as (start, [(seconds, rate)]), in iterations a second.
fn rates(more: Value) -> (f64, Vec<(f64, f64)>) {
    let plan = plan(more);
    let Executor::RampingArrivalRate { start_rate, stages, open } = &plan.scenarios[0].executor else {
        panic!("{plan:?}")
    };
    assert_eq!(open.max_vus, 10);
    assert_eq!(plan.scenarios[0].executor.duration(), Micros::from_secs(60));
    let stages = stages.iter().map(|stage| (stage.duration.as_secs_f64(), stage.target.as_per_second_f64()));
    (start_rate.as_per_second_f64(), stages.collect())
}

#[test]
fn users_become_vus() {
    let executor = |more| plan(more).scenarios[0].executor.clone();
    let seconds = Micros::from_secs;
    assert_eq!(executor(json!({})), Executor::ConstantVus { vus: 10, duration: seconds(60) });
    assert_eq!(executor(json!({ "ramp_up_sec": 0, "target_rps": 0 })), executor(json!({})));
    let Executor::RampingVus { start_vus: 0, stages, .. } = executor(json!({ "ramp_up_sec": 15 })) else {
        panic!()
    };
    assert_eq!(
        stages,
        [Stage { duration: seconds(15), target: 10 }, Stage { duration: seconds(45), target: 10 }]
    );
    let aliased = from_json(&json!({
        "name": "n", "target_url": "http://h:1/a", "concurrent_users": 10, "duration_seconds": 60, "ramp_up_seconds": 15,
        "sla_config": { "min_rps": 5 }
    }));
    let aliased = aliased.unwrap();
    assert_eq!(aliased.plan.scenarios[0].executor, executor(json!({ "ramp_up_sec": 15 })));
    assert_eq!(aliased.plan.thresholds[0].expr, "rps >= 5");
    assert_eq!(aliased.source["concurrent_users"], 10);
}

#[test]
fn a_target_rate_becomes_an_arrival_rate() {
    let Executor::ConstantArrivalRate { rate, open, .. } =
        plan(json!({ "target_rps": 401 })).scenarios[0].executor
    else {
        panic!()
    };
    assert_eq!((rate, open.max_vus), (Rate::per_second(401), 10));
    assert_eq!(
        rates(json!({ "target_rps": 100, "ramp_up_sec": 20 })),
        (0.0, vec![(20.0, 100.0), (40.0, 100.0)])
    );
    assert_eq!(rates(json!({ "target_rps": 100, "rate_pattern": "ramp" })), (0.0, vec![(60.0, 100.0)]));
    assert_eq!(
        rates(json!({ "target_rps": 100, "rate_pattern": "spike" })),
        (25.0, vec![(27.0, 25.0), (0.0, 100.0), (6.0, 100.0), (0.0, 25.0), (27.0, 25.0)])
    );
    let steps = json!([{ "rps": 10, "duration_sec": 20 }, { "rps": 50, "duration_sec": 30 }]);
    assert_eq!(
        rates(json!({ "rate_pattern": "step", "rate_steps": steps })),
        (10.0, vec![(20.0, 10.0), (0.0, 50.0), (30.0, 50.0), (10.0, 50.0)])
    );
    assert_eq!(
        rates(json!({ "rate_pattern": "ramp", "rate_steps": steps })),
        (0.0, vec![(20.0, 10.0), (30.0, 50.0), (10.0, 50.0)])
    );
    assert_eq!(
        rates(json!({ "rate_pattern": "ramp", "rate_steps": steps, "ramp_up_sec": 35 })),
        (0.0, vec![(35.0, 30.0), (15.0, 50.0), (10.0, 50.0)])
    );
    assert_eq!(rates(json!({ "rate_steps": steps, "ramp_up_sec": 20 })).1[..2], [(20.0, 10.0), (0.0, 50.0)]);
}

#[test]
fn the_rest_is_carried_over() {
    let plan = plan(json!({
        "method": "post", "body": { "id": "{{ id }}" }, "headers": [["A", "1"], ["A", "2"]], "variables": { "id": "\"7" },
        "timeout_ms": 2500, "think_time_ms": 100, "success_status_codes": "200-201",
        "sla": { "max_p95_latency": 250.5, "max_p99_latency": 0, "max_error_rate": 1 },
        "http": { "keep_alive": false }, "thresholds": ["max < 1s"]
    }));
    let Step::Request(step) = &plan.scenarios[0].steps[0] else { panic!() };
    assert_eq!((step.name.as_str(), step.request.method.as_str()), ("POST /a", "POST"));
    let Some(Body::Text(body)) = &step.request.body else { panic!("{step:?}") };
    assert_eq!(body.render(&plan.variables), r#"{"id":"\"7"}"#);
    assert_eq!(step.request.headers.len(), 3);
    assert_eq!(plan.timeout, Micros::from_millis(2500));
    assert_eq!(plan.scenarios[0].steps[1], Step::Think { least: Micros(100_000), most: Micros(100_000) });
    assert_eq!(plan.success_status, [(200, 201)]);
    let rules: Vec<&str> = plan.thresholds.iter().map(|rule| rule.expr.as_str()).collect();
    assert_eq!(rules, ["max < 1s", "p(95) <= 250.5ms", "error_rate <= 1%"]);
    assert!(plan.http.no_keep_alive);
}

#[test]
fn everything_wrong_is_named_in_the_words_of_the_simple_plan() {
    let check = |more: Value, expected: &[(&str, &str)]| {
        let told = from_json(&with(more.clone())).unwrap_err().0;
        assert_eq!(told.len(), expected.len(), "{more}: {told:?}");
        for (field, part) in expected {
            assert!(
                told.iter().any(|p| p.field == *field && p.message.contains(part)),
                "{field} {part}: {told:?}"
            );
        }
    };
    check(
        json!({ "users": 0, "duration_sec": 0, "target_url": "ftp://x", "method": "G T", "timout_ms": 5 }),
        &[
            ("users", "give 1 to 10000000"),
            ("duration_sec", "give 1 to 2678400"),
            ("target_url", "neither http nor https"),
            ("method", "not a method"),
            ("timout_ms", "did you mean `timeout_ms`?"),
        ],
    );
    check(json!({ "users": 10_000_001 }), &[("users", "out of range")]);
    check(json!({ "users": "ten" }), &[("users", "not a whole number")]);
    check(json!({ "users": null }), &[("users", "missing")]);
    check(json!({ "concurrent_users": 3 }), &[("concurrent_users", "another name of `users`")]);
    check(json!({ "ramp_up_sec": 61 }), &[("ramp_up_sec", "longer than the whole load")]);
    check(json!({ "ramp_up_sec": -1 }), &[("ramp_up_sec", "-1")]);
    check(json!({ "timeout_ms": 3_600_001 }), &[("timeout_ms", "out of range")]);
    check(json!({ "target_url": "/relative" }), &[("target_url", "not a whole URL")]);
    check(json!({ "headers": { "X": "a\r\nb" } }), &[("headers.X", "line break")]);
    check(json!({ "rate_pattern": "wave" }), &[("rate_pattern", "give one of: fixed, step, ramp, spike")]);
    check(json!({ "rate_pattern": "step" }), &[("rate_pattern", "needs rate_steps")]);
    check(
        json!({ "rate_pattern": "step", "target_rps": 5, "rate_steps": [] }),
        &[("rate_pattern", "needs rate_steps")],
    );
    check(json!({ "rate_pattern": "ramp", "target_rps": 0 }), &[("target_rps", "closed loop")]);
    check(json!({ "target_rps": 10_000_001 }), &[("target_rps", "out of range")]);
    check(json!({ "rate_steps": [{ "rps": 1, "duration_sec": 61 }] }), &[("rate_steps", "longer than")]);
    check(json!({ "rate_steps": [{ "rps": 1 }] }), &[("rate_steps[0].duration_sec", "missing")]);
    check(
        json!({ "rate_steps": [{ "rps": 0, "duration_sec": 5 }] }),
        &[("rate_steps", "never rises above zero")],
    );
    check(json!({ "sla": { "max_p95": 1 } }), &[("sla.max_p95", "max_p95_latency")]);
    check(json!({ "sla": { "max_error_rate": 101 } }), &[("sla.max_error_rate", "share")]);
    check(json!({ "success_status_codes": [99] }), &[("success_status_codes", "100 to 999")]);
    check(json!({ "body": "{{ nobody }}" }), &[("body", "no variable `nobody`")]);
    check(json!({ "data": {} }), &[("data", "not available")]);
}
