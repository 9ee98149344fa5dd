//! One run as its readers see it now: its newest view, metrics and totals, and its events in order.
//!
//! Takes what the run's driver publishes; gives it to any number of readers without ever waiting for one. Invariants: event ids
//! ascend over all masters that a run ever has (from 1 under the first one, from its epoch × 10⁹ under each that takes the run up) and have no gaps under one; the history is bounded (old snapshots leave first); nothing follows the end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use volcanion_common::delta::Delta;
use volcanion_common::ids::Epoch;
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{Metrics, RunStatus, RunView};

use super::inside::Inside;
use crate::store;

/// What happened to a run, for its readers.
#[derive(Clone, Debug)]
pub struct RunEvent {
    /// Ascends; without gaps under one master.
    pub id: u64,
    /// What.
    pub kind: RunEventKind,
}

/// What happened to a run.
#[derive(Clone, Debug)]
pub enum RunEventKind {
    /// The metrics now: each interval.
    Snapshot(Arc<Metrics>),
    /// The run is in another state.
    State(RunView),
    /// Something is to be known about the run.
    Warning(WarningView),
    /// The run ended; these are its final metrics. Nothing follows.
    End(Arc<Metrics>),
}

/// Events in order; ends after [`RunEventKind::End`], or without one where the run left this master.
pub type RunEvents = BoxStream<'static, RunEvent>;

/// Most events that a run's history holds.
const HISTORY_MAX: usize = 256;
/// A master that takes a run up counts its events from its epoch times this on: more than any run has, and epochs only rise. So an id of an
/// earlier master is lower than each of a later one's.
const IDS_OF_A_TERM: u64 = 1_000_000_000;

/// With an end two events come: the run's state, and the end itself.
pub(super) const EVENTS_OF_AN_END: u64 = 2;

/// The events of a run that ended, after the one with the id `after`, from what the store has of it. `last` is the id of its last one; where that was not
/// kept, the end is taken for unheard.
pub(super) fn events_of_the_end(
    view: RunView,
    metrics: Arc<Metrics>,
    last: Option<u64>,
    after: Option<u64>,
) -> RunEvents {
    let last = last.unwrap_or_else(|| after.unwrap_or(0).saturating_add(EVENTS_OF_AN_END));
    let events = [RunEventKind::State(view), RunEventKind::End(metrics)];
    let ids = last.saturating_sub(EVENTS_OF_AN_END - 1)..=last;
    let events = ids.zip(events).map(|(id, kind)| RunEvent { id, kind });
    let unheard = events.filter(move |event| after.is_none_or(|after| event.id > after));
    stream::iter(unheard.collect::<Vec<_>>()).boxed()
}

/// The first id of the events of a master that takes a run up under this epoch, less one.
pub(super) fn ids_after(epoch: Epoch) -> u64 {
    epoch.0.saturating_mul(IDS_OF_A_TERM)
}

/// A run's newest state and its events. Shared by its driver, which publishes, and its readers.
pub struct Live {
    plan: Arc<ValidPlan>,
    /// What its driver shows of itself.
    inside: Inside,
    state: Mutex<State>,
    /// The id of the newest event.
    newest: watch::Sender<u64>,
}

struct State {
    view: RunView,
    metrics: Arc<Metrics>,
    totals: Arc<Delta>,
    ended: Option<Instant>,
    /// Nothing more is published here: it ended, or another master has it.
    is_closed: bool,
    /// Its end is being stored, with the id that the end's event will have: nothing else is said any more.
    is_ending: bool,
    history: VecDeque<RunEvent>,
}

/// The document of a run of which nothing was measured yet.
pub(super) fn nothing_measured(view: &RunView) -> Metrics {
    Metrics {
        run_id: view.id,
        status: Some(view.status),
        stop_reason: view.stop_reason,
        last_updated: store::now().to_string(),
        ..Metrics::default()
    }
}

impl Live {
    /// A run that has just been made.
    pub fn new(view: RunView, plan: Arc<ValidPlan>) -> Arc<Self> {
        Self::counting_from(0, view, plan)
    }

    /// A run that another master left, taken up under this epoch.
    pub fn taken_up(view: RunView, plan: Arc<ValidPlan>, epoch: Epoch) -> Arc<Self> {
        Self::counting_from(ids_after(epoch), view, plan)
    }

    fn counting_from(newest: u64, view: RunView, plan: Arc<ValidPlan>) -> Arc<Self> {
        let metrics = Arc::new(nothing_measured(&view));
        let state = State {
            view,
            metrics,
            totals: Arc::default(),
            ended: None,
            is_closed: false,
            is_ending: false,
            history: VecDeque::with_capacity(HISTORY_MAX),
        };
        let (state, newest) = (Mutex::new(state), watch::Sender::new(newest));
        Arc::new(Self { plan, inside: Inside::default(), state, newest })
    }

    /// The run's own copy of its plan.
    pub fn plan(&self) -> &Arc<ValidPlan> {
        &self.plan
    }

