//! One agent: its entry, its server, and the streams that begin there.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::registry::{Member, MemberState, Membership, Registry};
use volcanion_proto::v1 as pb;
use volcanion_proto::v1::agent_server::{Agent, AgentServer};

use crate::deltas::Deltas;
use crate::run::{Ended, Run};

/// The largest message that is read: a Prepare.
const PREPARE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Reports that wait for their stream.
const REPORTS: usize = 4;

/// This machine's CLOCK_MONOTONIC in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Starts an agent on a free port of loopback, and enters it.
pub async fn start(
    number: u32,
    registry: &dyn Registry,
    deltas: Arc<Deltas>,
    ended: watch::Sender<Ended>,
) -> Result<Box<dyn Membership>, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let member = Member {
        id: AgentId(format!("fleet-{number}")),
        incarnation: Incarnation::random(),
        address: address.to_string(),
        metrics_address: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: Default::default(),
        cores: 1,
        capacity: 1.0,
        requests_per_s: None,
        state: MemberState::Ready,
    };
    let simulated = Simulated { number, incarnation: member.incarnation, deltas, ended };
    let server = Server::builder()
        .add_service(AgentServer::new(simulated).max_decoding_message_size(PREPARE_BYTES_MAX));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    registry.join(member).await.map_err(|error| error.to_string())
}

struct Simulated {
    number: u32,
    incarnation: Incarnation,
    deltas: Arc<Deltas>,
    ended: watch::Sender<Ended>,
}

#[tonic::async_trait]
impl Agent for Simulated {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::Report, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::Order>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (reports, receiver) = mpsc::channel(REPORTS);
        let run = Run::new(self.number, self.incarnation, Arc::clone(&self.deltas), self.ended.clone());
        tokio::spawn(run.carry(request.into_inner(), reports));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn ping(&self, _: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        let received_ns = now_ns();
        let incarnation = self.incarnation.0;
        Ok(Response::new(pb::PingResponse { received_ns, incarnation, sent_ns: now_ns() }))
    }

    async fn describe(
        &self,
        _: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        Err(Status::unimplemented("a simulated agent tells nothing of itself"))
    }

    async fn kill(&self, _: Request<pb::KillRequest>) -> Result<Response<pb::KillResponse>, Status> {
        Err(Status::unimplemented("a simulated agent has no kill switch"))
    }

    async fn drain(&self, _: Request<pb::DrainRequest>) -> Result<Response<pb::DrainResponse>, Status> {
        Err(Status::unimplemented("a simulated agent does not drain"))
    }

    async fn profile(&self, _: Request<pb::ProfileRequest>) -> Result<Response<pb::ProfileResponse>, Status> {
        Err(Status::unimplemented("a simulated agent has no time of its own"))
    }

    async fn memory(&self, _: Request<pb::MemoryRequest>) -> Result<Response<pb::MemoryResponse>, Status> {
        Err(Status::unimplemented("a simulated agent has no memory of its own"))
    }
}
