use serde_json::json;
use volcanion_common::plan::document;
use volcanion_common::series::{ErrorKind, Outcome, Series, SeriesKey};

use super::*;

fn judge(rule: serde_json::Value) -> Judge {
    let plan = json!({
        "name": "t", "target": "http://127.0.0.1:1",
        "scenarios": { "main": {
            "executor": "constant-vus", "vus": 1, "duration": "60s",
            "steps": [{ "name": "home", "get": "/" }, { "name": "login", "post": "/login" }],
        } },
        "thresholds": [rule],
    });
    Judge::new(&document::from_json(&plan).unwrap_or_else(|problems| panic!("{problems}")).plan)
}

/// In one second from `second` on: 90 answers of `home` after 10 ms and 10 of `login` after 100 ms, and failed connections of `login`.
fn delta(second: u64, failed: u64) -> Delta {
    let mut delta = Delta {
        from: RunTime(second * 1_000_000),
        to: RunTime((second + 1) * 1_000_000),
        ..Delta::default()
    };
    for (step, requests, millis) in [(0, 90, 10), (1, 10, 100)] {
        let mut series = Series { requests, ..Series::default() };
        (0..requests).for_each(|_| series.response_time.record(Micros::from_millis(millis)));
        delta.series.insert(SeriesKey { step, outcome: Outcome::Status(200) }, series);
    }
    let lost = Series { requests: failed, failed, ..Series::default() };
    delta.series.insert(SeriesKey { step: 1, outcome: Outcome::Error(ErrorKind::Connect) }, lost);
    delta
}

#[test]
fn rules_are_judged_on_merged_numbers() {
    let check = |rule: &str, observed: f64, ok: bool| {
        let view = judge(json!(rule)).at_end(&delta(0, 100)).remove(0);
        assert!((view.observed.unwrap() - observed).abs() <= observed * 0.001, "{rule}: {view:?}");
        assert_eq!(view.ok, ok, "{rule}");
    };
    check("p(50) < 20ms", 10.0, true);
    check("p(95) < 20ms", 100.0, false);
    check("p(50){step=login} < 20ms", 100.0, false);
    check("min >= 10ms", 10.0, true);
    check("avg < 19ms", 19.0, false);
    check("max <= 100ms", 100.0, true);
    check("error_rate < 50%", 0.5, false);
    check("error_rate{step=home} < 1%", 0.0, true);
    check("rps > 100", 200.0, true);
    check("requests == 200", 200.0, true);
    check("failed{step=login} != 100", 100.0, false);
    check("dropped == 0", 0.0, true);
}

#[test]
fn our_own_faults_are_no_requests_to_a_rule_about_the_target() {
    let mut with_ours = delta(0, 10);
    let lost = SeriesKey { step: 1, outcome: Outcome::Error(ErrorKind::Connect) };
    with_ours.series.get_mut(&lost).unwrap().requests += 1_000;
    let check = |rule: &str, expected: f64| {
        let observed = judge(json!(rule)).at_end(&with_ours).remove(0).observed.unwrap();
        assert!((observed - expected).abs() < 1e-9, "{rule}: {observed}");
    };
    check("error_rate < 50%", 10.0 / 110.0);
    check("failed < 100", 10.0);
    check("rps > 100", 110.0);
    check("requests > 100", 110.0);
}

#[test]
fn what_was_never_measured_is_kept_while_the_run_goes_and_broken_at_its_end() {
    let nothing = Delta { to: RunTime(1_000_000), ..Delta::default() };
    for (rule, kept_at_end) in
        [("p(95) < 1s", false), ("error_rate < 1%", false), ("failed == 0", true), ("rps > 1", false)]
    {
        let judge = judge(json!(rule));
        let end = judge.at_end(&nothing).remove(0);
        assert_eq!(end.ok, kept_at_end, "{rule}");
        if end.observed.is_none() {
            assert!(judge.live(&nothing).remove(0).ok, "{rule}");
        }
    }
}

#[test]
fn an_abort_waits_for_its_grace() {
    let mut judge = judge(json!({ "expr": "error_rate < 1%", "abort": true, "grace": "3s", "window": "2s" }));
    let mut total = Delta::default();
    // When the grace is over, the window still holds the failures of the second second.
    for (second, failed, is_broken) in [(0, 100, false), (1, 100, false), (2, 0, true)] {
        let newest = Arc::new(delta(second, failed));
        total.add(&newest);
        judge.add(&newest);
        assert_eq!(judge.aborts(&total, newest.to, true).is_some(), is_broken, "after second {second}");
    }
}

#[test]
fn old_failures_leave_the_window_and_a_broken_abort_stays_broken() {
    let mut judge = judge(json!({ "expr": "error_rate < 1%", "abort": true, "grace": "5s", "window": "2s" }));
    let mut total = Delta::default();
    for second in 0..10 {
        let newest = Arc::new(delta(second, if second < 2 || second == 8 { 100 } else { 0 }));
        total.add(&newest);
        judge.add(&newest);
        assert_eq!(judge.aborts(&total, newest.to, true).is_some(), second >= 8, "after second {second}");
    }
    // The rule that ended the run shows what ended it, whatever came after.
    let view = judge.at_end(&Delta::default()).remove(0);
    assert_eq!((view.ok, view.observed), (false, Some(100.0 / 300.0)));
}

#[test]
fn a_rate_is_not_blamed_for_numbers_that_are_late() {
    let mut judge = judge(json!({ "expr": "rps > 150", "abort": true }));
    let total = delta(0, 0);
    assert_eq!(judge.aborts(&total, total.to, false), None);
    assert!(judge.aborts(&total, total.to, true).is_some());
}
