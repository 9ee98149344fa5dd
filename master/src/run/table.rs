//! The table of runs: everything that REST and the command line ask of a master, behind one cloneable handle.
//!
//! Plans go straight to the store. A run that is going (or ended a few minutes ago) is answered from its [`Live`], any other from
//! the store. Invariants: a run is in the store before its driver begins; what is answered twice under one idempotency key is one run;
//! a master that was deposed changes nothing any more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use volcanion_common::delta::Delta;
use volcanion_common::ids::{AgentId, Epoch, PlanId, RunId};
use volcanion_common::plan::document::{self, PlanDocument};
use volcanion_common::problem::Problem;
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::{AgentView, ErrorCode, IntervalView, Metrics, RunStatus, RunView};

use super::driver::{self, RunContext};
pub use super::error::MasterError;
use super::interval::interval_view;
use super::live;
pub use super::live::{Live, RunEvent, RunEventKind, RunEvents};
use super::machine::NewRun;
use crate::config::Config;
use crate::fleet::Agents;
use crate::fleet::choose::Reservation;
use crate::fleet::dial::Dialer;
use crate::store::{self, IdempotencyKey, Inserted, Rows, RunRecord, Store};
pub use crate::store::{Page, PlanPage, RunFilter, StoredPlan};

/// The most runs that go at once.
pub const RUNS_GOING_MAX: usize = 64;
/// How long an ended run's totals stay at hand, for Prometheus.
pub const ENDED_KEPT: Duration = Duration::from_secs(600);
/// The most rows of a history in one answer: more than a day of seconds.
pub const ROWS_MAX: usize = 100_000;
/// How long a stop waits for the run's end before it answers `stopping`.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Everything that clients ask of a master. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    pub(crate) shared: Arc<Shared>,
}

/// What the table and its drivers share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) agents: Agents,
    pub(crate) dialer: Dialer,
    pub(crate) config: Arc<Config>,
    pub(crate) epoch: Epoch,
    /// Cancelled when the store says that another master leads.
    pub(crate) deposed: CancellationToken,
    /// Cancelled when this master is to end.
    pub(crate) stop: CancellationToken,
    /// Every driver.
    pub(crate) tasks: TaskTracker,
    is_taking_over: AtomicBool,
    table: Mutex<HashMap<RunId, Entry>>,
}

struct Entry {
    live: Arc<Live>,
    /// Cancelled when somebody asks for the run's end.
    stop: CancellationToken,
}

/// A going or lately ended run with everything that was merged of it, for Prometheus.
#[derive(Clone)]
pub struct RunTotals {
    /// The run.
    pub view: RunView,
    /// Its plan.
    pub plan: Arc<ValidPlan>,
    /// The sum of all deltas.
    pub totals: Arc<Delta>,
    /// The newest document.
    pub metrics: Arc<Metrics>,
}

/// Which part of a run's history is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From this run time on; intervals are taken whole, each in the window that it begins in.
    pub from: Option<RunTime>,
    /// Up to this run time.
    pub to: Option<RunTime>,
    /// A step's name: only its requests.
    pub step: Option<String>,
    /// In rows of this width; the run's own intervals where absent.
    pub every: Option<Micros>,
}

impl Shared {
    /// Whether runs end with this master.
    pub(crate) fn stops_runs_on_exit(&self) -> bool {
        self.config.stop_runs_on_exit || !self.config.store.is_durable()
    }

    /// The run is no longer this master's.
    pub(crate) fn forget(&self, run: RunId) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}

