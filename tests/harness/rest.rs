//! REST as a script would speak it.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use super::await_some;

/// The one HTTP client of all tests; made with the TLS provider in its place.
pub fn http() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        rustls::crypto::ring::default_provider().install_default().expect("nobody else installs a provider");
        // Each call on a connection of its own: a master that was killed leaves none behind that looks alive.
        reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client can be made")
    })
}

/// A master's REST.
#[derive(Clone)]
pub struct Rest {
    pub base: String,
    pub http: reqwest::Client,
}

impl Rest {
    pub fn new(base: String) -> Self {
        Self { base, http: http().clone() }
    }

    /// One that shows a key.
    pub fn with_key(base: String, key: &str) -> Self {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("x-api-key", key.parse().expect("a key can stand in a header"));
        // With the TLS provider in its place, and a connection a call, as the common one.
        let _ = http();
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).default_headers(headers).build();
        Self { base, http: client.expect("a client can be made") }
    }

    /// GET; any status.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await.expect("the master answers");
        read(answer).await
    }

    /// GET of text; it must be there.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await.expect("the master answers");
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.expect("it is text")
    }

    /// POST of JSON; any status.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self
            .http
            .post(format!("{}{path}", self.base))
            .json(body)
            .send()
            .await
            .expect("the master answers");
        read(answer).await
    }

    /// PATCH with JSON; any status.
    pub async fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.base);
        let answer = self.http.patch(url).json(body).send().await.expect("the master answers");
        read(answer).await
    }

    /// POST of nothing.
    pub async fn post_nothing(&self, path: &str) -> (u16, Value) {
        let answer = self.http.post(format!("{}{path}", self.base)).send().await.expect("the master answers");
        read(answer).await
    }

    /// Stores a plan and starts it; the run's id.
    pub async fn start(&self, plan: &Value) -> String {
        let (status, stored) = self.post("/api/v1/test-plans", plan).await;
        assert_eq!(status, 201, "{stored}");
        let (status, run) = self.post("/api/v1/test-runs/start", &json!({ "plan_id": stored["id"] })).await;
        assert_eq!(status, 201, "{run}");
        run["id"].as_str().expect("a run has an id").to_owned()
    }

    /// The run's live metrics.
    pub async fn live(&self, run: &str) -> Value {
        let (status, metrics) = self.get(&format!("/api/v1/test-runs/{run}/live")).await;
        assert_eq!(status, 200, "{metrics}");
        metrics
    }

    /// Awaits a run's end and gives its final metrics.
    pub async fn ended(&self, run: &str, limit: Duration) -> Value {
        await_some("the run ends", limit, || async {
            let (_, view) = self.get(&format!("/api/v1/test-runs/{run}")).await;
            matches!(view["status"].as_str(), Some("completed" | "cancelled" | "failed")).then_some(())
        })
        .await;
        self.get(&format!("/api/v1/test-runs/{run}/metrics")).await.1
    }

    /// Runs a plan to its end; its final metrics.
    pub async fn run(&self, plan: &Value) -> Value {
        let run = self.start(plan).await;
        self.ended(&run, Duration::from_secs(90)).await
    }
}

async fn read(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, value)
}
