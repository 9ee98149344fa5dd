//! A master that stands by: it answers reads from the store, and sends on to the leader what only that one can do or knows.
//!
//! Writes go on whole, with their request id and Idempotency-Key; so do the figures of runs that go, the list of agents (which says who carries runs) and
//! event streams. Where the leader is not reached, figures and agents are answered from what is known here, and the rest is refused with 503
//! `no_leader` and Retry-After. Invariants: what was sent on once is not sent on again; nothing is sent on twice; every wait has its limit.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{OriginalUri, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::timeout;
use volcanion_common::ids::RunId;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::view::sse::{Event, Parser};
use volcanion_common::view::{ErrorCode, ProblemDetails};

use super::RestState;
use super::access;
use super::audit;
use super::events::{self, EventView};
use super::limit::{self, BODY_BYTES_MAX};
use super::problem::Refusal;
use super::trace::REQUEST_ID;
use crate::leader::Leader;
use crate::run::live::RunEvent;

/// Says that another master sent this on already.
const FORWARDED: HeaderName = HeaderName::from_static("x-volcanion-forwarded");
/// What of a request goes on.
static REQUEST_HEADERS: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    REQUEST_ID,
];
/// What of an answer comes back.
static ANSWER_HEADERS: [HeaderName; 7] = [
    header::CONTENT_DISPOSITION,
    header::CONTENT_TYPE,
    header::LOCATION,
    header::LINK,
    header::ALLOW,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
];

const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// How long the leader may take for a write: longer than it allows itself.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long it may take for what could be answered here as well.
const READ_TIME_MAX: Duration = Duration::from_secs(3);
/// How long the store may take before the leader is asked instead.
const STORE_TIME_MAX: Duration = Duration::from_secs(1);
/// How long it may take to say that it is ready, or to open a stream.
const OPEN_TIME_MAX: Duration = Duration::from_secs(2);
/// A stream on which nothing comes for so long, not even the leader's sign of life, is over.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest answer that is passed on.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What is to become of a request at a master that does not lead.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// It is answered here.
    Own,
    /// The leader has to do it.
    Leaders,
    /// The leader knows better, as long as this run goes.
    BetterOfRun(RunId),
    /// The leader knows better.
    Better,
}

impl Way {
    fn of(method: &Method, path: &str) -> Self {
        let Some(call) = path.strip_prefix("/api/v1/").or_else(|| path.strip_prefix("/api/")) else {
            return Self::Own;
        };
        let words: Vec<&str> = call.split('/').collect();
        let is_read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        match (is_read, &words[..]) {
            (true, ["test-runs", id, "live" | "metrics"]) => {
                id.parse().map_or(Self::Own, |id| Self::BetterOfRun(RunId(id)))
            }
            (true, ["agents"]) => Self::Better,
            // It changes nothing, and asks for nothing that is not in the store.
            (true, _) | (false, ["kill"] | ["test-plans", "validate"] | ["test-plans", _, "validate"]) => {
                Self::Own
            }
            (false, _) => Self::Leaders,
        }
    }
}

/// Speaks to leaders. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Forwarder {
    /// Made at the first use: a master that always leads has none.
    client: Arc<OnceLock<Result<reqwest::Client, String>>>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// The head of a request that goes on.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// The leader did not answer.
struct NotReached {
    why: String,
    /// It may have begun.
    may_be_done: bool,
}

/// The layer: what goes on goes on, the rest is answered here.
pub(super) async fn layer(State(state): State<RestState>, request: Request, next: Next) -> Response {
    let leader = state.office.leader();
    if leader == Leader::Here {
        return next.run(request).await;
    }
    let mut head = Head::of(&request);
    head.introduce(&request, &state.options.cluster_key);
    let way = Way::of(&head.method, head.uri.path());
    let was_forwarded = was_forwarded(request.headers());
    match (way, leader) {
        (Way::Leaders, Leader::At(leader)) if !was_forwarded => {
            write(&state.forwarder, &leader, head, request).await.unwrap_or_else(Refusal::into_response)
        }
        (Way::Leaders, leader) => no_leader(&leader).into_response(),
        (Way::BetterOfRun(run), Leader::At(leader)) if !was_forwarded && goes(&state, run).await => {
            match state.forwarder.read(&leader, head).await {
                Some(answer) => answer,
                None => next.run(request).await,
            }
        }
        (Way::Better, Leader::At(leader)) if !was_forwarded => {
            match state.forwarder.read(&leader, head).await {
                Some(answer) => answer,
                None => next.run(request).await,
            }
        }
        _ => next.run(request).await,
    }
}

