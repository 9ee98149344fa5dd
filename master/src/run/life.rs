//! A run from where it begins to its end, around its driver: the first of its actions, what becomes of it where the driver breaks, and where this
//! master leaves it to another.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use volcanion_common::ids::RunId;
use volcanion_common::view::{Metrics, RunStatus, StopReason};

use super::driver::{Driver, RunContext, now};
use super::machine::{NewRun, RunMachine, TakenUp};
use super::outgoing::TakenUpAt;
use super::table::Shared;
use super::writer;
use crate::store::{self, RunEnd};

/// How long agents of a taken-up run may take to show themselves in the registry before they are told to the machine as gone.
const APPEAR_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a run begins for its driver.
pub(crate) enum Begin {
    /// At its beginning.
    New(Box<NewRun>),
    /// Where another master left it.
    TakenUp(Box<TakenUp>),
}

/// Drives a run until it is over, or until this master is to end. A panic ends the run as failed, loudly.
pub(crate) async fn drive(context: RunContext, begin: Begin) {
    let (shared, run, live) = (Arc::clone(&context.shared), context.run, Arc::clone(&context.live));
    if AssertUnwindSafe(drive_to_end(context, begin)).catch_unwind().await.is_err() {
        tracing::error!(run_id = %run, "the run's driver broke; the run ends as failed");
        let message = "the master failed at this run; its log says more".to_owned();
        let last_event = live.begin_end();
        let end =
            end_without_machine(&shared, run, &live.metrics(), StopReason::Failed, message, last_event).await;
        writer::show_end(&live, &end, live.totals());
    }
    if live.ended().is_none() {
        // Left to another master: from now on the store says how it goes.
        live.close();
        shared.forget(run);
    }
}

/// Ends a run that nobody can drive, with what is known of it.
pub(super) async fn end_without_machine(
    shared: &Shared,
    run: RunId,
    metrics: &Metrics,
    reason: StopReason,
    message: String,
    last_event: u64,
) -> RunEnd {
    let now = store::now();
    let metrics = Metrics {
        run_id: run.0,
        status: Some(RunStatus::Failed),
        stop_reason: Some(reason),
        last_updated: now.to_string(),
        ..metrics.clone()
    };
    let end = RunEnd {
        status: RunStatus::Failed,
        reason,
        message: Some(message),
        ended_at: now,
        metrics: Arc::new(metrics),
        last_event,
    };
    if let Err(error) = shared.store.end_run(shared.epoch, run, &end).await {
        tracing::error!(run_id = %run, %error, "the run's end could not be stored; the next master ends it");
    }
    end
}

async fn drive_to_end(context: RunContext, begin: Begin) {
    let taken_up_at = match &begin {
        Begin::New(_) => None,
        Begin::TakenUp(taken) => Some(TakenUpAt { to: taken.total.to, next_part: taken.next_part }),
    };
    let is_taken_up = taken_up_at.is_some();
    let members = context.reservation.members().to_vec();
    if is_taken_up {
        // The first list of a registry that has just come back may lack agents that are alive.
        let agents = &context.shared.agents;
        let appeared = agents.wait_for(&members, APPEAR_TIMEOUT);
        if context.shared.stop.run_until_cancelled(appeared).await.is_none() {
            return;
        }
    }
    let (machine, actions) = match begin {
        Begin::New(new) => RunMachine::new(*new, now()),
        Begin::TakenUp(taken) => RunMachine::resume(*taken, now()),
    };
    let mut driver = Driver::new(context, machine, members, taken_up_at);
    driver.act_all(actions);
    if is_taken_up {
        driver.look_at_fleet();
    }
    driver.run().await;
    driver.wind_up().await;
}
