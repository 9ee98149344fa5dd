//! One run on one agent, over one stream: no reconnecting. A stream that breaks ends the agent's part, and the run shows a gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};
use volcanion_common::ids::{Incarnation, Seq};
use volcanion_common::plan::document;
use volcanion_common::session::{DeltaFrame, Order, Report, ShardState, UNACKED_MAX, Welcome};
use volcanion_common::shard::Shard;
use volcanion_common::units::{Micros, RunTime};
use volcanion_proto::v1 as pb;

use crate::agent::now_ns;
use crate::deltas::Deltas;

/// The default interval of a run.
const INTERVAL: Micros = Micros::from_secs(1);

type Reports = mpsc::Sender<Result<pb::Report, Status>>;

/// What all agents of a fleet have come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Parts of runs that are over.
    pub parts: u64,
    /// Requests that their deltas counted.
    pub requests: u64,
}

/// See the module.
pub struct Run {
    agent: u32,
    incarnation: Incarnation,
    deltas: Arc<Deltas>,
    ended: watch::Sender<Ended>,
    intervals: u64,
    start: Option<Instant>,
    /// Deltas that were sent, and are of use.
    sent: u64,
    /// The newest that is durable.
    acked: u64,
    /// Sent and not durable yet, as an agent keeps them.
    unacked: VecDeque<Bytes>,
    is_finished: bool,
}

impl Run {
    /// A run that nothing is known of.
    pub fn new(
        agent: u32,
        incarnation: Incarnation,
        deltas: Arc<Deltas>,
        ended: watch::Sender<Ended>,
    ) -> Self {
        Self {
            agent,
            incarnation,
            deltas,
            ended,
            intervals: 0,
            start: None,
            sent: 0,
            acked: 0,
            unacked: VecDeque::new(),
            is_finished: false,
        }
    }

    /// Does what the leader says until the stream ends.
    pub async fn carry(mut self, mut orders: Streaming<pb::Order>, reports: Reports) {
        loop {
            let due = self.due();
            // A dropped wait loses nothing: orders and time stay where they are.
            let report = tokio::select! {
                order = orders.message() => match order.ok().flatten().map(Order::try_from) {
                    Some(Ok(order)) => match self.on_order(order) {
                        Ok(report) => report,
                        Err(reason) => { let _ = reports.send(Err(Status::failed_precondition(reason))).await; return }
                    },
                    _ => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.next_report(),
            };
            if let Some(report) = report
                && reports.send(Ok(report.into())).await.is_err()
            {
                return;
            }
        }
    }

    fn on_order(&mut self, order: Order) -> Result<Option<Report>, String> {
        match order {
            Order::Hello(_) => Ok(Some(Report::Welcome(Welcome {
                incarnation: self.incarnation,
                state: ShardState::New,
                run_time: RunTime::START,
                first_unacked: Seq(0),
                adjusted: 0,
                moved: Vec::new(),
                monotonic_ns: now_ns(),
            }))),
            Order::Prepare { sealed_shard, .. } => {
                let shard: Shard =
                    serde_json::from_slice(&sealed_shard).map_err(|error| error.to_string())?;
                let plan = document::from_json(&shard.plan).map_err(|problems| problems.to_string())?.plan;
                self.intervals = plan.duration().0 / INTERVAL.0;
                Ok(Some(Report::Prepared { cores: 1 }))
            }
            Order::StartAt { monotonic_ns } => {
                self.start =
                    Some(Instant::now() + Duration::from_nanos(monotonic_ns.saturating_sub(now_ns())));
                Ok(Some(Report::Started { monotonic_ns }))
            }
            Order::Stop { .. } => {
                // The intervals that went by were sent; the one that goes is given up, with nothing in it.
                self.intervals = self.intervals.min(self.sent);
                Ok(None)
            }
            Order::Ack(seq) => {
                while self.acked < seq.0 && self.unacked.pop_front().is_some() {
                    self.acked += 1;
                }
                Ok(None)
            }
            Order::Release | Order::Alive { .. } => Ok(None),
            Order::Adjust(_) | Order::Move(_) => Err("a simulated agent has one load".to_owned()),
        }
    }

    /// When there is something to say; none while it must wait for an acknowledgement.
    fn due(&self) -> Option<Instant> {
        let start = self.start.filter(|_| !self.is_finished && self.unacked.len() < UNACKED_MAX)?;
        let intervals = (self.sent + 1).min(self.intervals);
        Some(start + Duration::from_micros(INTERVAL.0 * intervals))
    }

    fn next_report(&mut self) -> Option<Report> {
        if self.sent == self.intervals {
            self.is_finished = true;
            self.count();
            return Some(Report::Finished { last_seq: Seq(self.sent) });
        }
        let (from, to) = (RunTime(INTERVAL.0 * self.sent), RunTime(INTERVAL.0 * (self.sent + 1)));
        let body = self.deltas.of(self.agent, self.sent, from, to);
        self.sent += 1;
        self.unacked.push_back(body.clone());
        DeltaFrame::cut(Seq(self.sent), body).into_iter().next().map(Report::Delta)
    }

    fn count(&self) {
        self.ended.send_modify(|ended| {
            ended.parts += 1;
            ended.requests += self.sent * self.deltas.requests;
        });
    }
}
