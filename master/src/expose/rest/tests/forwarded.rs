//! Two masters on real ports, one of which stands by: whichever is asked, the answer is the same.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use volcanion_common::registry::Registry;
use volcanion_common::registry::local::LocalRegistry;
use volcanion_common::session::seal::ClusterKey;

use super::simple_plan;
use crate::Master;
use crate::config::Config;
use crate::run::tests::members_named;
use crate::store::StoreUrl;

const LIMIT: Duration = Duration::from_secs(20);

struct Pair {
    first: Master,
    second: Master,
    first_url: String,
    second_url: String,
    http: reqwest::Client,
    stop_first: CancellationToken,
    _stop: DropGuard,
    _folder: TempDir,
}

/// What an answer said.
struct Said {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Pair {
    /// The first leads. One agent is registered that never answers.
    async fn start() -> Self {
        // Whoever was first has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        let registry = Arc::new(LocalRegistry::new());
        for member in members_named(&["a"]).into_values() {
            // It stays for as long as the test: a membership that is dropped goes.
            std::mem::forget(registry.join(member).await.unwrap());
        }
        let (stop, stop_first) = (CancellationToken::new(), CancellationToken::new());
        let start = |stop: CancellationToken| {
            let config = Config {
                listen: "127.0.0.1:0".parse().ok(),
                store: StoreUrl::SqliteFile(folder.path().join("store.db")),
                stop_runs_on_exit: false,
                ..Config::embedded(ClusterKey::random())
            };
            crate::start(config, Arc::clone(&registry) as _, stop)
        };
        let first = start(stop_first.clone()).await.unwrap();
        let second = start(stop.clone()).await.unwrap();
        let url = |master: &Master| format!("http://{}", master.rest_address().unwrap());
        Self {
            first_url: url(&first),
            second_url: url(&second),
            first,
            second,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            stop_first,
            _stop: stop.drop_guard(),
            _folder: folder,
        }
    }

