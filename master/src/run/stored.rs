//! What is known of a run that this master does not drive: the document made from what is durable of it, as its next master would begin with it.

use std::sync::Arc;

use jiff::Timestamp;
use volcanion_common::ids::RunId;
use volcanion_common::view::Metrics;

use super::live::nothing_measured;
use super::machine::{Action, Now, RunMachine};
use super::table::{MasterError, Runs};
use super::take_over::taken_up;
use crate::fleet::clock::monotonic_ns;

impl Runs {
    /// The metrics of a run that is not driven here: the final ones once it ended, else those up to its last durable part.
    pub(super) async fn stored_metrics(&self, id: RunId) -> Result<Arc<Metrics>, MasterError> {
        let store = &self.shared.store;
        if let Some(metrics) = store.metrics(id).await? {
            return Ok(Arc::new(metrics));
        }
        let record = store.run_record(id).await?.ok_or_else(|| MasterError::not_found("run", id))?;
        let view = record.view.clone();
        if view.status.is_ended() {
            // It ended between the two looks, or before it had a document.
            return Ok(store.metrics(id).await?.map_or_else(|| Arc::new(nothing_measured(&view)), Arc::new));
        }
        if record.start_at_unix_us.is_none() {
            return Ok(Arc::new(nothing_measured(&view)));
        }
        let (_, taken) = taken_up(self, id, record).await?;
        let now =
            Now { monotonic_ns: monotonic_ns(), unix_ms: Timestamp::now().as_millisecond().max(0) as u64 };
        // A machine does nothing by itself: what it would have done is dropped, but for the document.
        let (_, actions) = RunMachine::resume(taken, now);
        let published = actions.into_iter().find_map(|action| match action {
            Action::Publish { metrics, .. } => Some(metrics),
            _ => None,
        });
        Ok(published.unwrap_or_else(|| Arc::new(nothing_measured(&view))))
    }
}
