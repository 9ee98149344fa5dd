//! A real Prometheus that scrapes what it is told, and promtool.

use super::rest::http;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::await_some;
use super::process::Process;
use super::tools::free_port;

/// A running Prometheus.
pub struct Prometheus {
    url: String,
    /// Where it is a process of this machine.
    _process: Option<(Process, TempDir)>,
}

impl Prometheus {
    /// Starts one that scrapes these `HOST:PORT`s each second.
    pub async fn start(targets: &[String]) -> Self {
        let prometheus = Self::start_with(targets, &[]);
        let up = targets.len() as f64;
        await_some("Prometheus scrapes", Duration::from_secs(40), || async {
            (prometheus.query("sum(up)").await == Some(up)).then_some(())
        })
        .await;
        prometheus
    }

    /// Starts one that scrapes nothing, and takes what is written to it.
    pub async fn start_receiving() -> Self {
        let prometheus = Self::start_with(&[], &["--web.enable-remote-write-receiver"]);
        await_some("Prometheus answers", Duration::from_secs(40), || prometheus.query("vector(1)")).await;
        prometheus
    }

    /// Where it takes what is written.
    pub fn write_url(&self) -> String {
        format!("{}/api/v1/write", self.url)
    }

    fn start_with(targets: &[String], flags: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let config = folder.path().join("prometheus.yml");
        let text = serde_json::json!({
            "global": { "scrape_interval": "1s" },
            "scrape_configs": [{ "job_name": "volcanion", "static_configs": [{ "targets": targets }] }],
        });
        std::fs::write(&config, text.to_string()).expect("the folder can be written");
        let address = format!("127.0.0.1:{}", free_port());
        let own = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let words: Vec<&str> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let process = Process::start("prometheus", "prometheus", &words);
        Self { url: format!("http://{address}"), _process: Some((process, folder)) }
    }

    /// One that runs somewhere else.
    pub fn at(url: String) -> Self {
        Self { url, _process: None }
    }

    /// Its rules, each with how its last evaluation went.
    pub async fn rules(&self) -> Option<Vec<(String, String)>> {
        let answer: Value =
            http().get(format!("{}/api/v1/rules", self.url)).send().await.ok()?.json().await.ok()?;
        let groups = answer["data"]["groups"].as_array()?.iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules
            .map(|rule| Some((rule["name"].as_str()?.to_owned(), rule["health"].as_str()?.to_owned())))
            .collect()
    }

    /// The one value of an instant query; nothing where there is none.
    pub async fn query(&self, query: &str) -> Option<f64> {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", query)])
            .ok()?;
        let answer: Value = http().get(url).send().await.ok()?.json().await.ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

/// `promtool check metrics` over a text; what it complains of.
pub async fn promtool_complaints(metrics: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there; `make deps` installs it");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(metrics.as_bytes()).await.expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("promtool ends");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() { text } else { format!("exit {:?}: {text}", output.status.code()) }
}
