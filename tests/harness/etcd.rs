//! A real etcd with a folder of its own, that can be killed and started again.

use super::rest::http;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::await_some;
use super::process::Process;
use super::tools::free_port;

/// A running etcd.
pub struct Etcd {
    pub url: String,
    peer_url: String,
    process: Process,
    data: TempDir,
}

impl Etcd {
    /// Starts one and awaits its health.
    pub async fn start() -> Self {
        let data = TempDir::new().expect("a temporary folder can be made");
        let (client, peer) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let process = serve(&url, &peer_url, &data);
        let etcd = Self { url, peer_url, process, data };
        etcd.await_health().await;
        etcd
    }

    /// Where it keeps what it knows.
    pub fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it anew with what it knew, where it was, after it was killed.
    pub async fn start_again(&mut self) {
        self.process = serve(&self.url, &self.peer_url, &self.data);
        self.await_health().await;
    }

    /// Starts one that knows nothing where it was, after it was killed: as one that was lost with its disk, and is built anew.
    pub async fn start_empty(&mut self) {
        self.data = TempDir::new().expect("a temporary folder can be made");
        self.start_again().await;
    }

    /// Whether a master leads there, by the key that its lease keeps.
    pub async fn has_leader(&self) -> bool {
        // `/volcanion/leader`, as etcd's JSON wants it.
        let asked = http()
            .post(format!("{}/v3/kv/range", self.url))
            .json(&json!({ "key": "L3ZvbGNhbmlvbi9sZWFkZXI=" }));
        let answer: Value = asked.send().await.expect("etcd answers").json().await.expect("it answers JSON");
        answer["kvs"].as_array().is_some_and(|found| !found.is_empty())
    }

    async fn await_health(&self) {
        let health = format!("{}/health", self.url);
        await_some("etcd is healthy", Duration::from_secs(30), || async {
            http().get(&health).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }
}

fn serve(url: &str, peer_url: &str, data: &TempDir) -> Process {
    Process::start(
        "etcd",
        "etcd",
        &[
            "--data-dir",
            &data.path().display().to_string(),
            "--listen-client-urls",
            url,
            "--advertise-client-urls",
            url,
            "--listen-peer-urls",
            peer_url,
            "--initial-advertise-peer-urls",
            peer_url,
            "--initial-cluster",
            &format!("default={peer_url}"),
            "--unsafe-no-fsync",
        ],
    )
}
