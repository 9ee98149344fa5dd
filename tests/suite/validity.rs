//! The numbers are honest about themselves: an agent that was held back, frozen or had no ports left is named with its cause, and its own
//! faults are not the target's errors; an agent that was not is `valid`, or names a cause that was really there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::await_some;
use crate::harness::cluster::{Agent, Cluster, Target};
use crate::harness::namespace::Namespace;
use crate::harness::process::{Process, run, volcanion};
use crate::harness::quota::Quota;

/// Codes and agents of the causes that make a run invalid.
fn grave(metrics: &Value) -> Vec<(String, String)> {
    let causes = metrics["validity"]["causes"].as_array().unwrap().iter();
    let grave = causes.filter(|cause| cause["verdict"] == "invalid");
    let mut named: Vec<(String, String)> =
        grave.map(|cause| (text(&cause["code"]), text(&cause["agent"]))).collect();
    named.sort();
    named
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn closed_loop(target: &str, vus: u64, duration: &str) -> Value {
    json!({
        "name": "busy", "target": target,
        "scenarios": { "s": { "executor": "constant-vus", "vus": vus, "duration": duration, "steps": [{ "get": "/" }] } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_held_to_a_fifth_of_a_core_makes_the_run_invalid_by_its_name() {
    let cluster = Cluster::start(2).await;
    // What else is in its pod uses the quota up, however slowly a busy machine lets the target answer.
    let busy = Process::start("busy", "sh", &["-c", "while :; do :; done"]);
    let quota = match Quota::hold(&[cluster.agents[1].process.id(), busy.id()], 0.2) {
        Ok(quota) => quota,
        Err(reason) => {
            eprintln!(
                "NOT TESTED: no cgroup with a CPU quota can be made here, so no agent was held back ({reason})"
            );
            return;
        }
    };
    let metrics = cluster.rest.run(&closed_loop(&cluster.target.url, 16, "4s")).await;
    assert_eq!(metrics["validity"]["verdict"], "invalid", "{}", metrics["validity"]);
    let grave = grave(&metrics);
    assert!(grave.contains(&("throttled".to_owned(), "agent-2".to_owned())), "{}", metrics["validity"]);
    assert!(grave.iter().all(|(_, agent)| agent == "agent-2"), "{}", metrics["validity"]);
    let causes = metrics["validity"]["causes"].as_array().unwrap();
    let throttled = causes.iter().find(|cause| cause["code"] == "throttled").unwrap();
    let (since, until) = (throttled["since_ms"].as_f64().unwrap(), throttled["until_ms"].as_f64().unwrap());
    assert!(since < until && until <= metrics["total_duration_ms"].as_f64().unwrap(), "{throttled}");
    assert!(throttled["amount"].as_f64().unwrap() > 400.0, "of four seconds: {throttled}");
    assert_eq!(metrics["total_requests"].as_u64(), Some(cluster.target.requests().await));
    drop(quota);
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_fifty_ports_left_makes_the_run_invalid_and_the_target_has_no_errors() {
    let mut namespace = match Namespace::make().await {
        Ok(namespace) => namespace,
        Err(reason) => {
            eprintln!(
                "NOT TESTED: no network namespace can be made here, so no agent ran out of ports ({reason})"
            );
            return;
        }
    };
    let mut cluster = Cluster::start(1).await;
    namespace.command("echo 40000 40149 > /proc/sys/net/ipv4/ip_local_port_range").await;
    let port = |url: &str| url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
    namespace.let_out(port(&cluster.target.url)).await;
    namespace.let_out(port(&cluster.etcd.url)).await;
    let advertised = namespace.let_in(7070).await.to_string();
    let agent = ["agent", "--listen", "127.0.0.1:7070", "--metrics-listen", "127.0.0.1:0", "--cores", "1"];
    let rest = ["--advertise", &advertised, "--etcd", &cluster.etcd.url, "--id", "agent-2"];
    let (program, words) =
        namespace.inside(env!("CARGO_BIN_EXE_volcanion"), &[&agent[..], &rest[..]].concat());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let process = Process::start("agent-2", program, &words);
    process.await_log("the agent listens").await;
    cluster.agents.push(Agent { process, metrics: String::new() });
    cluster.await_agents(2).await;

    // Of its hundred and fifty ports to the target others have a hundred. Each agent has sixty-four VUs.
    let others = namespace.occupy(port(&cluster.target.url), 100).await;
    let metrics = cluster.rest.run(&closed_loop(&cluster.target.url, 128, "3s")).await;
    assert_eq!(metrics["validity"]["verdict"], "invalid", "{}", metrics["validity"]);
    assert_eq!(grave(&metrics), [("no_ports".to_owned(), "agent-2".to_owned())], "{}", metrics["validity"]);
    let count = |value: &Value| value.as_u64().unwrap();
    let (requests, own_faults) = (count(&metrics["total_requests"]), count(&metrics["own_faults"]));
    assert!(own_faults > 0 && metrics["errors"]["connect: no ports"] == own_faults, "{}", metrics["errors"]);
    assert_eq!(metrics["failed_requests"], 0, "our own faults are not the target's: {}", metrics["errors"]);
    assert_eq!(metrics["success_requests"], requests - own_faults);
    assert_eq!(requests - own_faults, cluster.target.requests().await);
    let rows = metrics["agents"].as_array().unwrap();
    let of = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(others.len(), 100);
    assert_eq!((&of("agent-1")["own_faults"], count(&of("agent-2")["own_faults"])), (&json!(0), own_faults));
}

/// A run of this process, its words, and its result's file.
struct Run {
    process: Process,
    folder: TempDir,
}

impl Run {
    fn start(target: &str, flags: &[&str]) -> Self {
        Self::start_by(&[], target, flags)
    }

    /// Started by another program, given with its words.
    fn start_by(by: &[&str], target: &str, flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("result.json");
        let fixed = ["run", target, "--cores", "1", "--json", "--out", out.to_str().unwrap()];
        let words = [by, &[env!("CARGO_BIN_EXE_volcanion")], &fixed, flags].concat();
        Self { process: Process::start("run", words[0], &words[1..]), folder }
    }

    async fn ended(&mut self) -> (Option<i32>, Value) {
        let status = self.process.ended(Duration::from_secs(60)).await;
        let text = fs::read_to_string(self.folder.path().join("result.json")).unwrap_or_default();
        (status.code(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_agent_is_named_and_a_run_that_must_be_valid_ends_with_98() {
    let target = Target::start(&[]).await;
    let mut run = Run::start(&target.url, &["-c", "2", "-d", "4s", "--require-valid"]);
    await_some("load goes", Duration::from_secs(20), || async {
        (target.requests().await > 0).then_some(())
    })
    .await;
    run.process.signal("STOP").await;
    // The freeze itself is what is tested.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    run.process.signal("CONT").await;
    let (code, metrics) = run.ended().await;
    let causes = metrics["validity"]["causes"].as_array().unwrap();
    let stalled = causes.iter().find(|cause| cause["code"] == "stalled");
    let stalled = stalled.unwrap_or_else(|| panic!("{}", metrics["validity"]));
    assert_eq!((&stalled["agent"], &stalled["verdict"]), (&json!("agent-1"), &json!("invalid")), "{stalled}");
    assert!(stalled["worst"].as_f64().unwrap() > 800.0, "it stood still for 1.1 s: {stalled}");
    assert_eq!(code, Some(98), "{}", metrics["validity"]);
    assert_eq!(metrics["failed_requests"], 0, "{}", metrics["errors"]);
}

/// Whether something else had the processors meanwhile, as the system itself says: nanoseconds that threads of the run waited for one,
/// and ticks that the hypervisor took.
#[derive(Clone, Debug, Default)]
struct Elsewhere {
    waited_ns: BTreeMap<String, u64>,
    stolen: (u64, u64),
}

impl Elsewhere {
    fn look(&mut self, process: u32) {
        for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let waited = read("schedstat").split_whitespace().nth(1).and_then(|word| word.parse().ok());
            if let Some(waited) = waited {
                self.waited_ns.insert(task.file_name().to_string_lossy().into_owned(), waited);
            }
        }
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let stolen = stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok());
        let stolen = stolen.unwrap_or(0);
        self.stolen = (if self.stolen.0 == 0 { stolen } else { self.stolen.0 }, stolen);
    }

    fn was_there(&self) -> bool {
        self.waited_ns.values().sum::<u64>() > 20_000_000 || self.stolen.1 > self.stolen.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_at_a_quarter_of_the_calibrated_rate_are_valid_or_name_a_cause_that_was_there() {
    let is_long = std::env::var_os("VOLCANION_LONG_TESTS").is_some();
    let calibrated = volcanion(&["calibrate", "--json", "--duration", "5s"]).await;
    assert_eq!(calibrated.code, 0, "{}", calibrated.stderr);
    let calibrated: Value = serde_json::from_str(&calibrated.stdout).unwrap();
    let rate = format!("{:.0}/s", calibrated["requests_per_s_per_core"].as_f64().unwrap() / 4.0);
    let (target_by, load_by) = unhindered().await;
    let target = Target::start_by(&target_by).await;
    let mut valid = 0;
    let runs = if is_long { 20 } else { 2 };
    for number in 0..runs {
        let mut run = Run::start_by(&load_by, &target.url, &["--rate", &rate, "-c", "500", "-d", "3s"]);
        let mut elsewhere = Elsewhere::default();
        let process = run.process.id();
        while Path::new(&format!("/proc/{process}/task")).exists() && !has_ended(process) {
            elsewhere.look(process);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (code, metrics) = run.ended().await;
        assert_eq!(code, Some(0));
        let (verdict, causes) = (&metrics["validity"]["verdict"], &metrics["validity"]["causes"]);
        println!("run {number} at {rate}: {verdict} {causes}");
        if verdict == "valid" {
            valid += 1;
            continue;
        }
        let of_the_machine = [
            "schedule_lag",
            "dropped_iterations",
            "core_use",
            "cpu_wait",
            "cpu_steal",
            "stalled",
            "throttled",
        ];
        for cause in causes.as_array().unwrap() {
            let code = cause["code"].as_str().unwrap();
            assert!(of_the_machine.contains(&code), "{causes}");
        }
        assert!(
            elsewhere.was_there(),
            "nothing else had the processors, and it says {causes}: {elsewhere:?}"
        );
    }
    println!("{valid} of {runs} runs at {rate} were valid");
}

/// What starts a target and a load so that nothing else has their processors: real-time threads on a processor each. Nothing at all where that is
/// not allowed or there is only one; then they are as hindered as the machine is shared.
async fn unhindered() -> (Vec<&'static str>, Vec<&'static str>) {
    let (target, load) =
        (["taskset", "-c", "1", "chrt", "-f", "1"], ["taskset", "-c", "0", "chrt", "-f", "1"]);
    for by in [target, load] {
        if run(by[0], &[&by[1..], &["true"]].concat()).await.code != 0 {
            eprintln!("real-time threads are not allowed here: runs may be hindered by whatever else runs");
            return (Vec::new(), Vec::new());
        }
    }
    (target.to_vec(), load.to_vec())
}

/// Whether a child has ended and only awaits being asked how.
fn has_ended(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']))
}
