//! The table over a real store, with agents that do not answer.

mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use volcanion_common::ids::{AgentId, Incarnation, PlanId, RunId};
use volcanion_common::plan::document;
use volcanion_common::registry::{Fleet, Member, MemberState};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::telemetry::trace::Tracer;
use volcanion_common::view::{ErrorCode, RunStatus};

use super::table::{Adjustment, Live, PlanPage, RunEventKind, RunFilter, Runs, Window};
use crate::config::Config;
use crate::fleet::Agents;
use crate::fleet::dial::Dialer;
use crate::leader::World;
pub(crate) use crate::store::samples::{any_plan, any_view, document_named};
use crate::store::{self, StoreUrl};

/// A master's table without a master around it.
struct Desk {
    runs: Runs,
    stop: CancellationToken,
    /// Changing it is the agents' coming and going.
    fleet: watch::Sender<Fleet>,
}

/// Agents of these names, at a port where nobody listens.
pub(crate) fn members_named(names: &[&str]) -> BTreeMap<AgentId, Member> {
    let member = |id: &&str| Member {
        id: (*id).into(),
        incarnation: Incarnation(7),
        address: "127.0.0.1:1".to_owned(),
        metrics_address: None,
        version: "0".to_owned(),
        labels: Default::default(),
        cores: 1,
        capacity: 1.0,
        requests_per_s: None,
        state: MemberState::Ready,
    };
    names.iter().map(member).map(|member| (member.id.clone(), member)).collect()
}

/// A table over such agents.
async fn desk(agents: &[&str]) -> Desk {
    let members = members_named(agents);
    let fleet = watch::Sender::new(Fleet { members: Arc::new(members), connected: true });
    let store = store::open(&StoreUrl::Memory).await.unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    let stop = CancellationToken::new();
    let config = Arc::new(Config::embedded(ClusterKey::random()));
    let agents = Agents::of(fleet.subscribe());
    let (dialer, tracer) = (Dialer::default(), Tracer::off());
    let world = World { store, agents, dialer, config, outgoing: None, tracer, stop: stop.clone() };
    let runs = Runs::new(world, epoch);
    super::take_over::take_over(&runs).await.unwrap();
    Desk { runs, stop, fleet }
}

#[tokio::test]
async fn a_plan_is_made_changed_copied_and_removed() {
    let Desk { runs, .. } = desk(&[]).await;
    let made = runs.create_plan(document_named("first")).await.unwrap();
    assert_eq!(runs.plan(made.id).await.unwrap(), made);
    let changed = runs.replace_plan(made.id, document_named("second")).await.unwrap();
    assert_eq!(
        (changed.id, changed.created_at, changed.plan.name.as_str()),
        (made.id, made.created_at, "second")
    );
    assert!(changed.updated_at >= made.updated_at);
    let copy = runs.clone_plan(made.id).await.unwrap();
    assert_ne!(copy.id, made.id);
    assert_eq!(copy.source, changed.source);
    let names = |page: super::table::Page<super::table::StoredPlan>| -> Vec<PlanId> {
        page.items.into_iter().map(|plan| plan.id).collect()
    };
    assert_eq!(names(runs.plans(PlanPage::default()).await.unwrap()), [copy.id, made.id]);
    runs.delete_plan(made.id).await.unwrap();
    for gone in [
        runs.plan(made.id).await.map(drop),
        runs.delete_plan(made.id).await,
        runs.clone_plan(made.id).await.map(drop),
        runs.replace_plan(made.id, document_named("third")).await.map(drop),
        runs.start_run(made.id, None).await.map(drop),
    ] {
        assert_eq!(gone.unwrap_err().code, ErrorCode::NotFound);
    }
    let wrong = PlanPage { cursor: Some("x".to_owned()), ..PlanPage::default() };
    let error = runs.plans(wrong).await.unwrap_err();
    assert_eq!((error.code, error.problems[0].field.as_str()), (ErrorCode::ValidationError, "cursor"));
}

