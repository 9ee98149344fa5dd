//! Eight agents start at one instant.

use serde_json::json;

use crate::harness::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn eight_agents_start_together() {
    // A machine that does much else at the time wakes threads later: the promise is held where nothing else is tested, the last thing in `make test-all`.
    let is_alone = std::env::var_os("VOLCANION_ALONE").is_some();
    let (starts, most_ms) = if is_alone { (5, 5.0) } else { (3, 25.0) };
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
    println!("the skews of {starts} starts in ms: {skews:?}");
    assert!(skews[starts / 2] <= most_ms, "the median of {skews:?} ms");
    assert_eq!(cluster.target.requests().await, 80 * starts as u64);
}