async fn write(
    forwarder: &Forwarder,
    leader: &str,
    head: Head,
    request: Request,
) -> Result<Response, Refusal> {
    let body = limit::read_whole(request, BODY_BYTES_MAX).await?;
    forwarder.send(leader, head, body, WRITE_TIME_MAX).await.map_err(|error| error.refusal(leader))
}

/// Whether the run goes, or the store does not say so at once. What it does not know is asked of nobody else.
async fn goes(state: &RestState, run: RunId) -> bool {
    match timeout(STORE_TIME_MAX, state.office.runs().run(run)).await {
        Ok(Ok(view)) => !view.status.is_ended(),
        Ok(Err(error)) => error.code == ErrorCode::StoreUnavailable,
        Err(_) => true,
    }
}

fn was_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

/// Whether writes can be served: here, or by a leader that says so.
///
/// # Errors
/// 503: why not.
pub(super) async fn check_ready(state: &RestState, headers: &HeaderMap) -> Result<(), Refusal> {
    let here = state.office.runs().check_ready();
    match state.office.leader() {
        Leader::Here => Ok(here?),
        // What is ending sends nothing on any more.
        _ if state.stop.is_cancelled() => Ok(here?),
        Leader::At(leader) if !was_forwarded(headers) => state.forwarder.check_ready(&leader, headers).await,
        leader => Err(no_leader(&leader)),
    }
}

/// The events of a run that are known here; `None`: the leader has them, or may have them where the store does not say so at once.
///
/// # Errors
/// There is no such run, or the store does not answer and nobody leads.
pub(super) async fn own_events(
    state: &RestState,
    run: RunId,
    after: Option<u64>,
) -> Result<Option<BoxStream<'static, RunEvent>>, Refusal> {
    let runs = state.office.runs();
    let asked = runs.events(run, after);
    let Leader::At(_) = state.office.leader() else {
        return Ok(Some(asked.await?.boxed()));
    };
    match timeout(STORE_TIME_MAX, asked).await {
        Ok(Ok(events)) => Ok(Some(events.boxed())),
        Ok(Err(error)) if !matches!(error.code, ErrorCode::NoLeader | ErrorCode::StoreUnavailable) => {
            Err(error.into())
        }
        _ => Ok(None),
    }
}

/// The events of a run that goes under the leader.
///
/// # Errors
/// There is no leader, it is not reached, or it refuses.
pub(super) async fn events(
    state: &RestState,
    run: RunId,
    after: Option<u64>,
    headers: &HeaderMap,
) -> Result<BoxStream<'static, EventView>, Refusal> {
    match state.office.leader() {
        Leader::At(leader) if !was_forwarded(headers) => {
            state.forwarder.events(&leader, run, after, headers).await
        }
        leader => Err(no_leader(&leader)),
    }
}

fn no_leader(leader: &Leader) -> Refusal {
    let detail = match leader {
        Leader::Nobody => "no master leads at this moment; try again in a moment".to_owned(),
        Leader::Hidden => {
            "another master leads, but does not say where it is reached; ask that one, or give it --advertise-url".to_owned()
        }
        Leader::OfAnotherStore(other) => format!(
            "a master with another store leads under this etcd and prefix{}; ask that one, or give this one the same --store or another --prefix, and start it again",
            other.rest.as_ref().map_or_else(String::new, |rest| format!(", at {rest}"))
        ),
        Leader::Here | Leader::At(_) => {
            "the leader has just changed, and this master is not it; try again in a moment".to_owned()
        }
    };
    Refusal::new(ErrorCode::NoLeader, detail)
}

