//! Runs that the last master left: each is taken up again, or ended with its reason; none stays as if it were going.

use std::sync::Arc;

use volcanion_common::ids::RunId;
use volcanion_common::view::{Metrics, RunStatus, StopReason};

use super::life::{self, Begin};
use super::live::{self, Live};
use super::machine::{NewRun, PeerMove, TakenUp};
use super::origin::{Origin, told};
use super::table::{MasterError, Runs, plan_of_record};
use crate::store::{AgentMove, RunRecord, StoreError};

/// Why a run is not taken up.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTakenUp {
    /// Nobody can go on with it.
    #[error(transparent)]
    Plan(#[from] MasterError),
    /// It may be taken up as soon as the store answers, or is another master's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NotTakenUp> for MasterError {
    fn from(error: NotTakenUp) -> Self {
        match error {
            NotTakenUp::Plan(error) => error,
            NotTakenUp::Store(error) => error.into(),
        }
    }
}

/// Takes up every run that has not ended. Their drivers look for the agents; this returns as soon as each has one.
///
/// # Errors
/// The store does not work, or not for this master: nothing is ended for that, and whoever takes office next begins anew.
pub(crate) async fn take_over(runs: &Runs) -> Result<(), StoreError> {
    let shared = &runs.shared;
    let mut queued = Vec::new();
    for id in shared.store.unended_runs().await? {
        let Some(record) = shared.store.run_record(id).await? else { continue };
        if record.view.status == RunStatus::Queued {
            queued.push(record);
            continue;
        }
        tracing::info!(run_id = %id, status = record.view.status.name(), "taking up a run that another master left");
        take_up(runs, id, record).await?;
    }
    // Only once every run that goes has its agents again; ids ascend, so the line is as it was.
    for record in queued {
        let id = record.id();
        tracing::info!(run_id = %id, "a run that another master left waits for agents again");
        if let Err(error) = runs.queue_again(record) {
            give_up(runs, id, &error).await;
        }
    }
    runs.taken_over();
    Ok(())
}

/// Ends a run that cannot be taken up.
async fn give_up(runs: &Runs, id: RunId, error: &(dyn std::fmt::Display + Sync)) {
    let shared = &runs.shared;
    tracing::error!(run_id = %id, %error, "a run cannot be taken up");
    let message = format!("its master was lost, and it could not be taken up: {error}");
    // Nobody hears of it here; its two events would have been the first ones of this term.
    let last_event = live::ids_after(shared.epoch) + live::EVENTS_OF_AN_END;
    let metrics = Metrics::default();
    life::end_without_machine(shared, id, &metrics, StopReason::Lost, message, last_event).await;
}

async fn take_up(runs: &Runs, id: RunId, record: RunRecord) -> Result<(), StoreError> {
    let shared = &runs.shared;
    match taken_up(runs, id, record).await {
        Ok((live, taken)) => {
            let members = taken.run.members.iter().chain(&taken.joined).cloned().collect();
            let reservation = shared.agents.reserve_again(members, live.plan().agents.exclusive);
            runs.drive(live, Begin::TakenUp(Box::new(taken)), reservation, Origin::default());
        }
        Err(NotTakenUp::Store(error @ (StoreError::Unavailable(_) | StoreError::Fenced { .. }))) => {
            return Err(error);
        }
        Err(error) => give_up(runs, id, &error).await,
    }
    Ok(())
}

/// All that the next master begins with.
pub(super) async fn taken_up(
    runs: &Runs,
    id: RunId,
    record: RunRecord,
) -> Result<(Arc<Live>, TakenUp), NotTakenUp> {
    let shared = &runs.shared;
    let plan = Arc::new(plan_of_record(&record)?);
    let total = shared.store.total(id).await?;
    let live = Live::taken_up(record.view.clone(), Arc::clone(&plan), shared.epoch);
    let run = NewRun {
        run: id,
        epoch: shared.epoch,
        members: record.members,
        key: shared.config.cluster_key.clone(),
        seed: record.seed,
        orphan_timeout: shared.orphan_timeout(),
        trace: told(id, None, shared.trace_sample(&plan)),
        plan,
    };
    let moves = record.moves.into_iter();
    let moves = moves.map(|AgentMove { agent, incarnation, order }| PeerMove { agent, incarnation, order });
    let taken = TakenUp {
        run,
        status: record.view.status,
        stop_reason: record.stop_reason,
        start_at_unix_us: record.start_at_unix_us,
        total,
        agents: record.agents,
        next_part: record.next_part,
        changes: record.changes,
        moves: moves.collect(),
        joined: record.joined,
        warnings: record.warnings,
    };
    Ok((live, taken))
}
