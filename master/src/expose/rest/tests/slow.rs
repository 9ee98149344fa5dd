//! Clients that take their time: they are cut off, and hold nobody up.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{RestOptions, TimeLimits};
use super::{Api, LOOPBACK};
use crate::expose::serve::serve;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

/// A connection to a master with such limits; the master goes with the first of the pair.
async fn connect(head: Duration, body: Duration) -> (Api, TcpStream) {
    let limits = TimeLimits { head, body };
    let api = Api::with_options(LOOPBACK, None, RestOptions { limits, ..RestOptions::default() }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, None, api.router.clone(), limits, api.stop()));
    (api, TcpStream::connect(address).await.unwrap())
}

/// All that comes until the connection ends, however it does, and how long that took.
async fn rest_of(stream: &mut TcpStream) -> (String, Duration) {
    let (mut answer, began) = (Vec::new(), Instant::now());
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    let _ = ended.expect("the connection ends");
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_cut_off() {
    for begun in ["", "PRI * HT", "GET /livez HT", "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: "] {
        let (_api, mut stream) = connect(SHORT, LONG).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let (answer, after) = rest_of(&mut stream).await;
        assert!(!answer.contains(" 200 "), "{answer}");
        assert!(after >= SHORT / 2, "{begun:?} had {after:?}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_to_its_end_is_told_and_cut_off() {
    let (_api, mut stream) = connect(LONG, SHORT).await;
    let head = "POST /api/v1/test-plans HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (answer, after) = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("it did not arrive within 0.3 s"), "{answer}");
    assert!(after >= SHORT / 2, "{after:?}");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_with_its_own_status() {
    let (_api, mut stream) = connect(LONG, LONG).await;
    let head = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx-long: {}", "x".repeat(65 << 10));
    // The answer may come, and the connection end, before all of it is written.
    let _ = stream.write_all(head.as_bytes()).await;
    let (answer, _) = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
