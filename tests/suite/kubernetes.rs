//! The chart on a real Kubernetes: pods come, go, are evicted and upgraded while loads go, and every count agrees with the target's.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::kubernetes::{Kubernetes, MACHINE};
use crate::harness::postgres::Postgres;
use crate::harness::process::run;
use crate::harness::prometheus::Prometheus;
use crate::harness::rest::{Rest, http};
use crate::harness::tools::root;

const LIMIT: Duration = Duration::from_secs(60);

/// What there is in a namespace but pods' events and what controllers keep for themselves.
const KINDS: &str = "pods,services,deployments,replicasets,statefulsets,horizontalpodautoscalers,poddisruptionbudgets,networkpolicies,\
    ingresses,jobs,secrets,configmaps,serviceaccounts,roles,rolebindings,persistentvolumeclaims";

/// The chart as it was installed, its API and a target's counts.
struct Installed {
    cluster: Kubernetes,
    /// What there was before.
    before: BTreeSet<String>,
    rest: Rest,
    target: String,
    counts: String,
    _postgres: Postgres,
}

/// On a Kubernetes this old its own controller counts as the owner of a StatefulSet's claims, and the server would refuse to apply them again.
const BY_HELM: &str = "--server-side=false";

const VALUES: [&str; 14] = [
    "fullnameOverride=vol",
    "image.repository=volcanion",
    "image.tag=one",
    "image.pullPolicy=Never",
    "etcd.image.repository=etcd",
    "etcd.image.tag=here",
    "etcd.image.pullPolicy=Never",
    "etcd.persistence.storageClassName=here",
    "master.replicas=2",
    "agent.replicas=2",
    "agent.cores=1",
    "agent.resources.requests.cpu=100m",
    "master.resources.requests.cpu=50m",
    "targets.allow={10.88.0.0/16}",
];

/// Names of everything in the release's namespace.
async fn objects(cluster: &Kubernetes) -> BTreeSet<String> {
    let names = cluster.kubectl(&["get", KINDS, "-o", "name"]).await;
    names.lines().map(str::to_owned).collect()
}

/// Room for etcd's claim: nobody provides volumes here.
async fn volume(cluster: &Kubernetes) {
    let path = cluster.folder.path().join("etcd-data");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let volume = json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "etcd-data" },
        "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "here",
                  "persistentVolumeReclaimPolicy": "Retain", "hostPath": { "path": path } } });
    cluster.apply("volume", &volume).await;
}

async fn install(mut cluster: Kubernetes) -> Installed {
    for tag in ["one", "two"] {
        let program = Path::new(env!("CARGO_BIN_EXE_volcanion"));
        cluster.image(&format!("volcanion:{tag}"), program, "/usr/bin/volcanion").await;
    }
    cluster.image("etcd:here", Path::new("/usr/bin/etcd"), "/usr/bin/etcd").await;
    cluster.image("prometheus:here", Path::new("/usr/bin/prometheus"), "/usr/bin/prometheus").await;
    volume(&cluster).await;
    let postgres = Postgres::start().await;
    let at_home: SocketAddr =
        postgres.url.split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    cluster.namespace.let_out_at(SocketAddr::from((MACHINE, at_home.port()))).await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "database" },
        "stringData": { "url": postgres.url.replace("127.0.0.1", "10.88.0.1") } });
    cluster.apply("database", &secret).await;
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "target", "labels": { "app": "target" } },
        "spec": { "containers": [{ "name": "target", "image": "volcanion:one", "imagePullPolicy": "Never",
            "args": ["target", "--listen", "0.0.0.0:8000"] }] } });
    cluster.apply("target", &pod).await;
    let before = objects(&cluster).await;
    let chart = root().join("helm/volcanion").display().to_string();
    let mut args =
        vec!["install", "vol", &chart, "--wait", "--timeout", "4m", "--set", "store.existingSecret=database"];
    for value in VALUES {
        args.extend(["--set", value]);
    }
    let notes = cluster.helm(&args).await;
    assert!(notes.contains("vol-admin"), "{notes}");
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/target", "--timeout=60s"]).await;

    let key = cluster.json(&["get", "secret", "vol-admin"]).await;
    let key = decoded(key["data"]["api-key"].as_str().unwrap());
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_str(&key).unwrap());
    // The provider is installed with the first client.
    http();
    let client =
        reqwest::Client::builder().default_headers(headers).pool_max_idle_per_host(0).build().unwrap();
    let service = cluster.json(&["get", "service", "vol-master"]).await;
    assert_eq!(
        (&service["spec"]["ports"][0]["name"], &service["spec"]["ports"][0]["port"]),
        (&json!("http"), &json!(8080))
    );
    let address =
        cluster.let_in_to(&format!("{}:8080", service["spec"]["clusterIP"].as_str().unwrap())).await;
    let rest = Rest { base: format!("http://{address}"), http: client };
    let pod = cluster.json(&["get", "pod", "target"]).await;
    let target = format!("{}:8000", pod["status"]["podIP"].as_str().unwrap());
    let counts = cluster.let_in_to(&target).await;
    Installed {
        cluster,
        before,
        rest,
        target: format!("http://{target}"),
        counts: format!("http://{counts}/__stats"),
        _postgres: postgres,
    }
}