impl Head {
    fn of(request: &Request) -> Self {
        let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
        let mut headers = HeaderMap::new();
        copy(request.headers(), &mut headers, &REQUEST_HEADERS);
        Self { method: request.method().clone(), uri: uri.clone(), headers }
    }
}

impl Head {
    /// Says whose request it is.
    fn introduce(&mut self, request: &Request, key: &ClusterKey) {
        let request_id =
            request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        if let Some(said) = access::peer(request).and_then(|from| audit::introduction(from, key, request_id))
        {
            self.headers.insert(audit::CLIENT, said);
        }
    }
}

fn copy(from: &HeaderMap, to: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        for value in from.get_all(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

impl Forwarder {
    pub(super) fn new(tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self { client: Arc::default(), tls }
    }

    fn client(&self) -> Result<&reqwest::Client, NotReached> {
        let made = self.client.get_or_init(|| {
            let builder = reqwest::Client::builder()
                .connect_timeout(CONNECT_TIME_MAX)
                // The leader's own address is what is meant, whatever proxies this machine has.
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none());
            let builder = match &self.tls {
                Some(tls) => builder.tls_backend_preconfigured((**tls).clone()),
                None => builder,
            };
            builder.build().map_err(|error| innermost(&error))
        });
        made.as_ref().map_err(|why| NotReached { why: why.clone(), may_be_done: false })
    }

    async fn send(
        &self,
        leader: &str,
        head: Head,
        body: Bytes,
        most: Duration,
    ) -> Result<Response, NotReached> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = self.client()?.request(head.method, format!("{leader}{path}")).headers(head.headers);
        let request = request.header(FORWARDED, "1").body(body).timeout(most);
        answer(request.send().await.map_err(NotReached::of)?).await
    }

    /// What the leader answers; `None` where it does not lead (any more), or does not answer well in time.
    async fn read(&self, leader: &str, head: Head) -> Option<Response> {
        match self.send(leader, head, Bytes::new(), READ_TIME_MAX).await {
            Ok(response) => (!response.status().is_server_error()).then_some(response),
            Err(error) => {
                tracing::debug!(leader, why = error.why, "the leader is not reached");
                None
            }
        }
    }

    async fn check_ready(&self, leader: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let asking = async {
            let mut passed = HeaderMap::new();
            copy(headers, &mut passed, &REQUEST_HEADERS);
            let url = format!("{leader}/readyz");
            let request = self.client()?.get(url).headers(passed).header(FORWARDED, "1");
            request.timeout(OPEN_TIME_MAX).send().await.map_err(NotReached::of)
        };
        match asking.await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Refusal::new(
                ErrorCode::NoLeader,
                format!("the leader at {leader} is not ready: it answers {}", answer.status().as_u16()),
            )),
            Err(error) => Err(error.refusal(leader)),
        }
    }

    async fn events(
        &self,
        leader: &str,
        run: RunId,
        after: Option<u64>,
        headers: &HeaderMap,
    ) -> Result<BoxStream<'static, EventView>, Refusal> {
        let opening = async {
            let mut passed = HeaderMap::new();
            copy(headers, &mut passed, &REQUEST_HEADERS);
            passed.remove("last-event-id");
            let url = format!("{leader}/api/v1/test-runs/{run}/events");
            let mut request = self.client()?.get(url).headers(passed).header(FORWARDED, "1");
            if let Some(after) = after {
                request = request.header("last-event-id", after);
            }
            let late = || NotReached { why: "it does not answer".to_owned(), may_be_done: false };
            let sending = timeout(OPEN_TIME_MAX, request.send());
            sending.await.map_err(|_| late())?.map_err(NotReached::of)
        };
        let response = opening.await.map_err(|error| error.refusal(leader))?;
        match response.status() {
            StatusCode::OK => Ok(views(response)),
            // The last one was heard already.
            StatusCode::NO_CONTENT => Ok(stream::empty().boxed()),
            status => {
                let bytes = response.bytes().await.unwrap_or_default();
                Err(serde_json::from_slice::<ProblemDetails>(&bytes).map_or_else(
                    |_| Refusal::new(ErrorCode::NoLeader, format!("the leader at {leader} answers {status}")),
                    Refusal::from,
                ))
            }
        }
    }
}

