//! Backups as docs/operate.md has them, made while the master runs, and restored: what was there is there again, and agents that saw later masters obey.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::masters::Masters;
use crate::harness::process::run;
use crate::harness::rest::Rest;

const LIMIT: Duration = Duration::from_secs(60);

fn plan(target: &str) -> Value {
    json!({
        "name": "kept", "target": target,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "100/s", "duration": "1s", "max_vus": 50, "steps": [{ "get": "/" }] } },
    })
}

/// Awaits that a master leads, and serves.
async fn ready(rest: &Rest) {
    await_some("the master is ready", LIMIT, || async { (rest.get("/readyz").await.0 == 200).then_some(()) })
        .await;
}

/// The run that had ended is as it was, the one that went can be ended, and a new one goes on the agents that are there.
async fn check(rest: &Rest, ended: &Value, going: &str, target: &str) {
    let id = ended["run_id"].as_str().expect("a result has its run's id");
    assert_eq!(rest.get(&format!("/api/v1/test-runs/{id}/metrics")).await, (200, ended.clone()));
    let (status, rows) = rest.get(&format!("/api/v1/test-runs/{id}/intervals")).await;
    let counted =
        rows.as_array().expect("a list").iter().filter_map(|row| row["requests"].as_u64()).sum::<u64>();
    assert_eq!((status, counted), (200, 100), "its history came along: {rows}");
    let (status, stopped) = rest.post_nothing(&format!("/api/v1/test-runs/{going}/stop")).await;
    assert_eq!(status, 200, "{stopped}");
    assert_eq!(rest.ended(going, LIMIT).await["status"], "cancelled");
    let metrics = rest.run(&plan(target)).await;
    assert_eq!(
        (&metrics["status"], &metrics["total_requests"]),
        (&json!("completed"), &json!(100)),
        "{metrics}"
    );
}

/// A run of an hour that goes while the backup is made; its load is not of interest.
async fn start_long(rest: &Rest, target: &str) -> String {
    let mut long = plan(target);
    long["scenarios"]["s"]["duration"] = json!("1h");
    let run = rest.start(&long).await;
    crate::harness::masters::await_beyond(rest, &run, 0).await;
    run
}

async fn sqlite3(file: &Path, words: &str) -> String {
    let done = run("sqlite3", &[&file.display().to_string(), words]).await;
    assert_eq!(done.code, 0, "{words}: {}", done.stderr);
    done.stdout.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_sqlite_is_restored_and_agents_obey_its_master() {
    let mut cluster = Cluster::start(1).await;
    let ended = cluster.rest.run(&plan(&cluster.target.url)).await;
    let going = start_long(&cluster.rest, &cluster.target.url).await;
    let (file, backup) =
        (cluster.folder.path().join("volcanion.db"), cluster.folder.path().join("backup.db"));
    sqlite3(&file, &format!(".backup '{}'", backup.display())).await;
    assert_eq!(sqlite3(&backup, "PRAGMA integrity_check").await, "ok");
    let (_, stopped) = cluster.rest.post_nothing(&format!("/api/v1/test-runs/{going}/stop")).await;
    assert_eq!(stopped["status"], "cancelled", "{stopped}");
    // Later masters, whose epochs the agent sees.
    for _ in 0..2 {
        assert!(cluster.master.stop().await.success());
        cluster.restart_master().await;
        ready(&cluster.rest).await;
        cluster.rest.run(&plan(&cluster.target.url)).await;
    }
    assert!(cluster.master.stop().await.success());
    // A master that was stopped leaves all of it in the one file, for its own user alone.
    let alone = cluster.folder.path().join("alone.db");
    std::fs::copy(&file, &alone).expect("a file can be copied");
    assert_eq!(sqlite3(&alone, "SELECT count(*) FROM runs").await, "4");
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);

    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", file.display()));
    }
    std::fs::copy(&backup, &file).expect("a file can be copied");
    sqlite3(&file, "UPDATE office SET epoch = epoch + 1000000").await;
    cluster.restart_master().await;
    ready(&cluster.rest).await;
    check(&cluster.rest, &ended, &going, &cluster.target.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_postgres_is_restored_and_agents_obey_its_master() {
    let mut cluster = Masters::start(1, 1, &["--cores", "1"]).await;
    let (rest, target) = (cluster.masters[0].rest.clone(), cluster.target.url.clone());
    let ended = rest.run(&plan(&target)).await;
    let going = start_long(&rest, &target).await;
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let dump = folder.path().join("volcanion.dump").display().to_string();
    let program = |name: &str| cluster.postgres.program(name).display().to_string();
    let (pg_dump, pg_restore) = (program("pg_dump"), program("pg_restore"));
    let done = run(&pg_dump, &["--format=custom", &format!("--file={dump}"), &cluster.postgres.url]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    let (_, stopped) = rest.post_nothing(&format!("/api/v1/test-runs/{going}/stop")).await;
    assert_eq!(stopped["status"], "cancelled", "{stopped}");
    for _ in 0..2 {
        cluster.start_again_after_stop(0).await;
        ready(&rest).await;
        rest.run(&plan(&target)).await;
    }
    assert!(cluster.masters[0].process.stop().await.success());

    let restored = cluster.postgres.database("volcanion_restored").await;
    let done =
        run(&pg_restore, &["--no-owner", "--exit-on-error", &format!("--dbname={restored}"), &dump]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    cluster.postgres.url = restored;
    cluster.postgres.psql("UPDATE office SET epoch = epoch + 1000000").await;
    cluster.start_again(0).await;
    ready(&rest).await;
    check(&rest, &ended, &going, &target).await;
}
