//! Eight agents start at one instant.

use serde_json::json;

use crate::harness::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn eight_agents_start_together() {
    let is_long = std::env::var_os("VOLCANION_LONG_TESTS").is_some();
    // A machine that does much else at the time wakes threads later.
    let (starts, most_ms) = if is_long { (5, 5.0) } else { (3, 25.0) };
    let cluster = Cluster::start(8).await;
    let plan = json!({
        "name": "together", "target": cluster.target.url,
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "80/s", "duration": "1s", "max_vus": 16, "steps": [{ "get": "/" }],
        } },
    });
    let mut skews = Vec::new();
    for _ in 0..starts {
        let metrics = cluster.rest.run(&plan).await;
        assert_eq!(metrics["agents"].as_array().map(Vec::len), Some(8), "{metrics}");
        skews.push(metrics["start_skew_ms"].as_f64().expect("it was measured"));
    }
    skews.sort_by(f64::total_cmp);
    assert!(skews[starts / 2] <= most_ms, "the median of {skews:?} ms");
    assert_eq!(cluster.target.requests().await, 80 * starts as u64);
}
