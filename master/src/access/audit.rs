//! Who changed what, when, from where.
//!
//! A change is written to the store before its answer where that takes no time, else behind it, in order, again and again until it is
//! there; and each is a line of the log at once. No body, query or key is in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use volcanion_common::telemetry::queue::Filling;

use crate::store::{AuditRecord, Store};

/// How long an answer waits for its record.
const WRITE_WAIT: Duration = Duration::from_millis(300);
/// Records that wait for the store; what comes further is in the log only.
const WAITING_MAX: usize = 1_024;
/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Keeps records. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    waiting: mpsc::Sender<Waiting>,
}

/// A record, or only the question whether all before it is kept; and who waits for that.
type Waiting = (Option<AuditRecord>, oneshot::Sender<()>);

impl Audit {
    /// A trail in this store; the writer ends with `stop`, after one more attempt at what waits. Must be called within a runtime.
    pub fn new(store: Arc<dyn Store>, stop: CancellationToken) -> Self {
        let (waiting, records) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(store, records, stop));
        Self { waiting }
    }

    /// The records that wait.
    pub fn filling(&self) -> Filling {
        Filling::of(&self.waiting)
    }

    /// Keeps a record; where the store is slow it is kept later.
    pub async fn note(&self, record: AuditRecord) {
        let AuditRecord { who, role, action, path, status, from, request_id, .. } = &record;
        tracing::info!(target: "volcanion_master::audit", who, %role, action, path, status, from, request_id, "a change");
        let (written, is_written) = oneshot::channel();
        if let Err(error) = self.waiting.try_send((Some(record), written)) {
            let (record, _) = error.into_inner();
            return tracing::error!(?record, "the store is away for long: a change is in the log only");
        }
        // Late or not: it is in the queue.
        let _ = timeout(WRITE_WAIT, is_written).await;
    }

    /// Waits until what was noted so far is kept, or was given up.
    pub async fn settle(&self) {
        let (written, is_written) = oneshot::channel();
        if self.waiting.send((None, written)).await.is_ok() {
            // A writer that has ended has nothing left to keep.
            let _ = is_written.await;
        }
    }
}

async fn write(store: Arc<dyn Store>, mut records: mpsc::Receiver<Waiting>, stop: CancellationToken) {
    while let Some((record, written)) = records.recv().await {
        let Some(record) = record else {
            let _ = written.send(());
            continue;
        };
        loop {
            match store.insert_audit(&record).await {
                Ok(()) => {
                    // Whoever waited has gone on.
                    let _ = written.send(());
                    break;
                }
                Err(error) if stop.is_cancelled() => {
                    break tracing::error!(?record, %error, "a change is in the log only");
                }
                Err(error) => {
                    tracing::debug!(%error, "a change is not kept yet");
                    let _ = timeout(AGAIN_AFTER, stop.cancelled()).await;
                }
            }
        }
    }
}
