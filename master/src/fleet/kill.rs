//! The kill switch: every agent ends the load of every run at once.
//!
//! Nothing of it needs the store, an office or a run's stream, so any master can throw it, whatever else hangs. Agents tell
//! their leader why the load ended; it ends the runs as cancelled.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use volcanion_common::registry::Member;
use volcanion_common::session::command::{Command, Purpose};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::view::KilledAgentView;
use volcanion_proto::v1::KillRequest;

use super::Agents;
use super::dial::Dialer;

/// How long an agent may take to answer, connecting included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The order is not obeyed after this, so that clocks may differ a little.
const EXPIRES_MS: u64 = 60_000;

impl Agents {
    /// Kills on all agents at once; by name.
    pub async fn kill(&self, dialer: &Dialer, key: &ClusterKey) -> Vec<KilledAgentView> {
        let fleet = self.fleet();
        join_all(fleet.members.values().map(|member| kill(member, dialer, key))).await
    }
}

async fn kill(member: &Member, dialer: &Dialer, key: &ClusterKey) -> KilledAgentView {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, order(member, dialer, key)).await;
    let late = || Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()));
    match answer.unwrap_or_else(|_| late()) {
        Ok(runs) => KilledAgentView { id: member.id.0.clone(), killed: true, runs, message: None },
        Err(why) => {
            tracing::error!(agent_id = %member.id, why, "the kill switch did not reach an agent");
            KilledAgentView { id: member.id.0.clone(), killed: false, runs: 0, message: Some(why) }
        }
    }
}

async fn order(member: &Member, dialer: &Dialer, key: &ClusterKey) -> Result<u32, String> {
    let now_unix_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    let expires = now_unix_ms.saturating_add(EXPIRES_MS);
    let order = Command::new(Purpose::Kill, member.id.clone(), member.incarnation, expires);
    let (sealed_order, seal) = order.sealed(key).map_err(|error| error.to_string())?;
    let mut client = dialer.client(&member.address).map_err(|error| error.to_string())?;
    let answer = client.kill(KillRequest { sealed_order, seal }).await;
    answer.map(|answer| answer.into_inner().runs).map_err(|status| status.message().to_owned())
}