/// Base64 as Kubernetes writes it.
fn decoded(text: &str) -> String {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for digit in text.chars().filter_map(|digit| DIGITS.find(digit)) {
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8(bytes).unwrap()
}

impl Installed {
    async fn requests(&self) -> u64 {
        let answer = http().get(&self.counts).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["requests"].as_u64().unwrap()
    }

    /// An answer, where there is one: masters come and go here.
    async fn get(&self, path: &str) -> Option<Value> {
        self.rest.http.get(format!("{}{path}", self.rest.base)).send().await.ok()?.json().await.ok()
    }

    async fn agents(&self, number: usize) {
        await_some(&format!("{number} agents take runs"), LIMIT, || async {
            let agents = self.get("/api/v1/agents").await?;
            let agents = agents.as_array()?;
            let ready = agents.iter().filter(|agent| agent["state"] != "draining").count();
            (ready == number && agents.len() == number).then_some(())
        })
        .await;
    }

    async fn start(&self, plan: &Value) -> String {
        let run = await_some("writes are served", LIMIT, || async {
            let (status, stored) = self.rest.post("/api/v1/test-plans", plan).await;
            if status == 503 {
                return None;
            }
            assert_eq!(status, 201, "{stored}");
            let (status, run) =
                self.rest.post("/api/v1/test-runs/start", &json!({ "plan_id": stored["id"] })).await;
            assert!(status == 201 || status == 503, "{run}");
            (status == 201).then_some(run)
        })
        .await;
        run["id"].as_str().unwrap().to_owned()
    }

    /// Awaits the run's end; its metrics.
    async fn ended(&self, run: &str) -> Value {
        await_some("the run ends", Duration::from_secs(120), || async {
            let metrics = self.get(&format!("/api/v1/test-runs/{run}/metrics")).await?;
            matches!(metrics["status"].as_str()?, "completed" | "cancelled" | "failed").then_some(metrics)
        })
        .await
    }

    /// An elastic run at this rate; the target's count before it.
    async fn elastic(&self, seconds: u32, load: &str, rate: &str) -> (String, u64) {
        let before = self.requests().await;
        let run = self
            .start(&json!({
                "name": "elastic", "target": self.target, "elastic": true, "load": load,
                "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": rate, "duration": format!("{seconds}s"),
                    "max_vus": 50, "steps": [{ "name": "s", "get": "/" }] } }
            }))
            .await;
        await_some("load goes", LIMIT, || async { (self.requests().await > before + 100).then_some(()) })
            .await;
        (run, before)
    }

    async fn equal(&self, run: &str, before: u64, what: &str) -> Value {
        let metrics = self.ended(run).await;
        let counted = self.requests().await - before;
        assert_eq!(metrics["total_requests"].as_u64().unwrap(), counted, "{what}: {metrics}");
        eprintln!("{what}: {counted} requests, as the target counted");
        metrics
    }

    /// A Prometheus in a pod, with the rules that are shipped, that scrapes every master and agent there is now; and how many those are.
    async fn prometheus(&mut self) -> (Prometheus, usize) {
        let mut targets = Vec::new();
        for (component, port) in [("master", 8080), ("agent", 9090)] {
            let label = format!("app.kubernetes.io/component={component}");
            let pods = self.cluster.json(&["get", "pods", "-l", &label]).await;
            let addresses = pods["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pod| pod["status"]["podIP"].as_str().unwrap().to_owned());
            targets.extend(addresses.map(|address| format!("{address}:{port}")));
        }
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" }, "rule_files": ["/etc/prometheus/rules.yaml"],
            "scrape_configs": [{ "job_name": "volcanion", "static_configs": [{ "targets": targets }] }],
        });
        let rules = std::fs::read_to_string(root().join("deploy/prometheus/rules.yaml")).unwrap();
        let files = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "prometheus" },
            "data": { "prometheus.yaml": config.to_string(), "rules.yaml": rules } });
        self.cluster.apply("prometheus-files", &files).await;
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "prometheus", "labels": { "app": "prometheus" } },
            "spec": {
                "containers": [{ "name": "prometheus", "image": "prometheus:here", "imagePullPolicy": "Never",
                    "args": ["--config.file=/etc/prometheus/prometheus.yaml", "--storage.tsdb.path=/tmp/data"],
                    "volumeMounts": [{ "name": "files", "mountPath": "/etc/prometheus" }] }],
                "volumes": [{ "name": "files", "configMap": { "name": "prometheus" } }] } });
        self.cluster.apply("prometheus", &pod).await;
        self.cluster.kubectl(&["wait", "--for=condition=Ready", "pod/prometheus", "--timeout=60s"]).await;
        let pod = self.cluster.json(&["get", "pod", "prometheus"]).await;
        let address =
            self.cluster.let_in_to(&format!("{}:9090", pod["status"]["podIP"].as_str().unwrap())).await;
        let prometheus = Prometheus::at(format!("http://{address}"));
        let all = targets.len();
        await_some("Prometheus scrapes masters and agents", LIMIT, || async {
            (prometheus.query("sum(up)").await == Some(all as f64)).then_some(())
        })
        .await;
        (prometheus, all)
    }

    /// A pod that asks for a URL by `volcanion health`; what it said, and whether it was answered.
    async fn probe(&self, name: &str, url: &str) -> (bool, String) {
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "probe" } },
            "spec": { "restartPolicy": "Never", "containers": [{ "name": "probe", "image": "volcanion:one", "imagePullPolicy": "Never",
                "args": ["health", url] }] } });
        self.cluster.apply(name, &pod).await;
        let phase = await_some("the probe ends", LIMIT, || async {
            let pod = self.cluster.json(&["get", "pod", name]).await;
            let phase = pod["status"]["phase"].as_str()?.to_owned();
            matches!(&*phase, "Succeeded" | "Failed").then_some(phase)
        })
        .await;
        (phase == "Succeeded", self.cluster.kubectl(&["logs", name]).await)
    }
}

