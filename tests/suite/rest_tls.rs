//! REST over TLS: certificates that change, and masters that speak it among themselves.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::await_some;
use crate::harness::certificates::Authority;
use crate::harness::etcd::Etcd;
use crate::harness::postgres::Postgres;
use crate::harness::process::{Process, volcanion};
use crate::harness::rest::http;

const LIMIT: Duration = Duration::from_secs(30);

async fn master(etcd: &Etcd, store: &str, name: &str, flags: &[&str]) -> (Process, String) {
    let fixed = ["master", "--listen", "127.0.0.1:0", "--etcd", &etcd.url, "--store", store];
    let process = Process::volcanion(name, &[&fixed, flags].concat());
    let log = process.await_log("REST listens").await;
    (process, format!("https://{}", log["address"].as_str().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_speak_tls_and_a_new_certificate_needs_no_restart() {
    let (etcd, folder) = (Etcd::start().await, TempDir::new().unwrap());
    let (old, new) = (Authority::new(), Authority::new());
    let issue = |authority: &Authority| authority.issue(folder.path(), "rest", &["localhost", "127.0.0.1"]);
    let (cert, key) = issue(&old);
    let [old_ca, new_ca] = [old.write(folder.path(), "old"), new.write(folder.path(), "new")]
        .map(|path| path.display().to_string());
    let store = format!("sqlite:{}", folder.path().join("volcanion.db").display());
    let flags = ["--tls-cert", &cert.display().to_string(), "--tls-key", &key.display().to_string()];
    let (process, url) = master(&etcd, &store, "master", &flags).await;
    let agents =
        async |ca: &str| volcanion(&["agents", "--json", "--master", &url, "--master-ca", ca]).await.code;
    await_some("the old authority's", LIMIT, || async { (agents(&old_ca).await == 0).then_some(()) }).await;
    assert_eq!(agents(&new_ca).await, 3, "another authority's is not believed");
    assert_eq!(volcanion(&["health", &format!("{url}/livez"), "--ca", &old_ca]).await.code, 0);
    assert_eq!(volcanion(&["health", &format!("{url}/livez")]).await.code, 3);
    assert!(
        http().get(url.replace("https", "http") + "/livez").send().await.is_err(),
        "nothing is said in the clear"
    );
    issue(&new);
    process
        .await_line("the new one is used", |line| line.contains("certificates have changed").then_some(()))
        .await;
    await_some("the new authority's", LIMIT, || async { (agents(&new_ca).await == 0).then_some(()) }).await;
    assert_eq!(agents(&old_ca).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_stands_by_sends_writes_on_over_tls_and_says_whose_they_are() {
    let (etcd, postgres, folder) = (Etcd::start().await, Postgres::start().await, TempDir::new().unwrap());
    let authority = Authority::new();
    let ca = authority.write(folder.path(), "rest").display().to_string();
    let (cert, key) = authority.issue(folder.path(), "rest", &["volcanion-master", "localhost"]);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &ca];
    let (_first, one) = master(&etcd, &postgres.url, "first", &flags).await;
    let (_second, two) = master(&etcd, &postgres.url, "second", &flags).await;
    let trusted = reqwest::Certificate::from_pem(&std::fs::read(&ca).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
    // The certificate has no address in it.
    let [one, two] = [one, two].map(|url| url.replace("127.0.0.1", "localhost"));
    let plan = json!({ "name": "p", "target_url": "http://127.0.0.1:1/", "users": 1, "duration_sec": 1 });
    for (number, url) in [&one, &two].into_iter().enumerate() {
        await_some("a write is taken", LIMIT, || async {
            let answer = client.post(format!("{url}/api/v1/test-plans")).json(&plan).send().await.ok()?;
            (answer.status() == 201).then_some(())
        })
        .await;
        let answer = client.get(format!("{url}/api/v1/test-plans")).send().await.unwrap();
        let plans: Vec<Value> = answer.json().await.unwrap();
        assert_eq!(plans.len(), number + 1);
    }
    let answer = client.get(format!("{one}/api/v1/audit-logs")).send().await.unwrap();
    let changes: Vec<Value> = answer.json().await.unwrap();
    assert_eq!(changes.len(), 2, "each once: {changes:?}");
    assert!(changes.iter().all(|change| change["from"] == "127.0.0.1"), "{changes:?}");
}
