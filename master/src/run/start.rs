//! Starting a run: its plan, its agents, its record; then its driver.

use std::sync::Arc;

use volcanion_common::ids::{PlanId, RunId};
use volcanion_common::plan::{Load, document};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::{ErrorCode, RunStatus, RunView};

use super::levels::levels;
use super::life::Begin;
use super::live::Live;
use super::machine::NewRun;
use super::origin::{Cause, Origin};
use super::table::{MasterError, Runs};
use crate::fleet::choose::Reservation;
use crate::fleet::line::Place;
use crate::store::{self, IdempotencyKey, Inserted, RunRecord};

/// The most runs that go at once.
pub const RUNS_GOING_MAX: usize = 64;

/// What a new run got.
enum Taken {
    Agents(Reservation),
    /// One in the line of those that wait.
    Place(Place),
}

impl Runs {
    /// Starts a run of a plan, or has it wait in the line where other runs hold the agents that it needs. The same `idempotency_key` again gives the
    /// run that it started.
    ///
    /// # Errors
    /// There is no such plan; it passes what this master allows; no agent fits; too many runs wait; the key was used for another plan; too many runs are going.
    pub async fn start_run(
        &self,
        id: PlanId,
        idempotency_key: Option<String>,
    ) -> Result<RunView, MasterError> {
        self.start_run_for(id, idempotency_key, Cause::default()).await
    }

    /// [`Runs::start_run`], asked for by a request.
    ///
    /// # Errors
    /// As there.
    pub async fn start_run_for(
        &self,
        id: PlanId,
        idempotency_key: Option<String>,
        cause: Cause,
    ) -> Result<RunView, MasterError> {
        self.check_leading()?;
        let key = idempotency_key.map(|key| IdempotencyKey { key, request: format!("start {id}") });
        if let Some(known) = self.started_before(key.as_ref()).await? {
            return Ok(known);
        }
        let stored = self.plan(id).await?;
        if self.going() >= RUNS_GOING_MAX {
            let detail =
                format!("{RUNS_GOING_MAX} runs are going, which is the most; stop one, or wait for its end");
            return Err(MasterError::new(ErrorCode::RateLimited, detail));
        }
        let mut origin = Origin::new(&self.shared.tracer, cause);
        let plan = Arc::new(stored.plan);
        let run = RunId::new();
        let taken = self.take_or_wait(run, &plan)?;
        let agents = match &taken {
            Taken::Agents(reservation) => reservation.members().len(),
            // At least so many; it is looked at again when they are known.
            Taken::Place(_) => plan.agents.count.unwrap_or(1).max(1) as usize,
        };
        self.check_start(&plan, agents).await?;
        let record = new_record(id, run, &plan, &taken);
        match self.shared.store.insert_run(self.shared.epoch, &record, key.as_ref()).await {
            Ok(Inserted::New) => {}
            Ok(Inserted::Known(run)) => return self.run(run).await,
            Ok(Inserted::OtherRequest) => return Err(other_request()),
            Err(error) => {
                self.look_whether_deposed(&error);
                return Err(error.into());
            }
        }
        let (live, view) = (Live::new(record.view.clone(), Arc::clone(&plan)), record.view.clone());
        let reservation = match taken {
            Taken::Agents(reservation) => reservation,
            Taken::Place(place) => {
                tracing::info!(run_id = %run, plan = %plan.name, "run accepted; it waits for agents");
                self.queue(record, plan, live, place, origin);
                return Ok(view);
            }
        };
        tracing::info!(run_id = %run, plan = %plan.name, agents = record.members.len(), "run accepted");
        let trace = origin.accepted(run, self.shared.trace_sample(&plan));
        let new = NewRun {
            run,
            epoch: self.shared.epoch,
            plan,
            members: record.members,
            key: self.shared.config.cluster_key.clone(),
            seed: record.seed,
            orphan_timeout: self.shared.orphan_timeout(),
            trace,
        };
        self.drive(live, Begin::New(Box::new(new)), reservation, origin);
        Ok(view)
    }

    fn take_or_wait(&self, run: RunId, plan: &ValidPlan) -> Result<Taken, MasterError> {
        let agents = &self.shared.agents;
        match agents.reserve(&plan.agents) {
            Ok(reservation) => Ok(Taken::Agents(reservation)),
            Err(error) if error.are_held => Ok(Taken::Place(agents.wait_in_line(run, &plan.agents)?)),
            Err(error) => Err(error.into()),
        }
    }

    /// The copies and addresses that a plan has now.
    pub(super) async fn check_start(&self, plan: &ValidPlan, agents: usize) -> Result<(), MasterError> {
        let copies = if plan.load == Load::PerAgent { agents as u64 } else { 1 };
        let mut problems = self.shared.config.caps.problems(plan, copies);
        if problems.is_empty() {
            problems = self.shared.config.caps.address_problems(plan).await;
        }
        if problems.is_empty() { Ok(()) } else { Err(MasterError::invalid(problems)) }
    }

    async fn started_before(&self, key: Option<&IdempotencyKey>) -> Result<Option<RunView>, MasterError> {
        let Some(key) = key else { return Ok(None) };
        match self.shared.store.idempotency_key(&key.key).await? {
            None => Ok(None),
            Some((known, _)) if known.request != key.request => Err(other_request()),
            Some((_, run)) => self.run(run).await.map(Some),
        }
    }

    fn look_whether_deposed(&self, error: &store::StoreError) {
        if matches!(error, store::StoreError::Fenced { .. }) {
            self.shared.deposed.cancel();
        }
    }
}

fn new_record(id: PlanId, run: RunId, plan: &ValidPlan, taken: &Taken) -> RunRecord {
    let (status, members) = match taken {
        Taken::Agents(reservation) => (RunStatus::Preparing, reservation.members().to_vec()),
        Taken::Place(_) => (RunStatus::Queued, Vec::new()),
    };
    let view = RunView {
        id: run.0,
        plan_id: id.0,
        plan_name: plan.name.clone(),
        status,
        stop_reason: None,
        message: None,
        created_at: store::now().to_string(),
        start_at: None,
        ended_at: None,
        planned_duration_ms: plan.duration().0 / 1_000,
        levels: levels(plan, &[]),
    };
    RunRecord {
        view,
        plan: document::to_json(plan),
        // The run's id ends in 62 random bits.
        seed: run.0.as_u128() as u64,
        members,
        start_at_unix_us: None,
        stop_reason: None,
        agents: Vec::new(),
        next_part: 1,
        changes: Vec::new(),
        moves: Vec::new(),
        joined: Vec::new(),
        warnings: Vec::new(),
    }
}

fn other_request() -> MasterError {
    MasterError::conflict(
        "this Idempotency-Key was used for another request; take a new one for each new request",
    )
}
