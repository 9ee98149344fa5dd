//! The table of runs: everything that REST and the command line ask of a master in one term of its, behind one cloneable handle.
//!
//! Plans go straight to the store. A run that is going (or ended a few minutes ago) is answered from its [`Live`], any other from
//! the store. A master that does not lead has a table too, one that stays empty. Invariants: a run is in the store before its driver begins; what is
//! answered twice under one idempotency key is one run; in a term that is over, has not begun or is not to be, nothing is changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use volcanion_common::delta::Delta;
use volcanion_common::ids::{AgentId, Epoch, RunId};
use volcanion_common::plan::document;
use volcanion_common::telemetry::memory::MemoryView;
use volcanion_common::telemetry::queue::Queue;
use volcanion_common::telemetry::trace::Tracer;
use volcanion_common::units::{Micros, Share};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::{AgentView, ErrorCode, KillView, Metrics, RunStatus, RunView};

use super::adjust::AdjustRequest;
pub use super::adjust::Adjustment;
use super::driver::RunContext;
pub use super::error::MasterError;
pub use super::history::{ROWS_MAX, Window};
pub use super::inside;
use super::life::{self, Begin};
use super::live;
pub use super::live::{Live, RunEvent, RunEventKind, RunEvents};
use super::origin::Origin;
pub use super::outgoing::Outgoing;
pub use super::retention::StoreState;
pub use super::start::RUNS_GOING_MAX;
use crate::config::Config;
use crate::fleet::Agents;
use crate::fleet::choose::Reservation;
use crate::fleet::dial::Dialer;
use crate::leader::World;
pub use crate::store::{Page, PlanPage, RunFilter, StoredPlan};
use crate::store::{RunRecord, Store};

/// How long an ended run's totals stay at hand, for Prometheus.
pub const ENDED_KEPT: Duration = Duration::from_secs(600);
/// How long a stop waits for the run's end before it answers `stopping`.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Everything that clients ask of a master in one term, or while it does not lead. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    pub(crate) shared: Arc<Shared>,
}

/// What the table and its drivers share in one term.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) agents: Agents,
    pub(crate) dialer: Dialer,
    pub(crate) config: Arc<Config>,
    pub(crate) epoch: Epoch,
    /// Where durable intervals go besides; `None`: nowhere.
    pub(crate) outgoing: Option<Arc<Outgoing>>,
    /// Takes the spans of its runs.
    pub(crate) tracer: Tracer,
    /// Cancelled when this term is over: another master leads, or may. Never to be undone; the next term has a table of its own.
    pub(crate) deposed: CancellationToken,
    /// Cancelled when this master is to end.
    pub(crate) stop: CancellationToken,
    /// Every driver.
    pub(crate) tasks: TaskTracker,
    is_taking_over: AtomicBool,
    table: Mutex<HashMap<RunId, Entry>>,
}

/// A run in the table, and how its driver is reached.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) live: Arc<Live>,
    /// Cancelled when somebody asks for the run's end.
    stop: CancellationToken,
    /// Levels that are asked for; a full one makes whoever asks wait.
    pub(super) adjusts: mpsc::Sender<AdjustRequest>,
}

/// How a run in the table hears of what clients want.
pub(super) struct Way {
    pub(super) stop: CancellationToken,
    asked: mpsc::Receiver<AdjustRequest>,
}

/// Requests for another level that wait for a run's driver.
pub const ADJUSTS_MAX: usize = 16;

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
    /// Its driver.
    pub inside: inside::Seen,
}

impl Shared {
    /// Whether runs end with this master.
    pub(crate) fn stops_runs_on_exit(&self) -> bool {
        self.config.stop_runs_on_exit || !self.config.store.is_durable()
    }