/// A whole answer as ours.
async fn answer(mut answer: reqwest::Response) -> Result<Response, NotReached> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    copy(answer.headers(), response.headers_mut(), &ANSWER_HEADERS);
    let mut whole = Vec::new();
    while let Some(bytes) = answer.chunk().await.map_err(NotReached::of)? {
        if whole.len() + bytes.len() > ANSWER_BYTES_MAX {
            return Err(NotReached { why: "its answer is too large".to_owned(), may_be_done: true });
        }
        whole.extend_from_slice(&bytes);
    }
    *response.body_mut() = Body::from(whole);
    Ok(response)
}

/// The events of a stream, until it ends or breaks.
fn views(response: reqwest::Response) -> BoxStream<'static, EventView> {
    let begin = (response, Parser::default(), VecDeque::<Event>::new());
    let events = stream::unfold(begin, |(mut response, mut parser, mut ready)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Some((event, (response, parser, ready)));
            }
            let bytes = timeout(SILENCE_MAX, response.chunk()).await.ok()?.ok()??;
            if !parser.push(&bytes, &mut ready) {
                return None;
            }
        }
    });
    events.filter_map(|event| std::future::ready(view(&event))).boxed()
}

fn view(event: &Event) -> Option<EventView> {
    let name = events::NAMES.into_iter().find(|name| *name == event.name)?;
    Some(EventView {
        event: name,
        id: event.id.as_ref()?.parse().ok()?,
        data: serde_json::from_str(&event.data).ok()?,
    })
}

impl NotReached {
    fn of(error: reqwest::Error) -> Self {
        Self { why: innermost(&error), may_be_done: !error.is_connect() && !error.is_builder() }
    }

    fn refusal(self, leader: &str) -> Refusal {
        let way_out = if self.may_be_done {
            "whether it did what was asked is not known; look, or ask again with the same Idempotency-Key"
        } else {
            "nothing was done; try again in a moment"
        };
        Refusal::new(
            ErrorCode::NoLeader,
            format!("the leader at {leader} is not reached ({}); {way_out}", self.why),
        )
    }
}

/// What really happened: "connection refused" rather than "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_what_only_the_leader_can_do_or_knows() {
        let id = "0198c7d0-0000-7000-8000-000000000001";
        let run = || Way::BetterOfRun(RunId(id.parse().unwrap()));
        let check = |method: Method, path: &str, expected: Way| {
            for prefix in ["/api/v1", "/api"] {
                let path = format!("{prefix}{}", path.replace("ID", id));
                assert_eq!(Way::of(&method, &path), expected, "{method} {path}");
            }
        };
        check(Method::POST, "/test-plans", Way::Leaders);
        check(Method::PUT, "/test-plans/ID", Way::Leaders);
        check(Method::DELETE, "/test-plans/ID", Way::Leaders);
        check(Method::POST, "/test-runs/start", Way::Leaders);
        check(Method::POST, "/test-runs/ID/stop", Way::Leaders);
        check(Method::PATCH, "/test-runs/ID", Way::Leaders);
        check(Method::POST, "/agents/a/drain", Way::Leaders);
        check(Method::GET, "/test-runs/ID/live", run());
        check(Method::GET, "/test-runs/ID/metrics", run());
        check(Method::GET, "/agents", Way::Better);
        check(Method::GET, "/test-runs/nonsense/live", Way::Own);
        check(Method::GET, "/test-runs", Way::Own);
        check(Method::GET, "/test-runs/ID", Way::Own);
        check(Method::GET, "/test-runs/ID/events", Way::Own);
        check(Method::GET, "/test-runs/ID/intervals", Way::Own);
        check(Method::POST, "/kill", Way::Own);
        check(Method::POST, "/test-plans/validate", Way::Own);
        check(Method::POST, "/test-plans/ID/validate", Way::Own);
        for path in ["/readyz", "/metrics", "/", "/api"] {
            assert_eq!(Way::of(&Method::POST, path), Way::Own, "{path}");
        }
    }
}
