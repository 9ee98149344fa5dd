//! Two masters on one PostgreSQL: whichever is asked, and whichever is killed, it is one cluster with one truth.

use std::time::{Duration, Instant};

use serde_json::json;

use super::fail_over::{KILLS, check, check_events, plan};
use crate::harness::await_some;
use crate::harness::events::Follower;
use crate::harness::masters::{Masters, await_beyond, await_beyond_after};
use crate::harness::rest::http;

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_the_next_one_goes_on_and_nothing_is_lost() {
    let mut cluster = Masters::start(2, 2, &["--cores", "1"]).await;
    let mut leader = cluster.leader().await.expect("one leads");
    // The plan is stored, and the run started, by the one that stands by.
    let run = cluster.masters[1 - leader].rest.start(&plan(&cluster.target.url)).await;
    let bases = cluster.masters.iter().map(|master| master.rest.base.clone()).collect::<Vec<_>>();
    let events = Follower::of(&[&bases[1 - leader], &bases[leader]], &run);
    let mut seen = await_beyond(&cluster.masters[1 - leader].rest, &run, 0).await;
    for _ in 0..KILLS {
        cluster.kill(leader).await;
        let killed = Instant::now();
        let (status, view) = cluster.masters[1 - leader].rest.get(&format!("/api/v1/test-runs/{run}")).await;
        assert_eq!((status, &view["id"]), (200, &json!(run)), "reads need no leader: {view}");
        let next = cluster.await_leader_after(leader).await;
        seen = await_beyond_after(killed, &cluster.masters[next].rest, &run, seen).await;
        cluster.start_again(leader).await;
        leader = next;
    }
    let metrics = cluster.masters[leader].rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, &cluster.target.stats().await);
    let heard = events.ended(Duration::from_secs(30)).await;
    check_events(&heard, &metrics);
    // Whoever heard the end is not told of it again, by a master that has it from the store either.
    cluster.start_again_after_stop(1 - leader).await;
    let last = heard.last().expect("it heard the end").id;
    for master in &cluster.masters {
        let url = format!("{}/api/v1/test-runs/{run}/events", master.rest.base);
        let again = http().get(url).header("last-event-id", last).send().await.expect("it answers");
        assert_eq!(again.status(), 204, "{}", master.rest.base);
    }
    let (_, at_the_standby) =
        cluster.masters[1 - leader].rest.get(&format!("/api/v1/test-runs/{run}/metrics")).await;
    assert_eq!(at_the_standby, metrics, "both say the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_answers_reads_sends_writes_on_and_leads_when_the_leader_ends() {
    let mut cluster = Masters::start(2, 1, &["--cores", "1"]).await;
    let leader = cluster.leader().await.expect("one leads");
    let (lead, standby) = (cluster.masters[leader].rest.clone(), cluster.masters[1 - leader].rest.clone());
    assert_eq!(standby.get("/readyz").await.0, 200);
    assert!(
        !standby.text("/metrics").await.contains("stress_test_"),
        "the leader's series are not said twice"
    );
    let plan = json!({
        "name": "led", "target": cluster.target.url,
        "scenarios": { "s": {
            "executor": "externally-controlled", "rate": "50/s", "duration": "8s", "max_vus": 50,
            "steps": [{ "get": "/led" }],
        } },
    });
    let run = standby.start(&plan).await;
    let path = format!("/api/v1/test-runs/{run}");
    await_beyond(&standby, &run, 0).await;
    let (status, changed) = standby.patch(&path, &json!({ "rate": "100/s" })).await;
    assert_eq!((status, &changed["levels"][0]["change"]), (200, &json!(1)), "{changed}");
    for rest in [&lead, &standby] {
        let (_, view) = rest.get(&path).await;
        assert_eq!(view["levels"], changed["levels"]);
        assert_eq!(rest.get(&format!("{path}/intervals")).await.0, 200);
        assert_eq!(rest.get("/api/v1/agents").await.1[0]["load"], 1);
    }

    // SIGTERM: it resigns, so nobody waits for its lease.
    assert!(cluster.masters[leader].process.stop().await.success());
    assert_eq!(cluster.await_leader_after(leader).await, 1 - leader);
    let metrics = standby.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(
        (&metrics["status"], &metrics["completeness"]["complete"]),
        (&json!("completed"), &json!(true))
    );
    assert_eq!(metrics["total_requests"], cluster.target.stats().await["by_path"]["/led"], "{metrics}");

    // With nobody left who could lead but one, it does all by itself; with nobody at all nothing answers.
    let second = standby.start(&plan).await;
    let (status, stopped) = standby.post_nothing(&format!("/api/v1/test-runs/{second}/stop")).await;
    assert_eq!((status, &stopped["status"]), (200, &json!("cancelled")), "{stopped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_leads_reads_go_on_and_writes_are_refused_with_a_time_to_come_back() {
    let cluster = Masters::start(2, 1, &["--cores", "1"]).await;
    let leader = cluster.leader().await.expect("one leads");
    let standby = cluster.masters[1 - leader].rest.clone();
    let (status, made) = standby.post("/api/v1/test-plans", &plan(&cluster.target.url)).await;
    assert_eq!(status, 201, "{made}");
    // A leader that hangs is still the leader, until its lease ends.
    cluster.masters[leader].process.signal("STOP").await;
    let write = http().post(format!("{}/api/v1/test-plans", standby.base)).json(&plan(&cluster.target.url));
    let asking = tokio::spawn(write.send());
    let path = format!("/api/v1/test-plans/{}", made["id"].as_str().expect("a plan has an id"));
    assert_eq!(standby.get(&path).await, (200, made.clone()), "reads do not wait");
    assert_eq!(cluster.await_leader_after(leader).await, 1 - leader);
    await_some("writes are taken", Duration::from_secs(30), || async {
        (standby.post("/api/v1/test-plans", &plan(&cluster.target.url)).await.0 == 201).then_some(())
    })
    .await;
    cluster.masters[leader].process.signal("CONT").await;
    let answer = asking.await.expect("it does not panic").expect("the standby answers");
    assert!(matches!(answer.status().as_u16(), 201 | 503), "{answer:?}");
    if answer.status() == 503 {
        assert_eq!(answer.headers()["retry-after"], "1");
    }
    // The one that woke up does not lead, and knows who does.
    await_some("it stands by", Duration::from_secs(30), || async {
        let (_, health) = cluster.masters[leader].rest.get("/health").await;
        (health["role"] == "standby" && health["leader"] == json!(standby.base)).then_some(())
    })
    .await;
    assert_eq!(
        cluster.masters[leader].rest.post("/api/v1/test-plans", &plan(&cluster.target.url)).await.0,
        201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_freezes_in_mid_run_is_followed_and_a_rule_that_breaks_then_ends_the_run() {
    let cluster = Masters::start(2, 2, &["--cores", "1"]).await;
    let leader = cluster.leader().await.expect("one leads");
    let (old, next) = (&cluster.masters[leader], &cluster.masters[1 - leader]);
    let mut plan = plan(&cluster.target.url);
    plan["scenarios"]["s"]["duration"] = json!("40s");
    // Long after the fail-over; it holds until then.
    plan["thresholds"] = json!(["error_rate < 1%", { "expr": "requests < 3600", "abort": true }]);
    let run = old.rest.start(&plan).await;
    let seen = await_beyond(&old.rest, &run, 400).await;
    old.process.signal("STOP").await;
    let frozen = Instant::now();
    // Asked in a way that asks nobody else: the frozen one answers nothing.
    await_some("the other one leads", Duration::from_secs(20), || async {
        next.rest.text("/metrics").await.lines().any(|line| line == "volcanion_leader 1").then_some(())
    })
    .await;
    // One that froze within a transaction holds the office for five seconds, until PostgreSQL ends its session.
    await_beyond(&next.rest, &run, seen).await;
    tokio::time::sleep(Duration::from_secs(6).saturating_sub(frozen.elapsed())).await;
    old.process.signal("CONT").await;
    let metrics = next.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(
        (&metrics["status"], &metrics["stop_reason"]),
        (&json!("failed"), &json!("threshold")),
        "{metrics}"
    );
    assert_eq!(metrics["total_requests"], cluster.target.requests().await, "report and target: {metrics}");
    assert_eq!(metrics["completeness"], json!({ "complete": true, "gaps": [] }), "{metrics}");
    let total = metrics["total_requests"].as_u64().expect("it counts");
    assert!((3_600..6_000).contains(&total), "it was ended soon after it broke: {metrics}");
    await_some("the one that woke stands by", Duration::from_secs(30), || async {
        let (_, health) = old.rest.get("/health").await;
        (health["role"] == "standby" && health["leader"] == json!(next.rest.base)).then_some(())
    })
    .await;
    assert_eq!(
        old.rest.get(&format!("/api/v1/test-runs/{run}/metrics")).await.1,
        metrics,
        "both say the same"
    );
}
