//! The rules, each broken on its own.

use serde_json::{Value, json};

use super::bounds;
use crate::plan::document::from_json;

fn good() -> Value {
    json!({
        "name": "n", "target": "http://h:8080/base",
        "scenarios": { "a": { "executor": "constant-vus", "vus": 1, "duration": "1s", "steps": [{ "name": "s", "get": "/x" }] } }
    })
}

/// Puts a value at a place and says what is wrong then: `field: message`.
fn broken(at: &str, value: Value) -> Vec<String> {
    let mut document = good();
    let (parent, name) = at.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[name] = value;
    from_json(&document)
        .err()
        .map(|problems| problems.0.iter().map(ToString::to_string).collect())
        .unwrap_or_default()
}

pub(super) fn check(at: &str, value: Value, expected: &str) {
    let told = broken(at, value);
    assert!(told.len() == 1 && told[0].contains(expected), "{at}: expected `{expected}`, got {told:?}");
}

pub(super) fn fine(at: &str, value: Value) {
    assert_eq!(broken(at, value), Vec::<String>::new(), "{at}");
}

#[test]
fn urls_are_whole_or_joined_and_hold_variables_only_behind_the_host() {
    let get = |url: &str| json!({ "get": url });
    let at = |step: Value| json!([step]);
    let check = |url_text: &str, part: &str| check("/scenarios/a/steps", at(get(url_text)), part);
    let fine = |url_text: &str| fine("/scenarios/a/steps", at(get(url_text)));
    for good in
        ["/", "x", "?q=1", "", "/a b", "/a?to=http://other/", "https://h", "HTTP://[::1]:80/ä", "http://h/#f"]
    {
        fine(good);
    }
    check("ftp://h/x", "neither http nor https");
    check("http://", "names no host");
    check("http:///x", "names no host");
    check("http://h:99999/", "not a URL");
    check("http://h:0/", "port 0");
    check("http://user:secret@h/", "authorization");
    check("http://h/\u{7}", "control character");
    check("http://exa mple/", "not a URL");
    check("{{ x }}/a", "no variable `x`");
    let with_variable = |url: &str| {
        let mut document = good();
        document["variables"] = json!({ "x": "a.b" });
        document["scenarios"]["a"]["steps"][0]["get"] = json!(url);
        from_json(&document).err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    for good in ["/{{ x }}", "http://h/{{ x }}", "a/{{ x }}", "http://h?{{ x }}"] {
        assert_eq!(with_variable(good), "", "{good}");
    }
    for wrong in ["{{ x }}", "http://{{ x }}/", "http://h{{ x }}/", "http{{ x }}://h", "{{ x }}://h/"] {
        assert!(with_variable(wrong).contains("scheme or host"), "{wrong}");
    }
    self::check("/target", json!("{{ x }}"), "variables cannot stand in the target");
    self::check("/target", Value::Null, "the plan has no `target`");
    self::check("/target", json!("h:80"), "not a whole URL");
}

#[test]
fn headers_and_methods_are_legal_http() {
    let at = "/headers";
    for name in ["Content-Length", "transfer-encoding", "Connection", "upgrade"] {
        check(at, json!({ name: "x" }), "cannot be given");
    }
    check(at, json!({ "a b": "x" }), "not a header name");
    check(at, json!({ "": "x" }), "not a header name");
    check(at, json!({ "a": "x\r\nb: c" }), "line break");
    check(at, json!({ "a": "{{ nope }}" }), "no variable `nope`");
    check(at, json!({ "host": "a/b" }), "not a host");
    check(at, json!([["host", "a"], ["Host", "b"]]), "one `host`");
    fine(at, json!({ "Host": "other:81", "x": "ä\tb", "empty": "" }));
    let mut document = good();
    document["variables"] = json!({ "v": "a\r\nb" });
    document["headers"] = json!({ "x": "{{ v }}" });
    assert!(from_json(&document).unwrap_err().to_string().contains("line break"));
    let method = |method: &str| json!([{ "method": method, "url": "/" }]);
    check("/scenarios/a/steps", method("G ET"), "not a method");
    check("/scenarios/a/steps", method(""), "not a method");
    check("/scenarios/a/steps", method("connect"), "CONNECT");
    fine("/scenarios/a/steps", method("PROPFIND"));
}

#[test]
fn executors_keep_their_ranges() {
    let steps = json!([{ "get": "/x" }]);
    let scenario = |mut options: Value| {
        options["steps"] = steps.clone();
        options
    };
    let check = |options: Value, part: &str| check("/scenarios/a", scenario(options), part);
    let fine = |options: Value| fine("/scenarios/a", scenario(options));
    check(
        json!({ "executor": "constant-vus", "vus": 0, "duration": "1s" }),
        "vus: 0 is out of range; give 1 to 10000000",
    );
    check(json!({ "executor": "constant-vus", "vus": 10_000_001, "duration": "1s" }), "out of range");
    check(json!({ "executor": "constant-vus", "duration": "0s" }), "no time to load in");
    check(json!({ "executor": "constant-vus", "duration": "32d" }), "a run lasts at most 31d");
    check(json!({ "executor": "constant-vus", "duration": "1s", "start_time": "31d" }), "start_time");
    fine(json!({ "executor": "constant-vus", "duration": "31d" }));
    check(json!({ "executor": "ramping-vus", "stages": [] }), "no stage");
    check(
        json!({ "executor": "ramping-vus", "start_vus": 0, "stages": [{ "duration": "1s", "target": 0 }] }),
        "never a VU",
    );
    check(json!({ "executor": "ramping-vus", "stages": [{ "duration": "0s", "target": 5 }] }), "no time");
    fine(
        json!({ "executor": "ramping-vus", "stages": [{ "duration": "0s", "target": 5 }, { "duration": "1s", "target": 0 }] }),
    );
    check(json!({ "executor": "shared-iterations", "vus": 5, "iterations": 4 }), "too few for 5 VUs");
    fine(json!({ "executor": "shared-iterations", "vus": 5 }));
    fine(json!({ "executor": "per-vu-iterations" }));
    check(json!({ "executor": "per-vu-iterations", "iterations": 0 }), "out of range");
    check(json!({ "executor": "constant-arrival-rate", "rate": "0/s", "duration": "1s" }), "starts nothing");
    check(json!({ "executor": "constant-arrival-rate", "rate": "10000001/s", "duration": "1s" }), "too fast");
    check(
        json!({ "executor": "constant-arrival-rate", "rate": "500/s", "duration": "1s", "max_vus": 0 }),
        "max_vus: 0 cannot carry 500/s; give at least 1",
    );
    check(
        json!({ "executor": "constant-arrival-rate", "rate": "5/s", "duration": "1s", "max_vus": 2, "pre_allocated_vus": 3 }),
        "more than max_vus (2)",
    );
    check(
        json!({ "executor": "ramping-arrival-rate", "stages": [{ "duration": "1s", "target": "0/s" }] }),
        "never rises",
    );
    let controlled = |more: Value| {
        let mut options = json!({ "executor": "externally-controlled", "duration": "1s" });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    fine(controlled(json!({ "vus": 0, "max_vus": 5 })));
    fine(controlled(json!({ "rate": "0/s", "max_vus": 5, "when_busy": "queue" })));
    check(controlled(json!({ "vus": 6, "max_vus": 5 })), "vus: 6 is more than max_vus (5)");
    check(controlled(json!({ "vus": 0, "max_vus": 0 })), "max_vus: 0 is out of range");
    check(controlled(json!({ "vus": 5 })), "max_vus: is missing");
    check(controlled(json!({ "max_vus": 5 })), "vus: is missing; give `vus` (a closed loop) or `rate`");
    check(
        controlled(json!({ "vus": 1, "max_vus": 5, "arrival": "poisson" })),
        "arrival: belongs to an open loop",
    );
    check(
        controlled(json!({ "rate": "5/s", "max_vus": 2, "pre_allocated_vus": 3 })),
        "more than max_vus (2)",
    );
    check(json!({ "executor": "constant-vu", "duration": "1s" }), "did you mean `constant-vus`?");
}

#[test]
fn sizes_are_bounded() {
    check("/name", json!("ä".repeat(201)), "1 to 200 characters");
    fine("/name", json!("ä".repeat(200)));
    check("/name", json!("a\nb"), "control character");
    let steps = |count: usize| Value::Array((0..count).map(|n| json!({ "get": format!("/{n}") })).collect());
    fine("/scenarios/a/steps", steps(200));
    check("/scenarios/a/steps", steps(201), "1005 series");
    let body = |bytes: usize| json!([{ "post": "/", "body": "x".repeat(bytes) }]);
    fine("/scenarios/a/steps", body(bounds::BODY_BYTES_MAX));
    check("/scenarios/a/steps", body(bounds::BODY_BYTES_MAX + 1), "at most 4194304");
    check("/scenarios/a/steps", json!([{ "get": format!("/{}", "x".repeat(9_000)) }]), "at most 8192");
    check("/headers", json!({ "x": "y".repeat(20_000) }), "at most 16384");
    check("/variables", json!({ "x": "y".repeat(70_000) }), "at most 65536");
    // A body that is small on paper and huge once filled in is refused before it is made.
    let mut document = good();
    document["variables"] = json!({ "x": "y".repeat(60_000) });
    document["scenarios"]["a"]["steps"] = json!([{ "post": "/", "body": "{{x}}".repeat(100_000) }]);
    assert!(from_json(&document).unwrap_err().to_string().contains("6000000000 bytes"));
}

#[test]
fn names_and_references_fit_together() {
    let step = |name: &str| json!({ "name": name, "get": "/x" });
    check(
        "/scenarios/a/steps",
        json!([step("x"), step("x")]),
        "scenarios.a.steps[1].name: `x` is the name of scenarios.a.steps[0] too",
    );
    check("/thresholds", json!(["p95{step=t} < 1s"]), "thresholds[0]: there is no step `t`; known here: s");
    fine("/thresholds", json!(["p95{step=s} < 1s"]));
    check("/thresholds", json!([{ "expr": "p95 < 1s", "window": "5s" }]), "add abort: true");
    check(
        "/thresholds",
        json!([{ "expr": "p95 < 1s", "abort": true, "window": "500ms" }]),
        "window: 500ms is out of range",
    );
    check("/scenarios/a/steps", json!([{ "think": "1s" }]), "there is no request");
    check("/scenarios", json!({}), "no scenario");
    check("/interval", json!("99ms"), "give 100ms to 1m");
    check("/timeout", json!("61m"), "give 1ms to 1h");
    check("/success_status", json!("399-200"), "write the lower status first");
    check("/agents", json!({ "count": 0 }), "give 1 to 10000");
}
