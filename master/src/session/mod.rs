//! One stream to one agent for one run: opened with a Hello, orders down, reports up.
//!
//! It makes one try and tells how it went; when to try again is for the run's machine to say. Orders wait in a bounded queue: a
//! full one means that the agent does not read, and ends the stream. Reports wait for room in the run's inbox, and so
//! hold the agent back.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use volcanion_common::ids::AgentId;
use volcanion_common::session::{Order, Report, SealedHello, Welcome};
use volcanion_common::telemetry::queue::Queue;
use volcanion_common::telemetry::request_id::REQUEST_ID;
use volcanion_proto::v1 as pb;
use volcanion_proto::v1::agent_client::AgentClient;

/// How long an agent may take from the Hello to its Welcome, connecting included.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a Hello may be taken for one; clocks may differ so much.
pub const HELLO_EXPIRES_MS: u64 = 60_000;
/// How long a closed stream may take to bring its last orders out.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Orders that wait at most.
pub const ORDERS_MAX: usize = 256;

/// What a stream says to its run.
#[derive(Debug)]
pub enum SessionEvent {
    /// The agent answered the Hello.
    Opened(Welcome),
    /// The stream did not come up.
    Refused {
        /// For people.
        reason: String,
        /// The agent itself refused: asking the same again is no use.
        fatal: bool,
    },
    /// Something came.
    Report(Report),
    /// The stream ended.
    Lost,
}

/// The order side of a stream. Dropped: the stream is closed once its orders went out, and says nothing any more.
pub struct Session {
    orders: mpsc::Sender<Order>,
    closing: CancellationToken,
    broken: CancellationToken,
}

impl Session {
    /// Sends an order without waiting. Where the agent does not read its orders, the stream ends.
    pub fn send(&self, order: Order) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.orders.try_send(order) {
            self.broken.cancel();
        }
    }

    /// The orders that wait.
    pub fn queue(&self) -> Queue {
        Queue::of(&self.orders)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// A stream that is about to be opened: the order side, and the task that carries it (to be spawned by its owner). `wrap` makes of the
/// stream's events what the inbox takes. The agent's log lines of the run carry `request_id`.
pub fn open<E, W>(
    client: AgentClient<Channel>,
    agent: AgentId,
    hello: SealedHello,
    request_id: Option<&str>,
    inbox: mpsc::Sender<E>,
    wrap: W,
) -> (Session, impl Future<Output = ()> + Send + 'static)
where
    E: Send + 'static,
    W: Fn(SessionEvent) -> E + Send + Sync + 'static,
{
    let (orders, queue) = mpsc::channel(ORDERS_MAX);
    let session = Session { orders, closing: CancellationToken::new(), broken: CancellationToken::new() };
    let (closing, broken) = (session.closing.clone(), session.broken.clone());
    // What is no id that a header can hold is not said.
    let request_id = request_id.and_then(|id| AsciiMetadataValue::try_from(id).ok());
    let task = async move {
        let opening = begin(client, hello, request_id, queue);
        let carried = carry(opening, agent, &inbox, &wrap, &broken);
        tokio::pin!(carried);
        tokio::select! {
            () = &mut carried => {}
            // What still comes finds nobody: only the last orders are waited for.
            () = closing.cancelled() => { let _ = tokio::time::timeout(CLOSE_TIMEOUT, carried).await; }
        }
    };
    (session, task)
}

async fn carry<E, W: Fn(SessionEvent) -> E>(
    opening: impl Future<Output = Result<(Streaming<pb::Report>, Welcome), SessionEvent>>,
    agent: AgentId,
    inbox: &mpsc::Sender<E>,
    wrap: &W,
    broken: &CancellationToken,
) {
    let (mut reports, welcome) = match opening.await {
        Ok(begun) => begun,
        Err(refused) => {
            let _ = inbox.send(wrap(refused)).await;
            return;
        }
    };
    if inbox.send(wrap(SessionEvent::Opened(welcome))).await.is_err() {
        return;
    }
    loop {
        let report = tokio::select! {
            report = next_report(&mut reports) => report,
            () = broken.cancelled() => Err("it does not read its orders".to_owned()),
        };
        let event = match report {
            Ok(Some(report)) => SessionEvent::Report(report),
            Ok(None) => SessionEvent::Lost,
            Err(reason) => {
                tracing::debug!(agent_id = %agent, reason, "a stream broke");
                SessionEvent::Lost
            }
        };
        let is_last = matches!(event, SessionEvent::Lost);
        if inbox.send(wrap(event)).await.is_err() || is_last {
            return;
        }
    }
}

async fn begin(
    mut client: AgentClient<Channel>,
    hello: SealedHello,
    request_id: Option<AsciiMetadataValue>,
    orders: mpsc::Receiver<Order>,
) -> Result<(Streaming<pb::Report>, Welcome), SessionEvent> {
    let first = stream::iter([pb::Order::from(Order::Hello(hello))]);
    let outbound = first.chain(ReceiverStream::new(orders).map(pb::Order::from));
    let mut outbound = tonic::Request::new(outbound);
    if let Some(id) = request_id {
        outbound.metadata_mut().insert(REQUEST_ID, id);
    }
    let not_yet = |reason: String| SessionEvent::Refused { reason, fatal: false };
    let opening = async {
        let mut reports = client.session(outbound).await.map_err(refusal)?.into_inner();
        match reports.message().await.map_err(refusal)?.map(Report::try_from) {
            Some(Ok(Report::Welcome(welcome))) => Ok((reports, welcome)),
            Some(Ok(Report::Fault { message, .. })) => {
                Err(SessionEvent::Refused { reason: message, fatal: true })
            }
            Some(Ok(_)) => Err(not_yet("its first report is no Welcome".to_owned())),
            Some(Err(error)) => Err(SessionEvent::Refused { reason: error.to_string(), fatal: true }),
            None => Err(not_yet("it ended the stream without a word".to_owned())),
        }
    };
    let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
    opened.unwrap_or_else(|_| Err(not_yet(format!("no answer within {} s", OPEN_TIMEOUT.as_secs()))))
}

/// Whether the agent itself said no, or was not reached.
fn refusal(status: Status) -> SessionEvent {
    let fatal = matches!(
        status.code(),
        Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::Unimplemented
            | Code::NotFound
    );
    let reason =
        if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() };
    SessionEvent::Refused { reason, fatal }
}

async fn next_report(reports: &mut Streaming<pb::Report>) -> Result<Option<Report>, String> {
    let message = reports.message().await.map_err(|status| status.to_string())?;
    message.map(Report::try_from).transpose().map_err(|error| error.to_string())
}
