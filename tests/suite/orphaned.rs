//! A master that is gone for good: agents load on for `--orphan-timeout`, and not longer.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, start_agent};
use crate::harness::masters::await_beyond;
use crate::harness::noting::NotingTarget;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_master_nothing_is_sent_beyond_the_orphan_timeout() {
    let mut cluster = Cluster::start(0).await;
    // One is told itself, the other by the master.
    assert!(cluster.master.stop().await.success());
    cluster.restart_master_with(&["--orphan-timeout", "3s"]).await;
    for (id, own) in [("agent-1", "2800ms"), ("agent-2", "60s")] {
        let flags = ["--cores", "1", "--orphan-timeout", own];
        cluster.agents.push(start_agent(&cluster.etcd.url, id, &flags).await);
    }
    cluster.await_agents(2).await;
    let target = NotingTarget::start().await;
    let plan = json!({
        "name": "orphaned", "target": target.url,
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "200/s", "duration": "60s", "max_vus": 100,
            "steps": [{ "get": "/" }],
        } },
    });
    let run = cluster.rest.start(&plan).await;
    await_beyond(&cluster.rest, &run, 0).await;
    cluster.master.kill().await;
    let killed = Instant::now();
    // Both say that they gave up; then nothing comes any more.
    await_some("the agents stop", Duration::from_secs(20), || async {
        let has_stopped = |agent: &crate::harness::cluster::Agent| {
            agent.process.lines().iter().any(|line| line.contains("load is over"))
        };
        cluster.agents.iter().all(has_stopped).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let last = target.noted().last().expect("it was loaded").at.duration_since(killed).as_secs_f64();
    assert!((1.5..=4.0).contains(&last), "the last request came {last:.3} s after the kill");
}
