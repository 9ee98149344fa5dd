//! The API's own description is valid, its page needs no internet, and events come by SSE and WebSocket.

use crate::harness::rest::http;
use std::time::Duration;

use serde_json::json;

use crate::harness::cluster::Cluster;
use crate::harness::process::run;
use crate::harness::tools::python;

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_valid_and_the_page_stands_alone() {
    let cluster = Cluster::start(0).await;
    let text = cluster.rest.text("/api/openapi.json").await;
    let document: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert!(document["openapi"].as_str().unwrap_or_default().starts_with("3.1"));
    let path = cluster.folder.path().join("openapi.json");
    std::fs::write(&path, &text).expect("the folder can be written");
    let output = run(&python(), &["-m", "openapi_spec_validator", &path.display().to_string()]).await;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    for call in ["/api/v1/test-plans", "/api/v1/test-runs/{id}/live", "/api/v1/agents"] {
        assert!(document["paths"].get(call).is_some(), "{call} is described");
    }

    let page = cluster.rest.text("/api/docs/").await;
    let outside: Vec<&str> = page
        .split('"')
        .filter(|word| word.starts_with("http://") || word.starts_with("https://") || word.starts_with("//"))
        .collect();
    assert!(outside.is_empty(), "the page asks for {outside:?}");
    for script in page.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let script = script.trim_start_matches("./");
        assert!(cluster.rest.text(&format!("/api/docs/{script}")).await.len() > 100, "{script} is served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_by_sse_and_resume_after_the_last_one() {
    let cluster = Cluster::start(1).await;
    let plan = json!({
        "name": "events", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "50/s", "duration": "2s", "max_vus": 10, "steps": [{ "get": "/" }] } },
    });
    let run = cluster.rest.start(&plan).await;
    let path = format!("{}/api/v1/test-runs/{run}/events", cluster.rest.base);
    // The stream ends by itself after `end`, so the whole text can be awaited.
    let answer = http().get(&path).timeout(Duration::from_secs(30)).send().await.expect("it answers");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.expect("it ends");
    for event in ["event: snapshot", "event: state", "event: end"] {
        assert!(
            text.lines().any(|line| line == event || line == event.replace(": ", ":")),
            "{event} in\n{text}"
        );
    }
    let ids: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix("id:")?.trim().parse().ok()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "ids grow: {ids:?}");
    let before_last = ids[ids.len() - 2].to_string();
    let resumed =
        http().get(&path).header("last-event-id", before_last).timeout(Duration::from_secs(30)).send().await;
    let resumed = resumed.expect("it answers").text().await.expect("it ends");
    assert!(resumed.contains("end") && resumed.len() < text.len(), "only what is newer: {resumed}");
}
