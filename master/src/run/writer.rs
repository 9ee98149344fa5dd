//! A run's durable writes, one after the other in the order in which they were asked for; each is answered.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use volcanion_common::delta::Delta;
use volcanion_common::ids::RunId;

use super::live::Live;
use super::machine::{Ending, Event, PeerMove, Save, SaveChange, SaveJoins, SaveMoves};
use super::outgoing::Feed;
use super::table::Shared;
use crate::merge::Part;
use crate::store::{self, AgentMove, Progress, RunEnd, StoreError};

/// How long a write may take; what takes longer is undone by the store and asked for again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be made durable.
pub(super) enum Write {
    Save(Save),
    Change(SaveChange),
    Moves(SaveMoves),
    Joins(SaveJoins),
    Part(Arc<Part>),
    End(Box<Ending>),
}

impl Write {
    /// The answer to a write that is not durable.
    pub(super) fn failed(&self, fenced: bool) -> Event {
        match self {
            Self::Save(save) => Event::SaveFailed { save: save.number, fenced },
            Self::Change(save) => Event::ChangeFailed { change: save.change.number, fenced },
            Self::Moves(save) => Event::MovesFailed { batch: save.batch, fenced },
            Self::Joins(save) => Event::JoinsFailed { batch: save.batch, fenced },
            Self::Part(part) => Event::CommitFailed { part: part.number, fenced },
            Self::End(ending) => Event::SaveFailed { save: ending.number, fenced },
        }
    }

    fn done(&self) -> Event {
        match self {
            Self::Save(save) => Event::Saved { save: save.number },
            Self::Change(save) => Event::ChangeSaved { change: save.change.number },
            Self::Moves(save) => Event::MovesSaved { batch: save.batch },
            Self::Joins(save) => Event::JoinsSaved { batch: save.batch },
            Self::Part(part) => Event::Committed { part: part.number },
            Self::End(ending) => Event::Saved { save: ending.number },
        }
    }
}

/// Writes until the queue is closed or nobody wants the answers.
pub(super) async fn write(
    shared: Arc<Shared>,
    run: RunId,
    live: Arc<Live>,
    mut feed: Option<Feed>,
    mut queue: mpsc::Receiver<Write>,
    inbox: mpsc::Sender<Event>,
) {
    while let Some(write) = queue.recv().await {
        let answer = match write_one(&shared, run, &live, &write).await {
            Ok(()) => {
                if let Some(feed) = &mut feed {
                    feed_durable(feed, &write);
                }
                write.done()
            }
            Err(error) => {
                if matches!(write, Write::End(_)) {
                    live.take_end_back();
                }
                tracing::error!(run_id = %run, %error, "the store did not take a write; the load goes on");
                // A run that the store says is not going was ended by somebody else, who can only be another master.
                write.failed(matches!(error, StoreError::Fenced { .. } | StoreError::NotGoing(_)))
            }
        };
        if inbox.send(answer).await.is_err() {
            return;
        }
    }
}

/// What is durable goes on to whoever is to have it besides.
fn feed_durable(feed: &mut Feed, write: &Write) {
    match write {
        Write::Part(part) => feed.part(part),
        Write::End(_) => feed.end(),
        Write::Save(_) | Write::Change(_) | Write::Moves(_) | Write::Joins(_) => {}
    }
}

async fn write_one(shared: &Shared, run: RunId, live: &Live, write: &Write) -> Result<(), StoreError> {
    let (store, epoch) = (&shared.store, shared.epoch);
    let writing = async {
        match write {
            Write::Part(part) => store.commit(epoch, run, part).await,
            Write::Joins(save) => store.join_run(epoch, run, &save.first, &save.joined).await,
            Write::Change(save) => store.change_run(epoch, run, &save.change, &save.levels).await,
            Write::Moves(save) => {
                let moves = save.moves.iter().cloned();
                let moves: Vec<AgentMove> = moves
                    .map(|PeerMove { agent, incarnation, order }| AgentMove { agent, incarnation, order })
                    .collect();
                store.move_run(epoch, run, &moves).await
            }
            Write::Save(save) => {
                let Save { status, start_at_unix_us, stop_reason, .. } = *save;
                store.update_run(epoch, run, &Progress { status, start_at_unix_us, stop_reason }).await
            }
            Write::End(ending) => {
                let end = run_end(ending, live.begin_end());
                store.end_run(epoch, run, &end).await?;
                show_end(live, &end, Arc::clone(&ending.totals));
                tracing::info!(
                    run_id = %run, status = end.status.name(), reason = ?end.reason, detail = end.message.as_deref(),
                    requests = end.metrics.total_requests, failed = end.metrics.failed_requests, "run ended"
                );
                Ok(())
            }
        }
    };
    let timed_out = || Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
    tokio::time::timeout(WRITE_TIMEOUT, writing).await.unwrap_or_else(|_| timed_out())
}

/// Shows readers a run's end.
pub(super) fn show_end(live: &Live, end: &RunEnd, totals: Arc<Delta>) {
    let mut view = live.view();
    view.status = end.status;
    view.stop_reason = Some(end.reason);
    view.message = end.message.clone();
    view.ended_at = Some(end.ended_at.to_string());
    live.publish_end(view, Arc::clone(&end.metrics), totals);
}

fn run_end(ending: &Ending, last_event: u64) -> RunEnd {
    let ended_at =
        i64::try_from(ending.ended_at_unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    RunEnd {
        status: ending.status,
        reason: ending.stop_reason,
        message: ending.message.clone(),
        ended_at: ended_at.unwrap_or_else(store::now),
        metrics: Arc::clone(&ending.metrics),
        last_event,
    }
}
