//! Several masters on one PostgreSQL and one etcd, with agents and a target: any of them may be killed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::await_some;
use super::cluster::{Agent, Target, start_agent};
use super::etcd::Etcd;
use super::postgres::Postgres;
use super::process::Process;
use super::rest::Rest;
use super::tools::free_port;

/// How long after a leader's death live figures may stand still.
const FAIL_OVER_MAX: Duration = Duration::from_secs(5);

/// Such a cluster.
pub struct Masters {
    pub masters: Vec<OneMaster>,
    pub agents: Vec<Agent>,
    pub target: Target,
    pub etcd: Etcd,
    pub postgres: Postgres,
    master_flags: Vec<String>,
    key: Option<String>,
}

/// A master's process, and its REST, which stays where it is over restarts.
pub struct OneMaster {
    pub process: Process,
    pub rest: Rest,
    name: String,
}

impl Masters {
    /// Starts so many masters and agents; the agents with further flags. The first master leads.
    pub async fn start(masters: usize, agents: usize, agent_flags: &[&str]) -> Self {
        Self::start_with(masters, agents, agent_flags, &[], None).await
    }

    /// The same, the masters with further flags, and asked with this key.
    pub async fn start_with(
        masters: usize,
        agents: usize,
        agent_flags: &[&str],
        master_flags: &[&str],
        key: Option<&str>,
    ) -> Self {
        let (etcd, postgres, target) =
            (Etcd::start().await, Postgres::start().await, Target::start(&[]).await);
        let mut cluster = Self {
            masters: Vec::new(),
            agents: Vec::new(),
            target,
            etcd,
            postgres,
            master_flags: master_flags.iter().map(ToString::to_string).collect(),
            key: key.map(str::to_owned),
        };
        for number in 1..=masters {
            let name = format!("master-{number}");
            let listen = format!("127.0.0.1:{}", free_port());
            cluster.masters.push(cluster.start_master(&name, &listen).await);
        }
        for number in 1..=agents {
            let agent = start_agent(&cluster.etcd.url, &format!("agent-{number}"), agent_flags).await;
            cluster.agents.push(agent);
        }
        await_some("all agents", Duration::from_secs(30), || async {
            let (_, known) = cluster.masters[0].rest.get("/api/v1/agents").await;
            (known.as_array()?.len() == agents).then_some(())
        })
        .await;
        cluster
    }

    async fn start_master(&self, name: &str, listen: &str) -> OneMaster {
        let fixed = ["master", "--listen", listen, "--etcd", &self.etcd.url, "--store", &self.postgres.url];
        let flags = fixed.into_iter().chain(self.master_flags.iter().map(String::as_str));
        let process = Process::volcanion(name, &flags.collect::<Vec<_>>());
        process.await_log("REST listens").await;
        let base = format!("http://{listen}");
        let rest = match &self.key {
            Some(key) => Rest::with_key(base, key),
            None => Rest::new(base),
        };
        OneMaster { process, rest, name: name.to_owned() }
    }

    /// SIGKILL to a master.
    pub async fn kill(&mut self, index: usize) {
        self.masters[index].process.kill().await;
    }

    /// Starts a master anew, where it was, after it was ended.
    pub async fn start_again(&mut self, index: usize) {
        let listen = self.masters[index].rest.base.trim_start_matches("http://").to_owned();
        let name = self.masters[index].name.clone();
        self.masters[index] = self.start_master(&name, &listen).await;
    }

    /// Stops a master, and starts it anew where it was.
    pub async fn start_again_after_stop(&mut self, index: usize) {
        self.masters[index].process.stop().await;
        self.start_again(index).await;
    }

    /// Which one leads, by what they say themselves; one that does not answer is left out.
    pub async fn leader(&self) -> Option<usize> {
        for (index, master) in self.masters.iter().enumerate() {
            let health =
                master.rest.http.get(format!("{}/health", master.rest.base)).timeout(Duration::from_secs(5));
            let Ok(answer) = health.send().await else { continue };
            if answer.json::<Value>().await.is_ok_and(|health| health["role"] == json!("leader")) {
                return Some(index);
            }
        }
        None
    }

    /// Awaits a leader other than this one.
    pub async fn await_leader_after(&self, gone: usize) -> usize {
        await_some("another master leads", Duration::from_secs(30), || async {
            self.leader().await.filter(|leader| *leader != gone)
        })
        .await
    }
}

/// A run's live figures where a master answers with them now.
pub async fn try_live(rest: &Rest, run: &str) -> Option<Value> {
    let url = format!("{}/api/v1/test-runs/{run}/live", rest.base);
    let answer = rest.http.get(url).timeout(Duration::from_secs(5)).send().await.ok()?;
    if answer.status() != 200 {
        return None;
    }
    answer.json().await.ok()
}

/// After the leader was killed: awaits figures beyond what was seen before, within the five seconds that a fail-over may take; gives how many there are.
pub async fn await_beyond_after(killed: Instant, rest: &Rest, run: &str, requests: u64) -> u64 {
    let now = await_beyond(rest, run, requests).await;
    let took = killed.elapsed();
    eprintln!("live figures grew again {:.2} s after the kill", took.as_secs_f64());
    assert!(took < FAIL_OVER_MAX, "live figures grew again after {took:?}");
    now
}

/// Awaits figures beyond so many requests; gives how many there are.
pub async fn await_beyond(rest: &Rest, run: &str, requests: u64) -> u64 {
    await_some(&format!("live figures beyond {requests} requests"), Duration::from_secs(60), || async {
        try_live(rest, run).await?["total_requests"].as_u64().filter(|now| *now > requests)
    })
    .await
}
