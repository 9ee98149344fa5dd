//! Bad input gets a 4xx that says what is wrong; nothing is sent, nothing dies.

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;

fn good(url: &str) -> Value {
    json!({
        "name": "good", "target": url, "timeout": "2s", "headers": { "accept": "*/*" },
        "scenarios": { "s": { "executor": "ramping-arrival-rate", "start_rate": "1/s", "stages": [{ "duration": "1s", "target": "5/s" }], "max_vus": 3, "steps": [{ "name": "a", "get": "/a" }, { "think": "1s..2s" }] } },
        "thresholds": ["p(95) < 300ms"],
    })
}

/// A fixed sequence of numbers: xorshift64* (Vigna 2016).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// Damages a document's text: cuts, repeats or replaces a part of it.
fn damage(text: &str, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let pieces: [&[u8]; 12] = [
        b"\"",
        b"{",
        b"}",
        b"null",
        b"-1",
        b"1e999",
        b"\\u0000",
        b"\xff\xfe",
        b"[[[[",
        b"true",
        b"{{x",
        b"99999999999999999999",
    ];
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len());
        let to = (at + chance.below(12)).min(bytes.len());
        let piece = pieces[chance.below(pieces.len())];
        bytes.splice(at..to, piece.iter().copied());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_plans_deep_json_and_huge_bodies_are_refused_and_nothing_dies() {
    let mut cluster = Cluster::start(1).await;
    let url = format!("{}/api/v1/test-plans", cluster.rest.base);
    let post = |body: Vec<u8>| {
        let request = cluster.rest.http.post(&url).header("content-type", "application/json").body(body);
        async move { request.send().await }
    };
    let mut chance = Chance(0x5eed);
    let text = good(&cluster.target.url).to_string();
    let (mut refused, mut tried) = (0, 0);
    while refused < 300 {
        tried += 1;
        assert!(tried < 1_000, "most damaged plans are refused; {refused} of {tried} were");
        let answer = post(damage(&text, &mut chance)).await.expect("the master answers");
        let status = answer.status().as_u16();
        if status == 201 {
            continue;
        }
        assert!((400..500).contains(&status), "{status}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.expect("it is problem details");
        assert!(!problem["detail"].as_str().unwrap_or_default().is_empty());
        refused += 1;
    }

    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert_eq!(post(deep).await.expect("the master answers").status(), 400);

    // The master may end the connection before it has read 60 MB; both are refusals.
    let huge = vec![b'x'; 60 * 1024 * 1024];
    if let Ok(answer) = post(huge).await {
        assert_eq!(answer.status(), 413);
    }

    let (_, several) = cluster.rest.post("/api/v1/test-plans", &json!({
        "name": "", "target": "ftp://x", "scenarois": {},
        "scenarios": { "s": { "executor": "constant-vus", "vus": 0, "duration": "5 parsecs", "steps": [] } },
    })).await;
    let fields: Vec<&str> = several["errors"]
        .as_array()
        .expect("all problems")
        .iter()
        .filter_map(|e| e["field"].as_str())
        .collect();
    for field in ["name", "scenarios.s.vus", "scenarios.s.duration"] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    let unknown = several["errors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["field"] == "scenarois")
        .expect("unknown fields are named");
    assert!(unknown["message"].as_str().unwrap().contains("scenarios"), "{unknown}");

    assert_eq!(cluster.target.requests().await, 0, "nothing was sent");
    let (status, _) = cluster.rest.get("/livez").await;
    assert_eq!(status, 200);
    assert!(cluster.agents[0].process.stop().await.success());
    assert!(cluster.master.stop().await.success());
    let panics: Vec<String> =
        cluster.master.lines().into_iter().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:?}");
}
