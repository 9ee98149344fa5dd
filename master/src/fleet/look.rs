//! Looks inside an agent: where its CPU time goes, and what memory it has.
//!
//! The order is sealed with the cluster's key and goes to one process, as that to drain; no office is needed for it.

use std::time::Duration;

use jiff::Timestamp;
use tonic::{Code, Status};
use volcanion_common::ids::AgentId;
use volcanion_common::registry::Member;
use volcanion_common::session::command::{Command, Purpose};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::telemetry::memory::MemoryView;
use volcanion_proto::v1::{MemoryRequest, ProfileRequest};

use super::Agents;
use super::dial::Dialer;

/// How long an agent may take beside the sampling: connecting, and naming the functions that it met.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The order is not obeyed after this, so that clocks may differ a little.
const EXPIRES_MS: u64 = 60_000;

/// Why nothing is seen of an agent's inside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSeen {
    /// There is no such agent.
    #[error("there is no agent {0}")]
    Unknown(AgentId),
    /// It makes another profile.
    #[error("agent {0} makes a profile already; ask again when it is done")]
    Busy(AgentId),
    /// It does not answer, or says no.
    #[error("{0}")]
    Unavailable(String),
}

impl Agents {
    /// An agent's CPU profile of so many seconds, in pprof's form.
    ///
    /// # Errors
    /// There is no such agent, it cannot be reached, does not obey, or makes one already.
    pub async fn profile(
        &self,
        id: &AgentId,
        seconds: u32,
        dialer: &Dialer,
        key: &ClusterKey,
    ) -> Result<Vec<u8>, NotSeen> {
        let member = self.known(id)?;
        let (sealed_order, seal) = sealed(&member, Purpose::Profile, Some(seconds), key)?;
        let mut client = client(&member, dialer)?;
        let most = ANSWER_TIMEOUT + Duration::from_secs(seconds.into());
        let asking = client.profile(ProfileRequest { sealed_order, seal });
        let answer = within(most, &member, asking).await?;
        tracing::info!(agent_id = %id, seconds, "an agent was profiled");
        Ok(answer.profile)
    }

    /// An agent's memory.
    ///
    /// # Errors
    /// There is no such agent, it cannot be reached, or does not obey.
    pub async fn memory(
        &self,
        id: &AgentId,
        dialer: &Dialer,
        key: &ClusterKey,
    ) -> Result<MemoryView, NotSeen> {
        let member = self.known(id)?;
        let (sealed_order, seal) = sealed(&member, Purpose::Memory, None, key)?;
        let mut client = client(&member, dialer)?;
        let asking = client.memory(MemoryRequest { sealed_order, seal });
        let answer = within(ANSWER_TIMEOUT, &member, asking).await?;
        serde_json::from_slice(&answer.memory)
            .map_err(|error| NotSeen::Unavailable(format!("agent {id} answers what cannot be read: {error}")))
    }

    fn known(&self, id: &AgentId) -> Result<Member, NotSeen> {
        self.fleet().members.get(id).cloned().ok_or_else(|| NotSeen::Unknown(id.clone()))
    }
}

fn sealed(
    member: &Member,
    purpose: Purpose,
    seconds: Option<u32>,
    key: &ClusterKey,
) -> Result<(Vec<u8>, Vec<u8>), NotSeen> {
    let now_unix_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    let expires = now_unix_ms.saturating_add(EXPIRES_MS);
    let order = Command::new(purpose, member.id.clone(), member.incarnation, expires);
    Command { seconds, ..order }.sealed(key).map_err(|error| NotSeen::Unavailable(error.to_string()))
}

fn client(
    member: &Member,
    dialer: &Dialer,
) -> Result<volcanion_proto::v1::agent_client::AgentClient<tonic::transport::Channel>, NotSeen> {
    let made = dialer.client(&member.address);
    made.map_err(|error| NotSeen::Unavailable(format!("agent {}: {error}", member.id)))
}

async fn within<T>(
    most: Duration,
    member: &Member,
    asking: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, NotSeen> {
    let id = &member.id;
    match tokio::time::timeout(most, asking).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(match status.code() {
            Code::ResourceExhausted => NotSeen::Busy(id.clone()),
            Code::FailedPrecondition => {
                NotSeen::Unavailable(format!("agent {id} does not obey: {}", status.message()))
            }
            Code::Unimplemented => NotSeen::Unavailable(format!(
                "agent {id} is of version {}, which cannot be looked into",
                member.version
            )),
            code => NotSeen::Unavailable(format!(
                "agent {id} at {} does not answer well: {code}: {}",
                member.address,
                status.message()
            )),
        }),
        Err(_) => Err(NotSeen::Unavailable(format!(
            "agent {id} at {}: no answer within {} s",
            member.address,
            most.as_secs()
        ))),
    }
}
