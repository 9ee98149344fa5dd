//! What every store must do. Each test takes a way to open the same store anew, as a restarted master does.

use std::sync::Arc;

use volcanion_common::delta::{Delta, Warning};
use volcanion_common::ids::{AgentId, Incarnation, PlanId, RunId, Seq};
use volcanion_common::plan::{Level, document};
use volcanion_common::registry::{Member, MemberState};
use volcanion_common::series::{Outcome, Series, SeriesKey};
use volcanion_common::session::Change;
use volcanion_common::units::{Micros, Rate, RunTime};
use volcanion_common::view::{LevelView, Metrics, RunStatus, StopReason};

use super::*;
use crate::merge::AgentState;
use crate::store::samples::{any_view, document_named};

/// The whole suite.
pub(super) async fn check(new: impl AsyncFn() -> Box<dyn Place>) {
    plans_are_kept_and_paged(&*new().await).await;
    runs_are_kept_filtered_and_paged(&*new().await).await;
    a_key_starts_one_run(&*new().await).await;
    an_older_epoch_writes_nothing(&*new().await).await;
    parts_and_marks_are_one(&*new().await).await;
    an_ended_run_never_changes(&*new().await).await;
    changes_of_level_are_kept(&*new().await).await;
    histories_read_exactly(&*new().await).await;
}

/// A way to open one and the same store again and again.
#[async_trait]
pub(super) trait Place {
    async fn open(&self) -> Arc<dyn Store>;
}

async fn plans_are_kept_and_paged(place: &dyn Place) {
    let store = place.open().await;
    let plans: Vec<_> = (0..5).map(|n| stored_plan(&format!("plan {n}"))).collect();
    for plan in &plans {
        store.insert_plan(plan).await.unwrap();
    }
    let store = place.open().await;
    assert_eq!(store.plan(plans[2].id).await.unwrap().as_ref(), Some(&plans[2]));

    let mut seen = Vec::new();
    let mut page = PlanPage { limit: 2, cursor: None };
    loop {
        let next = store.plans(&page).await.unwrap();
        assert!(next.items.len() <= 2);
        seen.extend(next.items);
        page.cursor = next.next;
        if page.cursor.is_none() {
            break;
        }
    }
    assert!(seen.iter().eq(plans.iter().rev()), "newest first, each once");

    let changed = StoredPlan { updated_at: now(), ..stored_plan("changed") };
    let changed = StoredPlan { id: plans[0].id, created_at: plans[0].created_at, ..changed };
    assert!(store.replace_plan(&changed).await.unwrap());
    assert_eq!(store.plan(plans[0].id).await.unwrap(), Some(changed));
    assert!(store.delete_plan(plans[0].id).await.unwrap());
    assert!(!store.delete_plan(plans[0].id).await.unwrap());
    assert!(!store.replace_plan(&plans[0]).await.unwrap());
    assert_eq!(store.plan(plans[0].id).await.unwrap(), None);
    let wrong = PlanPage { limit: 2, cursor: Some("7".to_owned()) };
    assert!(matches!(store.plans(&wrong).await, Err(StoreError::Cursor(_))));
}

async fn runs_are_kept_filtered_and_paged(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let mut runs: Vec<RunRecord> = Vec::new();
    for n in 0..5 {
        let mut run = record();
        run.view.created_at = format!("2024-05-0{}T00:00:00Z", n + 1);
        store.insert_run(epoch, &run, None).await.unwrap();
        runs.push(run);
    }
    let progress = Progress {
        status: RunStatus::Stopping,
        start_at_unix_us: Some(1_700_000_000_123_456),
        stop_reason: Some(StopReason::Cancelled),
    };
    store.update_run(epoch, runs[1].id(), &progress).await.unwrap();

    let store = place.open().await;
    assert_eq!(store.run_record(runs[0].id()).await.unwrap().as_ref(), Some(&runs[0]));
    let stopping = store.run_record(runs[1].id()).await.unwrap().unwrap();
    assert_eq!(stopping.stop_reason, Some(StopReason::Cancelled));
    assert_eq!(stopping.start_at_unix_us, Some(1_700_000_000_123_456));
    assert_eq!(stopping.view.start_at.as_deref(), Some("2023-11-14T22:13:20.123456Z"));
    assert_eq!(stopping.view.stop_reason, None, "it has not ended yet");

    let ids = async |filter: RunFilter| -> Vec<RunId> {
        store.runs(&filter).await.unwrap().items.iter().map(|run| RunId(run.id)).collect()
    };
    let all: Vec<_> = runs.iter().rev().map(RunRecord::id).collect();
    assert_eq!(ids(RunFilter::default()).await, all);
    let of_plan = Some(PlanId(runs[3].view.plan_id));
    assert_eq!(ids(RunFilter { plan_id: of_plan, ..RunFilter::default() }).await, [runs[3].id()]);
    let stopping = Some(RunStatus::Stopping);
    assert_eq!(ids(RunFilter { status: stopping, ..RunFilter::default() }).await, [runs[1].id()]);
    let from = runs[1].view.created_at.parse().ok();
    let to = runs[3].view.created_at.parse().ok();
    assert_eq!(ids(RunFilter { from, to, ..RunFilter::default() }).await, [runs[2].id(), runs[1].id()]);
    let first = store.runs(&RunFilter { limit: 3, ..RunFilter::default() }).await.unwrap();
    let rest = RunFilter { limit: 3, cursor: first.next, ..RunFilter::default() };
    assert_eq!(ids(rest).await, [runs[1].id(), runs[0].id()]);
    assert_eq!(store.unended_runs().await.unwrap(), runs.iter().map(RunRecord::id).collect::<Vec<_>>());
}

