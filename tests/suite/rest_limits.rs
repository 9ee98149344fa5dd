//! Limits of REST: how often a client may ask, and how long it may take to.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::cluster::{admin_key_file, start_master_in};
use crate::harness::etcd::Etcd;
use crate::harness::rest::http;

const ADMIN: &str = "the-first-admins-key";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_too_often_is_told_when_to_ask_again_and_others_are_not_held_up() {
    let (etcd, folder) = (Etcd::start().await, TempDir::new().unwrap());
    let flags = ["--admin-key-file", &admin_key_file(&folder, ADMIN), "--rate-limit", "10/s"];
    let (_master, rest) = start_master_in(&folder, &etcd, &flags).await;
    let base = &rest.base;
    let ask = async |key: &str| {
        http().get(format!("{base}/api/v1/agents")).header("x-api-key", key).send().await.unwrap()
    };
    let first = ask(ADMIN).await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["ratelimit-policy"], "\"client\";q=20;w=2");
    let mut refused = None;
    for _ in 0..200 {
        let answer = ask(ADMIN).await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("20 at once and 10 a second are fewer than this loop asks for");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert!(refused.headers()["ratelimit"].to_str().unwrap().contains("r=0"));
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["error"], "rate_limited", "{problem}");
    // Another client, and probes, have nothing to do with that.
    let probed = http().get(format!("{base}/livez")).send().await.unwrap();
    assert_eq!(probed.status(), 200);
    assert_eq!(ask("vk_unknown").await.status(), 401);
    let mut statuses = Vec::new();
    for _ in 0..200 {
        statuses.push(ask("volcanion-guess").await.status().as_u16());
        if statuses.last() == Some(&429) {
            break;
        }
    }
    assert_eq!(statuses.last(), Some(&429), "guessing is slowed down: {statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_long_is_refused() {
    let (etcd, folder) = (Etcd::start().await, TempDir::new().unwrap());
    let (_master, rest) = start_master_in(&folder, &etcd, &[]).await;
    let mut stream = TcpStream::connect(rest.base.trim_start_matches("http://")).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(200 << 10));
    // The answer may come, and the connection end, before all of it is written.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .expect("it ends");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
