//! The desk: where streams come in and find their run. One task that owns the fence and every run's task.
//!
//! - No order passes but by the fence; the highest epoch goes out to all runs, whichever run's stream brought it.
//! - Told to drain, it takes no run that it does not carry. Of those, elastic ones are handed over; the others go on as if nothing was, and their sessions say nothing of it.
//! - Told to kill, it has every run end its load at once, and takes none any more that was made before.
//! - A run has one task; a task that panicked takes the agent with it, loudly.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tonic::{Status, Streaming};
use tracing::{Instrument, error_span, info, warn};
use volcanion_common::ids::{Epoch, RunId};
use volcanion_common::session::command::Purpose;
use volcanion_common::session::{Hello, SealedHello};
use volcanion_common::telemetry::queue::{Filling, Queue};
use volcanion_common::units::Micros;
use volcanion_proto::v1 as pb;

use super::driver::{ReportSender, RunMessage, Surroundings, drive, note_refusal, refused, unix_ms};
use super::fence::{Fence, Identity, Refusal, Tombstone, check_command};
use super::machine::Machine;

/// Streams that wait for the desk; a full inbox makes them wait longer.
const INBOX: usize = 64;
/// Messages that wait for one run; a full inbox makes the desk wait (a run's task never waits for the desk).
pub const RUN_INBOX: usize = 8;

/// What the agent carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The runs that are known, in no order.
    pub runs: Vec<RunId>,
    /// The agent ends them and goes.
    pub is_leaving: bool,
    /// The agent finishes them and stays, until its process ends.
    pub is_draining: bool,
}

impl Census {
    /// Why no new run is taken, where none is.
    pub fn closed(&self) -> Option<Refusal> {
        match (self.is_leaving, self.is_draining) {
            (true, _) => Some(Refusal::Leaving),
            (false, true) => Some(Refusal::Draining),
            (false, false) => None,
        }
    }
}

/// How others reach the desk.
#[derive(Clone)]
pub struct DeskHandle {
    inbox: mpsc::Sender<Visit>,
    census: watch::Receiver<Census>,
}

enum Visit {
    Open {
        hello: SealedHello,
        orders: Box<Streaming<pb::Order>>,
        reports: ReportSender,
        request_id: Option<String>,
    },
    Command {
        purpose: Purpose,
        sealed_order: Vec<u8>,
        seal: Vec<u8>,
        answer: oneshot::Sender<Result<u32, Refusal>>,
    },
    DrainHere {
        done: oneshot::Sender<()>,
    },
    Leave,
}

/// See the module.
pub struct Desk {
    identity: Arc<Identity>,
    orphan_timeout: Micros,
    around: Arc<Surroundings>,
    fence: Fence,
    inbox: mpsc::Receiver<Visit>,
    runs: HashMap<RunId, mpsc::Sender<RunMessage>>,
    tasks: JoinSet<(RunId, Option<Tombstone>)>,
    epochs: watch::Sender<Epoch>,
    census: watch::Sender<Census>,
}

impl DeskHandle {
    /// Brings a stream whose first order is read; `request_id` is that of the request which the run began with, for the log.
    pub async fn open(
        &self,
        hello: SealedHello,
        orders: Box<Streaming<pb::Order>>,
        reports: ReportSender,
        request_id: Option<String>,
    ) {
        // Without a desk the agent is gone, and the dropped stream says so.
        let _ = self.inbox.send(Visit::Open { hello, orders, reports, request_id }).await;
    }

    /// Brings an order from outside of the runs' streams; gives how many runs there were when it was obeyed.
    ///
    /// # Errors
    /// The order is not obeyed.
    pub async fn command(
        &self,
        purpose: Purpose,
        sealed_order: Vec<u8>,
        seal: Vec<u8>,
    ) -> Result<u32, Refusal> {
        let (answer, answered) = oneshot::channel();
        let _ = self.inbox.send(Visit::Command { purpose, sealed_order, seal, answer }).await;
        // Without a desk the agent is gone.
        answered.await.unwrap_or(Err(Refusal::Leaving))
    }

    /// Drains, as whoever is on this machine may ask.
    pub async fn drain_here(&self) {
        let (done, is_done) = oneshot::channel();
        let _ = self.inbox.send(Visit::DrainHere { done }).await;
        // Without a desk the agent is gone.
        let _ = is_done.await;
    }

    /// Takes no new run and ends those that are here.
    pub async fn leave(&self) {
        let _ = self.inbox.send(Visit::Leave).await;
    }

    /// The streams and orders that wait.
    pub fn filling(&self) -> Filling {
        Filling::of(&self.inbox)
    }

    /// What the agent carries, now and from now on.
    pub fn census(&self) -> watch::Receiver<Census> {
        self.census.clone()
    }
}

impl Desk {
    /// A desk without runs, and the way to it.
    pub fn new(
        identity: Arc<Identity>,
        orphan_timeout: Micros,
        around: Arc<Surroundings>,
    ) -> (Self, DeskHandle) {
        let (inbox_sender, inbox) = mpsc::channel(INBOX);
        let (census, census_receiver) = watch::channel(Census::default());
        let desk = Self {
            fence: Fence::new((*identity).clone()),
            identity,
            orphan_timeout,
            around,
            inbox,
            runs: HashMap::new(),
            tasks: JoinSet::new(),
            epochs: watch::Sender::new(Epoch(0)),
            census,
        };
        (desk, DeskHandle { inbox: inbox_sender, census: census_receiver })
    }

