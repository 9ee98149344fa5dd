//! Connections of a listener, each after its handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{HANDSHAKE_MAX, ServerTls};

/// Handshakes at a time; who comes further waits to be accepted.
const HANDSHAKES_MAX: usize = 256;
/// Connections that wait to be served; more wait in their handshakes.
const WAITING_MAX: usize = 64;
/// How long one waits after the system had no more files or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Connections whose handshake is good. Others are closed and said in the log. Ends with `stop`, or when the receiver is dropped. Must be called
/// within a runtime.
pub fn accept(
    listener: TcpListener,
    tls: ServerTls,
    stop: CancellationToken,
) -> mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(EXHAUSTED_PAUSE).await;
                    continue;
                }
            };
            // Ends within the handshake's time, or as soon as there is room for the connection.
            let (acceptor, sender) = (TlsAcceptor::from(tls.config()), sender.clone());
            tokio::spawn(async move {
                let _place = place;
                let _ = tcp.set_nodelay(true);
                match timeout(HANDSHAKE_MAX, acceptor.accept(tcp)).await {
                    // Without a receiver nobody serves any more.
                    Ok(Ok(stream)) => drop(sender.send((stream, peer)).await),
                    Ok(Err(error)) => tracing::warn!(%peer, %error, "a connection was refused"),
                    Err(_) => tracing::warn!(%peer, "a connection was refused: no handshake in time"),
                }
            });
        }
    });
    receiver
}
