//! Many agents on one master: all are taken, none is lost, and the sum is right to the one.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use volcanion_fleet::Fleet;

use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;

const STEPS: u32 = 20;
const SAMPLES: u64 = 50;

/// Of the run time, in which the master's CPU is read: after the start's bustle, before the end's.
const READ_FROM: Duration = Duration::from_secs(6);
const READ_FOR: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_agents_of_twenty_series_add_up() {
    check(100, 6).await;
}

/// In `make test-all`, last; `make bench BENCH=fleet` measures it with a build that is made for speed.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_agents_take_a_core_of_the_master_at_most() {
    if std::env::var_os("VOLCANION_ALONE").is_none() {
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("up to its maximum anybody may");
    let cores = check(1_000, 24).await.expect("the run is long enough to look");
    println!("one master with 1,000 agents of {STEPS} series uses {cores:.2} cores");
    assert!(cores <= 1.0, "{cores:.2} cores, {:.0} % beyond one", (cores - 1.0) * 100.0);
}

/// A run of so many agents and seconds, to the one; how many cores the master used in the middle of it, where that was looked at.
async fn check(agents: u32, seconds: u64) -> Option<f64> {
    let cluster = Cluster::start(0).await;
    let fleet = Fleet::start(&cluster.etcd.url, 0..agents, STEPS, SAMPLES).await.unwrap();
    cluster.await_agents(agents as usize).await;
    let steps: Vec<_> = (0..STEPS).map(|step| json!({ "name": format!("s{step}"), "get": "/" })).collect();
    let plan = json!({ "name": "many agents", "target": "http://127.0.0.1:9", "scenarios": { "simulated": {
        "executor": "constant-vus", "vus": agents, "duration": format!("{seconds}s"), "steps": steps,
    } } });
    let run = cluster.rest.start(&plan).await;
    let used = if READ_FROM + READ_FOR < Duration::from_secs(seconds) {
        await_beyond(&cluster.rest, &run, 0).await;
        tokio::time::sleep(READ_FROM).await;
        let (before, began) = (cpu_seconds(cluster.master.id()), Instant::now());
        tokio::time::sleep(READ_FOR).await;
        Some((cpu_seconds(cluster.master.id()) - before) / began.elapsed().as_secs_f64())
    } else {
        None
    };
    let mut ended = fleet.ended();
    let all_over = ended.wait_for(|ended| ended.parts == u64::from(agents));
    let all = *tokio::time::timeout(Duration::from_secs(90), all_over).await.unwrap().unwrap();
    assert_eq!(all.requests, u64::from(agents * STEPS) * SAMPLES * seconds);
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(metrics["status"], "completed", "{metrics}");
    assert_eq!(metrics["total_requests"], all.requests, "{metrics}");
    assert_eq!(metrics["completeness"]["complete"], true, "{metrics}");
    assert_eq!(metrics["agents"].as_array().map(Vec::len), Some(agents as usize), "{metrics}");
    let series = metrics["steps"].as_array().map(Vec::len);
    assert_eq!(series, Some(STEPS as usize), "{metrics}");
    fleet.leave().await;
    used
}

/// CPU time of a process so far, in user and system mode.
fn cpu_seconds(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process lives");
    // After the name in brackets come the fields from the third on; the fourteenth and fifteenth are ticks, 100 a second on Linux.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().expect("it is a number");
    (ticks(14) + ticks(15)) / 100.0
}
