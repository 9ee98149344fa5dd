//! The cheapest target that there is: it looks for the end of a head and answers with bytes that are always the same.
//!
//! On threads of its own, so that what it costs is not counted to the load; they end with it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::engine::pin::prepare_thread;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// The largest head that it reads: the calibration's own are much smaller.
const HEAD_BYTES_MAX: usize = 4 * 1024;

/// A target that listens on a free port of loopback.
pub struct Target {
    address: SocketAddr,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Target {
    /// On so many threads; where `pinned_after` is given, bound to the processors after that many.
    pub fn start(threads: usize, pinned_after: Option<usize>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let mut target =
            Self { address: listener.local_addr()?, stop: CancellationToken::new(), threads: Vec::new() };
        for number in 0..threads.max(1) {
            let runtime = Builder::new_current_thread().enable_io().build()?;
            let (listener, stop) = (listener.try_clone()?, target.stop.clone());
            let thread = std::thread::Builder::new().name(format!("target-{number}")).spawn(move || {
                if let Some(after) = pinned_after {
                    prepare_thread(after + number, true);
                }
                // Dropped half-done, a connection is cut: whoever stops a target is done with it.
                runtime.block_on(async {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = accept(listener) => {}
                    }
                });
            })?;
            target.threads.push(thread);
        }
        Ok(target)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // One that panicked is gone too, and the load has seen it.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            // Ends with the runtime, or with its connection.
            Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
            // No file, for now: the others' turn comes first.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// One connection. A client that does not wait for its answers is not understood: ours does.
async fn serve(mut stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (mut head, mut length) = ([0; HEAD_BYTES_MAX], 0);
    loop {
        match stream.read(&mut head[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => length += read,
        }
        if head[..length].ends_with(b"\r\n\r\n") {
            length = 0;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}
