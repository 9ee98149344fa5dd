//! Parts and histories.

use super::*;
use volcanion_common::view::metrics::WarningView;

use crate::merge::AgentState;

pub(super) async fn parts_and_marks_are_one(place: &dyn Place) {
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

pub(super) async fn warnings_and_lags_stand_until_there_are_newer_ones(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();
    let warning = |code: &str| WarningView { code: code.to_owned(), ..WarningView::default() };
    let commit = async |number: u64, warnings: Option<Vec<WarningView>>, lag: &[u8]| {
        let agents = vec![AgentState { lag: lag.to_vec(), ..agent_state(number) }];
        let part = Part { agents, warnings, ..part(number, number - 1, number, 1, number) };
        store.commit(epoch, run.id(), &part).await.unwrap();
        store.run_record(run.id()).await.unwrap().unwrap()
    };
    commit(1, Some(vec![warning("one")]), &[]).await;
    commit(2, None, &[1, 2]).await;
    let kept = commit(3, None, &[]).await;
    assert_eq!((kept.warnings, &kept.agents[0].lag[..]), (vec![warning("one")], &[1, 2][..]));
    let kept = commit(4, Some(vec![warning("one"), warning("two")]), &[3]).await;
    assert_eq!((kept.warnings.len(), &kept.agents[0].lag[..]), (2, &[3][..]));
}

pub(super) async fn histories_read_exactly(place: &dyn Place) {
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
    assert_eq!(store.newest_parts(run.id(), 3).await.unwrap(), [delta(0, 1, 10), delta(1, 2, 20)]);
    let newest = store.newest_parts(run.id(), 201).await.unwrap();
    assert_eq!((newest.len(), newest.last()), (64, Some(&delta(56, 57, 1))));
}

pub(super) async fn states_of_many_agents_are_kept(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();
    let state = |n: u64, seq: u64| AgentState { agent: AgentId(format!("agent-{n:03}")), ..agent_state(seq) };
    let commit = async |number: u64, agents: Vec<AgentState>| {
        let part = Part { agents, ..part(number, number - 1, number, 1, 1) };
        store.commit(epoch, run.id(), &part).await.unwrap();
    };
    commit(1, (0..70).map(|n| state(n, 2)).collect()).await;
    // Of some the next is older, of others newer; the newest of each counts.
    commit(2, (0..40).map(|n| state(n, if n % 2 == 0 { 1 } else { 3 })).collect()).await;
    let kept = place.open().await.run_record(run.id()).await.unwrap().unwrap().agents;
    let newest = |n: u64| if n < 40 && n % 2 == 1 { 3 } else { 2 };
    assert!(kept.into_iter().eq((0..70).map(|n| state(n, newest(n)))));
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
