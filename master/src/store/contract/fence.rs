//! Epochs.

use super::*;

pub(super) async fn an_older_epoch_writes_nothing(place: &dyn Place) {
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

pub(super) async fn every_store_has_a_name_of_its_own(place: &dyn Place, other: &dyn Place) {
    let store = place.open().await;
    let (one, same) = tokio::join!(store.id(), store.id());
    let name = one.unwrap();
    assert_eq!(same.unwrap(), name);
    assert_eq!(place.open().await.id().await.unwrap(), name, "a master that comes back knows it again");
    assert_ne!(other.open().await.id().await.unwrap(), name);
}
