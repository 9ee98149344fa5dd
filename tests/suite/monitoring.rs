//! Rules and dashboards: Prometheus takes the rules, every alert fires and rests as said, and all of them read metrics that there are.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::process::run;
use crate::harness::rest::http;
use crate::harness::tools::root;

#[tokio::test(flavor = "multi_thread")]
async fn promtool_takes_the_rules_and_every_alert_does_what_it_says() {
    let at = |name: &str| root().join("deploy/prometheus").join(name).display().to_string();
    for words in [["check", "rules", &at("rules.yaml")], ["test", "rules", &at("rules_test.yaml")]] {
        let done = run("promtool", &words).await;
        assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    }
    let (rules, tests) =
        (fs::read_to_string(at("rules.yaml")).unwrap(), fs::read_to_string(at("rules_test.yaml")).unwrap());
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {alert}")), "{alert} is not tried");
    }
}

/// What of an expression may be the name of a metric of ours.
fn names(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let ours = ["volcanion_", "http_", "stress_test_"];
    let words =
        expression.split(|c| !is_part(c)).filter(|word| ours.iter().any(|prefix| word.starts_with(prefix)));
    words
        .map(|word| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| word.strip_suffix(end))
                .unwrap_or(word)
                .to_owned()
        })
        .collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                match inner {
                    Value::String(text) if name == "expr" || name == "query" => found.push(text.clone()),
                    _ => expressions(inner, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_dashboards_read_only_metrics_that_there_are() {
    let cluster = Cluster::start(1).await;
    let plan = json!({ "name": "p", "target_url": cluster.target.url, "users": 2, "target_rps": 50, "duration_sec": 2 });
    let stored = cluster.rest.post("/api/v1/test-plans", &plan).await.1;
    let run = cluster.rest.post("/api/v1/test-runs/start", &json!({ "plan_id": stored["id"] })).await.1;
    await_some("requests are counted", Duration::from_secs(30), || async {
        let metrics = cluster.rest.get(&format!("/api/v1/test-runs/{}/metrics", run["id"].as_str()?)).await.1;
        (metrics["total_requests"].as_u64()? > 50).then_some(())
    })
    .await;
    let agent = http().get(&cluster.agents[0].metrics).send().await.unwrap().text().await.unwrap();
    let master = cluster.rest.text("/metrics").await;
    let there: BTreeSet<&str> = [&*agent, &*master]
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();

    let mut read = names(&fs::read_to_string(root().join("deploy/prometheus/rules.yaml")).unwrap());
    let mut panels = 0;
    for entry in fs::read_dir(root().join("deploy/grafana")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let mut found = Vec::new();
        expressions(&board["panels"], &mut found);
        expressions(&board["templating"], &mut found);
        panels += found.len();
        read.extend(found.iter().flat_map(|expression| names(expression)));
        let ids: BTreeSet<u64> =
            board["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), board["panels"].as_array().unwrap().len(), "{}: an id of each", path.display());
    }
    assert!(panels > 20 && read.len() > 20, "{panels} {read:?}");
    let missing: Vec<&String> = read.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new(), "there are {there:?}");
}
