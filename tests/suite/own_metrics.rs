//! What masters and agents say of themselves: the table of docs/operate.md has each metric with its labels, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::cluster::{Cluster, Target};
use crate::harness::prometheus::promtool_complaints;
use crate::harness::rest::http;
use crate::harness::tools::{free_port, root};

type Metrics = BTreeMap<String, BTreeSet<String>>;

/// The metrics of a text in Prometheus' format, with the labels that any of their series has.
fn exposed(text: &str) -> Metrics {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut metrics = Metrics::new();
    for (name, kind) in types {
        let ends: &[&str] = if kind == "histogram" { &["_bucket"] } else { &[""] };
        let series = text.lines().filter(|line| {
            ends.iter().any(|end| line.split(['{', ' ']).next() == Some(&format!("{name}{end}")))
        });
        let labels = series.flat_map(labels).filter(|label| label != "le").collect();
        metrics.insert(name.to_owned(), labels);
    }
    metrics
}

/// The labels' names of a series; no value in these tests holds `="` or `",`.
fn labels(series: &str) -> Vec<String> {
    let Some((_, rest)) = series.split_once('{') else { return Vec::new() };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    inner
        .split("\",")
        .filter_map(|pair| Some(pair.split_once("=\"")?.0.trim_matches(',').to_owned()))
        .collect()
}

/// The rows of the section on metrics: `` | `name` | `label`, … | meaning | ``.
fn documented() -> Metrics {
    let page = fs::read_to_string(root().join("docs/operate.md")).unwrap();
    let (_, section) = page.split_once("\n## Metrics\n").expect("there is a section on metrics");
    let section = section.split("\n## ").next().unwrap_or_default();
    let quoted =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut metrics = Metrics::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let (names, labels) = (quoted(cells[1]), quoted(cells[2]));
        assert_eq!(names.len(), 1, "a row each: {row}");
        assert!(cells[3].trim().len() > 5, "{row} has no meaning");
        assert!(metrics.insert(names[0].clone(), labels.into_iter().collect()).is_none(), "twice: {row}");
    }
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_in_the_table_with_its_labels_and_the_table_has_no_other() {
    // Nobody listens there: a receiver or a collector that is away is no matter to a run.
    let nowhere = format!("http://127.0.0.1:{}/api/v1/write", free_port());
    let collector = format!("http://127.0.0.1:{}", free_port());
    let master_flags = ["--remote-write", &nowhere, "--otlp-endpoint", &collector];
    let agent_flags = ["--cores", "1", "--otlp-endpoint", &collector];
    let cluster = Cluster::start_given(1, &master_flags, &agent_flags, &[]).await;
    let plan = json!({
        "name": "seen", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "100/s", "duration": "2s", "max_vus": 20, "steps": [{ "get": "/" }] } },
    });
    let run = cluster.rest.start(&plan).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(30)).await;
    assert_eq!(metrics["total_requests"], 200);

    let master = cluster.rest.text("/metrics").await;
    let agent = http().get(&cluster.agents[0].metrics).send().await.unwrap().text().await.unwrap();
    for text in [&master, &agent] {
        assert_eq!(promtool_complaints(text).await, "");
    }
    let (mut there, of_agent, table) = (exposed(&master), exposed(&agent), documented());
    assert!(of_agent.keys().all(|name| name.starts_with("volcanion_agent_") && !there.contains_key(name)));
    there.extend(of_agent);
    assert!(there.len() > 60, "{there:?}");
    let names = |metrics: &Metrics| metrics.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        names(&there).difference(&names(&table)).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not in the table"
    );
    assert_eq!(
        names(&table).difference(&names(&there)).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not exposed"
    );
    assert_eq!(there, table, "each with its labels");

    let has = |text: &str, line: &str| text.lines().any(|there| there == line);
    let verdict = metrics["validity"]["verdict"].as_str().unwrap();
    let validity = format!("volcanion_run_validity{{run_id=\"{run}\",verdict=\"{verdict}\"}} 1");
    assert!(has(&master, &validity), "{master}");
    assert!(has(&master, "volcanion_store_call_failures_total{operation=\"commit\"} 0"), "{master}");
    assert!(has(&master, "volcanion_queue_bound{queue=\"run_inbox\"} 64"), "{master}");
    let counted = master.lines().find(|line| {
        line.starts_with("volcanion_rest_requests_total{")
            && line.contains("route=\"/api/v1/test-runs/start\"")
    });
    assert!(counted.is_some_and(|line| line.contains("status=\"2xx\"") && line.ends_with(" 1")), "{master}");
    assert!(
        has(&agent, "volcanion_agent_streams_total 1") && has(&agent, "volcanion_agent_registry_connected 1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_counts_the_orders_that_it_refuses() {
    let cluster = Cluster::start(0).await;
    let folder = &cluster.folder;
    let key = folder.path().join("cluster.key");
    fs::write(&key, "a key that the master does not have").unwrap();
    let flags = ["--cores", "1", "--cluster-key-file", key.to_str().unwrap()];
    let agent = crate::harness::cluster::start_agent(&cluster.etcd.url, "stranger", &flags).await;
    cluster.await_agents(1).await;
    let target = Target::start(&[]).await;
    let plan = json!({ "name": "refused", "target_url": target.url, "users": 1, "duration_sec": 1 });
    let run = cluster.rest.start(&plan).await;
    let ended = cluster.rest.ended(&run, Duration::from_secs(30)).await;
    assert_eq!((ended["status"].as_str(), target.requests().await), (Some("failed"), 0));
    let text = http().get(&agent.metrics).send().await.unwrap().text().await.unwrap();
    let refused = text.lines().find(|line| line.contains("refused_orders_total{code=\"bad_seal\"}")).unwrap();
    assert!(refused.rsplit(' ').next().unwrap().parse::<f64>().unwrap() >= 1.0, "{refused}");
}
