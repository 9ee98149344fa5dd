//! Keeping the store small, and knowing whether it works.
//!
//! The leader forgets ended runs that are not to be kept, and keys whose day is over, in steps so small that no run's writes wait long for one.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use volcanion_common::view::ErrorCode;

use super::table::{MasterError, Runs};
use crate::leader::Office;
use crate::store;

/// How often it is looked whether something is to be forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two steps: long enough for whoever waits to write, even where waiting is looking now and then, as in SQLite.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// Forgets what is not to be kept, whenever this master leads; until the stop.
pub(crate) async fn keep_forgetting(office: Office, stop: CancellationToken) {
    loop {
        let runs = office.runs();
        if stop.run_until_cancelled(runs.forget_stored()).await.is_none()
            || stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none()
        {
            return;
        }
    }
}

/// How the store looks from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreState {
    /// Whether it works.
    pub works: bool,
    /// How often it did not, in this process.
    pub failures: u64,
}

impl Runs {
    /// How the store looks from here.
    pub fn store_state(&self) -> StoreState {
        let store = &self.shared.store;
        StoreState { works: store.failure().is_none(), failures: store.failures() }
    }

    /// Every step that there is to do now. May be dropped half-way: a step is done or not, and the next time goes on.
    pub(crate) async fn forget_stored(&self) {
        let shared = &self.shared;
        while self.check_ready().is_ok() {
            match shared.store.forget_runs(shared.epoch, &shared.config.keep, store::now()).await {
                Ok(true) => tokio::time::sleep(STEP_PAUSE).await,
                Ok(false) => return,
                Err(error) => {
                    return tracing::warn!(%error, "old runs could not be forgotten; it is tried again");
                }
            }
        }
    }

    /// Whether the store works, as far as this master knows.
    ///
    /// # Errors
    /// It did not when it was last used.
    pub(super) fn check_store(&self) -> Result<(), MasterError> {
        match self.shared.store.failure() {
            None => Ok(()),
            Some(failure) => {
                let seconds = failure.since.elapsed().as_secs();
                let detail = format!(
                    "the store has not worked for {seconds} s: {}; runs go on, and nothing is acknowledged until it does",
                    failure.error
                );
                Err(MasterError::new(ErrorCode::StoreUnavailable, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use volcanion_common::registry::local::LocalRegistry;
    use volcanion_common::session::seal::ClusterKey;
    use volcanion_common::view::RunView;

    use super::*;
    use crate::config::Config;
    use crate::run::table::RunFilter;
    use crate::store::samples::{end, record};
    use crate::store::{Keep, StoreUrl};

    #[tokio::test]
    async fn a_master_forgets_the_runs_that_are_not_to_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::SqliteFile(folder.path().join("store.db"));
        let store = store::open(&url).await.unwrap();
        let epoch = store.raise_epoch().await.unwrap();
        let mut newest = None;
        for _ in 0..3 {
            let run = record();
            store.insert_run(epoch, &run, None).await.unwrap();
            store.end_run(epoch, run.id(), &end()).await.unwrap();
            newest = Some(run.id().0);
        }
        let stop = CancellationToken::new();
        let _ends = stop.clone().drop_guard();
        let keep = Keep { runs: Some(1), age: None };
        let config = Config { store: url, keep, ..Config::embedded(ClusterKey::random()) };
        let master = crate::start(config, Arc::new(LocalRegistry::new()), stop).await.unwrap();
        let listed =
            async || -> Vec<RunView> { master.runs().runs(RunFilter::default()).await.unwrap().items };
        while listed().await.len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(listed().await.first().map(|run| run.id), newest);
    }
}