    async fn say(&self, request: reqwest::RequestBuilder) -> Said {
        let answer = request.timeout(LIMIT).send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        Said { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    async fn get(&self, url: &str) -> Said {
        self.say(self.http.get(url)).await
    }

    async fn post(&self, url: &str, body: &Value) -> Said {
        self.say(self.http.post(url).json(body)).await
    }

    /// Stores and starts a plan by the one that stands by.
    async fn run_by_second(&self) -> String {
        let plan = self.post(&format!("{}/api/v1/test-plans", self.second_url), &simple_plan("p")).await;
        assert_eq!(plan.status, 201, "{}", plan.body);
        let id = json!({ "plan_id": plan.body["id"] });
        let run = self.post(&format!("{}/api/v1/test-runs/start", self.second_url), &id).await;
        assert_eq!(run.status, 201, "{}", run.body);
        run.body["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_reach_the_leader_with_all_that_they_say() {
    let pair = Pair::start().await;
    let (first, second) = (&pair.first_url, &pair.second_url);
    let asked = pair.http.post(format!("{second}/api/test-plans")).json(&simple_plan("p"));
    let made = pair.say(asked.header("x-request-id", "mine")).await;
    assert_eq!((made.status, &made.headers["x-request-id"]), (201, &"mine".parse().unwrap()));
    let path = made.headers["location"].to_str().unwrap();
    for url in [first, second] {
        assert_eq!(pair.get(&format!("{url}{path}")).await.body, made.body);
    }
    let wrong = pair.post(&format!("{second}/api/test-plans"), &json!({ "name": "x" })).await;
    assert_eq!((wrong.status, &wrong.body["error"]), (400, &json!("validation_error")));
    assert!(wrong.body["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{}", wrong.body);

    let start = |key: &str| {
        let request =
            pair.http.post(format!("{second}/api/v1/test-runs/start")).header("idempotency-key", key);
        pair.say(request.json(&json!({ "plan_id": made.body["id"] })))
    };
    let run = start("one").await;
    assert_eq!((run.status, &start("one").await.body["id"]), (201, &run.body["id"]), "the key came along");
    assert_ne!(start("two").await.body["id"], run.body["id"]);
    let gone = pair.say(pair.http.delete(format!("{second}{path}"))).await;
    assert_eq!((gone.status, pair.get(&format!("{first}{path}")).await.status), (204, 404));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_a_going_run_is_the_leaders_word_as_long_as_that_is_reached() {
    let pair = Pair::start().await;
    let (first, second) = (&pair.first_url, &pair.second_url);
    let run = pair.run_by_second().await;
    let path = format!("/api/v1/test-runs/{run}");
    assert_eq!(pair.get(&format!("{second}{path}")).await.body["status"], "preparing");
    let live = pair.get(&format!("{second}{path}/live")).await;
    assert_eq!((live.status, &live.body["run_id"]), (200, &json!(run)));
    assert_eq!(
        pair.get(&format!("{second}/api/agents")).await.body[0]["load"],
        1,
        "only the leader knows that"
    );

    let events = pair.http.get(format!("{second}{path}/events")).send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let stopped = pair.say(pair.http.post(format!("{second}{path}/stop"))).await;
    assert_eq!((stopped.status, &stopped.body["status"]), (200, &json!("cancelled")), "{}", stopped.body);
    let mut stream = events.bytes_stream();
    let reading = async {
        let mut text = String::new();
        while let Some(Ok(bytes)) = stream.next().await {
            text += &String::from_utf8_lossy(&bytes);
        }
        text
    };
    let text = tokio::time::timeout(LIMIT, reading).await.expect("the stream ends after `end`");
    assert!(text.contains("event: end\nid: "), "{text}");
    let last: u64 = text.rsplit("id: ").next().unwrap().lines().next().unwrap().parse().unwrap();
    assert_eq!(last, text.matches("event: ").count() as u64, "they are the leader's own ids");
    for url in [first, second] {
        let metrics = pair.get(&format!("{url}{path}/metrics")).await.body;
        assert_eq!(metrics["status"], "cancelled", "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_ready_while_its_leader_is_and_shows_no_runs_to_prometheus() {
    let pair = Pair::start().await;
    let (first, second) = (&pair.first_url, &pair.second_url);
    let health = async |url: &str| pair.get(&format!("{url}/health")).await;
    assert_eq!((health(first).await.body["role"].clone(), pair.second.runs().going()), (json!("leader"), 0));
    let standby = health(second).await.body;
    assert_eq!(
        (&standby["role"], &standby["leader"], &standby["ready"]),
        (&json!("standby"), &json!(first), &json!(true))
    );
    pair.run_by_second().await;
    for (url, leads) in [(first, true), (second, false)] {
        assert_eq!(pair.get(&format!("{url}/readyz")).await.status, 200);
        assert_eq!(pair.get(&format!("{url}/livez")).await.status, 200);
        let scraped = pair.get(&format!("{url}/metrics")).await.body;
        let text = scraped.as_str().unwrap();
        assert_eq!(text.contains("stress_test_active_tests 1\n"), leads, "{text}");
        assert!(text.contains(&format!("volcanion_leader {}\n", u8::from(leads))), "{text}");
        // What is its own each of them shows.
        for own in [
            "volcanion_cpu_seconds_total ",
            "volcanion_store_call_failures_total{",
            "volcanion_rest_requests_total{",
            "volcanion_registry_connected 1\n",
            "volcanion_queue_bound{queue=\"audit\"} 1024\n",
        ] {
            assert!(text.contains(own), "{own} is not in {text}");
        }
        for of_runs in ["run_id=", "volcanion_run_validity{", "queue=\"run_inbox\""] {
            assert_eq!(text.contains(of_runs), leads, "{of_runs}: {text}");
        }
    }

    // What one master sent on, no other sends on again.
    let looped = pair.http.post(format!("{second}/api/test-plans")).json(&simple_plan("p"));
    let refused = pair.say(looped.header("x-volcanion-forwarded", "1")).await;
    assert_eq!((refused.status, &refused.body["error"]), (503, &json!("no_leader")));
    assert_eq!(refused.headers["retry-after"], "1");
    let probed = pair.http.get(format!("{second}/readyz")).header("x-volcanion-forwarded", "1");
    assert_eq!(pair.say(probed).await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_ends_the_standby_leads_and_has_its_runs() {
    let pair = Pair::start().await;
    let run = pair.run_by_second().await;
    pair.stop_first.cancel();
    tokio::time::timeout(LIMIT, pair.first.stopped()).await.unwrap();
    let waiting = async {
        while pair
            .http
            .get(format!("{}/health", pair.second_url))
            .send()
            .await
            .unwrap()
            .json::<Value>()
            .await
            .unwrap()["role"]
            != "leader"
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("it leads");
    let plan = pair.http.post(format!("{}/api/test-plans", pair.second_url)).json(&simple_plan("q"));
    let waiting = async {
        while plan.try_clone().unwrap().send().await.unwrap().status() != 201 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("it takes writes");
    let url = format!("{}/api/v1/test-runs/{run}/events", pair.second_url);
    let events = pair.http.get(url).header("last-event-id", "1").timeout(LIMIT).send().await.unwrap();
    let text = events.text().await.unwrap();
    assert!(text.contains("event: end\nid: 2000000"), "{text}");
}
