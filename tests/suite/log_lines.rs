//! Whoever reads the logs finds what belongs together: every line of a run has its id, every line of an agent the agent's, and what a request
//! led to the request's, on master and agents alike.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::process::Process;

/// Visible ASCII with all that JSON escapes.
const REQUEST_ID: &str = r#"order-"7"\{run_id:"x"}"#;

fn lines(process: &Process) -> Vec<Value> {
    let read = |line: &String| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{}: {line}", process.name))
    };
    process.lines().iter().map(read).collect()
}

fn plan(url: &str) -> Value {
    json!({
        "name": "lines",
        "target": url,
        "scenarios": { "s": { "executor": "constant-vus", "vus": 4, "duration": "6s", "steps": [{ "get": "/a" }, { "think": "50ms..50ms" }] } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_says_its_run_its_agent_and_its_request() {
    let mut cluster = Cluster::start_with(2, &["--cores", "1", "--log", "debug"]).await;
    let (_, stored) = cluster.rest.post("/api/v1/test-plans", &plan(&cluster.target.url)).await;
    let answer = cluster
        .rest
        .http
        .post(format!("{}/api/v1/test-plans/{}/run", cluster.rest.base, stored["id"].as_str().unwrap()))
        .header("x-request-id", REQUEST_ID)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-request-id"]),
        (201, &REQUEST_ID.parse().unwrap())
    );
    let run: Value = answer.json().await.unwrap();
    let run = run["id"].as_str().unwrap().to_owned();
    let other = cluster.rest.start(&plan(&cluster.target.url)).await;
    cluster.rest.ended(&run, Duration::from_secs(60)).await;
    cluster.rest.ended(&other, Duration::from_secs(60)).await;
    for agent in &cluster.agents {
        await_some("the run is forgotten", Duration::from_secs(20), || async {
            let forgotten = lines(&agent.process);
            let count = forgotten.iter().filter(|line| line["message"] == "the run is forgotten").count();
            (count == 2).then_some(())
        })
        .await;
    }
    for agent in &mut cluster.agents {
        assert!(agent.process.stop().await.success());
    }
    assert!(cluster.master.stop().await.success());

    let of_run = |lines: &[Value], run: &str| -> Vec<Value> {
        lines.iter().filter(|line| line["run_id"] == run).cloned().collect()
    };
    let has = |lines: &[Value], message: &str| lines.iter().any(|line| line["message"] == message);
    let check = |process: &Process, lines: &[Value]| {
        for line in lines {
            let fields = line.as_object().unwrap();
            for nested in ["span", "spans", "run", "agent"] {
                assert!(!fields.contains_key(nested), "{}: {line}", process.name);
            }
            let text = line.to_string();
            for id in [&run, &other] {
                let about_it = text.contains(id.as_str());
                assert!(!about_it || line["run_id"] == *id, "{}: {line}", process.name);
            }
            if line["run_id"] == run {
                // What was asked for later by others has ids of its own.
                let is_later = line["message"] == "request" && line["path"] != "/api/v1/test-plans/{id}/run";
                assert!(is_later || line["request_id"] == REQUEST_ID, "{}: {line}", process.name);
            }
            if line["run_id"] == other {
                assert_ne!(line["request_id"], REQUEST_ID, "{}: {line}", process.name);
                assert!(line["request_id"].is_string(), "{}: {line}", process.name);
            }
        }
    };
    let master = lines(&cluster.master);
    check(&cluster.master, &master);
    let of_master = of_run(&master, &run);
    for message in ["run accepted", "run is running", "run ended", "performance", "request"] {
        assert!(has(&of_master, message), "`{message}` among {of_master:#?}");
    }
    for (number, agent) in cluster.agents.iter().enumerate() {
        let all = lines(&agent.process);
        check(&agent.process, &all);
        let id = format!("agent-{}", number + 1);
        for line in &all {
            assert_eq!(line["agent_id"], id, "{line}");
        }
        let of_agent = of_run(&all, &run);
        for message in
            ["a leader's stream is open", "load has started", "interval", "performance", "load is over"]
        {
            assert!(has(&of_agent, message), "`{message}` among {of_agent:#?}");
        }
        assert!(has(&all, "the agent listens") && has(&all, "the agent has ended"));
    }
}
