//! Runs that wait for agents which others hold: stored as `queued`, shown, stopped like any other, and begun in the order of their coming.
//!
//! Each waits in a task of its own; the order is the line's ([`Place`]). Invariants: a run is in the store before it waits, and its agents are before
//! its driver begins; a master that leaves office leaves it queued, and the next one has it wait again.

use std::sync::Arc;
use std::time::Duration;

use volcanion_common::ids::RunId;
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::{ErrorCode, Metrics, RunStatus, RunView, StopReason};

use super::life::Begin;
use super::live::{Live, nothing_measured};
use super::machine::NewRun;
use super::origin::{Origin, told};
use super::start::RUNS_GOING_MAX;
use super::table::{MasterError, Runs, Way, plan_of_record};
use super::writer::show_end;
use crate::fleet::choose::Reservation;
use crate::fleet::line::Place;
use crate::store::{Progress, RunEnd, RunRecord, StoreError, now};

/// The pause after the store did not take a write.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A run that waits.
struct Queued {
    runs: Runs,
    id: RunId,
    plan: Arc<ValidPlan>,
    seed: u64,
    live: Arc<Live>,
    way: Way,
    origin: Origin,
}

/// What became of the waiting.
enum Turn {
    /// It has its agents.
    Takes(Reservation),
    /// Somebody stopped it.
    Stopped,
    /// This master is to leave it as it is.
    Left,
}

/// What became of a write.
enum Written {
    Done,
    Again,
    /// It is not this master's to write.
    Refused,
}

impl Runs {
    /// Has a run wait that is in the store.
    pub(super) fn queue(
        &self,
        record: RunRecord,
        plan: Arc<ValidPlan>,
        live: Arc<Live>,
        place: Place,
        origin: Origin,
    ) {
        let way = self.enter(&live);
        live.publish_state();
        let (runs, id, seed) = (self.clone(), record.id(), record.seed);
        self.shared.tasks.spawn(Queued { runs, id, plan, seed, live, way, origin }.wait(place));
    }

    /// Has a run wait again that another master left waiting.
    ///
    /// # Errors
    /// Its plan cannot be read.
    pub(super) fn queue_again(&self, record: RunRecord) -> Result<(), MasterError> {
        let plan = Arc::new(plan_of_record(&record)?);
        let live = Live::taken_up(record.view.clone(), Arc::clone(&plan), self.shared.epoch);
        let place = self.shared.agents.stand_in_line(record.id(), &plan.agents);
        self.queue(record, plan, live, place, Origin::default());
        Ok(())
    }
}

impl Queued {
    async fn wait(self, mut place: Place) {
        loop {
            match self.turn(&mut place).await {
                Turn::Left => return self.leave(),
                Turn::Stopped => {
                    drop(place);
                    return self.end(RunStatus::Cancelled, StopReason::Cancelled, None).await;
                }
                Turn::Takes(reservation) => {
                    let members = reservation.members().len();
                    if let Err(error) = self.runs.check_start(&self.plan, members).await
                        && error.code == ErrorCode::ValidationError
                    {
                        drop((place, reservation));
                        let message = format!("it waited for agents, and may not begin any more: {error}");
                        return self.end(RunStatus::Failed, StopReason::Failed, Some(message)).await;
                    }
                    match self.store_members(&reservation).await {
                        Written::Done => {
                            drop(place);
                            return self.begin(reservation);
                        }
                        Written::Again => drop(reservation),
                        Written::Refused => return self.leave(),
                    }
                    self.pause().await;
                }
            }
        }
    }

    /// Waits for its agents, or for whatever else ends the waiting.
    async fn turn(&self, place: &mut Place) -> Turn {
        let shared = &self.runs.shared;
        loop {
            let is_over = shared.deposed.is_cancelled()
                || shared.stop.is_cancelled() && !shared.stops_runs_on_exit()
                || self.way.stop.is_cancelled();
            if !is_over
                && self.runs.going() < RUNS_GOING_MAX
                && let Some(reservation) = place.try_take()
            {
                return Turn::Takes(reservation);
            }
            // Each branch may be dropped half-way: each is a wait.
            tokio::select! {
                biased;
                () = shared.deposed.cancelled() => return Turn::Left,
                () = shared.stop.cancelled(), if !shared.stops_runs_on_exit() => return Turn::Left,
                () = self.way.stop.cancelled() => return Turn::Stopped,
                () = place.changed() => {}
            }
        }
    }

    /// Should the second write not be done, the run waits on, and what the first one said is said anew.
    async fn store_members(&self, reservation: &Reservation) -> Written {
        let (store, epoch) = (&self.runs.shared.store, self.runs.shared.epoch);
        let progress = Progress { status: RunStatus::Preparing, start_at_unix_us: None, stop_reason: None };
        let writing = async {
            store.join_run(epoch, self.id, reservation.members(), &[]).await?;
            store.update_run(epoch, self.id, &progress).await
        };
        self.judge(writing.await)
    }

    fn begin(self, reservation: Reservation) {
        let Self { runs, id, plan, seed, live, way, mut origin } = self;
        let sample = runs.shared.trace_sample(&plan);
        let trace = origin.accepted(id, sample).or_else(|| told(id, None, sample));
        tracing::info!(run_id = %id, agents = reservation.members().len(), "a queued run begins");
        live.publish_view(RunView { status: RunStatus::Preparing, ..live.view() });
        let new = NewRun {
            run: id,
            epoch: runs.shared.epoch,
            plan,
            members: reservation.members().to_vec(),
            key: runs.shared.config.cluster_key.clone(),
            seed,
            orphan_timeout: runs.shared.orphan_timeout(),
            trace,
        };
        runs.drive_on(live, way, Begin::New(Box::new(new)), reservation, origin);
    }

    /// Ends it without a load, as soon as the store takes that.
    async fn end(self, status: RunStatus, reason: StopReason, message: Option<String>) {
        let shared = &self.runs.shared;
        let view = RunView { status, stop_reason: Some(reason), ..self.live.view() };
        let metrics: Arc<Metrics> = Arc::new(nothing_measured(&view));
        let ended_at = now();
        loop {
            let last_event = self.live.begin_end();
            let (message, metrics) = (message.clone(), Arc::clone(&metrics));
            let end = RunEnd { status, reason, message, ended_at, metrics, last_event };
            match self.judge(shared.store.end_run(shared.epoch, self.id, &end).await) {
                Written::Done => {
                    tracing::info!(run_id = %self.id, status = status.name(), "a queued run ended");
                    return show_end(&self.live, &end, Arc::default());
                }
                Written::Again => self.live.take_end_back(),
                Written::Refused => return self.leave(),
            }
            if shared.deposed.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await.is_none() {
                return self.leave();
            }
        }
    }

    fn judge(&self, written: Result<(), StoreError>) -> Written {
        match written {
            Ok(()) => Written::Done,
            Err(error @ (StoreError::Fenced { .. } | StoreError::NotGoing(_))) => {
                tracing::warn!(run_id = %self.id, %error, "a queued run is left to another master");
                self.runs.shared.deposed.cancel();
                Written::Refused
            }
            Err(error) => {
                tracing::error!(run_id = %self.id, %error, "the store did not take a write; the run waits on");
                Written::Again
            }
        }
    }

    async fn pause(&self) {
        let shared = &self.runs.shared;
        // Whatever cuts it short is looked at next.
        let pausing = shared.deposed.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER));
        let _ = self.way.stop.run_until_cancelled(pausing).await;
    }

    /// From now on the store says how it goes.
    fn leave(self) {
        self.live.close();
        self.runs.shared.forget(self.id);
    }
}
