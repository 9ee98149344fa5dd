//! HTTP/2 servers to test against: one that is a real implementation and does what a request's path says, and one that writes
//! frames as a script gives them, right or wrong.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use rcgen::KeyPair;
use rustls::crypto::ring;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

/// What a server saw.
#[derive(Default)]
pub struct Seen {
    pub connections: Cell<usize>,
    pub requests: Cell<usize>,
    pub concurrent: Cell<usize>,
    pub concurrent_max: Cell<usize>,
    pub body_bytes: Cell<u64>,
    pub cancelled: Cell<usize>,
    pub heads: RefCell<Vec<String>>,
    /// What each request of a real server said of its trace.
    pub traceparents: RefCell<Vec<String>>,
    /// Bytes of the frames of streams that came, and that went out (scripted servers only).
    pub stream_bytes: Cell<(u64, u64)>,
    changed: Notify,
}

impl Seen {
    fn change(&self, change: impl FnOnce(&Self)) {
        change(self);
        self.changed.notify_waiters();
    }

    /// Once this holds.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }
}

fn add(cell: &Cell<usize>, count: isize) {
    cell.set(cell.get().checked_add_signed(count).unwrap());
}

/// A running server; it ends with the test's runtime.
pub struct Server {
    pub seen: Rc<Seen>,
    scheme: &'static str,
    port: u16,
}

impl Server {
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// A real one, with these settings.
    pub async fn real(settings: Builder) -> Self {
        Self::serve("http", move |stream, seen| {
            let settings = settings.clone();
            async move { answer_all(stream, settings, seen).await }
        })
        .await
    }

    /// A real one over TLS that offers these protocols; where the client chooses none or HTTP/1.1, it gets one answer in that.
    pub async fn tls(protocols: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::serve("https", move |stream, seen| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    answer_all(stream, Builder::new(), seen).await;
                } else {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let line = String::from_utf8(head).unwrap().lines().next().unwrap().to_owned();
                    seen.heads.borrow_mut().push(line);
                    stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    std::future::pending::<()>().await;
                }
            }
        })
        .await
    }

    /// One that plays a script to each connection, in the order of their coming.
    pub async fn scripted(scripts: Vec<Vec<Act>>) -> Self {
        let scripts = Rc::new(RefCell::new(scripts.into_iter()));
        Self::serve("http", move |stream, seen| {
            let script = scripts.borrow_mut().next();
            async move {
                if let Some(script) = script {
                    play(stream, script, &seen).await;
                }
            }
        })
        .await
    }

    async fn serve<F: Future<Output = ()> + 'static>(
        scheme: &'static str,
        connection: impl Fn(TcpStream, Rc<Seen>) -> F + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Rc::new(Seen::default());
        let own = seen.clone();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                own.change(|seen| add(&seen.connections, 1));
                spawn_local(connection(stream, own.clone()));
            }
        });
        Self { seen, scheme, port }
    }
}

async fn answer_all(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    settings: Builder,
    seen: Rc<Seen>,
) {
    let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        seen.change(|seen| {
            add(&seen.requests, 1);
            add(&seen.concurrent, 1);
            seen.concurrent_max.set(seen.concurrent_max.get().max(seen.concurrent.get()));
            if let Some(said) = request.headers().get("traceparent") {
                seen.traceparents.borrow_mut().push(said.to_str().unwrap().to_owned());
            }
            let cookies: Vec<_> =
                request.headers().get_all("cookie").iter().map(|value| value.to_str().unwrap()).collect();
            seen.heads.borrow_mut().push(format!("{} {} {cookies:?}", request.method(), request.uri()));
        });
        let seen = seen.clone();
        spawn_local(async move {
            // A client that goes away in between is none of the server's business.
            let _ = answer(request, respond, &seen).await;
            seen.change(|seen| add(&seen.concurrent, -1));
        });
    }
}

