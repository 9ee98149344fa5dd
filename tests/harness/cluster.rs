//! A cluster of real processes: etcd, a master, agents, a target that counts.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::await_some;
use super::etcd::Etcd;
use super::process::Process;
use super::rest::{Rest, http};

/// A running cluster.
pub struct Cluster {
    pub etcd: Etcd,
    pub master: Process,
    pub rest: Rest,
    pub agents: Vec<Agent>,
    pub target: Target,
    pub folder: TempDir,
    master_flags: Vec<String>,
}

/// An agent's process.
pub struct Agent {
    pub process: Process,
    pub metrics: String,
}

/// A counting target's process.
pub struct Target {
    _process: Process,
    pub url: String,
}

impl Target {
    /// Starts one with further flags.
    pub async fn start(flags: &[&str]) -> Self {
        let args = [&["target", "--listen", "127.0.0.1:0"], flags].concat();
        Self::of(Process::volcanion("target", &args)).await
    }

    /// Starts one by another program, given with its words.
    pub async fn start_by(by: &[&str]) -> Self {
        let own = [env!("CARGO_BIN_EXE_volcanion"), "target", "--listen", "127.0.0.1:0"];
        let words = [by, &own].concat();
        Self::of(Process::start("target", words[0], &words[1..])).await
    }

    async fn of(process: Process) -> Self {
        let url = process
            .await_line("it listens", |line| {
                line.split("http://")
                    .nth(1)
                    .map(|rest| format!("http://{}", rest.split('/').next().unwrap_or(rest)))
            })
            .await;
        Self { _process: process, url }
    }

    /// What it counted.
    pub async fn stats(&self) -> Value {
        let answer = http().get(format!("{}/__stats", self.url)).send().await.expect("the target answers");
        answer.json().await.expect("it answers JSON")
    }

    /// How many requests it answered.
    pub async fn requests(&self) -> u64 {
        self.stats().await["requests"].as_u64().expect("it counts")
    }
}

impl Cluster {
    /// Starts a cluster of so many agents of one load core each.
    pub async fn start(agents: usize) -> Self {
        Self::start_with(agents, &["--cores", "1"]).await
    }

    /// Starts a cluster whose agents have further flags.
    pub async fn start_with(agents: usize, agent_flags: &[&str]) -> Self {
        Self::start_given(agents, &[], agent_flags, &[]).await
    }

    /// Starts a cluster of so many agents of one load core each, whose master has further flags.
    pub async fn start_with_master(agents: usize, master_flags: &[&str]) -> Self {
        Self::start_given(agents, master_flags, &["--cores", "1"], &[]).await
    }

    /// Starts a cluster whose master and agents have further flags, and whose agents have environment variables.
    pub async fn start_given(
        agents: usize,
        master_flags: &[&str],
        agent_flags: &[&str],
        agent_variables: &[(&str, &str)],
    ) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let etcd = Etcd::start().await;
        let target = Target::start(&[]).await;
        let store = folder.path().join("volcanion.db");
        let (master, rest) = start_master(&etcd.url, store, "127.0.0.1:0", master_flags).await;
        let master_flags = master_flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut cluster = Self { etcd, master, rest, agents: Vec::new(), target, folder, master_flags };
        for number in 1..=agents {
            let id = format!("agent-{number}");
            let agent = start_agent_given(&cluster.etcd.url, &id, agent_flags, agent_variables).await;
            cluster.agents.push(agent);
        }
        cluster.await_agents(agents).await;
        cluster
    }

    /// Awaits so many agents in `GET /agents`.
    pub async fn await_agents(&self, number: usize) -> Vec<Value> {
        await_some(&format!("{number} agents"), Duration::from_secs(20), || async {
            let (_, agents) = self.rest.get("/api/v1/agents").await;
            agents.as_array().filter(|agents| agents.len() == number).cloned()
        })
        .await
    }

    /// Starts the master anew on the same store and address, after it was ended.
    pub async fn restart_master(&mut self) {
        self.restart_master_with(&[]).await;
    }

    /// The same with further flags.
    pub async fn restart_master_with(&mut self, flags: &[&str]) {
        let listen = self.rest.base.trim_start_matches("http://").to_owned();
        let store = self.folder.path().join("volcanion.db");
        let flags: Vec<&str> =
            self.master_flags.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let (master, rest) = start_master(&self.etcd.url, store, &listen, &flags).await;
        self.master = master;
        self.rest = rest;
    }
}

/// Starts a master on a file, and awaits its word that it listens.
pub async fn start_master(etcd: &str, store: PathBuf, listen: &str, flags: &[&str]) -> (Process, Rest) {
    let store = format!("sqlite:{}", store.display());
    let fixed = ["master", "--listen", listen, "--etcd", etcd, "--store", &store];
    let master = Process::volcanion("master", &[&fixed, flags].concat());
    let log = master.await_log("REST listens").await;
    let address = log["address"].as_str().expect("the log line has the address").to_owned();
    (master, Rest::new(format!("http://{address}")))
}

/// Starts a master alone, on a file of its own in a folder.
pub async fn start_master_in(folder: &TempDir, etcd: &Etcd, flags: &[&str]) -> (Process, Rest) {
    start_master(&etcd.url, folder.path().join("volcanion.db"), "127.0.0.1:0", flags).await
}

/// A file with the first admin's key in a folder.
pub fn admin_key_file(folder: &TempDir, key: &str) -> String {
    let file = folder.path().join("admin");
    // With the line's end that an editor leaves.
    std::fs::write(&file, format!("{key}\n")).expect("the folder can be written to");
    file.display().to_string()
}

/// Starts an agent and awaits its word that it is there.
pub async fn start_agent(etcd: &str, id: &str, flags: &[&str]) -> Agent {
    start_agent_given(etcd, id, flags, &[]).await
}

/// [`start_agent`] with environment variables.
async fn start_agent_given(etcd: &str, id: &str, flags: &[&str], variables: &[(&str, &str)]) -> Agent {
    let fixed =
        ["agent", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--etcd", etcd, "--id", id];
    let program = env!("CARGO_BIN_EXE_volcanion");
    let process = Process::start_with(id, program, &[&fixed, flags].concat(), variables);
    let log = process.await_log("the agent listens").await;
    let metrics =
        format!("http://{}/metrics", log["metrics"].as_str().expect("the log line has the address"));
    Agent { process, metrics }
}
