//! The wire between masters and one agent, that can be cut: a TCP proxy whose address the agent advertises.
//!
//! What is held up stays where it is, in the proxy's buffer (16 KiB a direction) and the kernel's: as with lost packets, it comes when the wire heals, or never when it is reset.

use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cluster::{Agent, start_agent};

/// Such a wire; gone with its drop.
pub struct Wire {
    address: String,
    leads_to: Arc<OnceLock<String>>,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    to_agent: bool,
    to_master: bool,
    /// Connections of an earlier number are reset.
    resets: u64,
}

impl Wire {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (state, seen) = watch::channel(State { to_agent: true, to_master: true, resets: 0 });
        let leads_to = Arc::<OnceLock<String>>::default();
        let target = Arc::clone(&leads_to);
        let task = tokio::spawn(async move {
            while let Ok((master, _)) = listener.accept().await {
                let Some(target) = target.get().cloned() else { continue };
                tokio::spawn(connect(master, target, seen.clone()));
            }
        });
        Self { address, leads_to, state, task }
    }

    /// Lets nothing through, or only what goes one way.
    pub fn hold(&self, to_agent: bool, to_master: bool) {
        self.state.send_modify(|state| (state.to_agent, state.to_master) = (!to_agent, !to_master));
    }

    /// Resets every connection, on both sides; new ones work.
    pub fn reset(&self) {
        self.state.send_modify(|state| {
            (state.to_agent, state.to_master) = (true, true);
            state.resets += 1;
        });
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.reset();
    }
}

/// Starts an agent that is reached by a wire only.
pub async fn start_agent_behind(etcd: &str, id: &str, flags: &[&str]) -> (Agent, Wire) {
    let wire = Wire::start().await;
    let agent = start_agent(etcd, id, &[flags, &["--advertise", &wire.address]].concat()).await;
    let log = agent.process.await_log("the agent listens").await;
    let address = log["grpc"].as_str().expect("the log line has the address").to_owned();
    wire.leads_to.set(address).expect("it is set once");
    (agent, wire)
}

async fn connect(mut master: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let begun = state.borrow().resets;
    // Nobody answers at the end of a wire that is cut.
    if state.wait_for(|now| now.to_agent && now.to_master || now.resets != begun).await.is_err() {
        return;
    }
    let Ok(mut agent) = TcpStream::connect(target).await else { return };
    for stream in [&master, &agent] {
        let _ = stream.set_nodelay(true);
    }
    let mut resets = state.clone();
    let is_reset = {
        let (mut from_master, mut to_master) = master.split();
        let (mut from_agent, mut to_agent) = agent.split();
        tokio::select! {
            _ = resets.wait_for(|now| now.resets != begun) => true,
            () = pump(&mut from_master, &mut to_agent, state.clone(), |now| now.to_agent) => false,
            () = pump(&mut from_agent, &mut to_master, state.clone(), |now| now.to_master) => false,
        }
    };
    if is_reset {
        for stream in [master, agent] {
            // Closed with a reset instead of an end.
            let _ = stream.set_zero_linger();
        }
    }
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut state: watch::Receiver<State>,
    is_open: impl Fn(&State) -> bool,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(&is_open).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
