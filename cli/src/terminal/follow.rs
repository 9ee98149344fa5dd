//! Follows a run to its end: shows it, and turns Ctrl-C into a stop.

use futures_util::StreamExt;
use uuid::Uuid;
use volcanion_common::view::{Metrics, RunView};

use super::state::RunState;
use super::view::LiveView;
use crate::cluster::{Cluster, Update};
use crate::exit::Failure;

/// How a followed run ended.
pub struct Followed {
    pub metrics: Metrics,
    /// What the master says about the end.
    pub message: Option<String>,
    /// Ctrl-C was pressed.
    pub interrupted: bool,
}

/// Follows a run to its end. The first Ctrl-C (or SIGTERM) stops the run where `may_stop`, else only the following; the
/// second one ends the process at once.
pub async fn follow(cluster: &dyn Cluster, run: RunView, may_stop: bool) -> Result<Followed, Failure> {
    let id: Uuid = run.id;
    let mut updates = cluster.updates(id).await?;
    let mut state = RunState { run: Some(run), ..RunState::default() };
    let mut view = LiveView::new();
    let mut signals = Some(Signals::new()?);
    loop {
        tokio::select! {
            update = updates.next() => {
                let Some(update) = update else {
                    return Err(Failure::could_not_run("the run's events ended before the run"));
                };
                let update = update?;
                let is_shown = matches!(update, Update::Snapshot(_) | Update::End(_));
                state.take(update);
                if state.ended {
                    break;
                }
                if is_shown {
                    view.draw(&state);
                }
            }
            () = next(&mut signals) => {
                // From now on another one ends the process at once, whatever it is waiting for.
                signals.take().map(|signals| tokio::spawn(end_at_next(signals)));
                if !may_stop {
                    break;
                }
                cluster.stop(id).await?;
            }
        }
    }
    view.clear();
    let interrupted = signals.is_none();
    let message = state.run.and_then(|run| run.message);
    Ok(Followed { metrics: state.metrics, message, interrupted })
}

/// The next signal; none comes where nobody listens any more.
async fn next(signals: &mut Option<Signals>) {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

async fn end_at_next(mut signals: Signals) {
    signals.next().await;
    std::process::exit(crate::exit::Exit::Interrupted as i32);
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::could_not_run)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::could_not_run)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
