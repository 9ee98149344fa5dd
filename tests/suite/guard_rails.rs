//! Guard rails: what a cluster may load, and how much.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::await_some;
use crate::harness::cluster::{Target, start_agent, start_master_in};
use crate::harness::etcd::Etcd;
use crate::harness::process::{Process, volcanion};

const LIMIT: Duration = Duration::from_secs(30);

fn plan(url: &str, more: &Value) -> Value {
    let mut plan = json!({ "name": "p", "target_url": url, "users": 5, "duration_sec": 1 });
    plan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_refuses_what_passes_its_caps_and_says_what_would_do() {
    let (etcd, folder) = (Etcd::start().await, TempDir::new().unwrap());
    let flags = [
        "--max-rate",
        "100/s",
        "--max-vus",
        "50",
        "--max-duration",
        "1m",
        "--allow-target",
        "127.0.0.1:80,*.example.com:443",
    ];
    let (_master, rest) = start_master_in(&folder, &etcd, &flags).await;
    let refused = async |url: &str, more: Value, word: &str| {
        for path in ["/api/v1/test-plans", "/api/v1/test-plans/validate"] {
            let (status, problem) = rest.post(path, &plan(url, &more)).await;
            assert_eq!(status, 400, "{problem}");
            assert!(problem["errors"].to_string().contains(word), "{problem}");
        }
    };
    refused("http://127.0.0.1/", json!({ "target_rps": 101 }), "--max-rate").await;
    refused("http://127.0.0.1/", json!({ "users": 51 }), "--max-vus").await;
    refused("http://127.0.0.1/", json!({ "duration_sec": 61 }), "--max-duration").await;
    refused("http://169.254.169.254/", json!({}), "127.0.0.1:80, *.example.com:443").await;
    refused("http://2852039166/", json!({}), "--allow-target").await;
    refused("http://www.example.com:8080/", json!({}), "--allow-target").await;
    let (status, stored) =
        rest.post("/api/v1/test-plans", &plan("https://www.example.com/", &json!({}))).await;
    assert_eq!(status, 201, "{stored}");
    assert_eq!(
        rest.get("/api/v1/test-plans").await.1.as_array().unwrap().len(),
        1,
        "nothing else was stored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_cap_holds_for_plans_that_are_stored_already() {
    let (etcd, folder, target) = (Etcd::start().await, TempDir::new().unwrap(), Target::start(&[]).await);
    let _agent = start_agent(&etcd.url, "agent-1", &["--cores", "1"]).await;
    let (mut first, rest) = start_master_in(&folder, &etcd, &[]).await;
    let stored = rest.post("/api/v1/test-plans", &plan(&target.url, &json!({ "target_rps": 50 }))).await.1;
    first.stop().await;
    let (_second, rest) = start_master_in(&folder, &etcd, &["--max-rate", "49/s"]).await;
    let order = json!({ "plan_id": stored["id"] });
    let refusal = await_some("it leads", LIMIT, || async {
        let (status, answer) = rest.post("/api/v1/test-runs/start", &order).await;
        (status != 503).then_some((status, answer))
    })
    .await;
    assert_eq!(refusal.0, 400, "{}", refusal.1);
    assert!(refusal.1.to_string().contains("--max-rate"), "{}", refusal.1);
    assert_eq!(target.requests().await, 0);
}

/// A run of a plan on an agent with this list; its metrics, and the run.
async fn run_on(agent_flags: &[&str], url: &str, http: Value) -> (Value, Value) {
    run_by(&[], agent_flags, url, http).await
}

/// The same by a master with these flags.
async fn run_by(master_flags: &[&str], agent_flags: &[&str], url: &str, http: Value) -> (Value, Value) {
    let (etcd, folder) = (Etcd::start().await, TempDir::new().unwrap());
    let flags = [&["--cores", "1"], agent_flags].concat();
    let _agent = Process::volcanion(
        "agent-1",
        &[&["agent", "--metrics-listen", "127.0.0.1:0", "--etcd", &etcd.url, "--id", "agent-1"], &flags[..]]
            .concat(),
    );
    let (_master, rest) = start_master_in(&folder, &etcd, master_flags).await;
    await_some("the agent is there", LIMIT, || async {
        (rest.get("/readyz").await.0 == 200 && rest.get("/api/v1/agents").await.1.as_array()?.len() == 1)
            .then_some(())
    })
    .await;
    let document = json!({
        "name": "p", "target": url, "http": http,
        "scenarios": { "s": { "executor": "shared-iterations", "vus": 1, "iterations": 5, "max_duration": "10s",
                              "steps": [{ "name": "s", "get": "/" }] } }
    });
    let (status, stored) = rest.post("/api/v1/test-plans", &document).await;
    assert_eq!(status, 201, "{stored}");
    let (status, run) = rest.post("/api/v1/test-runs/start", &json!({ "plan_id": stored["id"] })).await;
    assert_eq!(status, 201, "{run}");
    let run = run["id"].as_str().unwrap();
    let metrics = rest.ended(run, LIMIT).await;
    (metrics, rest.get(&format!("/api/v1/test-runs/{run}")).await.1)
}

const LOCAL: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// The run did not begin, for a reason that says what the agent may load.
fn assert_refused(run: &Value, what: &str, list: &str) {
    assert_eq!(run["status"], "failed", "{run}");
    let message = run["message"].as_str().unwrap();
    assert!(message.contains(what) && message.contains(list), "{run}");
}

/// It did, and was blocked at each connection.
fn assert_blocked(metrics: &Value, list: &str) {
    assert!(metrics["errors"].to_string().contains("blocked"), "{metrics}");
    let warnings = metrics["warnings"].as_array().unwrap();
    let blocked = warnings.iter().find(|warning| warning["code"] == "blocked");
    let message = blocked.unwrap_or_else(|| panic!("{metrics}"))["message"].as_str().unwrap();
    assert!(message.contains(list), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_connects_to_what_its_list_names_only() {
    let target = Target::start(&[]).await;
    let port = target.url.rsplit(':').next().unwrap().to_owned();
    let only = |rule: &'static str| [&LOCAL[..], &["--allow-target", rule]].concat();
    let (_, run) = run_on(&only("192.0.2.0/24"), &target.url, json!({})).await;
    assert_refused(&run, &format!("127.0.0.1:{port}"), "192.0.2.0/24");
    // A name is judged by what it turns out to be, when it is connected to.
    let named = format!("http://localhost:{port}");
    let (metrics, _) = run_on(&only("192.0.2.0/24"), &named, json!({})).await;
    assert_eq!(metrics["success_requests"], 0, "{metrics}");
    assert_blocked(&metrics, "192.0.2.0/24");
    assert_eq!(target.requests().await, 0, "nothing reached it");
    let listed = format!("127.0.0.1:{port}");
    let (metrics, _) =
        run_on(&[&LOCAL[..], &["--allow-target", &listed]].concat(), &target.url, json!({})).await;
    assert_eq!(metrics["success_requests"], 5, "{metrics}");
    assert_eq!(target.requests().await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_refuses_a_plan_for_a_metadata_address_whatever_the_master_thinks_of_it() {
    let trusting = ["--allow-target", "169.254.169.254,shop.example"];
    let everything = "everything but link-local and metadata addresses";
    let (_, run) = run_by(&trusting, &LOCAL, "http://0xa9fea9fe/", json!({})).await;
    assert_refused(&run, "169.254.169.254:80", everything);
    let given = json!({ "dns": { "resolve": ["shop.example:80:169.254.169.254"] } });
    let (_, run) = run_by(&trusting, &LOCAL, "http://shop.example/", given).await;
    assert_refused(&run, "shop.example:80`, which is 169.254.169.254", everything);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_metadata_address_is_not_followed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                    let answer = "HTTP/1.1 302 Found\r\nlocation: http://0xa9fea9fe/latest/meta-data\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let broad = [&LOCAL[..], &["--allow-target", "0.0.0.0/0,[::/0]"]].concat();
    let (metrics, _) = run_on(&broad, &url, json!({ "redirects": 3 })).await;
    assert_blocked(&metrics, "0.0.0.0/0, [::/0]");
    let (metrics, _) = run_on(&LOCAL, &url, json!({ "redirects": 3 })).await;
    assert_blocked(&metrics, "everything but link-local and metadata addresses");
    assert_eq!(metrics["success_requests"], 5, "the redirecting answers themselves: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_rule_is_refused_with_what_would_be_one() {
    let said = volcanion(&["master", "--etcd", "http://127.0.0.1:1", "--allow-target", "http://x/"]).await;
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("*.domain"), "{}", said.stderr);
}
