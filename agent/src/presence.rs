//! Keeps the agent's registry entry true: ready, busy, draining.
//!
//! Takes the desk's census. The entry is entered once the agent can be reached and goes before it cannot.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use volcanion_common::registry::{Member, MemberState, Membership, Registry, RegistryError};

use crate::session::desk::Census;
use crate::session::lease::Lease;

/// How long taking the entry away may take; a lease takes it away after that.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// Joins, follows the census, and leaves when told.
///
/// # Errors
/// The registry will never take this entry.
pub async fn keep(
    registry: Arc<dyn Registry>,
    member: Member,
    mut census: watch::Receiver<Census>,
    lease: Lease,
    joined: watch::Sender<bool>,
    leave: CancellationToken,
) -> Result<(), RegistryError> {
    let membership: Arc<dyn Membership> = tokio::select! {
        () = leave.cancelled() => return Ok(()),
        membership = registry.join(member.clone()) => Arc::from(membership?),
    };
    lease.begin(membership.clone());
    info!(agent_id = %member.id, incarnation = %member.incarnation, address = member.address, "the agent is registered");
    joined.send_replace(true);
    let mut entered = member.state;
    loop {
        let state = state_of(&census.borrow_and_update());
        if state != entered {
            entered = state;
            membership.update(Member { state, ..member.clone() });
            info!(agent_id = %member.id, ?state, "the agent's state");
        }
        tokio::select! {
            () = leave.cancelled() => break,
            changed = census.changed() => if changed.is_err() { leave.cancelled().await },
        }
    }
    if timeout(LEAVE_WAIT, membership.leave()).await.is_err() {
        warn!(agent_id = %member.id, "the registry does not answer; the entry goes with its lease");
    }
    Ok(())
}

fn state_of(census: &Census) -> MemberState {
    match (census.closed().is_some(), census.runs.is_empty()) {
        (true, _) => MemberState::Draining,
        (false, true) => MemberState::Ready,
        (false, false) => MemberState::Busy,
    }
}
