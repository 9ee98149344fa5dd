//! The command line's contract: exit codes, what goes to stdout, what to stderr.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::cluster::{Cluster, Target};
use crate::harness::process::volcanion;

#[tokio::test(flavor = "multi_thread")]
async fn run_prints_a_summary_or_the_json_alone_and_codes_say_how_it_ended() {
    let target = Target::start(&[]).await;
    let short = ["-n", "50", "-c", "5"];
    let run = |more: &[&'static str]| {
        let args: Vec<String> = ["run", target.url.as_str()]
            .iter()
            .chain(short.iter())
            .chain(more)
            .map(|w| (*w).to_owned())
            .collect();
        async move {
            let words: Vec<&str> = args.iter().map(String::as_str).collect();
            volcanion(&words).await
        }
    };
    let human = run(&[]).await;
    assert_eq!(human.code, 0, "{}", human.stderr);
    for part in ["completed", "requests", "50", "p95", "status 200"] {
        assert!(human.stdout.contains(part), "{part} in\n{}", human.stdout);
    }
    let machine = run(&["--json"]).await;
    let metrics: Value = serde_json::from_str(&machine.stdout).expect("stdout is the JSON alone");
    assert_eq!(metrics["total_requests"], 50);
    assert_eq!(target.requests().await, 100);

    assert_eq!(run(&["--threshold", "p(95) < 10s"]).await.code, 0);
    let broken = run(&["--threshold", "p(95) < 0.001ms", "--require-valid"]).await;
    assert_eq!(broken.code, 99, "{}", broken.stdout);
    assert!(broken.stdout.contains('✗'));
    assert_eq!(target.requests().await, 200);

    for wrong in [
        &["--threshold", "p(95) <"][..],
        &["--http", "3"],
        &["--header", "nocolon"],
        &["--out", "x.exe"],
        &["--no-such-flag"],
    ] {
        let output = run(wrong).await;
        assert_eq!(output.code, 2, "{wrong:?}: {}", output.stderr);
        assert!(!output.stderr.is_empty());
    }
    assert_eq!(target.requests().await, 200, "a wrong command sends nothing");

    let refused = volcanion(&["run", "http://127.0.0.1:1/", "-n", "3", "-c", "1", "--json"]).await;
    assert_eq!(refused.code, 0, "a target that is down is a result: {}", refused.stderr);
    let nobody = volcanion(&["run", &target.url, "-n", "1", "--master", "http://127.0.0.1:1"]).await;
    assert_eq!(nobody.code, 3, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("127.0.0.1:1"), "{}", nobody.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_follows_the_plans_method_headers_body_and_writes_its_result() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let target = Target::start(&[]).await;
    let out = folder.path().join("result.json");
    let plan = folder.path().join("plan.yaml");
    fs::write(
        &plan,
        format!("name: shop\ntarget: {}\nscenarios:\n  s:\n    executor: per-vu-iterations\n    vus: 2\n    iterations: 3\n    max_duration: 20s\n    steps:\n      - {{ name: a, put: /a, json: {{ x: 1 }} }}\n      - get: /b\n", target.url),
    )
    .expect("the folder can be written");
    let output = volcanion(&["run", &plan.display().to_string(), "--out", &out.display().to_string()]).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    let metrics: Value =
        serde_json::from_str(&fs::read_to_string(&out).expect("it was written")).expect("it is JSON");
    assert_eq!(metrics["total_requests"], 12);
    assert_eq!(target.stats().await["by_path"], json!({ "/a": 6, "/b": 6 }));

    let valid = volcanion(&["validate", &plan.display().to_string()]).await;
    assert_eq!(valid.code, 0, "{}", valid.stderr);
    fs::write(&plan, "name: shop\nscenarios:\n  s:\n    executor: constant-vuss\n    vus: x\n")
        .expect("it can be written");
    let wrong = volcanion(&["validate", &plan.display().to_string()]).await;
    assert_eq!(wrong.code, 2);
    for part in ["did you mean `constant-vus`", "line 4", "scenarios.s.steps"] {
        assert!(wrong.stderr.contains(part), "{part} in\n{}", wrong.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_come_from_files_beside_the_plan_or_named_by_a_flag() {
    const LARGE: usize = 5 * 1024 * 1024;
    let folder = TempDir::new().expect("a temporary folder can be made");
    let target = Target::start(&[]).await;
    let body = folder.path().join("large.bin");
    fs::write(&body, vec![0xff_u8; LARGE]).expect("the folder can be written");
    let sent = |output: &str| {
        let metrics: Value = serde_json::from_str(output).expect("stdout is the JSON alone");
        assert_eq!(metrics["success_requests"], 3, "{metrics}");
        metrics["bytes_sent"].as_u64().expect("a count")
    };
    let flag = format!("@{}", body.display());
    let by_flag = volcanion(&["run", &target.url, "-n", "3", "-c", "1", "--body", &flag, "--json"]).await;
    assert_eq!(by_flag.code, 0, "{}", by_flag.stderr);
    assert!(sent(&by_flag.stdout) > 3 * LARGE as u64);

    let plan = folder.path().join("plan.json");
    let steps = json!([{ "put": "/a", "body_file": "large.bin" }]);
    let scenario = json!({ "executor": "shared-iterations", "vus": 1, "iterations": 3, "steps": steps });
    let document = json!({ "name": "files", "target": target.url, "scenarios": { "s": scenario } });
    fs::write(&plan, document.to_string()).expect("the folder can be written");
    let plan = plan.display().to_string();
    let by_plan = volcanion(&["run", &plan, "--json"]).await;
    assert_eq!(by_plan.code, 0, "{}", by_plan.stderr);
    assert!(sent(&by_plan.stdout) > 3 * LARGE as u64);
    assert_eq!(target.requests().await, 6);

    fs::remove_file(&body).expect("it is there");
    let gone = volcanion(&["run", &plan]).await;
    assert_eq!(gone.code, 3, "{}", gone.stdout);
    assert!(gone.stdout.contains("large.bin"), "{}", gone.stdout);
    assert_eq!(volcanion(&["run", &target.url, "--body", &flag]).await.code, 2);
    assert_eq!(target.requests().await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_commands_work_against_a_master() {
    let cluster = Cluster::start(2).await;
    let folder = TempDir::new().expect("a temporary folder can be made");
    let path = folder.path().join("plan.json");
    let plan = json!({
        "name": "by hand", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "100/s", "duration": "1s", "max_vus": 20, "steps": [{ "get": "/" }] } },
    });
    fs::write(&path, plan.to_string()).expect("the folder can be written");
    let path = path.display().to_string();
    let master = cluster.rest.base.as_str();

    let agents = volcanion(&["agents", "--master", master]).await;
    assert!(agents.stdout.contains("agent-1") && agents.stdout.contains("agent-2"), "{}", agents.stdout);
    let added = volcanion(&["plans", "--add", &path, "--master", master]).await;
    assert_eq!(added.code, 0, "{}", added.stderr);
    let id = added.stdout.trim().to_owned();
    assert!(volcanion(&["plans", "--master", master]).await.stdout.contains(&id));
    let watched = volcanion(&["start", &id, "--watch", "--json", "--master", master]).await;
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    let metrics: Value = serde_json::from_str(&watched.stdout).expect("stdout is the JSON alone");
    assert_eq!(metrics["total_requests"].as_u64(), Some(cluster.target.requests().await));
    let run = metrics["run_id"].as_str().unwrap().to_owned();
    assert!(volcanion(&["runs", "--master", master]).await.stdout.contains(&run));
    assert!(volcanion(&["runs", &run, "--master", master]).await.stdout.contains("completed"));
    assert_eq!(volcanion(&["watch", &run, "--master", master]).await.code, 0, "an ended run can be watched");
    let conflict = volcanion(&["stop", &run, "--master", master]).await;
    assert_eq!(conflict.code, 2, "{}", conflict.stderr);
    let on_cluster =
        volcanion(&["run", &cluster.target.url, "-n", "20", "-c", "2", "--master", master, "--json"]).await;
    assert_eq!(on_cluster.code, 0, "{}", on_cluster.stderr);
    assert_eq!(cluster.target.requests().await, 120);
    assert_eq!(volcanion(&["start", "no-such-plan", "--master", master]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_shows_a_run_and_ends_well() {
    let demo = volcanion(&["demo", "--duration", "2s"]).await;
    assert_eq!(demo.code, 0, "{}{}", demo.stdout, demo.stderr);
    assert!(demo.stderr.contains("/api/docs"), "{}", demo.stderr);
    assert!(
        demo.stderr.lines().filter(|line| line.contains("p95")).count() >= 1,
        "a live line a second: {}",
        demo.stderr
    );
    assert!(demo.stdout.contains("demo: completed"), "{}", demo.stdout);
}
