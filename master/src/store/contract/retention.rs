//! Forgetting.

use std::time::{Duration, Instant};

use super::*;

pub(super) async fn old_runs_are_forgotten_bit_by_bit(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let at = |hours: i64| Timestamp::from_second(1_800_000_000 + hours * 3_600).unwrap();
    let (mut ended, key) = (Vec::new(), |n| IdempotencyKey { key: format!("k{n}"), request: String::new() });
    for n in 0..6 {
        let mut run = record();
        run.view.created_at = at(n).to_string();
        store.insert_run(epoch, &run, Some(&key(n))).await.unwrap();
        for number in 1..=40 {
            store.commit(epoch, run.id(), &part(number, number - 1, number, 1, number)).await.unwrap();
        }
        store.end_run(epoch, run.id(), &RunEnd { ended_at: at(n), ..end() }).await.unwrap();
        ended.push(run.id());
    }
    let mut going = record();
    going.view.created_at = at(0).to_string();
    store.insert_run(epoch, &going, None).await.unwrap();
    store.commit(epoch, going.id(), &part(1, 0, 1, 7, 1)).await.unwrap();
    let listed = async || -> Vec<RunId> {
        let page = store.runs(&RunFilter::default()).await.unwrap();
        page.items.iter().map(|run| RunId(run.id)).filter(|id| *id != going.id()).collect()
    };
    let kept = |n: usize| ended[n..].iter().rev().copied().collect::<Vec<_>>();

    forget_all(&*store, epoch, &Keep::default(), at(6)).await;
    assert_eq!(listed().await, kept(0), "without limits everything is kept");

    // By age: the ones that ended four and five hours ago go. They are gone for readers before their parts are.
    let keep = Keep { age: Some(Micros::from_secs(4 * 3_600 - 1)), runs: None };
    assert!(store.forget_runs(epoch, &keep, at(5)).await.unwrap());
    assert_eq!(listed().await, kept(2));
    for id in &ended[..2] {
        assert_eq!(store.run(*id).await.unwrap(), None);
        assert_eq!(store.run_record(*id).await.unwrap(), None);
        assert_eq!(store.metrics(*id).await.unwrap(), None);
    }
    assert_eq!(store.idempotency_key("k1").await.unwrap(), None, "its run is not there any more");
    assert_eq!(store.idempotency_key("k2").await.unwrap(), Some((key(2), ended[2])));
    assert_eq!(store.total(ended[1]).await.unwrap().requests(), 40, "its parts still are");
    forget_all(&*store, epoch, &keep, at(5)).await;
    assert_eq!(store.total(ended[1]).await.unwrap(), Delta::default());

    // By number; whichever limit shuts a run out.
    forget_all(&*store, epoch, &Keep { runs: Some(3), age: Some(Micros::MAX) }, at(5)).await;
    assert_eq!(listed().await, kept(3));
    assert_eq!(store.total(ended[3]).await.unwrap().requests(), 40);

    let next = store.raise_epoch().await.unwrap();
    let none = Keep { runs: Some(0), age: None };
    let fenced = store.forget_runs(epoch, &none, at(5)).await;
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
    assert_eq!(listed().await, kept(3));
    forget_all(&*store, next, &none, at(40)).await;
    assert_eq!(listed().await, []);

    // What goes is never touched, and a key goes with its day.
    assert_eq!(store.unended_runs().await.unwrap(), [going.id()]);
    assert_eq!(store.total(going.id()).await.unwrap().requests(), 7);
    let late = record();
    let used = IdempotencyKey { key: "used".to_owned(), request: String::new() };
    store.insert_run(next, &late, Some(&used)).await.unwrap();
    forget_all(&*store, next, &Keep::default(), now()).await;
    assert!(store.idempotency_key("used").await.unwrap().is_none(), "the sample's run was made in 2024");
    assert!(store.run(late.id()).await.unwrap().is_some());
}

/// Two runs of so many parts each are forgotten.
const PARTS: u64 = 1_000;
/// Commits that are timed.
const COMMITS: u64 = 60;

pub(super) async fn forgetting_thousands_of_parts_holds_up_no_commit(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    for _ in 0..2 {
        let run = record();
        store.insert_run(epoch, &run, None).await.unwrap();
        for number in 1..=PARTS {
            store.commit(epoch, run.id(), &part(number, number - 1, number, 1, number)).await.unwrap();
        }
        store.end_run(epoch, run.id(), &end()).await.unwrap();
    }
    let going = record();
    store.insert_run(epoch, &going, None).await.unwrap();
    let timed = async |first: u64| {
        let mut took = Vec::new();
        for number in first..first + COMMITS {
            let began = Instant::now();
            store.commit(epoch, going.id(), &part(number, number - 1, number, 1, number)).await.unwrap();
            took.push(began.elapsed());
        }
        took.sort_unstable();
        took
    };
    let alone = timed(1).await;
    let none = Keep { runs: Some(0), age: None };
    let forgetting = async {
        let mut steps = 0;
        while store.forget_runs(epoch, &none, now()).await.unwrap() {
            steps += 1;
            tokio::task::yield_now().await;
        }
        steps
    };
    let (steps, beside) = tokio::join!(forgetting, timed(1 + COMMITS));
    let (median, worst) = (beside[beside.len() / 2], beside[beside.len() - 1]);
    println!(
        "a commit takes {:?}, beside the forgetting {median:?} and {worst:?} at most",
        alone[alone.len() / 2]
    );
    // Whatever waits for a step waits for a few parts, never for a run.
    assert!(steps > 2 * PARTS / 20, "{steps} steps for {} parts", 2 * PARTS);
    assert!(median <= 10 * alone[alone.len() / 2] + Duration::from_millis(50), "{median:?} beside {alone:?}");
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    assert_eq!(store.total(going.id()).await.unwrap().requests(), 2 * COMMITS);
}

async fn forget_all(store: &dyn Store, epoch: Epoch, keep: &Keep, now: Timestamp) {
    let mut steps = 0;
    while store.forget_runs(epoch, keep, now).await.unwrap() {
        steps += 1;
        assert!(steps < 100, "it comes to an end");
    }
}
