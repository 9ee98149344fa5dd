//! Starting a run: its plan, its agents, its record; then its driver.

use std::sync::Arc;

use volcanion_common::ids::{PlanId, RunId};
use volcanion_common::plan::{Load, document};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::{ErrorCode, RunStatus, RunView};

use super::driver::Begin;
use super::levels::levels;
use super::live::Live;
use super::machine::NewRun;
use super::origin::{Cause, Origin};
use super::table::{MasterError, Runs};
use crate::fleet::choose::Reservation;
use crate::store::{self, IdempotencyKey, Inserted, RunRecord};

/// The most runs that go at once.
pub const RUNS_GOING_MAX: usize = 64;

impl Runs {
    /// Starts a run of a plan. The same `idempotency_key` again gives the run that it started.
    ///
    /// # Errors
    /// There is no such plan; it passes what this master allows; no agent fits; the key was used for another plan; too many runs are going.
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
        let reservation = self.shared.agents.reserve(&stored.plan.agents)?;
        self.check_start(&stored.plan, reservation.members().len()).await?;
        let plan = Arc::new(stored.plan);
        let record = new_record(id, &plan, &reservation);
        match self.shared.store.insert_run(self.shared.epoch, &record, key.as_ref()).await {
            Ok(Inserted::New) => {}
            Ok(Inserted::Known(run)) => return self.run(run).await,
            Ok(Inserted::OtherRequest) => return Err(other_request()),
            Err(error) => {
                self.look_whether_deposed(&error);
                return Err(error.into());
            }
        }
        tracing::info!(run_id = %record.id(), plan = %plan.name, agents = record.members.len(), "run accepted");
        let trace = origin.accepted(record.id(), self.shared.trace_sample(&plan));
        let new = NewRun {
            run: record.id(),
            epoch: self.shared.epoch,
            plan: Arc::clone(&plan),
            members: record.members,
            key: self.shared.config.cluster_key.clone(),
            seed: record.seed,
            trace,
        };
        let live = Live::new(record.view.clone(), plan);
        self.drive(live, Begin::New(Box::new(new)), reservation, origin);
        Ok(record.view)
    }

    /// The copies and addresses that a plan has now.
    async fn check_start(&self, plan: &ValidPlan, agents: usize) -> Result<(), MasterError> {
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

fn new_record(id: PlanId, plan: &ValidPlan, reservation: &Reservation) -> RunRecord {
    let run = RunId::new();
    let view = RunView {
        id: run.0,
        plan_id: id.0,
        plan_name: plan.name.clone(),
        status: RunStatus::Preparing,
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
        members: reservation.members().to_vec(),
        start_at_unix_us: None,
        stop_reason: None,
        agents: Vec::new(),
        next_part: 1,
        changes: Vec::new(),
        moves: Vec::new(),
        joined: Vec::new(),
    }
}

fn other_request() -> MasterError {
    MasterError::conflict(
        "this Idempotency-Key was used for another request; take a new one for each new request",
    )
}
