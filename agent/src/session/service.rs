//! The gRPC service: Session, Ping, Describe, and the orders outside of any stream. It reads a stream's Hello and brings the stream to the desk; no more.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use volcanion_common::registry::Member;
use volcanion_common::session::command::{Command, Purpose};
use volcanion_common::session::{Order, SealedHello};
use volcanion_common::telemetry::memory::memory;
use volcanion_common::telemetry::pprof::{NoProfile, profile};
use volcanion_common::telemetry::request_id::{REQUEST_ID, is_request_id};
use volcanion_proto::v1 as pb;
use volcanion_proto::v1::agent_server::Agent;

use super::desk::DeskHandle;
use super::driver::{ReportSender, refused};
use crate::send::clock::now_ns;

/// How long a stream may take to say who it is.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Reports between a run's task and its stream; a full channel makes the run's own bounded queue wait.
pub const REPORTS: usize = 4;
/// Streams that may be about to say who they are; more are refused.
const NEWCOMERS_MAX: usize = 256;

/// See the module.
pub struct AgentService {
    member: Member,
    desk: DeskHandle,
    newcomers: TaskTracker,
    stop: CancellationToken,
}

impl AgentService {
    /// A service of this member; streams that have not said who they are end with `stop`.
    pub fn new(member: Member, desk: DeskHandle, stop: CancellationToken) -> Self {
        Self { member, desk, newcomers: TaskTracker::new(), stop }
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::Report, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::Order>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if self.newcomers.len() >= NEWCOMERS_MAX {
            return Err(Status::resource_exhausted("too many streams that have not said hello"));
        }
        let (reports, receiver) = mpsc::channel(REPORTS);
        let (desk, stop) = (self.desk.clone(), self.stop.clone());
        let request_id = request_id(request.metadata());
        // The answer's head goes out at once, so that a leader may wait for it before it says hello.
        self.newcomers.spawn(async move {
            // Losing a half-read hello is right: the stream ends with it.
            tokio::select! {
                () = stop.cancelled() => {}
                () = welcome(request.into_inner(), reports, desk, request_id) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn ping(&self, _: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        let received_ns = now_ns();
        let incarnation = self.member.incarnation.0;
        Ok(Response::new(pb::PingResponse { received_ns, incarnation, sent_ns: now_ns() }))
    }

    async fn describe(
        &self,
        _: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        let runs = self.desk.census().borrow().runs.iter().map(ToString::to_string).collect();
        Ok(Response::new(pb::DescribeResponse {
            agent_id: self.member.id.0.clone(),
            incarnation: self.member.incarnation.0,
            version: self.member.version.clone(),
            cores: self.member.cores,
            capacity: self.member.capacity,
            labels: self.member.labels.clone().into_iter().collect(),
            run_ids: runs,
        }))
    }

    async fn drain(&self, request: Request<pb::DrainRequest>) -> Result<Response<pb::DrainResponse>, Status> {
        let pb::DrainRequest { sealed_order, seal } = request.into_inner();
        let drained = self.desk.command(Purpose::Drain, sealed_order, seal).await;
        drained.map_err(|refusal| refused(refusal.code(), &refusal.to_string()))?;
        Ok(Response::new(pb::DrainResponse {}))
    }

    async fn kill(&self, request: Request<pb::KillRequest>) -> Result<Response<pb::KillResponse>, Status> {
        let pb::KillRequest { sealed_order, seal } = request.into_inner();
        let killed = self.desk.command(Purpose::Kill, sealed_order, seal).await;
        let runs = killed.map_err(|refusal| refused(refusal.code(), &refusal.to_string()))?;
        Ok(Response::new(pb::KillResponse { runs }))
    }

    async fn profile(
        &self,
        request: Request<pb::ProfileRequest>,
    ) -> Result<Response<pb::ProfileResponse>, Status> {
        let pb::ProfileRequest { sealed_order, seal } = request.into_inner();
        let admitted = self.desk.command(Purpose::Profile, sealed_order.clone(), seal).await;
        admitted.map_err(|refusal| refused(refusal.code(), &refusal.to_string()))?;
        // Its seal is good, so a master of the cluster wrote it.
        let order: Command = serde_json::from_slice(&sealed_order)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let made = profile(order.seconds.unwrap_or(1)).await;
        let profile = made.map_err(|error| match error {
            NoProfile::Length(_) => Status::invalid_argument(error.to_string()),
            NoProfile::Busy => Status::resource_exhausted(error.to_string()),
            NoProfile::Broken(_) => Status::internal(error.to_string()),
        })?;
        Ok(Response::new(pb::ProfileResponse { profile }))
    }

    async fn memory(
        &self,
        request: Request<pb::MemoryRequest>,
    ) -> Result<Response<pb::MemoryResponse>, Status> {
        let pb::MemoryRequest { sealed_order, seal } = request.into_inner();
        let admitted = self.desk.command(Purpose::Memory, sealed_order, seal).await;
        admitted.map_err(|refusal| refused(refusal.code(), &refusal.to_string()))?;
        let memory = serde_json::to_vec(&memory()).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(pb::MemoryResponse { memory }))
    }
}

/// The id of the REST request that the run began with, where the master says one that may stand in a log.
fn request_id(metadata: &MetadataMap) -> Option<String> {
    let id = metadata.get(REQUEST_ID)?.to_str().ok()?;
    is_request_id(id).then(|| id.to_owned())
}

async fn welcome(
    mut orders: Streaming<pb::Order>,
    reports: ReportSender,
    desk: DeskHandle,
    request_id: Option<String>,
) {
    match timeout(HELLO_WAIT, hello(&mut orders)).await {
        Ok(Ok(hello)) => desk.open(hello, Box::new(orders), reports, request_id).await,
        Ok(Err(status)) => {
            debug!(reason = status.message(), "a stream ended before its hello");
            let _ = reports.try_send(Err(status));
        }
        Err(_) => {
            let _ = reports.try_send(Err(Status::deadline_exceeded("no hello in time")));
        }
    }
}

async fn hello(orders: &mut Streaming<pb::Order>) -> Result<SealedHello, Status> {
    let first =
        orders.message().await?.ok_or_else(|| Status::invalid_argument("a stream without an order"))?;
    match Order::try_from(first) {
        Ok(Order::Hello(hello)) => Ok(hello),
        Ok(_) => Err(Status::invalid_argument("a stream begins with hello")),
        Err(unreadable) => Err(Status::invalid_argument(unreadable.to_string())),
    }
}
