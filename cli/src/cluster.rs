//! Where a run goes: a cluster in this process, or one behind a master's REST. Commands see no difference.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde_json::Value;
use uuid::Uuid;
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{Metrics, RunView};

use crate::exit::Failure;

/// What is heard of a run while it goes.
#[derive(Clone, Debug)]
pub enum Update {
    /// The metrics now.
    Snapshot(Box<Metrics>),
    /// The run's state has changed.
    State(Box<RunView>),
    /// Something to be known.
    Warning(WarningView),
    /// The final metrics; the last update.
    End(Box<Metrics>),
}

/// A place that runs plans.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Stores the plan of this document and starts it.
    async fn start(&self, document: &Value) -> Result<RunView, Failure>;

    /// Asks for a run's end; the updates tell when it is there.
    async fn stop(&self, run: Uuid) -> Result<(), Failure>;

    /// What happens in a run from now on, the present state first; ends after [`Update::End`] or an error.
    async fn updates(&self, run: Uuid) -> Result<BoxStream<'static, Result<Update, Failure>>, Failure>;
}
