//! A real etcd with a folder of its own.

use super::rest::http;
use std::time::Duration;

use tempfile::TempDir;

use super::await_some;
use super::process::Process;
use super::tools::free_port;

/// A running etcd.
pub struct Etcd {
    pub url: String,
    _process: Process,
    _data: TempDir,
}

impl Etcd {
    /// Starts one and awaits its health.
    pub async fn start() -> Self {
        let data = TempDir::new().expect("a temporary folder can be made");
        let (client, peer) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let process = Process::start(
            "etcd",
            "etcd",
            &[
                "--data-dir",
                &data.path().display().to_string(),
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
                "--initial-cluster",
                &format!("default={peer_url}"),
                "--unsafe-no-fsync",
            ],
        );
        let health = format!("{url}/health");
        await_some("etcd is healthy", Duration::from_secs(30), || async {
            http().get(&health).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        Self { url, _process: process, _data: data }
    }
}
