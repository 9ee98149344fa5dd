//! Where the time and memory of masters and agents go, while a load goes: real profiles, which name our functions.

use std::fs;
use std::time::Duration;

use serde_json::json;
use volcanion_common::telemetry::pprof::proto::Profile;

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, start_agent};
use crate::harness::rest::http;

/// What is asked answers 200 with a profile.
async fn profile(url: &str) -> Profile {
    let answer = http().get(url).timeout(Duration::from_secs(60)).send().await.unwrap();
    let (status, bytes) = (answer.status(), answer.bytes().await.unwrap());
    assert_eq!(status, 200, "{url}: {}", String::from_utf8_lossy(&bytes));
    let profile = Profile::read(&bytes).unwrap();
    assert!(profile.string_table[0].is_empty() && profile.period > 0 && profile.duration_nanos > 0);
    let ids = 1..=profile.location.len() as u64;
    assert!(profile.sample.iter().flat_map(|sample| &sample.location_id).all(|id| ids.contains(id)));
    profile
}

fn samples(profile: &Profile) -> i64 {
    profile.sample.iter().map(|sample| sample.value[0]).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_of_a_loading_agent_and_its_master_name_our_functions() {
    let cluster = Cluster::start(1).await;
    let plan = json!({
        "name": "busy", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-vus", "vus": 8, "duration": "60s", "steps": [{ "get": "/" }] } },
    });
    let run = cluster.rest.start(&plan).await;
    await_some("load goes", Duration::from_secs(30), || async {
        cluster.rest.live(&run).await["total_requests"].as_u64().filter(|requests| *requests > 100)
    })
    .await;
    let base = &cluster.rest.base;
    let of_agent = profile(&format!("{base}/api/v1/agents/agent-1/profile?seconds=2")).await;
    assert!(samples(&of_agent) > 20, "{} samples", samples(&of_agent));
    let names = of_agent.function_names();
    assert!(names.iter().any(|name| name.contains("volcanion_agent::send")), "{names:?}");

    // One run is little to do for a master; many questions are more.
    let asking = async {
        loop {
            let _ = http().get(format!("{base}/metrics")).send().await.expect("it answers").bytes().await;
        }
    };
    let url = format!("{base}/debug/pprof/profile?seconds=3");
    let of_master = tokio::select! {
        profile = profile(&url) => profile,
        () = asking => unreachable!("it asks on and on"),
    };
    assert!(samples(&of_master) > 5, "{} samples", samples(&of_master));
    let names = of_master.function_names();
    assert!(names.iter().any(|name| name.contains("volcanion_master::")), "{names:?}");
    let here = cluster.agents[0].metrics.replace("/metrics", "/debug/pprof/profile?seconds=1");
    assert!(samples(&profile(&here).await) > 5);

    let memory = cluster.rest.get("/api/v1/agents/agent-1/memory").await;
    let own = cluster.rest.get("/debug/memory").await;
    for (status, memory) in [memory, own] {
        assert_eq!(status, 200, "{memory}");
        let of = |name: &str| memory[name].as_u64().unwrap_or_else(|| panic!("{name} is not in {memory}"));
        assert!(of("resident_bytes") > 1 << 20 && of("virtual_bytes") > of("resident_bytes"));
        assert!(
            of("threads") >= 2 && of("open_files") > 5 && of("resident_peak_bytes") >= of("private_bytes")
        );
    }
    cluster.rest.post_nothing(&format!("/api/v1/test-runs/{run}/stop")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_profile_is_made_at_a_time_and_what_cannot_be_is_refused() {
    let cluster = Cluster::start(1).await;
    // They come together and take seconds: whichever is the first, the other finds it there.
    let ask = || cluster.rest.get("/debug/pprof/profile?seconds=3");
    let (one, other) = tokio::join!(ask(), ask());
    let (made, (_, busy)) = if one.0 == 409 { (other, one) } else { (one, other) };
    assert_eq!((made.0, &busy["error"]), (200, &json!("conflict")), "{busy}");
    for (path, expected) in [
        ("/debug/pprof/profile?seconds=0", 400),
        ("/debug/pprof/profile?seconds=31", 400),
        ("/api/v1/agents/agent-1/profile?seconds=x", 400),
        ("/api/v1/agents/nobody/profile", 404),
        ("/api/v1/agents/nobody/memory", 404),
    ] {
        assert_eq!(cluster.rest.get(path).await.0, expected, "{path}");
    }

    // An agent of another cluster's key does not let itself be looked into.
    let key = cluster.folder.path().join("cluster.key");
    fs::write(&key, "a key that the master does not have").unwrap();
    let flags = ["--cores", "1", "--cluster-key-file", key.to_str().unwrap()];
    let _stranger = start_agent(&cluster.etcd.url, "stranger", &flags).await;
    cluster.await_agents(2).await;
    for path in ["/api/v1/agents/stranger/profile?seconds=1", "/api/v1/agents/stranger/memory"] {
        let (status, problem) = cluster.rest.get(path).await;
        assert_eq!(status, 503, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("does not obey"), "{problem}");
    }
}