    /// Serves until nobody can reach it any more; its runs end with it.
    ///
    /// # Panics
    /// A run's task panicked.
    pub async fn serve(mut self) {
        loop {
            tokio::select! {
                visit = self.inbox.recv() => match visit {
                    Some(Visit::Open { hello, orders, reports, request_id }) => {
                        self.open(hello, orders, reports, request_id.as_deref()).await;
                    }
                    Some(Visit::Command { purpose, sealed_order, seal, answer }) => {
                        // Who has hung up meanwhile asks again.
                        let _ = answer.send(self.command(purpose, &sealed_order, &seal).await);
                    }
                    Some(Visit::DrainHere { done }) => {
                        self.drain().await;
                        let _ = done.send(());
                    }
                    Some(Visit::Leave) => self.leave().await,
                    None => return,
                },
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok((run, tombstone)) => self.ended(run, tombstone),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(error) => warn!(%error, "a run's task was cancelled"),
                },
            }
        }
    }

    async fn open(
        &mut self,
        sealed: SealedHello,
        orders: Box<Streaming<pb::Order>>,
        reports: ReportSender,
        request_id: Option<&str>,
    ) {
        let hello = match self.admit(&sealed) {
            Ok(hello) => hello,
            Err(refusal) => {
                let said = sealed.read().ok().map(|(hello, _)| hello.run);
                note_refusal("Hello", said, &self.identity.agent, &refusal);
                self.around.tally.refused(refusal.code());
                // Nothing was said on the stream yet, so there is room.
                let _ = reports.try_send(Err(refused(refusal.code(), &refusal.to_string())));
                return;
            }
        };
        self.epochs
            .send_if_modified(|epoch| std::mem::replace(epoch, self.fence.highest()) != self.fence.highest());
        let run = hello.run;
        let sender = self.runs.get(&run).cloned().unwrap_or_else(|| self.begin(run, request_id));
        if let Err(mpsc::error::SendError(RunMessage::Open { reports, .. })) =
            sender.send(RunMessage::Open { hello, orders, reports }).await
        {
            let _ = reports.try_send(Err(Status::unavailable("the run is just being forgotten; ask again")));
        }
    }

    fn admit(&mut self, sealed: &SealedHello) -> Result<Hello, Refusal> {
        let hello = self.fence.admit(sealed, unix_ms())?;
        if self.runs.contains_key(&hello.run) {
            return Ok(hello);
        }
        match self.fence.tombstone(hello.run) {
            Some(Tombstone::GivenUp) => return Err(Refusal::RunOver(hello.run)),
            Some(Tombstone::Durable { .. }) => {}
            None => {
                self.census.borrow().closed().map_or(Ok(()), Err)?;
                self.fence.check_killed(hello.run)?;
            }
        }
        Ok(hello)
    }

    fn begin(&mut self, run: RunId, request_id: Option<&str>) -> mpsc::Sender<RunMessage> {
        let identity = self.identity.clone();
        let machine = match self.fence.tombstone(run) {
            Some(Tombstone::Durable { last_seq }) => {
                Machine::ended(identity, run, self.orphan_timeout, last_seq)
            }
            _ => Machine::new(identity, run, self.orphan_timeout),
        };
        let (sender, inbox) = mpsc::channel(RUN_INBOX);
        self.around.tally.began(run, Queue::of(&sender));
        let (around, epochs) = (self.around.clone(), self.epochs.subscribe());
        // Whatever is logged of the run carries these.
        let span = error_span!("run", run_id = %run, request_id);
        let driven = async move { (run, drive(run, machine, around, inbox, epochs).await) };
        self.tasks.spawn(driven.instrument(span));
        self.runs.insert(run, sender.clone());
        self.census.send_modify(|census| census.runs.push(run));
        sender
    }

    fn ended(&mut self, run: RunId, tombstone: Option<Tombstone>) {
        self.runs.remove(&run);
        self.around.tally.ended(run);
        if let Some(tombstone) = tombstone {
            self.fence.bury(run, tombstone);
        }
        self.census.send_modify(|census| census.runs.retain(|other| *other != run));
    }

    async fn command(&mut self, purpose: Purpose, sealed_order: &[u8], seal: &[u8]) -> Result<u32, Refusal> {
        if let Err(refusal) = check_command(&self.identity, purpose, sealed_order, seal, unix_ms()) {
            note_refusal(&format!("{purpose:?}"), None, &self.identity.agent, &refusal);
            self.around.tally.refused(refusal.code());
            return Err(refusal);
        }
        match purpose {
            Purpose::Drain => self.drain().await,
            Purpose::Kill => self.kill().await,
            // Whoever brought it does it: it takes its time, and nothing of the desk's.
            Purpose::Profile | Purpose::Memory => info!(?purpose, "a master looks inside"),
        }
        Ok(self.runs.len() as u32)
    }

    async fn drain(&self) {
        let is_new = |census: &mut Census| !std::mem::replace(&mut census.is_draining, true);
        if self.census.send_if_modified(is_new) {
            for run in self.runs.values() {
                // A run whose task has just ended need not be told.
                let _ = run.send(RunMessage::Drain).await;
            }
            info!(
                runs = self.runs.len(),
                "the agent drains: it hands over or finishes its runs and takes no new one"
            );
        }
    }

    async fn kill(&mut self) {
        self.fence.kill(unix_ms());
        warn!(runs = self.runs.len(), "the kill switch: every load ends at once");
        for run in self.runs.values() {
            // A run whose task has just ended need not be told.
            let _ = run.send(RunMessage::Kill).await;
        }
    }

    async fn leave(&mut self) {
        self.census.send_modify(|census| census.is_leaving = true);
        for run in self.runs.values() {
            // A run whose task has just ended need not be told.
            let _ = run.send(RunMessage::Leave).await;
        }
    }
}