async fn changes_of_level_are_kept(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let level = |change: u64, vus, rate| LevelView {
        scenario: "s".to_owned(),
        vus,
        rate,
        max_vus: 9,
        change,
        from_ms: change as f64 * 1.5,
    };
    let mut run = record();
    run.view.levels = vec![level(0, Some(2), None)];
    store.insert_run(epoch, &run, None).await.unwrap();
    assert_eq!(store.run_record(run.id()).await.unwrap().as_ref(), Some(&run));

    let change = |number, at, level| Change { number, scenario: number as u32 % 2, at: RunTime(at), level };
    let first = change(1, 1_000, Level::Vus(5));
    store.change_run(epoch, run.id(), &first, &[level(1, Some(5), None)]).await.unwrap();
    // Its moment came too near, so it got another one; then one more.
    let first = change(1, 2_000, Level::Vus(5));
    store.change_run(epoch, run.id(), &first, &[level(1, Some(5), None)]).await.unwrap();
    let second = change(2, 3_000, Level::Rate(Rate::MAX));
    let levels = [level(1, Some(5), None), level(2, None, Some(Rate::MAX))];
    store.change_run(epoch, run.id(), &second, &levels).await.unwrap();

    let store = place.open().await;
    assert_eq!(store.run_record(run.id()).await.unwrap().unwrap().changes, [first, second]);
    assert_eq!(store.run(run.id()).await.unwrap().unwrap().levels, levels);
    let next = store.raise_epoch().await.unwrap();
    let fenced = store.change_run(epoch, run.id(), &change(3, 4_000, Level::Vus(1)), &[]).await;
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
    let end = RunEnd {
        status: RunStatus::Completed,
        reason: StopReason::Completed,
        message: None,
        ended_at: now(),
        metrics: Arc::new(Metrics::default()),
    };
    store.end_run(next, run.id(), &end).await.unwrap();
    let ended = store.change_run(next, run.id(), &change(3, 4_000, Level::Vus(1)), &[]).await;
    assert!(matches!(ended, Err(StoreError::NotGoing(_))));
    assert_eq!(store.run(run.id()).await.unwrap().unwrap().levels, levels, "an ended run never changes");
}

async fn a_key_starts_one_run(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let key = |request: &str| IdempotencyKey { key: "k".to_owned(), request: request.to_owned() };
    let (first, second) = (record(), record());
    assert_eq!(store.insert_run(epoch, &first, Some(&key("a"))).await.unwrap(), Inserted::New);
    let store = place.open().await;
    assert_eq!(store.insert_run(epoch, &second, Some(&key("a"))).await.unwrap(), Inserted::Known(first.id()));
    assert_eq!(store.insert_run(epoch, &second, Some(&key("b"))).await.unwrap(), Inserted::OtherRequest);
    assert_eq!(store.run(second.id()).await.unwrap(), None);
    assert_eq!(store.idempotency_key("k").await.unwrap(), Some((key("a"), first.id())));
    assert_eq!(store.idempotency_key("other").await.unwrap(), None);
}

