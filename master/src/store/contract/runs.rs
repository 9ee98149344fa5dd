//! Runs and what starts them.

use futures_util::future::join_all;

use super::*;

pub(super) async fn runs_are_kept_filtered_and_paged(place: &dyn Place) {
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

pub(super) async fn a_key_starts_one_run(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let key = |request: &str| IdempotencyKey { key: "k".to_owned(), request: request.to_owned() };
    let (first, second) = (record(), record());
    assert_eq!(store.insert_run(epoch, &first, Some(&key("a"))).await.unwrap(), Inserted::New);
    // An answer that was lost.
    assert_eq!(store.insert_run(epoch, &first, Some(&key("a"))).await.unwrap(), Inserted::New);
    let store = place.open().await;
    assert_eq!(store.insert_run(epoch, &second, Some(&key("a"))).await.unwrap(), Inserted::Known(first.id()));
    assert_eq!(store.insert_run(epoch, &second, Some(&key("b"))).await.unwrap(), Inserted::OtherRequest);
    assert_eq!(store.run(second.id()).await.unwrap(), None);
    assert_eq!(store.idempotency_key("k").await.unwrap(), Some((key("a"), first.id())));
    assert_eq!(store.idempotency_key("other").await.unwrap(), None);
}

pub(super) async fn one_of_many_requests_of_a_key_starts_a_run(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let key = IdempotencyKey { key: "k".to_owned(), request: "r".to_owned() };
    let runs: Vec<_> = (0..6).map(|_| record()).collect();
    let inserts = runs.iter().map(|run| store.insert_run(epoch, run, Some(&key)));
    let inserted: Vec<_> = join_all(inserts).await.into_iter().map(Result::unwrap).collect();
    let new: Vec<_> =
        runs.iter().zip(&inserted).filter(|(_, inserted)| **inserted == Inserted::New).collect();
    assert_eq!(new.len(), 1, "{inserted:?}");
    let started = new[0].0.id();
    let others = inserted.iter().filter(|inserted| **inserted != Inserted::New);
    assert!(others.into_iter().all(|inserted| *inserted == Inserted::Known(started)), "{inserted:?}");
    assert_eq!(store.unended_runs().await.unwrap(), [started]);
}

pub(super) async fn an_ended_run_never_changes(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();
    assert_eq!(store.metrics(run.id()).await.unwrap(), None);
    assert_eq!(store.last_event(run.id()).await.unwrap(), None);
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
        store.join_run(epoch, run.id(), &[], &[]).await,
        store.move_run(epoch, run.id(), &[]).await,
    ] {
        assert!(matches!(refused, Err(StoreError::NotGoing(_))));
    }
    let view = store.run(run.id()).await.unwrap().unwrap();
    assert_eq!((view.status, view.stop_reason), (RunStatus::Completed, Some(StopReason::Completed)));
    assert_eq!(view.ended_at, Some(end.ended_at.to_string()));
    assert_eq!(store.metrics(run.id()).await.unwrap().as_ref(), Some(&*end.metrics));
    assert_eq!(store.last_event(run.id()).await.unwrap(), Some(end.last_event));
    assert!(store.unended_runs().await.unwrap().is_empty());
    assert_eq!(store.total(run.id()).await.unwrap(), Delta::default());
}