/// Does what the path says.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: &Seen,
) -> Result<(), h2::Error> {
    let path = request.uri().path().to_owned();
    let (what, number) = path[1..].split_once('/').unwrap_or((&path[1..], "0"));
    let number: usize = number.parse().unwrap();
    let ok = |status: u16| Response::builder().status(status);
    match what {
        // Nothing, with a status of one's own.
        "status" => {
            // Others come in between.
            tokio::task::yield_now().await;
            respond.send_response(ok(number as u16).body(()).unwrap(), true)?;
        }
        // So many bytes, in the end with trailers.
        "body" => {
            let mut stream = respond.send_response(ok(200).body(()).unwrap(), false)?;
            stream.send_data(Bytes::from(vec![b'x'; number]), false)?;
            stream
                .send_trailers(HeaderMap::from_iter([("x-end".parse().unwrap(), "yes".parse().unwrap())]))?;
        }
        // Reads the request to its end.
        "take" => {
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let data = data?;
                seen.body_bytes.set(seen.body_bytes.get() + data.len() as u64);
                body.flow_control().release_capacity(data.len())?;
            }
            respond.send_response(ok(200).body(()).unwrap(), true)?;
        }
        "lie" => {
            let head = ok(200).header("content-length", "10").body(()).unwrap();
            respond.send_response(head, false)?.send_data(Bytes::from_static(b"short"), true)?;
        }
        "large-head" => {
            respond.send_response(ok(200).header("x", "y".repeat(number)).body(()).unwrap(), true)?;
        }
        "led" => {
            let head = ok(302)
                .header("location", "/status/204")
                .header("set-cookie", "a=b")
                .header("set-cookie", "c=d");
            respond.send_response(head.body(()).unwrap(), true)?;
        }
        // Until the client gives up.
        "hold" | "hold-head" => {
            let mut stream = (what == "hold-head")
                .then(|| respond.send_response(ok(200).body(()).unwrap(), false).unwrap());
            let reason = std::future::poll_fn(|cx| match &mut stream {
                Some(stream) => stream.poll_reset(cx),
                None => respond.poll_reset(cx),
            })
            .await?;
            if reason == Reason::CANCEL {
                seen.change(|seen| add(&seen.cancelled, 1));
            }
        }
        // So many milliseconds.
        "wait" => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            respond.send_response(ok(200).body(()).unwrap(), true)?;
        }
        // Refuses the first so many of all requests.
        "refuse" if seen.requests.get() <= number => respond.send_reset(Reason::REFUSED_STREAM),
        "reset" => respond.send_reset(Reason::INTERNAL_ERROR),
        "old" => respond.send_reset(Reason::HTTP_1_1_REQUIRED),
        _ => {
            respond
                .send_response(ok(200).body(()).unwrap(), false)?
                .send_data(Bytes::from_static(b"ok"), true)?;
        }
    }
    Ok(())
}

/// One thing that a scripted server does. After the last it waits for the client to go.
#[derive(Clone, Debug)]
pub enum Act {
    /// Reads frames until a request's head (on this stream).
    Head(u32),
    /// Reads frames until one of this type.
    Frame(u8),
    Write(Vec<u8>),
    /// Until the test says so.
    Await(Rc<Notify>),
    Close,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An answer of status 200 with this body: `:status` is the eighth entry of the static table (RFC 7541 appendix A).
pub fn whole(stream: u32, body: &[u8]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, &[0x88]), frame(DATA, END_STREAM, stream, body)].concat()
}

pub fn go_away(last: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
}

async fn play(mut stream: TcpStream, script: Vec<Act>, seen: &Seen) {
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).await.is_err() {
        return;
    }
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    for act in script {
        match act {
            Act::Head(wanted) => {
                while let Some((kind, stream)) = read_frame(&mut stream, seen).await
                    && (kind, stream) != (HEADERS, wanted)
                {}
            }
            Act::Frame(wanted) => {
                while let Some((kind, _)) = read_frame(&mut stream, seen).await
                    && kind != wanted
                {}
            }
            Act::Write(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            Act::Await(told) => told.notified().await,
            Act::Close => return,
        }
    }
    while read_frame(&mut stream, seen).await.is_some() {}
}

/// The next frame's type and stream.
async fn read_frame(stream: &mut TcpStream, seen: &Seen) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (kind, number) = (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    seen.change(|seen| {
        if number > 0 {
            let (came, went) = seen.stream_bytes.get();
            seen.stream_bytes.set((came + 9 + length as u64, went));
        }
        if kind == HEADERS {
            add(&seen.requests, 1);
        }
        if kind == RST_STREAM {
            add(&seen.cancelled, 1);
        }
    });
    Some((kind, number))
}
