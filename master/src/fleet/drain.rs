//! Tells an agent to drain: to finish the runs that it has, and to take no new one until it is started again.
//!
//! The order is sealed with the cluster's key and goes to one process. It counts as done once the registry shows it, so that whoever
//! starts a run after the answer does not get this agent.

use std::time::Duration;

use jiff::Timestamp;
use tonic::{Code, Status};
use volcanion_common::ids::AgentId;
use volcanion_common::registry::{Fleet, Member, MemberState};
use volcanion_common::session::command::{Command, Purpose};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::view::AgentView;
use volcanion_proto::v1::DrainRequest;

use super::Agents;
use super::dial::Dialer;

/// How long the agent may take to answer, connecting included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the registry may take to show it.
const SHOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// The order is not obeyed after this: as with a shard, so that clocks may differ a little.
const EXPIRES_MS: u64 = 60_000;

/// Why an agent does not drain, or is not known to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDrained {
    /// There is no such agent.
    #[error("there is no agent {0}")]
    Unknown(AgentId),
    /// It does not answer, says no, or has left.
    #[error("{0}")]
    Unavailable(String),
}

impl Agents {
    /// Has an agent drain, and waits until the registry shows it; one that drains already is answered as it is.
    ///
    /// # Errors
    /// There is no such agent, it cannot be reached, or it does not obey.
    pub async fn drain(
        &self,
        id: &AgentId,
        dialer: &Dialer,
        key: &ClusterKey,
    ) -> Result<AgentView, NotDrained> {
        let member = self.fleet().members.get(id).cloned().ok_or_else(|| NotDrained::Unknown(id.clone()))?;
        if member.state != MemberState::Draining {
            order(&member, dialer, key).await.map_err(NotDrained::Unavailable)?;
            tracing::info!(agent_id = %id, incarnation = %member.incarnation, "the agent was told to drain");
        }
        self.shown(&member).await.map_err(NotDrained::Unavailable)
    }

    /// Waits until the registry shows that this process drains.
    async fn shown(&self, asked: &Member) -> Result<AgentView, String> {
        let of = |fleet: &Fleet| {
            fleet.members.get(&asked.id).filter(|member| member.incarnation == asked.incarnation).cloned()
        };
        let mut fleet = self.subscribe();
        let is_settled = |fleet: &Fleet| of(fleet).is_none_or(|member| member.state == MemberState::Draining);
        // Late or not: what the registry shows by then is answered.
        let _ = tokio::time::timeout(SHOWN_TIMEOUT, fleet.wait_for(is_settled)).await;
        match of(&self.fleet()) {
            Some(member) if member.state == MemberState::Draining => {
                let load = self.held().runs(&member.id);
                Ok(self.view(&member, load))
            }
            Some(_) => Err(format!(
                "agent {} drains, but the registry does not show it yet; see GET /agents in a moment",
                asked.id
            )),
            None => Err(format!("agent {} has left, or was started again, meanwhile", asked.id)),
        }
    }
}

async fn order(member: &Member, dialer: &Dialer, key: &ClusterKey) -> Result<(), String> {
    let id = &member.id;
    let now_unix_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    let order =
        Command::new(Purpose::Drain, id.clone(), member.incarnation, now_unix_ms.saturating_add(EXPIRES_MS));
    let (sealed_order, seal) =
        order.sealed(key).map_err(|error| format!("the order to agent {id} cannot be written: {error}"))?;
    let mut client = dialer.client(&member.address).map_err(|error| format!("agent {id}: {error}"))?;
    let answer =
        tokio::time::timeout(ANSWER_TIMEOUT, client.drain(DrainRequest { sealed_order, seal })).await;
    let not_reached = |why: &str| {
        format!("agent {id} at {} is not reached: {why}; it was not told to drain", member.address)
    };
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(match status.code() {
            Code::FailedPrecondition => format!("agent {id} does not obey: {}", status.message()),
            Code::Unimplemented => {
                format!("agent {id} is of version {}, which cannot drain; stop it instead", member.version)
            }
            _ => not_reached(&text(&status)),
        }),
        Err(_) => Err(not_reached(&format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
    }
}

fn text(status: &Status) -> String {
    if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() }
}
