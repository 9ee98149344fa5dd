//! Connections of REST: accepted, with TLS where there is a certificate, served, and ended with the master.
//!
//! A client's head must come within its time, and within [`HEAD_BYTES_MAX`], else it is answered 431; bodies have limits of their own. At most
//! [`CONNECTIONS_MAX`] connections are open; who comes further waits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use volcanion_common::net::tls::{self, ServerTls};

use super::rest::TimeLimits;

/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 4_096;
/// Streams of an HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// A client that does not answer HTTP/2's pings is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long one waits after the system had no more files or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

enum Incoming {
    Plain(TcpListener),
    Tls(mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>),
}

type Stream = Either<TcpStream, TlsStream<TcpStream>>;

impl Incoming {
    /// `None`: nobody comes any more.
    async fn next(&mut self) -> Option<io::Result<(Stream, SocketAddr)>> {
        match self {
            Self::Plain(listener) => Some(listener.accept().await.map(|(tcp, peer)| {
                // Small answers are not held back; where the system says no, they only come later.
                let _ = tcp.set_nodelay(true);
                (Either::Left(tcp), peer)
            })),
            Self::Tls(accepted) => {
                accepted.recv().await.map(|(stream, peer)| Ok((Either::Right(stream), peer)))
            }
        }
    }
}

/// Serves until `stop`, and then whom it has begun to answer.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<ServerTls>,
    router: Router,
    limits: TimeLimits,
    stop: CancellationToken,
) {
    let mut incoming = match tls {
        None => Incoming::Plain(listener),
        Some(tls) => Incoming::Tls(tls::accept(listener, tls, stop.clone())),
    };
    let builder = Arc::new(builder(limits));
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = incoming.next() => accepted,
        };
        let (stream, peer) = match accepted {
            None => break,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        let watcher = graceful.watcher();
        let (builder, router) = (Arc::clone(&builder), router.clone());
        // Ends with its client, or with `graceful`.
        tokio::spawn(async move {
            let _place = place;
            let asked = CancellationToken::new();
            let service = service(router, peer, asked.clone());
            let connection =
                watcher.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
            // A connection that is given up is closed; whoever has it has asked nothing.
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection broke");
                },
                () = no_request(asked, limits.head) => {
                    tracing::debug!(%peer, "a connection without a request is closed");
                }
            }
        });
    }
    drop(incoming);
    graceful.shutdown().await;
}

/// Comes to its end where the first request does not come in time: the library counts a head's time only once it knows by the first bytes which HTTP
/// it is.
async fn no_request(asked: CancellationToken, limit: Duration) {
    if tokio::time::timeout(limit, asked.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}

fn builder(limits: TimeLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .enable_connect_protocol();
    builder
}

/// The routes for a client's requests, which say where they come from, and that there was one.
fn service(
    router: Router,
    peer: SocketAddr,
    asked: CancellationToken,
) -> TowerToHyperService<
    impl tower::Service<
        Request<hyper::body::Incoming>,
        Response = axum::response::Response,
        Error = std::convert::Infallible,
        Future: Send,
    > + Clone,
> {
    TowerToHyperService::new(tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        asked.cancel();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    }))
}
