//! What changes while a run goes: levels, members, lanes.

use super::*;

pub(super) async fn changes_of_level_are_kept(place: &dyn Place) {
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
        last_event: 2,
    };
    store.end_run(next, run.id(), &end).await.unwrap();
    let ended = store.change_run(next, run.id(), &change(3, 4_000, Level::Vus(1)), &[]).await;
    assert!(matches!(ended, Err(StoreError::NotGoing(_))));
    assert_eq!(store.run(run.id()).await.unwrap().unwrap().levels, levels, "an ended run never changes");
}

pub(super) async fn members_and_moves_are_kept(place: &dyn Place) {
    let store = place.open().await;
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();
    let joined = [Member { id: AgentId::from("b"), ..run.members[0].clone() }];
    store.join_run(epoch, run.id(), &run.members, &joined).await.unwrap();

    let lanes = |number, agent: &str, from, release: &[u32], take: &[u32]| AgentMove {
        agent: AgentId::from(agent),
        incarnation: Incarnation((1 << 53) - 1),
        order: Move {
            number,
            scenario: 3,
            from: RunTime(from),
            release: release.to_vec(),
            take: take.to_vec(),
        },
    };
    let release = lanes(1, "a", 1_500_000, &[0, 2, 511], &[]);
    store.move_run(epoch, run.id(), std::slice::from_ref(&release)).await.unwrap();
    store.move_run(epoch, run.id(), &[lanes(2, "b", 1_500_000, &[], &[0, 2, 511])]).await.unwrap();
    // The releaser was later than asked, so the taker has another moment; and one more.
    let take = lanes(2, "b", 1_700_000, &[], &[0, 2, 511]);
    let back = lanes(3, "a", 2_000_000, &[4], &[2]);
    store.move_run(epoch, run.id(), &[take.clone(), back.clone()]).await.unwrap();

    let store = place.open().await;
    let kept = store.run_record(run.id()).await.unwrap().unwrap();
    assert_eq!((&kept.members, &kept.joined[..]), (&run.members, &joined[..]));
    assert_eq!(kept.moves, [release, take, back.clone()]);
    store.raise_epoch().await.unwrap();
    for fenced in [
        store.move_run(epoch, run.id(), &[back]).await,
        store.join_run(epoch, run.id(), &run.members, &[]).await,
    ] {
        assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
    }
    assert_eq!(store.run_record(run.id()).await.unwrap().unwrap().joined, joined);
}
