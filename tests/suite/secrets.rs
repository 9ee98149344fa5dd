//! What agents keep secret reaches the target, and nothing else: it is looked for in everything that master and agents say and keep.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::harness::cluster::Cluster;
use crate::harness::process::{LINES_MAX, Process, volcanion};
use crate::harness::rest::http;

/// Values that stand nowhere else; each in its place of a request.
const IN_HEADER: &str = "canary-header-7f3a91";
const IN_URL: &str = "canary-url-52c0de";
const IN_BODY: &str = "canary-body-\"90be44\"";
const IN_VARIABLE: &str = "canary-variable-c41d07";
/// No header can hold it.
const UNFIT: &str = "canary-unfit-18ee02\nx";
/// What each of them has, and nothing else.
const MARK: &[u8] = b"canary-";

/// Heads and bodies as they came.
type Heard = Arc<Mutex<Vec<String>>>;

async fn listening() -> (String, Heard) {
    async fn note(State(heard): State<Heard>, request: Request) -> &'static str {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let said = format!("{} {:?} {}", head.uri, head.headers, String::from_utf8_lossy(&body));
        heard.lock().unwrap().push(said);
        "ok"
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = Heard::default();
    let router = Router::new().fallback(note).with_state(heard.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}

fn plan(url: &str, version: &str) -> Value {
    json!({
        "name": "secrets", "target": url, "http": { "version": version },
        "headers": { "x-plan": "Bearer {{ secret('from-variable') }}" },
        "scenarios": { "s": { "executor": "shared-iterations", "vus": 2, "iterations": 10, "steps": [{
            "name": "s", "post": "/a?key={{ secret('in.url') }}", "headers": { "x-step": "{{ secret('in-header') }}" },
            "json": { "password": "{{ secret('in_body') }}" } }] } },
    })
}

fn holds_canary(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(MARK.len()).position(|window| window == MARK)?;
    let around = &bytes[at.saturating_sub(200)..(at + 200).min(bytes.len())];
    Some(String::from_utf8_lossy(around).into_owned())
}

fn look(what: &str, bytes: &[u8]) {
    assert!(!bytes.is_empty(), "{what} is there to be looked through");
    if let Some(around) = holds_canary(bytes) {
        panic!("{what} shows a secret: {around}");
    }
}

fn look_through_log(process: &Process) {
    let lines = process.lines();
    assert!(lines.len() < LINES_MAX, "no line of {} was lost", process.name);
    look(&format!("the log of {}", process.name), lines.join("\n").as_bytes());
}

fn look_through_files(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            files += look_through_files(&path);
        } else if entry.metadata().unwrap().len() > 0 {
            look(&path.display().to_string(), &fs::read(&path).unwrap());
            files += 1;
        }
    }
    files
}

fn secrets_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, value) in
        [("in-header", IN_HEADER), ("in.url", IN_URL), ("in_body", IN_BODY), ("unfit", UNFIT)]
    {
        fs::write(folder.path().join(name), format!("{value}\n")).unwrap();
    }
    folder
}