    /// How long agents are allowed to load without any master.
    pub(crate) fn orphan_timeout(&self) -> Option<Micros> {
        Some(Micros(u64::try_from(self.config.orphan_timeout.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Which share of a plan's requests says to the target that it is part of a trace.
    pub(crate) fn trace_sample(&self, plan: &ValidPlan) -> Share {
        plan.trace_sample.unwrap_or(self.config.trace_sample)
    }

    /// The run is no longer this master's.
    pub(crate) fn forget(&self, run: RunId) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}

impl Runs {
    pub(crate) fn new(world: World, epoch: Epoch) -> Self {
        let World { store, agents, dialer, config, outgoing, tracer, stop } = world;
        Self {
            shared: Arc::new(Shared {
                store,
                agents,
                dialer,
                config,
                epoch,
                outgoing,
                tracer,
                deposed: CancellationToken::new(),
                stop,
                tasks: TaskTracker::new(),
                is_taking_over: AtomicBool::new(true),
                table: Mutex::default(),
            }),
        }
    }

    /// The table of a master that does not lead: it reads from the store, and changes nothing.
    pub(crate) fn standing_by(world: World) -> Self {
        // No master ever has this epoch, so the store would take nothing under it either.
        let runs = Self::new(World { tracer: Tracer::off(), ..world }, Epoch(0));
        runs.shared.deposed.cancel();
        runs.taken_over();
        runs
    }

    /// Stops a run, and waits a few seconds for its end. A cancelled run is answered as it is.
    ///
    /// # Errors
    /// There is no such run; it ended by itself.
    pub async fn stop_run(&self, id: RunId) -> Result<RunView, MasterError> {
        let Some(Entry { live, stop, .. }) = self.entry(id) else {
            return stopped_answer(self.ended_run(id).await?);
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

    /// A run that this master does not drive: one that ended.
    ///
    /// # Errors
    /// There is none; it goes.
    pub(super) async fn ended_run(&self, id: RunId) -> Result<RunView, MasterError> {
        let view = self.run(id).await?;
        if view.status.is_ended() {
            return Ok(view);
        }
        // Whoever drives it is another master; should that be nobody, the next one ends it.
        self.check_leading()?;
        Err(MasterError::new(ErrorCode::NoLeader, format!("this master does not drive run {id}")))
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

    /// A run's metrics: merged live, at most an interval old, while it goes; the final ones once it ended. Of a run that goes under another
    /// master, those up to its last durable part.
    ///
    /// # Errors
    /// There is no such run.
    pub async fn metrics(&self, id: RunId) -> Result<Arc<Metrics>, MasterError> {
        match self.live(id) {
            Some(live) => Ok(live.metrics()),
            None => self.stored_metrics(id).await,
        }
    }

    /// A run's events in order, after the one with the id `after`, until its end.
    ///
    /// # Errors
    /// There is no such run; it goes, but not under this master.
    pub async fn events(&self, id: RunId, after: Option<u64>) -> Result<RunEvents, MasterError> {
        if let Some(live) = self.live(id) {
            return Ok(live.events(after));
        }
        let (view, metrics) = (self.ended_run(id).await?, self.metrics(id).await?);
        let last = self.shared.store.last_event(id).await?;
        Ok(live::events_of_the_end(view, metrics, last, after))
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

    /// Where an agent's CPU time goes, sampled for so many seconds: pprof's form. Any master does it, whether it leads or not.
    ///
    /// # Errors
    /// There is no such agent; it is not reached, does not obey, or is busy with another profile.
    pub async fn agent_profile(&self, id: AgentId, seconds: u32) -> Result<Vec<u8>, MasterError> {
        let Shared { agents, dialer, config, .. } = &*self.shared;
        Ok(agents.profile(&id, seconds, dialer, &config.cluster_key).await?)
    }

    /// What memory an agent has. Any master does it, whether it leads or not.
    ///
    /// # Errors
    /// There is no such agent; it is not reached, or does not obey.
    pub async fn agent_memory(&self, id: AgentId) -> Result<MemoryView, MasterError> {
        let Shared { agents, dialer, config, .. } = &*self.shared;
        Ok(agents.memory(&id, dialer, &config.cluster_key).await?)
    }

    /// Ends the load of every run on every agent at once, whether this master leads or not and whether the store answers or not. Runs end
    /// as cancelled.
    pub async fn kill(&self) -> KillView {
        tracing::warn!("the kill switch was thrown");
        // Drivers first: they know then why the load ends.
        self.table().values().for_each(|entry| entry.stop.cancel());
        let agents = self.shared.agents.kill(&self.shared.dialer, &self.shared.config.cluster_key).await;
        KillView { all_killed: agents.iter().all(|agent| agent.killed), agents }
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
                inside: live.inside().seen(),
            })
            .collect();
        totals.sort_by_key(|run| run.view.id);
        totals
    }

    /// Whether this master serves writes.
    ///
    /// # Errors
    /// It does not lead, or is still taking over or already ending; the store does not work.
    pub fn check_ready(&self) -> Result<(), MasterError> {
        self.check_leading()?;
        self.check_store()
    }

    /// How many runs are going; those that wait for agents are not.
    pub fn going(&self) -> usize {
        self.table().values().filter(|entry| entry.live.is_going()).count()
    }

    /// Has a run driven, from its beginning or from where another master left it.
    pub(crate) fn drive(&self, live: Arc<Live>, begin: Begin, reservation: Reservation, origin: Origin) {
        let way = self.enter(&live);
        self.drive_on(live, way, begin, reservation, origin);
    }

    /// Puts a run in the table.
    pub(super) fn enter(&self, live: &Arc<Live>) -> Way {
        let stop = CancellationToken::new();
        let (adjusts, asked) = mpsc::channel(ADJUSTS_MAX);
        live.inside().adjustable(Queue::of(&adjusts));
        let entry = Entry { live: Arc::clone(live), stop: stop.clone(), adjusts };
        let mut table = self.table();
        table.retain(|_, entry| entry.live.ended().is_none_or(|ended| ended.elapsed() < ENDED_KEPT));
        table.insert(RunId(live.view().id), entry);
        Way { stop, asked }
    }

    /// Has a run of the table driven.
    pub(super) fn drive_on(
        &self,
        live: Arc<Live>,
        Way { stop, asked }: Way,
        begin: Begin,
        reservation: Reservation,
        origin: Origin,
    ) {
        let (shared, run) = (Arc::clone(&self.shared), RunId(live.view().id));
        // Whatever is logged of the run carries these. Not what asked for it: that is over long before.
        let span = tracing::error_span!(parent: None, "run", run_id = %run, request_id = origin.request_id);
        let context = RunContext { shared, run, live, stop, asked, reservation, origin };
        self.shared.tasks.spawn(life::drive(context, begin).instrument(span));
    }

    /// Shows a run that nobody drives.
    #[cfg(test)]
    pub(crate) fn adopt(&self, live: Arc<Live>) -> mpsc::Receiver<AdjustRequest> {
        let run = RunId(live.view().id);
        let (adjusts, asked) = mpsc::channel(1);
        self.table().insert(run, Entry { live, stop: CancellationToken::new(), adjusts });
        asked
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

    /// Has every driver leave its run as it is, because another master leads or may, and waits for them, but not longer than `most`.
    pub(crate) async fn leave(&self, most: Duration) {
        self.shared.deposed.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(most, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(
                "some drivers did not leave their runs in time; the store takes nothing of them any more"
            );
        }
    }

    pub(super) fn check_leading(&self) -> Result<(), MasterError> {
        let not_now = |detail: &str| Err(MasterError::new(ErrorCode::NoLeader, detail));
        if self.shared.stop.is_cancelled() {
            return not_now("this master is ending; ask another one, or the next one in a moment");
        }
        if self.shared.deposed.is_cancelled() {
            return not_now("this master does not lead, and knows none that does; try again in a moment");
        }
        if self.shared.is_taking_over.load(Ordering::Acquire) {
            return not_now(
                "this master is taking up the runs that the last one left; try again in a moment",
            );
        }
        Ok(())
    }

    pub(super) fn live(&self, id: RunId) -> Option<Arc<Live>> {
        self.table().get(&id).map(|entry| Arc::clone(&entry.live))
    }

    pub(super) fn entry(&self, id: RunId) -> Option<Entry> {
        self.table().get(&id).cloned()
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

fn stopped_answer(view: RunView) -> Result<RunView, MasterError> {
    match view.status {
        RunStatus::Completed | RunStatus::Failed => {
            let detail = format!("run {} has ended already: it is {}", view.id, view.status.name());
            Err(MasterError::conflict(detail))
        }
        _ => Ok(view),
    }
}