async fn an_older_epoch_writes_nothing(place: &dyn Place) {
    let (old, new) = (place.open().await, place.open().await);
    let old_epoch = old.raise_epoch().await.unwrap();
    let run = record();
    old.insert_run(old_epoch, &run, None).await.unwrap();
    old.commit(old_epoch, run.id(), &part(1, 0, 1, 10, 1)).await.unwrap();
    let new_epoch = new.raise_epoch().await.unwrap();
    assert!(new_epoch > old_epoch);
    assert_eq!(old.epoch().await.unwrap(), new_epoch);

    let before = new.run_record(run.id()).await.unwrap();
    let progress = Progress { status: RunStatus::Running, start_at_unix_us: None, stop_reason: None };
    for refused in [
        old.commit(old_epoch, run.id(), &part(2, 1, 2, 10, 2)).await,
        old.update_run(old_epoch, run.id(), &progress).await,
        old.end_run(old_epoch, run.id(), &end()).await,
        old.insert_run(old_epoch, &record(), None).await.map(drop),
    ] {
        assert!(
            matches!(refused, Err(StoreError::Fenced { store, ours }) if (store, ours) == (new_epoch, old_epoch))
        );
    }
    assert_eq!(new.run_record(run.id()).await.unwrap(), before);
    assert_eq!(new.total(run.id()).await.unwrap().requests(), 10);
    new.commit(new_epoch, run.id(), &part(2, 1, 2, 7, 2)).await.unwrap();
    assert_eq!(new.total(run.id()).await.unwrap().requests(), 17);
}

async fn parts_and_marks_are_one(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();
    for number in 1..=3 {
        store.commit(epoch, run.id(), &part(number, number - 1, number, 10, number)).await.unwrap();
    }
    // An answer that was lost: the same part again, and one that moves states only.
    store.commit(epoch, run.id(), &part(3, 2, 3, 10, 3)).await.unwrap();
    let lost = Part { delta: Arc::default(), ..part(4, 0, 0, 0, 3) };
    store.commit(epoch, run.id(), &lost).await.unwrap();

    let store = place.open().await;
    let kept = store.run_record(run.id()).await.unwrap().unwrap();
    assert_eq!(kept.next_part, 5);
    assert_eq!(kept.agents, [agent_state(3)]);
    assert_eq!(store.total(run.id()).await.unwrap().requests(), 30);
    let unknown = store.commit(epoch, RunId::new(), &part(1, 0, 1, 1, 1)).await;
    assert!(matches!(unknown, Err(StoreError::NotGoing(_))));
}

async fn an_ended_run_never_changes(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();
    assert_eq!(store.metrics(run.id()).await.unwrap(), None);
    let end = end();
    store.end_run(epoch, run.id(), &end).await.unwrap();
    store.end_run(epoch, run.id(), &end).await.unwrap();

    let store = place.open().await;
    let other_end = RunEnd { status: RunStatus::Failed, ended_at: now(), ..end.clone() };
    let progress = Progress { status: RunStatus::Running, start_at_unix_us: None, stop_reason: None };
    for refused in [
        store.end_run(epoch, run.id(), &other_end).await,
        store.update_run(epoch, run.id(), &progress).await,
        store.commit(epoch, run.id(), &part(1, 0, 1, 1, 1)).await,
    ] {
        assert!(matches!(refused, Err(StoreError::NotGoing(_))));
    }
    let view = store.run(run.id()).await.unwrap().unwrap();
    assert_eq!((view.status, view.stop_reason), (RunStatus::Completed, Some(StopReason::Completed)));
    assert_eq!(view.ended_at, Some(end.ended_at.to_string()));
    assert_eq!(store.metrics(run.id()).await.unwrap().as_ref(), Some(&*end.metrics));
    assert!(store.unended_runs().await.unwrap().is_empty());
    assert_eq!(store.total(run.id()).await.unwrap(), Delta::default());
}

async fn histories_read_exactly(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();
    let mut sum = Delta::default();
    for number in 1..=6 {
        let mut part = part(number, number - 1, number, number * 10, number);
        sum.add(&part.delta);
        part.checkpoint = (number == 4).then(|| Arc::new(sum.clone()));
        store.commit(epoch, run.id(), &part).await.unwrap();
    }
    let store = place.open().await;
    assert_eq!(store.total(run.id()).await.unwrap(), sum, "the written total and what came after it");
    let second = |s: u64| Some(RunTime(s * 1_000_000));
    let window = history(&*store, run.id(), second(1), second(3)).await;
    assert_eq!(window, [delta(1, 2, 20), delta(2, 3, 30)]);
    assert_eq!(history(&*store, run.id(), None, None).await.len(), 6);
    assert_eq!(history(&*store, run.id(), second(9), None).await, []);
    assert_eq!(history(&*store, RunId::new(), None, None).await, []);
    // Many pages, and late parts of the same beginning at their borders.
    for number in 7..=200 {
        let part = part(number, 6 + number / 4, 7 + number / 4, 1, number);
        store.commit(epoch, run.id(), &part).await.unwrap();
    }
    let long = history(&*store, run.id(), second(7), None).await;
    assert_eq!((long.len(), long.iter().map(Delta::requests).sum::<u64>()), (194, 194));
    assert!(long.windows(2).all(|pair| pair[0].from <= pair[1].from));
}

