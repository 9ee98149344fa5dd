//! A store that does not work for a while: acknowledgements wait for it, the load does not, and no count is lost.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::await_some;
use crate::harness::cluster::{Target, start_agent};
use crate::harness::etcd::Etcd;
use crate::harness::masters::Masters;
use crate::harness::process::Process;
use crate::harness::rest::Rest;

const LIMIT: Duration = Duration::from_secs(30);
/// For how long a master tries to use a store that is away.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

fn plan(target: &str, seconds: u64) -> Value {
    json!({
        "name": "store", "target": target,
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "200/s", "duration": format!("{seconds}s"), "max_vus": 20,
            "steps": [{ "get": "/" }],
        } },
    })
}

async fn await_load(rest: &Rest, run: &str, more_than: u64) -> u64 {
    await_some("load goes", LIMIT, || async {
        rest.live(run).await["total_requests"].as_u64().filter(|requests| *requests > more_than)
    })
    .await
}

fn assert_exact(metrics: &Value, planned: u64, counted: u64) {
    assert_eq!(metrics["status"], "completed", "{metrics}");
    assert_eq!(metrics["total_requests"], counted, "what the target counted: {metrics}");
    let accounted = metrics["iterations"].as_u64().unwrap() + metrics["dropped_iterations"].as_u64().unwrap();
    assert_eq!(accounted, planned, "{metrics}");
    assert_eq!(metrics["completeness"]["complete"], true, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_restarted_and_killed_in_mid_run_and_no_count_is_lost() {
    let mut cluster = Masters::start(1, 2, &["--cores", "1"]).await;
    let rest = cluster.masters[0].rest.clone();
    let run = rest.start(&plan(&cluster.target.url, 9)).await;
    await_load(&rest, &run, 200).await;
    cluster.postgres.restart().await;
    await_load(&rest, &run, 700).await;
    cluster.postgres.kill().await;
    let before = cluster.target.requests().await;
    await_some("the load goes on without a store", LIMIT, || async {
        (cluster.target.requests().await > before + 200).then_some(())
    })
    .await;
    cluster.postgres.start_again().await;
    let metrics = rest.ended(&run, Duration::from_secs(60)).await;
    assert_exact(&metrics, 1_800, cluster.target.requests().await);
}

/// Agents may send only so much that nobody acknowledged: what they still have then comes when the store is back, long after the plan's end.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_away_until_long_after_the_plans_end_and_no_count_is_lost() {
    let mut cluster = Masters::start(2, 2, &["--cores", "1"]).await;
    let leader = await_some("a leader", LIMIT, || cluster.leader()).await;
    let rest = cluster.masters[leader].rest.clone();
    let mut plan = plan(&cluster.target.url, 13);
    plan["scenarios"]["s"]["graceful_stop"] = json!("1s");
    let run = rest.start(&plan).await;
    await_load(&rest, &run, 200).await;
    cluster.postgres.kill().await;
    let began = Instant::now();
    await_some("the load goes on to its end", LIMIT, || async {
        (cluster.target.requests().await == 2_600).then_some(())
    })
    .await;
    // A master that stands by does not wait for the store either: the leader knows.
    let standby = cluster.masters[1 - leader].rest.clone();
    let known = tokio::time::timeout(STORE_PATIENCE, async {
        assert!(standby.live(&run).await["total_requests"].as_u64() > Some(200));
        let events = format!("{}/api/v1/test-runs/{run}/events", standby.base);
        assert_eq!(standby.http.get(events).send().await.unwrap().status(), 200);
    });
    known.await.expect("sooner than the store is given up");
    // The grace, and what the last numbers have besides.
    await_some("they would be late", LIMIT, || async {
        (began.elapsed() > Duration::from_secs(13 + 1 + 10)).then_some(())
    })
    .await;
    cluster.postgres.start_again().await;
    let metrics = rest.ended(&run, Duration::from_secs(60)).await;
    assert_exact(&metrics, 2_600, cluster.target.requests().await);
}

/// A master whose writes to files can be made to fail, as on a full disk.
struct LimitedMaster {
    process: Process,
    rest: Rest,
}

impl LimitedMaster {
    async fn start(etcd: &str, folder: &TempDir) -> Self {
        let store = format!("sqlite:{}", folder.path().join("volcanion.db").display());
        // A signal that is ignored stays so in the program that takes the shell's place: then the write fails instead.
        let shell = ["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_volcanion")];
        let own = ["master", "--listen", "127.0.0.1:0", "--etcd", etcd, "--store", &store];
        let process = Process::start("master", "sh", &[&shell[..], &own].concat());
        let log = process.await_log("REST listens").await;
        let address = log["address"].as_str().expect("the log line has the address").to_owned();
        Self { process, rest: Rest::new(format!("http://{address}")) }
    }

    /// From now on its files can be so long; `None`: as long as they like.
    fn limit_files(&self, most: Option<u64>) {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: most, maximum: None };
        prlimit(id, Resource::Fsize, limit).expect("a limit of our own child can be set");
    }

    async fn ready(&self) -> (u16, Value) {
        self.rest.get("/readyz").await
    }

    /// What is durable of a run.
    async fn stored(&self, run: &str) -> u64 {
        let (status, rows) = self.rest.get(&format!("/api/v1/test-runs/{run}/intervals")).await;
        assert_eq!(status, 200, "it still reads: {rows}");
        rows.as_array().unwrap().iter().map(|row| row["requests"].as_u64().unwrap()).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_pauses_what_is_kept_but_not_the_load_and_is_said() {
    let (etcd, folder, target) = (Etcd::start().await, TempDir::new().unwrap(), Target::start(&[]).await);
    let master = LimitedMaster::start(&etcd.url, &folder).await;
    let _agent = start_agent(&etcd.url, "agent-1", &["--cores", "1"]).await;
    await_some("the agent", LIMIT, || async {
        (master.rest.get("/api/v1/agents").await.1.as_array()?.len() == 1).then_some(())
    })
    .await;
    let run = master.rest.start(&plan(&target.url, 10)).await;
    await_load(&master.rest, &run, 200).await;
    assert_eq!(master.ready().await.0, 200);

    master.limit_files(Some(0));
    let said = await_some("readyz says it", LIMIT, || async {
        let (status, said) = master.ready().await;
        (status == 503).then_some(said)
    })
    .await;
    assert_eq!(said["error"], "store_unavailable", "{said}");
    let scraped = master.rest.text("/metrics").await;
    assert!(scraped.lines().any(|line| line == "volcanion_store_up 0"), "{scraped}");
    let stored = master.stored(&run).await;
    let live = await_load(&master.rest, &run, stored + 500).await;
    assert!(target.requests().await >= live, "the load goes on, and live numbers with it");
    assert_eq!(master.stored(&run).await, stored, "nothing more is durable");
    let warnings = master.rest.live(&run).await["warnings"].clone();
    assert!(warnings.as_array().unwrap().iter().any(|warning| warning["code"] == "store"), "{warnings}");
    let (status, refused) = master.rest.post("/api/v1/test-plans", &plan(&target.url, 1)).await;
    assert_eq!((status, &refused["error"]), (503, &json!("store_unavailable")), "{refused}");

    master.limit_files(None);
    await_some("readyz says that it is over", LIMIT, || async {
        (master.ready().await.0 == 200).then_some(())
    })
    .await;
    let metrics = master.rest.ended(&run, Duration::from_secs(60)).await;
    assert_exact(&metrics, 2_000, target.requests().await);
    let (_, rows) = master.rest.get(&format!("/api/v1/test-runs/{run}/intervals")).await;
    assert_eq!(master.stored(&run).await, 2_000, "{rows}");
}