    /// What its driver shows of itself.
    pub fn inside(&self) -> &Inside {
        &self.inside
    }

    /// The run now.
    pub fn view(&self) -> RunView {
        self.lock().view.clone()
    }

    /// The newest metrics; the final ones once it ended.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.lock().metrics)
    }

    /// Everything merged so far.
    pub fn totals(&self) -> Arc<Delta> {
        Arc::clone(&self.lock().totals)
    }

    /// Whether it is neither queued nor ended.
    pub fn is_going(&self) -> bool {
        let state = self.lock();
        state.ended.is_none() && state.view.status != RunStatus::Queued
    }

    /// When it ended, by this process's clock.
    pub fn ended(&self) -> Option<Instant> {
        self.lock().ended
    }

    /// Waits until the run has ended, or left this master.
    pub async fn until_ended(&self) {
        let mut newest = self.newest.subscribe();
        while !self.is_closed() && newest.changed().await.is_ok() {}
    }

    /// The run leaves this master: readers get what there is, and no end.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.newest.send_modify(|_| ());
    }

    /// The run is in another state; the same again says nothing.
    pub fn publish_view(&self, view: RunView) {
        let mut state = self.lock();
        if state.view != view {
            let is_news = state.view.status != view.status
                || state.view.levels != view.levels
                || state.history.is_empty();
            state.view = view.clone();
            if is_news {
                self.push(&mut state, RunEventKind::State(view));
            }
        }
    }

    /// The run's state as it is, for whoever begins to listen.
    pub fn publish_state(&self) {
        let mut state = self.lock();
        let view = state.view.clone();
        self.push(&mut state, RunEventKind::State(view));
    }

    /// New figures.
    pub fn publish_metrics(&self, metrics: Arc<Metrics>, totals: Arc<Delta>) {
        let mut state = self.lock();
        state.metrics = Arc::clone(&metrics);
        state.totals = totals;
        self.push(&mut state, RunEventKind::Snapshot(metrics));
    }

    /// Something is to be known.
    pub fn publish_warning(&self, warning: WarningView) {
        let mut state = self.lock();
        self.push(&mut state, RunEventKind::Warning(warning));
    }

    /// The run's end is about to be stored: from now on nothing but it is said. Gives the id that the event `end` will have.
    pub fn begin_end(&self) -> u64 {
        let mut state = self.lock();
        state.is_ending = true;
        *self.newest.borrow() + EVENTS_OF_AN_END
    }

    /// The end could not be stored, so the run is still going.
    pub fn take_end_back(&self) {
        self.lock().is_ending = false;
    }

    /// The run ended.
    pub fn publish_end(&self, view: RunView, metrics: Arc<Metrics>, totals: Arc<Delta>) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        state.is_ending = false;
        state.view = view.clone();
        state.metrics = Arc::clone(&metrics);
        state.totals = totals;
        self.push(&mut state, RunEventKind::State(view));
        state.ended = Some(Instant::now());
        state.is_closed = true;
        self.push(&mut state, RunEventKind::End(metrics));
    }

    /// The events after the one with the id `after`; without it, with one of an earlier master, or with one that nobody ever gave, from the
    /// states, warnings and the newest snapshot on. A reader that falls behind the history goes on with the newest snapshot.
    pub fn events(self: &Arc<Self>, after: Option<u64>) -> RunEvents {
        let newest = *self.newest.borrow();
        let (last, caught_up_at) = match after.filter(|id| *id <= newest) {
            Some(id) => (id, id),
            None => (0, newest),
        };
        let reader = Reader {
            live: Arc::clone(self),
            newest: self.newest.subscribe(),
            last,
            caught_up_at,
            is_over: false,
        };
        stream::unfold(reader, |mut reader| async move { reader.next().await.map(|event| (event, reader)) })
            .boxed()
    }

    fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn push(&self, state: &mut State, kind: RunEventKind) {
        if state.is_ending || state.ended.is_some() && !matches!(kind, RunEventKind::End(_)) {
            return;
        }
        if state.history.len() >= HISTORY_MAX {
            let oldest_snapshot = state.history.iter().position(RunEvent::is_snapshot).unwrap_or(0);
            state.history.remove(oldest_snapshot);
        }
        // Only pushes change it, and they hold the state's lock.
        let id = *self.newest.borrow() + 1;
        state.history.push_back(RunEvent { id, kind });
        self.newest.send_replace(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change under the lock is whole, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunEvent {
    fn is_snapshot(&self) -> bool {
        matches!(self.kind, RunEventKind::Snapshot(_))
    }
}

struct Reader {
    live: Arc<Live>,
    newest: watch::Receiver<u64>,
    /// The event that was given last.
    last: u64,
    /// Up to here old snapshots are left out.
    caught_up_at: u64,
    is_over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<RunEvent> {
        loop {
            if self.is_over {
                return None;
            }
            // Both before the look: what is closed now gets nothing after it, and no event after it is slept through.
            let is_closed = self.live.is_closed();
            let newest = *self.newest.borrow_and_update();
            if let Some(event) = self.look(newest) {
                self.last = event.id;
                self.is_over = matches!(event.kind, RunEventKind::End(_));
                return Some(event);
            }
            if is_closed || self.newest.changed().await.is_err() {
                return None;
            }
        }
    }

    fn look(&mut self, newest: u64) -> Option<RunEvent> {
        let state = self.live.lock();
        let newest_snapshot =
            state.history.iter().rev().find(|event| event.is_snapshot()).map(|event| event.id);
        let mut coming = state.history.iter().filter(|event| event.id > self.last);
        let first = coming.next()?;
        if first.id > self.last + 1 && self.last >= self.caught_up_at {
            self.caught_up_at = newest;
        }
        let is_due = |event: &&RunEvent| {
            event.id > self.caught_up_at || !event.is_snapshot() || Some(event.id) == newest_snapshot
        };
        std::iter::once(first).chain(coming).find(is_due).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{any_plan, any_view};

    fn snapshot(live: &Live, requests: u64) {
        let metrics = Metrics { total_requests: requests, ..Metrics::default() };
        live.publish_metrics(Arc::new(metrics), Arc::default());
    }

    fn live() -> Arc<Live> {
        Live::new(any_view(RunStatus::Running), Arc::new(any_plan()))
    }

    fn end(live: &Live) {
        live.publish_end(any_view(RunStatus::Completed), Arc::default(), Arc::default());
    }

    #[tokio::test]
    async fn a_reader_that_resumes_misses_nothing() {
        let live = live();
        (1..=5).for_each(|n| snapshot(&live, n));
        end(&live);
        let ids: Vec<u64> = live.events(Some(2)).map(|event| event.id).collect().await;
        assert_eq!(ids, [3, 4, 5, 6, 7]);
        assert_eq!(live.events(Some(7)).count().await, 0, "the end was seen, so nothing follows");
    }

    #[tokio::test]
    async fn a_new_reader_begins_with_the_newest_snapshot() {
        let live = live();
        live.publish_warning(WarningView { code: "schedule_lag".into(), ..WarningView::default() });
        (1..=5).for_each(|n| snapshot(&live, n));
        let mut events = live.events(None);
        assert_eq!(events.next().await.unwrap().id, 1, "warnings are not left out");
        assert_eq!(events.next().await.unwrap().id, 6);
        snapshot(&live, 6);
        assert_eq!(events.next().await.unwrap().id, 7);
    }

    #[tokio::test]
    async fn a_slow_reader_skips_to_the_newest_snapshot_and_keeps_the_warnings() {
        let live = live();
        snapshot(&live, 0);
        let mut events = live.events(None);
        assert_eq!(events.next().await.unwrap().id, 1);
        (0..1_000).for_each(|n| snapshot(&live, n));
        live.publish_warning(WarningView::default());
        (0..1_000).for_each(|n| snapshot(&live, n));
        end(&live);
        let ids: Vec<u64> = events.map(|event| event.id).collect().await;
        assert_eq!(ids, [1_002, 2_002, 2_003, 2_004]);
    }

    #[tokio::test]
    async fn a_run_that_leaves_this_master_lets_its_readers_go() {
        let live = live();
        let waiting = tokio::spawn(live.events(None).count());
        snapshot(&live, 1);
        tokio::task::yield_now().await;
        live.close();
        assert_eq!(waiting.await.unwrap(), 1);
        live.until_ended().await;
    }

    #[tokio::test]
    async fn ids_go_on_where_another_master_takes_the_run_up() {
        let first = live();
        (1..=5).for_each(|n| snapshot(&first, n));
        let seen: Vec<u64> = first.events(None).take(1).map(|event| event.id).collect().await;
        assert_eq!(seen, [5]);
        let second = Live::taken_up(any_view(RunStatus::Running), Arc::new(any_plan()), Epoch(2));
        second.publish_warning(WarningView::default());
        (5..=7).for_each(|n| snapshot(&second, n));
        let third = Live::taken_up(any_view(RunStatus::Running), Arc::new(any_plan()), Epoch(3));
        snapshot(&third, 8);
        end(&third);
        let after = |live: &Arc<Live>, id| live.events(Some(id)).map(|event| event.id);
        let ids: Vec<u64> = after(&second, 5).take(2).collect().await;
        assert_eq!(ids, [2_000_000_001, 2_000_000_004], "the warning, and the newest snapshot");
        let ids: Vec<u64> = after(&third, 2_000_000_004).collect().await;
        assert_eq!(ids, [3_000_000_001, 3_000_000_002, 3_000_000_003]);
    }

    #[tokio::test]
    async fn an_id_that_nobody_gave_begins_anew() {
        let live = live();
        snapshot(&live, 1);
        assert_eq!(live.events(Some(900)).next().await.unwrap().id, 1);
    }
}
