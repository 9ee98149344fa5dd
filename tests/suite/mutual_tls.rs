//! Mutual TLS between master and agents: who shows no certificate of the cluster's gives no orders, and nothing is sent.

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::await_some;
use crate::harness::certificates::Authority;
use crate::harness::cluster::{Agent, Target, start_agent};
use crate::harness::etcd::Etcd;
use crate::harness::process::Process;
use crate::harness::rest::Rest;

const LIMIT: Duration = Duration::from_secs(30);

fn words(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

async fn master(etcd: &Etcd, folder: &TempDir, name: &str, flags: &[String]) -> (Process, Rest) {
    let store = format!("sqlite:{}", folder.path().join(format!("{name}.db")).display());
    let fixed = ["master", "--listen", "127.0.0.1:0", "--etcd", &etcd.url, "--store", &store];
    let process = Process::volcanion(name, &[&fixed[..], &words(flags)].concat());
    let log = process.await_log("REST listens").await;
    let rest = Rest::new(format!("http://{}", log["address"].as_str().unwrap()));
    await_some("it leads and sees the agent", LIMIT, || async {
        let is_ready = rest.get("/readyz").await.0 == 200;
        (is_ready && rest.get("/api/v1/agents").await.1.as_array()?.len() == 1).then_some(())
    })
    .await;
    (process, rest)
}

async fn start(rest: &Rest, target: &Target) -> String {
    let plan =
        json!({ "name": "p", "target_url": target.url, "users": 2, "target_rps": 50, "duration_sec": 2 });
    let (status, plan) = rest.post("/api/v1/test-plans", &plan).await;
    assert_eq!(status, 201, "{plan}");
    let (status, run) = rest.post("/api/v1/test-runs/start", &json!({ "plan_id": plan["id"] })).await;
    assert_eq!(status, 201, "{run}");
    run["id"].as_str().unwrap().to_owned()
}

async fn completes(rest: &Rest, target: &Target) {
    let before = target.requests().await;
    let run = start(rest, target).await;
    let ended = await_some("the run ends", LIMIT, || async {
        let (_, view) = rest.get(&format!("/api/v1/test-runs/{run}")).await;
        (view["ended_at"].is_string()).then_some(view)
    })
    .await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let (_, metrics) = rest.get(&format!("/api/v1/test-runs/{run}/metrics")).await;
    assert_eq!(metrics["total_requests"].as_u64().unwrap(), target.requests().await - before);
}

async fn refusals(agent: &Agent) -> usize {
    agent.process.lines().iter().filter(|line| line.contains("a connection was refused")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_master_with_the_clusters_certificate_gives_orders() {
    let (folder, ours, other) = (TempDir::new().unwrap(), Authority::new(), Authority::new());
    let (etcd, target) = (Etcd::start().await, Target::start(&[]).await);
    let agent_flags = ours.cluster_flags(folder.path(), "agent", "volcanion-agent");
    let agent =
        start_agent(&etcd.url, "agent-1", &[&words(&agent_flags)[..], &["--cores", "1"]].concat()).await;

    let false_masters = [
        ("plain", Vec::new()),
        ("foreign", {
            // It believes our agents, and is itself of another authority.
            let mut flags = other.cluster_flags(folder.path(), "foreign", "volcanion-master");
            flags[1] = ours.write(folder.path(), "trusted").display().to_string();
            flags
        }),
        ("an-agent", ours.cluster_flags(folder.path(), "an-agent", "volcanion-agent")),
    ];
    for (name, flags) in false_masters {
        let refused_before = refusals(&agent).await;
        let (mut process, rest) = master(&etcd, &folder, name, &flags).await;
        let run = start(&rest, &target).await;
        await_some("the agent refuses it, and says so", LIMIT, || async {
            (refusals(&agent).await > refused_before).then_some(())
        })
        .await;
        rest.post(&format!("/api/v1/test-runs/{run}/stop"), &json!({})).await;
        assert_eq!(target.requests().await, 0, "{name}: nothing is sent");
        process.stop().await;
    }
    let flags = ours.cluster_flags(folder.path(), "master", "volcanion-master");
    let (_process, rest) = master(&etcd, &folder, "master", &flags).await;
    completes(&rest, &target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_while_everything_goes_on() {
    let (folder, old, new) = (TempDir::new().unwrap(), Authority::new(), Authority::new());
    let (etcd, target) = (Etcd::start().await, Target::start(&[]).await);
    let write = |authority: &Authority| {
        let agent = authority.cluster_flags(folder.path(), "agent", "volcanion-agent");
        (agent, authority.cluster_flags(folder.path(), "master", "volcanion-master"))
    };
    let (agent_flags, master_flags) = write(&old);
    let first =
        start_agent(&etcd.url, "agent-1", &[&words(&agent_flags)[..], &["--cores", "1"]].concat()).await;
    let (process, rest) = master(&etcd, &folder, "master", &master_flags).await;
    completes(&rest, &target).await;
    write(&new);
    for process in [&first.process, &process] {
        process
            .await_line("new certificates are used", |line| {
                line.contains("certificates have changed").then_some(())
            })
            .await;
    }
    completes(&rest, &target).await;
    // A connection that is new under the new authority: an agent that has just come.
    drop(first);
    let second =
        start_agent(&etcd.url, "agent-2", &[&words(&agent_flags)[..], &["--cores", "1"]].concat()).await;
    await_some("only the new agent is there", LIMIT, || async {
        let agents = rest.get("/api/v1/agents").await.1;
        (agents.as_array()?.iter().all(|agent| agent["id"] == "agent-2")).then_some(())
    })
    .await;
    completes(&rest, &target).await;
    assert_eq!(refusals(&second).await, 0);
}
