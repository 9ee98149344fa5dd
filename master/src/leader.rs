//! Taking office: who may write to the store, and under which epoch.
//!
//! The epoch is raised in the store's own transaction. From then on every older master's write is refused, and that master steps down at
//! the first one that is.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use volcanion_common::ids::Epoch;

use crate::store::{Store, StoreError};

/// How often a master looks whether it still leads, so that one that writes nothing learns of it too.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Takes office in the store.
///
/// # Errors
/// The store does not work.
pub async fn take_office(store: &dyn Store) -> Result<Epoch, StoreError> {
    let epoch = store.raise_epoch().await?;
    tracing::info!(epoch = epoch.0, "this master leads");
    Ok(epoch)
}

/// Waits until another master leads, then cancels `deposed`. Ends with `stop`. A store that does not answer deposes nobody.
pub async fn watch_office(
    store: &dyn Store,
    ours: Epoch,
    deposed: &CancellationToken,
    stop: &CancellationToken,
) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        match store.epoch().await {
            Ok(epoch) if epoch > ours => {
                if !deposed.is_cancelled() {
                    tracing::warn!(
                        epoch = epoch.0,
                        ours = ours.0,
                        "another master leads; this one steps down"
                    );
                }
                return deposed.cancel();
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "who leads is not known"),
        }
    }
}