#[tokio::test]
async fn without_agents_no_run_is_begun() {
    let Desk { runs, .. } = desk(&[]).await;
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    let error = runs.start_run(plan.id, Some("key".to_owned())).await.unwrap_err();
    assert_eq!((error.code, error.to_problem_details().status), (ErrorCode::NoAgents, 503));
    assert!(error.detail.contains("none is registered"), "{error}");
    assert!(runs.runs(RunFilter::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn one_key_is_one_run() {
    let Desk { runs, .. } = desk(&["a"]).await;
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    let other = runs.create_plan(document_named("q")).await.unwrap();
    let key = Some("key".to_owned());
    let starts = futures_util::future::join_all((0..8).map(|_| runs.start_run(plan.id, key.clone()))).await;
    let first = starts[0].as_ref().unwrap().id;
    assert!(starts.iter().all(|run| run.as_ref().unwrap().id == first));
    assert_eq!(runs.start_run(other.id, key).await.unwrap_err().code, ErrorCode::Conflict);
    assert_ne!(runs.start_run(plan.id, None).await.unwrap().id, first, "no key, a run of its own");
    let listed = runs.runs(RunFilter { plan_id: Some(plan.id), ..RunFilter::default() }).await.unwrap();
    assert_eq!(listed.items.len(), 2);
    assert_eq!(runs.agents()[0].load, 2);
}

#[tokio::test]
async fn a_run_that_is_stopped_ends_cancelled_and_says_so_again() {
    let Desk { runs, .. } = desk(&["a"]).await;
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    let run = RunId(runs.start_run(plan.id, None).await.unwrap().id);
    let events = runs.events(run, None).await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(4), runs.stop_run(run)).await.unwrap().unwrap();
    assert_eq!(stopped.status, RunStatus::Cancelled);
    assert_eq!(runs.stop_run(run).await.unwrap(), stopped);
    assert_eq!(runs.run(run).await.unwrap(), stopped);
    assert_eq!(runs.metrics(run).await.unwrap().status, Some(RunStatus::Cancelled));
    let last = events.collect::<Vec<_>>().await.pop().unwrap();
    assert!(matches!(last.kind, RunEventKind::End(_)));
    let kept = runs.shared.store.last_event(run).await.unwrap();
    assert_eq!(kept, Some(last.id), "whoever heard it is not told again when only the store knows the run");
    assert!(runs.intervals(run, Window::default()).await.unwrap().is_empty());
    let wrong = Window { step: Some("nowhere".to_owned()), ..Window::default() };
    assert_eq!(runs.intervals(run, wrong).await.unwrap_err().code, ErrorCode::ValidationError);
}

#[tokio::test]
async fn a_run_that_another_master_drives_is_not_said_to_be_stopped_here() {
    let Desk { runs, .. } = desk(&["a"]).await;
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    let run = RunId(runs.start_run(plan.id, None).await.unwrap().id);
    runs.shared.deposed.cancel();
    tokio::time::timeout(Duration::from_secs(5), async {
        while runs.going() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(!runs.run(run).await.unwrap().status.is_ended());
    assert_eq!(runs.stop_run(run).await.unwrap_err().code, ErrorCode::NoLeader);
}

#[tokio::test]
async fn an_agent_with_a_false_address_fails_the_run_at_once_and_says_why() {
    let Desk { runs, fleet, .. } = desk(&["a"]).await;
    fleet.send_modify(|fleet| {
        for member in Arc::make_mut(&mut fleet.members).values_mut() {
            member.address = "no address".to_owned();
        }
    });
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    let run = RunId(runs.start_run(plan.id, None).await.unwrap().id);
    let events = runs.events(run, None).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), events.count()).await.expect("it ends at once");
    let view = runs.run(run).await.unwrap();
    assert_eq!(view.status, RunStatus::Failed);
    assert!(view.message.as_deref().is_some_and(|message| message.contains("no address")), "{view:?}");
}

#[tokio::test]
async fn a_run_outlives_the_registrys_watch_and_takes_no_processor_for_it() {
    let Desk { runs, fleet, .. } = desk(&["a"]).await;
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    let run = RunId(runs.start_run(plan.id, None).await.unwrap().id);
    drop(fleet);
    // Everything here runs on this one thread.
    let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let before = used();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(used() - before < Duration::from_millis(150), "{:?}", used() - before);
    assert_eq!(runs.stop_run(run).await.unwrap().status, RunStatus::Cancelled);
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_not_said_to_drain_and_one_that_drains_already_is() {
    let Desk { runs, fleet, .. } = desk(&["a"]).await;
    assert_eq!(runs.drain_agent("b".into()).await.unwrap_err().code, ErrorCode::NotFound);
    let error = runs.drain_agent("a".into()).await.unwrap_err();
    assert_eq!((error.code, error.to_problem_details().status), (ErrorCode::AgentUnavailable, 503));
    assert!(error.detail.contains("agent a at 127.0.0.1:1 is not reached"), "{error}");
    assert_eq!(runs.agents()[0].state, "ready");
    fleet.send_modify(|fleet| {
        for member in Arc::make_mut(&mut fleet.members).values_mut() {
            member.state = MemberState::Draining;
        }
    });
    assert_eq!(runs.drain_agent("a".into()).await.unwrap(), runs.agents()[0]);
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    assert_eq!(runs.start_run(plan.id, None).await.unwrap_err().code, ErrorCode::NoAgents);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let Desk { runs, .. } = desk(&[]).await;
    let id = RunId::new();
    for missing in [
        runs.run(id).await.map(drop),
        runs.stop_run(id).await.map(drop),
        runs.metrics(id).await.map(drop),
        runs.intervals(id, Window::default()).await.map(drop),
        runs.events(id, None).await.map(drop),
    ] {
        assert_eq!(missing.unwrap_err().code, ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn a_master_that_ends_takes_no_more_runs() {
    let Desk { runs, stop, .. } = desk(&["a"]).await;
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    runs.check_ready().unwrap();
    runs.start_run(plan.id, None).await.unwrap();
    stop.cancel();
    assert_eq!(runs.start_run(plan.id, None).await.unwrap_err().code, ErrorCode::NoLeader);
    assert_eq!(runs.check_ready().unwrap_err().code, ErrorCode::NoLeader);
    tokio::time::timeout(Duration::from_secs(5), runs.wind_up(Duration::from_secs(5))).await.unwrap();
    assert_eq!(runs.going(), 0, "its store is gone with it, so its runs are ended");
}

#[tokio::test]
async fn a_deposed_master_changes_nothing() {
    let Desk { runs, .. } = desk(&["a"]).await;
    let plan = runs.create_plan(document_named("p")).await.unwrap();
    runs.shared.store.raise_epoch().await.unwrap();
    assert_eq!(runs.start_run(plan.id, None).await.unwrap_err().code, ErrorCode::NoLeader);
    assert_eq!(runs.create_plan(document_named("q")).await.unwrap_err().code, ErrorCode::NoLeader);
    assert!(runs.plan(plan.id).await.is_ok(), "reading goes on");
}

#[tokio::test]
async fn a_level_that_is_changed_before_the_start_is_kept_and_shown() {
    let Desk { runs, .. } = desk(&["a"]).await;
    let plan = json!({
        "name": "led", "target": "http://127.0.0.1:9",
        "scenarios": { "s": { "executor": "externally-controlled", "vus": 2, "max_vus": 8, "duration": "1m", "steps": [{ "get": "/" }] } },
    });
    let plan = runs.create_plan(document::from_json(&plan).unwrap()).await.unwrap();
    let run = RunId(runs.start_run(plan.id, None).await.unwrap().id);
    assert_eq!(
        (runs.run(run).await.unwrap().levels[0].vus, runs.run(run).await.unwrap().levels[0].change),
        (Some(2), 0)
    );
    let to = |vus| Adjustment { vus: Some(vus), ..Adjustment::default() };
    let changed = runs.adjust_run(run, to(5)).await.unwrap();
    let level = &changed.levels[0];
    assert_eq!((level.vus, level.change, level.from_ms), (Some(5), 1, 0.0));
    assert_eq!(runs.adjust_run(run, to(5)).await.unwrap().levels, changed.levels, "again: the same answer");
    let record = runs.shared.store.run_record(run).await.unwrap().unwrap();
    assert_eq!((record.changes.len(), record.view.levels), (1, changed.levels.clone()));
    assert_eq!(runs.stop_run(run).await.unwrap().levels, changed.levels);
    assert_eq!(runs.adjust_run(run, to(6)).await.unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(runs.adjust_run(RunId::new(), to(6)).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_change_that_the_store_does_not_take_is_told_as_the_stores_fault() {
    let Desk { runs, .. } = desk(&["a"]).await;
    let plan = json!({
        "name": "led", "target": "http://127.0.0.1:9",
        "scenarios": { "s": { "executor": "externally-controlled", "vus": 2, "max_vus": 8, "duration": "1m", "steps": [{ "get": "/" }] } },
    });
    let plan = document::from_json(&plan).unwrap().plan;
    let live = Live::new(any_view(RunStatus::Running), Arc::new(plan));
    let run = RunId(live.view().id);
    // What a driver does whose store does not answer: it takes the request and keeps it.
    let _waiting = runs.adopt(live);
    let wanted = Adjustment { vus: Some(5), ..Adjustment::default() };
    let refused = runs.adjust_within(run, wanted, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::StoreUnavailable);
    assert!(refused.detail.contains("holds once it does"), "{refused}");
}
