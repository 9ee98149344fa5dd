//! Runs that wait for agents which others hold.

use volcanion_common::view::RunView;

use super::*;
use crate::fleet::line::LINE_MAX;
use crate::run::take_over;
use crate::store::Store;

/// A plan for so many agents, for itself alone where it is exclusive.
async fn plan(runs: &Runs, count: u32, exclusive: bool) -> PlanId {
    let plan = json!({
        "name": "p", "target": "http://127.0.0.1:9", "agents": { "count": count, "exclusive": exclusive },
        "scenarios": { "s": { "executor": "constant-vus", "vus": 9, "duration": "1m", "steps": [{ "get": "/" }] } },
    });
    runs.create_plan(document::from_json(&plan).unwrap()).await.unwrap().id
}

async fn start(runs: &Runs, plan: PlanId) -> RunView {
    runs.start_run(plan, None).await.unwrap()
}

async fn until(runs: &Runs, run: &RunView, status: RunStatus) {
    let waiting = async {
        while runs.run(RunId(run.id)).await.unwrap().status != status {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("never {status:?}"));
}

async fn stop(runs: &Runs, run: &RunView) {
    assert_eq!(runs.stop_run(RunId(run.id)).await.unwrap().status, RunStatus::Cancelled);
}

async fn status(runs: &Runs, run: &RunView) -> RunStatus {
    runs.run(RunId(run.id)).await.unwrap().status
}

/// The members that a run has in the store.
async fn stored(store: &dyn Store, run: &RunView) -> Vec<String> {
    let record = store.run_record(RunId(run.id)).await.unwrap().unwrap();
    record.members.iter().map(|member| member.id.to_string()).collect()
}

#[tokio::test]
async fn a_run_waits_for_agents_that_another_has_for_itself_and_nobody_goes_before_it() {
    let Desk { runs, .. } = desk(&["a", "b"]).await;
    let store = Arc::clone(&runs.shared.store);
    let (one, both) = (plan(&runs, 1, true).await, plan(&runs, 2, true).await);
    let shared = plan(&runs, 1, false).await;
    let first = start(&runs, one).await;
    assert_eq!(first.status, RunStatus::Preparing);
    let second = start(&runs, both).await;
    // There is a free agent, which the second one needs as well.
    let third = start(&runs, shared).await;
    assert_eq!((second.status, third.status), (RunStatus::Queued, RunStatus::Queued));
    assert_eq!(status(&runs, &second).await, RunStatus::Queued);
    assert_eq!(stored(&*store, &second).await, Vec::<String>::new());
    assert_eq!(runs.metrics(RunId(second.id)).await.unwrap().status, Some(RunStatus::Queued));
    assert_eq!(runs.going(), 1, "who waits does not go");
    let events = runs.events(RunId(second.id), None).await.unwrap();
    let wanted = Adjustment { vus: Some(5), ..Adjustment::default() };
    assert_eq!(runs.adjust_run(RunId(second.id), wanted).await.unwrap_err().code, ErrorCode::Conflict);

    stop(&runs, &first).await;
    until(&runs, &second, RunStatus::Preparing).await;
    assert_eq!(stored(&*store, &second).await, ["a", "b"]);
    assert_eq!(status(&runs, &third).await, RunStatus::Queued);
    stop(&runs, &second).await;
    let states = events.filter_map(async |event| match event.kind {
        RunEventKind::State(view) => Some(view.status),
        _ => None,
    });
    let heard: Vec<RunStatus> = states.collect().await;
    assert_eq!(heard[..2], [RunStatus::Queued, RunStatus::Preparing]);
    assert_eq!(heard.last(), Some(&RunStatus::Cancelled));
    until(&runs, &third, RunStatus::Preparing).await;
    stop(&runs, &third).await;
    assert!(runs.agents().iter().all(|agent| agent.load == 0));
}

#[tokio::test]
async fn a_run_that_waits_is_stopped_like_any_other_and_leaves_the_line() {
    let Desk { runs, .. } = desk(&["a"]).await;
    let (alone, shared) = (plan(&runs, 1, true).await, plan(&runs, 1, false).await);
    let first = start(&runs, shared).await;
    let waiting = start(&runs, alone).await;
    let behind = start(&runs, shared).await;
    assert_eq!((waiting.status, behind.status), (RunStatus::Queued, RunStatus::Queued));
    stop(&runs, &waiting).await;
    let metrics = runs.metrics(RunId(waiting.id)).await.unwrap();
    assert_eq!((metrics.status, metrics.total_requests), (Some(RunStatus::Cancelled), 0));
    // What kept it waiting is gone: the two share the agent.
    until(&runs, &behind, RunStatus::Preparing).await;
    assert_eq!((status(&runs, &first).await, runs.agents()[0].load), (RunStatus::Preparing, 2));
    stop(&runs, &first).await;
    stop(&runs, &behind).await;
}

#[tokio::test]
async fn an_agent_that_comes_is_for_who_waits() {
    let Desk { runs, fleet, .. } = desk(&["a"]).await;
    let (alone, shared) = (plan(&runs, 1, true).await, plan(&runs, 1, false).await);
    let first = start(&runs, shared).await;
    let waiting = start(&runs, alone).await;
    assert_eq!(waiting.status, RunStatus::Queued);
    let two = plan(&runs, 2, true).await;
    let error = runs.start_run(two, None).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoAgents, "there are not so many, so none will be free");
    fleet.send_modify(|fleet| fleet.members = Arc::new(members_named(&["a", "b"])));
    until(&runs, &waiting, RunStatus::Preparing).await;
    assert_eq!(stored(&*runs.shared.store, &waiting).await, ["b"]);
    stop(&runs, &first).await;
    stop(&runs, &waiting).await;
}

