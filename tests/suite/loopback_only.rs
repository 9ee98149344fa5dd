//! Nothing listens on anything but loopback by default, and only with credentials or an explicit word otherwise.

use std::fs;
use std::time::Duration;

use crate::harness::cluster::Cluster;
use crate::harness::etcd::Etcd;
use crate::harness::process::Process;

/// Local addresses of the listening TCP sockets of a process, as the kernel writes them.
fn listening(pid: u32) -> Vec<String> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process lives")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            fs::read_to_string(format!("/proc/{pid}/net/{table}"))
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let is_listening = columns.get(3) == Some(&"0A");
            (is_listening && sockets.iter().any(|inode| inode == columns[9])).then(|| columns[1].to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listening_socket_is_on_loopback() {
    let cluster = Cluster::start(1).await;
    for (name, pid, number) in
        [("master", cluster.master.id(), 1), ("agent", cluster.agents[0].process.id(), 2)]
    {
        let sockets = listening(pid);
        assert_eq!(sockets.len(), number, "{name}: {sockets:?}");
        assert!(sockets.iter().all(|address| address.starts_with("0100007F:")), "{name}: {sockets:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_needs_credentials_or_the_flag_that_it_names() {
    let etcd = Etcd::start().await;
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let store = format!("sqlite:{}", folder.path().join("v.db").display());
    let commands: [&[&str]; 2] = [
        &["master", "--listen", "0.0.0.0:0", "--etcd", &etcd.url, "--store", &store],
        &["agent", "--listen", "0.0.0.0:0", "--metrics-listen", "127.0.0.1:0", "--etcd", &etcd.url],
    ];
    for args in commands {
        let mut process = Process::volcanion(args[0], args);
        assert_eq!(process.ended(Duration::from_secs(20)).await.code(), Some(3));
        process
            .await_line("it names the flag", |line| line.contains("--allow-unauthenticated").then_some(()))
            .await;
    }
}
