//! Keys from the command line: who may do what, and a master that refuses to let everybody in.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::cluster::{Target, admin_key_file, start_agent, start_master_in};
use crate::harness::etcd::Etcd;
use crate::harness::process::{Process, volcanion};
use crate::harness::rest::http;

const ADMIN: &str = "the-first-admins-key";

async fn master(etcd: &Etcd, folder: &TempDir) -> (Process, String) {
    let (master, rest) =
        start_master_in(folder, etcd, &["--admin-key-file", &admin_key_file(folder, ADMIN)]).await;
    (master, rest.base)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_makes_keys_and_each_does_what_its_role_may() {
    let (etcd, folder, target) = (Etcd::start().await, TempDir::new().unwrap(), Target::start(&[]).await);
    let (process, url) = master(&etcd, &folder).await;
    let _agent = start_agent(&etcd.url, "agent-1", &["--cores", "1"]).await;
    let with = async |key: &str, words: &[&str]| {
        volcanion(&[words, &["--master", &url, "--api-key", key]].concat()).await
    };
    let make = async |role: &str| {
        let made = with(ADMIN, &["keys", "create", "--role", role, "--name", role, "--expires", "1h"]).await;
        assert_eq!(made.code, 0, "{}", made.stderr);
        made.stdout.trim().to_owned()
    };
    let (viewer, operator) = (make("viewer").await, make("operator").await);

    let nobody = volcanion(&["agents", "--master", &url]).await;
    assert_eq!(nobody.code, 3, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("X-API-Key"), "{}", nobody.stderr);
    assert_eq!(with(&viewer, &["agents"]).await.code, 0);
    let load = ["run", &target.url, "-n", "20", "--json"];
    let refused = with(&viewer, &load).await;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("operator"), "{}", refused.stderr);
    let done = with(&operator, &load).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let result: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((result["total_requests"].as_u64(), target.requests().await), (Some(20), 20));

    let list = with(ADMIN, &["keys", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&list.stdout).unwrap();
    let of = |role: &str| listed.as_array().unwrap().iter().find(|key| key["role"] == role).unwrap().clone();
    assert!(of("operator")["last_used_at"].is_string(), "{listed}");
    let id = of("operator")["id"].as_str().unwrap().to_owned();
    assert_eq!(with(ADMIN, &["keys", "revoke", &id]).await.code, 0);
    let revoked = with(&operator, &["agents"]).await;
    assert!(revoked.code != 0 && revoked.stderr.contains("revoked"), "{}", revoked.stderr);

    for secret in [ADMIN, &viewer, &operator] {
        assert!(!process.lines().iter().any(|line| line.contains(secret)), "a key is in the log");
    }
    let stored = fs::read(folder.path().join("volcanion.db")).unwrap();
    let log = fs::read(folder.path().join("volcanion.db-wal")).unwrap_or_default();
    for bytes in [stored, log] {
        let holds = |secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!holds(&viewer) && !holds(&operator) && !holds(ADMIN), "a key is in the store");
    }
    assert_eq!(http().get(format!("{url}/livez")).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_a_master_listens_with_keys_only_and_says_so() {
    let folder = TempDir::new().unwrap();
    let store = format!("sqlite:{}", folder.path().join("volcanion.db").display());
    let base = ["master", "--etcd", "http://127.0.0.1:9", "--store", &store, "--listen", "0.0.0.0:0"];
    let refused = volcanion(&base).await;
    assert_ne!(refused.code, 0);
    for word in ["0.0.0.0:0", "--admin-key-file", "--allow-unauthenticated"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    let key = folder.path().join("admin");
    for (text, told) in [("tiny", "too short"), ("two words that are long", "visible ASCII")] {
        fs::write(&key, text).unwrap();
        let path = key.display().to_string();
        let wrong = volcanion(&[&base[..], &["--admin-key-file", &path]].concat()).await;
        assert_eq!(wrong.code, 2, "{}", wrong.stderr);
        assert!(wrong.stderr.contains(told) && !wrong.stderr.contains(text), "{}", wrong.stderr);
    }
}