async fn history(store: &dyn Store, run: RunId, from: Option<RunTime>, to: Option<RunTime>) -> Vec<Delta> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (parts, next) = store.history(run, from, to, after).await.unwrap();
        all.extend(parts);
        if next.is_none() {
            return all;
        }
        after = next;
    }
}

fn stored_plan(name: &str) -> StoredPlan {
    let document = document_named(name);
    let now = now();
    StoredPlan {
        id: PlanId::new(),
        source: document.source,
        plan: document.plan,
        is_simple: document.is_simple,
        created_at: now,
        updated_at: now,
    }
}

fn record() -> RunRecord {
    let member = Member {
        id: AgentId::from("a"),
        incarnation: Incarnation((1 << 53) - 1),
        address: "127.0.0.1:1".to_owned(),
        metrics_address: None,
        version: "0".to_owned(),
        labels: Default::default(),
        cores: 2,
        capacity: 1.5,
        requests_per_s: None,
        state: MemberState::Ready,
    };
    RunRecord {
        view: any_view(RunStatus::Preparing),
        plan: document::to_json(&document_named("any").plan),
        seed: u64::MAX,
        members: vec![member],
        start_at_unix_us: None,
        stop_reason: None,
        agents: Vec::new(),
        next_part: 1,
        changes: Vec::new(),
    }
}

fn delta(from_s: u64, to_s: u64, requests: u64) -> Delta {
    let mut series = Series { requests, ..Series::default() };
    (0..requests).for_each(|n| series.response_time.record(Micros(1_000 + n)));
    let key = SeriesKey { step: 0, outcome: Outcome::Status(200) };
    let (from, to) = (RunTime(from_s * 1_000_000), RunTime(to_s * 1_000_000));
    Delta { from, to, series: [(key, series)].into(), ..Delta::default() }
}

fn part(number: u64, from_s: u64, to_s: u64, requests: u64, seq: u64) -> Part {
    let delta = Arc::new(delta(from_s, to_s, requests));
    Part { number, delta, agents: vec![agent_state(seq)], checkpoint: None }
}

fn agent_state(seq: u64) -> AgentState {
    AgentState {
        seq: Seq(seq),
        requests: 10 * seq,
        cpu: 0.1,
        start_late_us: Some(-3),
        warnings: vec![Warning {
            code: "code".to_owned(),
            message: "message".to_owned(),
            scenario: Some(1),
            since: RunTime(5),
            until: RunTime(7),
            amount: 3,
            worst: 2,
        }],
        ..AgentState::new("a".into(), Incarnation((1 << 53) - 1), 2)
    }
}

fn end() -> RunEnd {
    let metrics = Metrics { total_requests: 42, p95_latency_ms: 1.25, ..Metrics::default() };
    RunEnd {
        status: RunStatus::Completed,
        reason: StopReason::Completed,
        message: Some("done".to_owned()),
        ended_at: "2024-06-07T08:09:10.111213Z".parse().unwrap(),
        metrics: Arc::new(metrics),
    }
}

mod sqlite {
    use super::*;

    struct File(tempfile::TempDir);

    #[async_trait]
    impl Place for File {
        async fn open(&self) -> Arc<dyn Store> {
            crate::store::open(&StoreUrl::SqliteFile(self.0.path().join("runs.db"))).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_file_keeps_the_contract() {
        check(async || Box::new(File(tempfile::tempdir().unwrap())) as Box<dyn Place>).await;
    }

    struct Memory(Arc<dyn Store>);

    #[async_trait]
    impl Place for Memory {
        async fn open(&self) -> Arc<dyn Store> {
            Arc::clone(&self.0)
        }
    }

    #[tokio::test]
    async fn memory_keeps_the_contract_within_the_process() {
        let new =
            async || Box::new(Memory(crate::store::open(&StoreUrl::Memory).await.unwrap())) as Box<dyn Place>;
        check(new).await;
    }

    #[tokio::test]
    async fn what_is_no_database_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "not a database, and long enough to be looked at as one ".repeat(20)).unwrap();
        let error = crate::store::open(&StoreUrl::SqliteFile(path)).await.err().unwrap().to_string();
        assert!(error.contains("notes.txt"), "{error}");
    }
}