impl Runs {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        agents: Agents,
        dialer: Dialer,
        config: Arc<Config>,
        epoch: Epoch,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                agents,
                dialer,
                config,
                epoch,
                deposed: CancellationToken::new(),
                stop,
                tasks: TaskTracker::new(),
                is_taking_over: AtomicBool::new(true),
                table: Mutex::default(),
            }),
        }
    }

    /// Stores a plan.
    ///
    /// # Errors
    /// The store does not work, or another master leads.
    pub async fn create_plan(&self, document: PlanDocument) -> Result<StoredPlan, MasterError> {
        self.check_leading()?;
        let now = store::now();
        let PlanDocument { plan, source, is_simple, .. } = document;
        let plan =
            StoredPlan { id: PlanId::new(), source, plan, is_simple, created_at: now, updated_at: now };
        self.shared.store.insert_plan(&plan).await?;
        Ok(plan)
    }

    /// A plan.
    ///
    /// # Errors
    /// There is none.
    pub async fn plan(&self, id: PlanId) -> Result<StoredPlan, MasterError> {
        self.shared.store.plan(id).await?.ok_or_else(|| MasterError::not_found("plan", id))
    }

    /// A page of plans, newest first.
    ///
    /// # Errors
    /// The cursor is none of ours.
    pub async fn plans(&self, page: PlanPage) -> Result<Page<StoredPlan>, MasterError> {
        Ok(self.shared.store.plans(&page).await?)
    }

    /// Replaces a plan's document; runs that are going keep theirs.
    ///
    /// # Errors
    /// There is no such plan.
    pub async fn replace_plan(&self, id: PlanId, document: PlanDocument) -> Result<StoredPlan, MasterError> {
        self.check_leading()?;
        let old = self.plan(id).await?;
        let PlanDocument { plan, source, is_simple, .. } = document;
        let plan = StoredPlan { source, plan, is_simple, updated_at: store::now(), ..old };
        if self.shared.store.replace_plan(&plan).await? {
            Ok(plan)
        } else {
            Err(MasterError::not_found("plan", id))
        }
    }

    /// Removes a plan; its runs stay.
    ///
    /// # Errors
    /// There is no such plan.
    pub async fn delete_plan(&self, id: PlanId) -> Result<(), MasterError> {
        self.check_leading()?;
        if self.shared.store.delete_plan(id).await? {
            Ok(())
        } else {
            Err(MasterError::not_found("plan", id))
        }
    }

    /// Stores a copy of a plan under a new id.
    ///
    /// # Errors
    /// There is no such plan.
    pub async fn clone_plan(&self, id: PlanId) -> Result<StoredPlan, MasterError> {
        self.check_leading()?;
        let now = store::now();
        let copy = StoredPlan { id: PlanId::new(), created_at: now, updated_at: now, ..self.plan(id).await? };
        self.shared.store.insert_plan(&copy).await?;
        Ok(copy)
    }

    /// Starts a run of a plan. The same `idempotency_key` again gives the run that it started.
    ///
    /// # Errors
    /// There is no such plan; no agent fits; the key was used for another plan; too many runs are going.
    pub async fn start_run(
        &self,
        id: PlanId,
        idempotency_key: Option<String>,
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
        let reservation = self.shared.agents.reserve(&stored.plan.agents)?;
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
        let new = NewRun {
            run: record.id(),
            epoch: self.shared.epoch,
            plan: Arc::clone(&plan),
            members: record.members,
            key: self.shared.config.cluster_key.clone(),
            seed: record.seed,
        };
        let live = Live::new(record.view.clone(), plan);
        self.drive(live, driver::Begin::New(Box::new(new)), reservation);
        Ok(record.view)
    }

    /// Stops a run, and waits a few seconds for its end. A cancelled run is answered as it is.
    ///
    /// # Errors
    /// There is no such run; it ended by itself.
    pub async fn stop_run(&self, id: RunId) -> Result<RunView, MasterError> {
        let Some((live, stop)) = self.entry(id) else {
            let view = self.run(id).await?;
            if !view.status.is_ended() {
                // Whoever drives it is another master; should that be nobody, the next one ends it.
                self.check_leading()?;
                return Err(MasterError::new(
                    ErrorCode::NoLeader,
                    format!("this master does not drive run {id}"),
                ));
            }
            return stopped_answer(view);
        };
        if live.ended().is_some() {
            return stopped_answer(live.view());
        }
        self.check_leading()?;
        stop.cancel();
        // Whether it ends in this time or not, its view says how far it is.
        let _ = tokio::time::timeout(STOP_WAIT, live.until_ended()).await;
        stopped_answer(self.run(id).await?)
    }

    /// A run.
    ///
    /// # Errors
    /// There is none.
    pub async fn run(&self, id: RunId) -> Result<RunView, MasterError> {
        match self.live(id) {
            Some(live) => Ok(live.view()),
            None => self.shared.store.run(id).await?.ok_or_else(|| MasterError::not_found("run", id)),
        }
    }

    /// A page of runs, newest first.
    ///
    /// # Errors
    /// The cursor is none of ours.
    pub async fn runs(&self, filter: RunFilter) -> Result<Page<RunView>, MasterError> {
        Ok(self.shared.store.runs(&filter).await?)
    }

    /// A run's metrics: merged live, at most an interval old, while it goes; the final ones once it ended.
    ///
    /// # Errors
    /// There is no such run.
    pub async fn metrics(&self, id: RunId) -> Result<Arc<Metrics>, MasterError> {
        if let Some(live) = self.live(id) {
            return Ok(live.metrics());
        }
        if let Some(metrics) = self.shared.store.metrics(id).await? {
            return Ok(Arc::new(metrics));
        }
        let view = self.run(id).await?;
        Ok(Arc::new(live::nothing_measured(&view)))
    }

    /// A run's history, exact for any window: what is stored, merged in rows.
    ///
    /// # Errors
    /// There is no such run, or its plan has no such step; more than [`ROWS_MAX`] rows.
    pub async fn intervals(&self, id: RunId, window: Window) -> Result<Vec<IntervalView>, MasterError> {
        let plan = self.plan_of(id).await?;
        let step = window.step.as_deref().map(|name| step_named(&plan, name)).transpose()?;
        let (mut rows, mut views, mut after) = (Rows::new(window.every), Vec::new(), None);
        loop {
            let (parts, next) = self.shared.store.history(id, window.from, window.to, after).await?;
            let plan = Arc::clone(&plan);
            let folding = tokio::task::spawn_blocking(move || {
                let whole = parts.into_iter().filter_map(|part| rows.add(part));
                views.extend(whole.map(|row| interval_view(&plan, &row, step)));
                if next.is_none() {
                    views.extend(rows.finish().map(|row| interval_view(&plan, &row, step)));
                    return (None, views);
                }
                (Some(rows), views)
            });
            let folded = folding.await;
            let (rest, so_far) =
                folded.map_err(|error| MasterError::internal(format!("the history of run {id}: {error}")))?;
            if so_far.len() > ROWS_MAX {
                return Err(too_many_rows());
            }
            let Some(rest) = rest else { return Ok(so_far) };
            (rows, views, after) = (rest, so_far, next);
        }
    }

    /// A run's events in order, after the one with the id `after`, until its end.
    ///
    /// # Errors
    /// There is no such run.
    pub async fn events(&self, id: RunId, after: Option<u64>) -> Result<RunEvents, MasterError> {
        if let Some(live) = self.live(id) {
            return Ok(live.events(after));
        }
        let (view, metrics) = (self.run(id).await?, self.metrics(id).await?);
        let first = after.map_or(1, |id| id.saturating_add(1));
        let events = [RunEventKind::State(view), RunEventKind::End(metrics)];
        let events = events.into_iter().zip(first..).map(|(kind, id)| RunEvent { id, kind });
        Ok(stream::iter(events.collect::<Vec<_>>()).boxed())
    }

    /// The registered agents, by name.
    pub fn agents(&self) -> Vec<AgentView> {
        self.shared.agents.views()
    }

    /// Has an agent finish the runs that it has and take no new one, and waits a few seconds until the registry shows it. It stays
    /// until it is stopped; started again, it takes runs again. One that drains already is answered as it is.
    ///
    /// # Errors
    /// There is no such agent; it is not reached, or does not obey.
    pub async fn drain_agent(&self, id: AgentId) -> Result<AgentView, MasterError> {
        self.check_leading()?;
        Ok(self.shared.agents.drain(&id, &self.shared.dialer, &self.shared.config.cluster_key).await?)
    }

    /// Runs that are going and those that ended in the last [`ENDED_KEPT`], oldest first.
    pub fn totals(&self) -> Vec<RunTotals> {
        let lives: Vec<_> = self.table().values().map(|entry| Arc::clone(&entry.live)).collect();
        let mut totals: Vec<_> = lives
            .iter()
            .map(|live| RunTotals {
                view: live.view(),
                plan: Arc::clone(live.plan()),
                totals: live.totals(),
                metrics: live.metrics(),
            })
            .collect();
        totals.sort_by_key(|run| run.view.id);
        totals
    }

    /// Whether writes can be served.
    ///
    /// # Errors
    /// Another master leads, or this one is still taking over or already ending.
    pub fn check_ready(&self) -> Result<(), MasterError> {
        let not_now = |detail: &str| Err(MasterError::new(ErrorCode::NoLeader, detail));
        if self.shared.is_taking_over.load(Ordering::Acquire) {
            return not_now(
                "this master is taking up the runs that the last one left; try again in a moment",
            );
        }
        self.check_leading()
    }

    /// How many runs are going.
    pub fn going(&self) -> usize {
        self.table().values().filter(|entry| entry.live.ended().is_none()).count()
    }

    /// Has a run driven, from its beginning or from where another master left it.
    pub(crate) fn drive(&self, live: Arc<Live>, begin: driver::Begin, reservation: Reservation) {
        let run = RunId(live.view().id);
        let stop = CancellationToken::new();
        let entry = Entry { live: Arc::clone(&live), stop: stop.clone() };
        {
            let mut table = self.table();
            table.retain(|_, entry| entry.live.ended().is_none_or(|ended| ended.elapsed() < ENDED_KEPT));
            table.insert(run, entry);
        }
        let context = RunContext { shared: Arc::clone(&self.shared), run, live, stop, reservation };
        self.shared.tasks.spawn(driver::drive(context, begin));
    }

    /// Shows a run that nobody drives.
    #[cfg(test)]
    pub(crate) fn adopt(&self, live: Arc<Live>) {
        let run = RunId(live.view().id);
        self.table().insert(run, Entry { live, stop: CancellationToken::new() });
    }

    /// Forgets runs whose time is over; called now and then.
    pub(crate) fn forget_old(&self) {
        self.table().retain(|_, entry| entry.live.ended().is_none_or(|ended| ended.elapsed() < ENDED_KEPT));
    }

    pub(crate) fn taken_over(&self) {
        self.shared.is_taking_over.store(false, Ordering::Release);
    }

    /// Ends every run, or leaves them to the next master, and waits for the drivers, but not longer than `most`.
    pub(crate) async fn wind_up(&self, most: Duration) {
        if self.shared.stops_runs_on_exit() {
            self.table().values().for_each(|entry| entry.stop.cancel());
        } else if self.going() > 0 {
            let (runs, orphan_timeout) = (self.going(), self.shared.config.orphan_timeout);
            tracing::info!(
                runs,
                ?orphan_timeout,
                "runs go on, and wait for the next master as long as their agents do"
            );
        }
        self.shared.tasks.close();
        if tokio::time::timeout(most, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("some runs did not end in time; the next master ends them");
        }
    }

    async fn started_before(&self, key: Option<&IdempotencyKey>) -> Result<Option<RunView>, MasterError> {
        let Some(key) = key else { return Ok(None) };
        match self.shared.store.idempotency_key(&key.key).await? {
            None => Ok(None),
            Some((known, _)) if known.request != key.request => Err(other_request()),
            Some((_, run)) => self.run(run).await.map(Some),
        }
    }

    async fn plan_of(&self, id: RunId) -> Result<Arc<ValidPlan>, MasterError> {
        if let Some(live) = self.live(id) {
            return Ok(Arc::clone(live.plan()));
        }
        let record =
            self.shared.store.run_record(id).await?.ok_or_else(|| MasterError::not_found("run", id))?;
        plan_of_record(&record).map(Arc::new)
    }

    fn check_leading(&self) -> Result<(), MasterError> {
        if self.shared.deposed.is_cancelled() {
            let detail = "another master leads since; ask that one";
            return Err(MasterError::new(ErrorCode::NoLeader, detail));
        }
        if self.shared.stop.is_cancelled() {
            return Err(MasterError::new(ErrorCode::NoLeader, "this master is ending"));
        }
        Ok(())
    }

    fn look_whether_deposed(&self, error: &store::StoreError) {
        if matches!(error, store::StoreError::Fenced { .. }) {
            self.shared.deposed.cancel();
        }
    }

    fn live(&self, id: RunId) -> Option<Arc<Live>> {
        self.table().get(&id).map(|entry| Arc::clone(&entry.live))
    }

    fn entry(&self, id: RunId) -> Option<(Arc<Live>, CancellationToken)> {
        self.table().get(&id).map(|entry| (Arc::clone(&entry.live), entry.stop.clone()))
    }

    fn table(&self) -> MutexGuard<'_, HashMap<RunId, Entry>> {
        // Every change under the lock is whole, so a panic elsewhere leaves nothing half done.
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The plan of a stored run.
pub(crate) fn plan_of_record(record: &RunRecord) -> Result<ValidPlan, MasterError> {
    document::from_json(&record.plan).map(|document| document.plan).map_err(|problems| {
        MasterError::internal(format!("the plan of run {} cannot be read: {problems}", record.id()))
    })
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
    }
}

fn stopped_answer(view: RunView) -> Result<RunView, MasterError> {
    match view.status {
        RunStatus::Completed | RunStatus::Failed => {
            let detail = format!("run {} has ended already: it is {}", view.id, view.status.name());
            Err(MasterError::conflict(detail))
        }
        _ => Ok(view),
    }
}

fn other_request() -> MasterError {
    MasterError::conflict(
        "this Idempotency-Key was used for another request; take a new one for each new request",
    )
}

fn too_many_rows() -> MasterError {
    let message = format!(
        "there are more than {ROWS_MAX} rows; ask for wider ones (such as step=1m) or for a part of the run (from, to)"
    );
    MasterError::invalid(vec![Problem::new("step", message)])
}

fn step_named(plan: &ValidPlan, name: &str) -> Result<u32, MasterError> {
    if let Some(step) = plan.steps().find(|step| step.step.name == *name) {
        return Ok(step.index);
    }
    let names: Vec<_> = plan.steps().take(20).map(|step| format!("`{}`", step.step.name)).collect();
    let message =
        format!("`{name}` is neither a step of the plan ({}) nor a width such as 10s", names.join(", "));
    Err(MasterError::invalid(vec![Problem::new("step", message)]))
}