/// Each request has all secrets, each in its place.
fn check_heard(heard: &Heard) {
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(heard.len(), 10);
    let password = json!({ "password": IN_BODY }).to_string();
    for said in heard {
        for expected in [
            &format!("key={IN_URL}"),
            &format!("\"x-step\": \"{IN_HEADER}\""),
            &format!("Bearer {IN_VARIABLE}"),
            &password,
        ] {
            assert!(said.contains(expected), "{expected} is not in {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_target_and_nothing_else() {
    let secrets = secrets_folder();
    let folder = secrets.path().display().to_string();
    // Everything that can be logged is; the libraries' lines too.
    let log = ["--log", "trace,h2=trace,hyper=trace,sqlx=trace,tonic=trace"];
    let agent_flags = [&["--cores", "1", "--secrets", &folder], &log[..]].concat();
    let variables = [("VOLCANION_SECRET_FROM_VARIABLE", IN_VARIABLE)];
    let cluster = Cluster::start_given(1, &log, &agent_flags, &variables).await;
    let rest = &cluster.rest;
    let (url, heard) = listening().await;
    for version in ["1.1", "2"] {
        let run = rest.start(&plan(&url, version)).await;
        let metrics = rest.ended(&run, std::time::Duration::from_secs(60)).await;
        assert_eq!(
            (&metrics["total_requests"], &metrics["failed_requests"]),
            (&json!(10), &json!(0)),
            "{metrics}"
        );
        check_heard(&heard);
        for path in ["", "/live", "/metrics", "/intervals", "/events"] {
            let path = format!("/api/v1/test-runs/{run}{path}");
            look(&path, rest.text(&path).await.as_bytes());
        }
    }

    // What is wrong with a secret is said by its name.
    let mut unfit = plan(&url, "1.1");
    unfit["headers"] = json!({ "x-plan": "{{ secret('unfit') }}" });
    let mut missing = plan(&url, "1.1");
    missing["headers"] = json!({ "x-plan": "{{ secret('nobody.has') }}{{ secret('in-header') }}" });
    for (plan, words) in
        [(unfit, ["x-plan", "line break"]), (missing, ["nobody.has", "VOLCANION_SECRET_NOBODY_HAS"])]
    {
        let run = rest.start(&plan).await;
        rest.ended(&run, std::time::Duration::from_secs(60)).await;
        let view = rest.text(&format!("/api/v1/test-runs/{run}")).await;
        assert!(view.contains("\"failed\"") && words.iter().all(|word| view.contains(word)), "{view}");
        look("a run that failed", view.as_bytes());
    }
    assert_eq!(heard.lock().unwrap().len(), 0, "nothing was sent without its secrets");

    for path in
        ["/api/v1/test-plans", "/api/v1/test-runs", "/api/v1/agents", "/api/v1/audit-logs", "/metrics"]
    {
        look(path, rest.text(path).await.as_bytes());
    }
    let (status, checked) = rest.post("/api/v1/test-plans/validate", &plan(&url, "1.1")).await;
    assert_eq!(status, 200, "{checked}");
    look("a plan that was checked", checked.to_string().as_bytes());
    let seen = http().get(&cluster.agents[0].metrics).send().await.unwrap().text().await.unwrap();
    look("the agent's metrics", seen.as_bytes());
    look_through_log(&cluster.master);
    look_through_log(&cluster.agents[0].process);
    assert!(look_through_files(cluster.folder.path()) > 0, "the store's files");
    assert!(look_through_files(cluster.etcd.data()) > 0, "etcd's files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_from_this_machine_has_secrets_too_and_shows_none() {
    let secrets = secrets_folder();
    fs::write(secrets.path().join("from-variable"), IN_VARIABLE).unwrap();
    let (url, heard) = listening().await;
    let out = TempDir::new().unwrap();
    let (plan_file, result) = (out.path().join("plan.json"), out.path().join("result.json"));
    fs::write(&plan_file, plan(&url, "1.1").to_string()).unwrap();
    let words = [&plan_file, &result].map(|path| path.display().to_string());
    let folder = secrets.path().display().to_string();
    let run = ["run", &words[0], "--secrets", &folder, "--out", &words[1], "--log", "trace"];
    let said = volcanion(&run).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    check_heard(&heard);
    look("stdout", said.stdout.as_bytes());
    look("stderr", said.stderr.as_bytes());
    look_through_files(out.path());

    let without = volcanion(&["run", &words[0]]).await;
    assert_eq!(without.code, 3, "{}", without.stderr);
    assert!(
        ["--secrets", "in.url", "in_body"].iter().all(|word| without.stdout.contains(word)),
        "{}",
        without.stdout
    );
    assert_eq!(heard.lock().unwrap().len(), 0);
}