#[tokio::test]
async fn the_line_has_an_end() {
    let Desk { runs, .. } = desk(&["a"]).await;
    let alone = plan(&runs, 1, true).await;
    let first = start(&runs, alone).await;
    for _ in 0..LINE_MAX {
        assert_eq!(start(&runs, alone).await.status, RunStatus::Queued);
    }
    let error = runs.start_run(alone, None).await.unwrap_err();
    assert_eq!((error.code, error.to_problem_details().status), (ErrorCode::NoAgents, 503));
    assert!(error.detail.contains("64 runs wait") && error.detail.contains("stop one"), "{error}");
    stop(&runs, &first).await;
}

#[tokio::test]
async fn who_waits_waits_on_under_the_next_master() {
    let Desk { runs, fleet, .. } = desk(&["a"]).await;
    let store = Arc::clone(&runs.shared.store);
    let alone = plan(&runs, 1, true).await;
    let first = start(&runs, alone).await;
    let (second, third) = (start(&runs, alone).await, start(&runs, alone).await);
    runs.leave(Duration::from_secs(5)).await;
    assert_eq!(store.run(RunId(second.id)).await.unwrap().unwrap().status, RunStatus::Queued);

    let epoch = store.raise_epoch().await.unwrap();
    let config = Arc::new(Config::embedded(ClusterKey::random()));
    let agents = Agents::of(fleet.subscribe());
    let end = CancellationToken::new();
    let (dialer, tracer) = (Dialer::default(), Tracer::off());
    let world = World { store, agents, dialer, config, outgoing: None, tracer, stop: end };
    let next = Runs::new(world, epoch);
    take_over::take_over(&next).await.unwrap();
    // The first one had not begun, so it ends; then it is the second one's turn, and not the third one's.
    until(&next, &first, RunStatus::Failed).await;
    until(&next, &second, RunStatus::Preparing).await;
    assert_eq!(status(&next, &third).await, RunStatus::Queued);
    stop(&next, &third).await;
    stop(&next, &second).await;
}
