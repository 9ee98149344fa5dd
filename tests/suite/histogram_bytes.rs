//! The bytes of a run's histograms are HdrHistogram's: another implementation reads the same percentiles from them.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use volcanion_common::delta::Delta;
use volcanion_common::series::Distribution;

use crate::harness::cluster::Cluster;
use crate::harness::tools::python;

/// Reads the deltas that a master keeps, from its database.
const READ_PARTS: &str = r"
import json, sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute('SELECT body FROM parts ORDER BY number').fetchall()
print(json.dumps([row[0].hex() for row in rows]))
";

/// Decodes plain V2 histograms. The library reads the deflated form only, so the bytes are wrapped: cookie 0x1c849304,
/// length, zlib stream (HdrHistogram's V2 compressed encoding).
const DECODE: &str = r"
import base64, json, struct, sys, zlib
from hdrh.histogram import HdrHistogram
out = []
for item in json.load(sys.stdin):
    body = zlib.compress(bytes.fromhex(item['bytes']))
    wrapped = struct.pack('>ii', 0x1c849304, len(body)) + body
    histogram = HdrHistogram.decode(base64.b64encode(wrapped))
    out.append({'count': histogram.get_total_count(), 'p': [histogram.get_value_at_percentile(p) for p in item['percents']]})
print(json.dumps(out))
";
const PERCENTILES: [f64; 9] = [0.1, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0];

/// The percentiles of [`PERCENTILES`] moved to a quarter below their value's rank: libraries round ranks differently (ours
/// upwards, theirs to the nearest), and there both mean the same value.
fn percents(count: u64) -> Vec<f64> {
    let count = count as f64;
    PERCENTILES
        .iter()
        .map(|percent| ((percent / 100.0 * count).ceil().max(1.0) - 0.25) / count * 100.0)
        .collect()
}

async fn run_python(script: &str, args: &[&str], input: &str) -> Value {
    let mut child = Command::new(python())
        .args(["-c", script])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).await.expect("Python reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("Python ends");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("it is hex")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_implementation_reads_the_same_percentiles() {
    let cluster = Cluster::start(2).await;
    let plan = json!({
        "name": "hdr", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-vus", "vus": 5, "duration": "3s", "steps": [{ "get": "/" }] } },
    });
    let run = cluster.rest.start(&plan).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(30)).await;

    let database = cluster.folder.path().join("volcanion.db").display().to_string();
    let parts = run_python(READ_PARTS, &[&database], "").await;
    let read =
        |part: &Value| Delta::from_bytes(&bytes(part.as_str().expect("hex"))).expect("a part is a delta");
    let kept: Vec<Delta> = parts.as_array().expect("a list").iter().map(read).collect();
    let mut total = Delta::default();
    kept.iter().for_each(|part| total.add(part));
    windows_are_exact(&cluster, &run, &kept).await;
    assert_eq!(
        Some(total.requests()),
        metrics["total_requests"].as_u64(),
        "the kept parts are the whole run"
    );
    let ours: Vec<&Distribution> = total
        .series
        .values()
        .flat_map(|series| [&series.response_time, &series.service_time])
        .chain(total.scenarios.values().flat_map(|s| [&s.phases.wait, &s.phases.receive]))
        .filter(|distribution| !distribution.is_empty())
        .collect();
    assert!(ours.len() >= 3, "there is something to compare");
    let asked: Vec<Value> =
        ours.iter().map(|d| json!({ "bytes": hex(&d.to_v2()), "percents": percents(d.count()) })).collect();
    let theirs = run_python(DECODE, &[], &json!(asked).to_string()).await;
    for (ours, theirs) in ours.iter().zip(theirs.as_array().expect("a list")) {
        assert_eq!(Some(ours.count()), theirs["count"].as_u64());
        for (percent, value) in percents(ours.count()).iter().zip(theirs["p"].as_array().expect("a list")) {
            // Ours never passes the exact extremes; theirs gives the bucket's upper edge.
            let value = value.as_u64().expect("a number").clamp(ours.min_us(), ours.max_us());
            assert_eq!(ours.percentile_us(*percent), value, "p{percent} of {}", ours.count());
        }
    }
}

/// What REST says of windows of the run, against what the other implementation reads from the sum of their histograms.
async fn windows_are_exact(cluster: &Cluster, run: &str, kept: &[Delta]) {
    const NAMES: [(&str, f64); 5] =
        [("p50", 50.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("p99_9", 99.9)];
    for (from_ms, to_ms) in [(0, 3_000), (1_000, 3_000), (1_000, 2_000)] {
        let path = format!("/api/v1/test-runs/{run}/intervals?from={from_ms}ms&to={to_ms}ms&step=10s");
        let (status, rows) = cluster.rest.get(&path).await;
        assert_eq!((status, rows.as_array().map(Vec::len)), (200, Some(1)), "{rows}");
        let said = &rows[0]["response_time_ms"];
        let mut sum = Distribution::default();
        let window = from_ms * 1_000..to_ms * 1_000;
        for part in kept.iter().filter(|part| window.contains(&part.from.0)) {
            part.series.values().for_each(|series| sum.add(&series.response_time));
        }
        assert!(sum.count() > 100, "there is something to compare: {rows}");
        let percents: Vec<f64> = NAMES
            .iter()
            .map(|(_, percent)| {
                ((percent / 100.0 * sum.count() as f64).ceil() - 0.25) / sum.count() as f64 * 100.0
            })
            .collect();
        let asked = json!([{ "bytes": hex(&sum.to_v2()), "percents": percents }]);
        let theirs = run_python(DECODE, &[], &asked.to_string()).await;
        assert_eq!(
            (&said["count"], &rows[0]["requests"]),
            (&theirs[0]["count"], &theirs[0]["count"]),
            "{rows}"
        );
        for (i, (name, _)) in NAMES.iter().enumerate() {
            let us = theirs[0]["p"][i].as_u64().expect("a number").clamp(sum.min_us(), sum.max_us());
            assert_eq!(
                said[name].as_f64(),
                Some(us as f64 / 1e3),
                "{name} from {from_ms} to {to_ms} ms: {said}"
            );
        }
    }
}