/// The chart as it will be with the next version.
async fn next_version(chart: &Path, folder: &Path) -> String {
    let next = folder.join("volcanion");
    let copied = run("cp", &["-r", &chart.display().to_string(), &next.display().to_string()]).await;
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let about = std::fs::read_to_string(next.join("Chart.yaml")).unwrap();
    let lines = about.lines().map(|line| match line.split_once(": ") {
        Some((key @ ("version" | "appVersion"), _)) => format!("{key}: 99.0.0\n"),
        _ => format!("{line}\n"),
    });
    std::fs::write(next.join("Chart.yaml"), lines.collect::<String>()).unwrap();
    next.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_holds_its_promises_on_a_real_cluster() {
    let cluster = match Kubernetes::start().await {
        Ok(cluster) => cluster,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let mut installed = install(cluster).await;
    installed.cluster.helm(&["test", "vol"]).await;
    installed.agents(2).await;
    let (prometheus, scraped) = installed.prometheus().await;
    assert_eq!(scraped, 4, "two masters, two agents");
    let cluster = &installed.cluster;

    let before = installed.requests().await;
    let plan = json!({ "name": "first", "target_url": installed.target, "users": 20, "target_rps": 200, "duration_sec": 5 });
    let run = installed.start(&plan).await;
    let metrics = installed.equal(&run, before, "a run through the Service").await;
    assert_eq!(
        (&metrics["status"], &metrics["total_requests"]),
        (&json!("completed"), &json!(1_000)),
        "{metrics}"
    );
    for metric in ["http_requests_total", "volcanion_agent_requests_total"] {
        let query = format!("sum({metric}{{run_id=\"{run}\"}})");
        await_some(&format!("Prometheus has {metric}"), LIMIT, || async {
            (prometheus.query(&query).await == Some(1_000.0)).then_some(())
        })
        .await;
    }
    let rules = await_some("every rule is evaluated", LIMIT, || async {
        let rules = prometheus.rules().await?;
        rules.iter().all(|(_, health)| health == "ok").then_some(rules)
    })
    .await;
    assert!(rules.len() > 10, "{rules:?}");
    let refused =
        json!({ "name": "no", "target_url": "http://169.254.169.254/", "users": 1, "duration_sec": 1 });
    assert_eq!(installed.rest.post("/api/v1/test-plans", &refused).await.0, 400);

    // Only masters reach the agents' gRPC.
    assert!(installed.probe("reaches", "http://vol-agent-0.vol-agent:9090/livez").await.0);
    let (reached, said) = installed.probe("reaches-not", "http://vol-agent-0.vol-agent:7070/").await;
    assert!(!reached && said.contains("timed out"), "{said}");

    // More agents, twice the load.
    let (run, before) = installed.elastic(60, "per_agent", "200/s").await;
    cluster.kubectl(&["scale", "statefulset", "vol-agent", "--replicas=4"]).await;
    let began = std::time::Instant::now();
    await_some("the rate has doubled", Duration::from_secs(15), || async {
        let from = installed.requests().await;
        let begun = std::time::Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rate = (installed.requests().await - from) as f64 / begun.elapsed().as_secs_f64();
        (rate >= 760.0).then_some(())
    })
    .await;
    eprintln!("two more agents: the rate had doubled after {:.1} s", began.elapsed().as_secs_f64());
    installed.rest.post(&format!("/api/v1/test-runs/{run}/stop"), &json!({})).await;
    installed.equal(&run, before, "scaled from 2 to 4 agents").await;

    // A node's drain takes one agent after the other.
    installed.agents(4).await;
    let (run, before) = installed.elastic(25, "total", "200/s").await;
    let evict = async |pod: &str| {
        let order = json!({ "apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": { "name": pod, "namespace": "default" } });
        let file = cluster.folder.path().join(format!("evict-{pod}.json"));
        std::fs::write(&file, order.to_string()).unwrap();
        let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
        cluster.try_tool("kubectl", &["create", "--raw", &path, "-f", &file.display().to_string()]).await
    };
    let first = evict("vol-agent-3").await;
    assert_eq!(first.code, 0, "{}", first.stderr);
    let second = evict("vol-agent-2").await;
    assert_ne!(second.code, 0, "{}", second.stdout);
    assert!(second.stderr.contains("disruption budget"), "{}", second.stderr);
    // The evicted one hands over first.
    let metrics = installed.equal(&run, before, "an agent's pod was evicted").await;
    assert_eq!(
        (&metrics["missed_iterations"], &metrics["completeness"]["complete"]),
        (&json!(0), &json!(true)),
        "{metrics}"
    );

    // The leader's pod goes.
    cluster.kubectl(&["rollout", "status", "statefulset/vol-agent", "--timeout=60s"]).await;
    let (run, before) = installed.elastic(20, "total", "200/s").await;
    let masters = cluster.json(&["get", "pods", "-l", "app.kubernetes.io/component=master"]).await;
    let mut leader = None;
    for pod in masters["items"].as_array().unwrap() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let health = cluster
            .kubectl(&["get", "--raw", &format!("/api/v1/namespaces/default/pods/{name}:8080/proxy/health")])
            .await;
        if serde_json::from_str::<Value>(&health).unwrap()["role"] == "leader" {
            leader = Some(name.to_owned());
        }
    }
    let leader = leader.expect("one leads");
    cluster.kubectl(&["delete", "pod", &leader, "--grace-period=0", "--force"]).await;
    let metrics = installed.equal(&run, before, "the leader's pod was deleted").await;
    assert_eq!(metrics["status"], "completed", "{metrics}");

    // A chart of a next version, with another image, under load: etcd, of which it changes nothing, stays.
    let (run, before) = installed.elastic(60, "total", "200/s").await;
    let next = tempfile::TempDir::new().unwrap();
    let chart = next_version(&root().join("helm/volcanion"), next.path()).await;
    let etcd = ["get", "pod", "vol-etcd-0", "--output=jsonpath={.metadata.uid}"];
    let same_etcd = cluster.kubectl(&etcd).await;
    let again = ["upgrade", "vol", &chart, "--reuse-values", BY_HELM];
    cluster.helm(&[&again[..], &["--set", "image.tag=two", "--wait", "--timeout", "4m"]].concat()).await;
    cluster.kubectl(&["rollout", "status", "statefulset/vol-agent", "--timeout=120s"]).await;
    let metrics = installed.equal(&run, before, "the image was upgraded").await;
    assert_eq!(metrics["completeness"]["complete"], true, "{metrics}");
    assert_eq!(cluster.kubectl(&etcd).await, same_etcd, "etcd was restarted");

    // Agents by need, from two on: this load takes each of two agents several times the CPU at which the autoscaler is content.
    installed.agents(2).await;
    let (run, before) = installed.elastic(300, "total", "3000/s").await;
    let by_need = [
        "autoscaling.enabled=true",
        "autoscaling.minReplicas=2",
        "autoscaling.maxReplicas=3",
        "autoscaling.targetCPUUtilizationPercentage=20",
    ];
    let mut upgrade = again.to_vec();
    for value in by_need {
        upgrade.extend(["--set", value]);
    }
    cluster.helm(&upgrade).await;
    await_some("a third agent loads", Duration::from_secs(180), || async {
        let metrics = installed.get(&format!("/api/v1/test-runs/{run}/live")).await?;
        let loading =
            metrics["agents"].as_array()?.iter().filter(|agent| agent["requests"].as_u64() > Some(0));
        (loading.count() >= 3).then_some(())
    })
    .await;
    installed.rest.post(&format!("/api/v1/test-runs/{run}/stop"), &json!({})).await;
    installed.equal(&run, before, "the autoscaler added an agent").await;

    // What was measured stays, nothing else.
    cluster.helm(&["uninstall", "vol", "--wait"]).await;
    let own = |name: &String| {
        name.starts_with("pod/prometheus")
            || name.starts_with("pod/reaches")
            || name == "configmap/prometheus"
    };
    let expected = BTreeSet::from(["persistentvolumeclaim/data-vol-etcd-0".to_owned()]);
    let mut left = BTreeSet::new();
    let gone = async {
        loop {
            left = objects(cluster)
                .await
                .difference(&installed.before)
                .filter(|name| !own(name))
                .cloned()
                .collect();
            if left == expected {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(LIMIT, gone).await.is_ok();
    assert!(in_time, "these are left: {left:?}");
}
