//! A server that does to each connection, in the order of their coming, what its script says.

use std::sync::Arc;
use std::sync::Mutex;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// One thing that the server does to a connection. After the last it waits for the client to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Reads a whole request.
    Read,
    /// Reads a request's head only.
    ReadHead,
    Write(&'static [u8]),
    /// Closes in good order.
    Close,
    /// Closes with a reset.
    Reset,
    /// Does nothing for ever.
    Hold,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    connections: usize,
    closed: usize,
    reads: usize,
    resumed: Vec<bool>,
    /// Their heads, in order.
    requests: Vec<String>,
}

type Board = Arc<watch::Sender<Seen>>;

/// A running server; it ends with the test's runtime.
pub struct Server {
    port: u16,
    scheme: &'static str,
    seen: Board,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// A certificate for one name, and the authority that signed it.
pub struct Tls {
    pub ca_pem: String,
    acceptor: TlsAcceptor,
}

impl Tls {
    pub fn new(name: &str) -> Self {
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self { ca_pem: ca.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

impl Server {
    pub async fn start(scripts: Vec<Vec<Act>>) -> Self {
        Self::serve(scripts, None).await
    }

    pub async fn start_tls(scripts: Vec<Vec<Act>>, tls: &Tls) -> Self {
        Self::serve(scripts, Some(tls.acceptor.clone())).await
    }

    async fn serve(scripts: Vec<Vec<Act>>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let seen = Board::default();
        let board = seen.clone();
        let accepting = tokio::spawn(async move {
            for script in scripts {
                let (stream, _) = listener.accept().await.unwrap();
                board.send_modify(|seen| seen.connections += 1);
                tokio::spawn(connection(stream, script, tls.clone(), board.clone()));
            }
            // Whatever comes past the scripts is counted and dropped.
            while listener.accept().await.is_ok() {
                board.send_modify(|seen| seen.connections += 1);
            }
        });
        Self { port, scheme, seen, accepting: Mutex::new(Some(accepting)) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Stops listening.
    pub async fn stop(&self) {
        let accepting = self.accepting.lock().unwrap().take().unwrap();
        accepting.abort();
        assert!(accepting.await.unwrap_err().is_cancelled());
    }

    pub fn connections(&self) -> usize {
        self.seen.borrow().connections
    }

    pub fn read_count(&self) -> usize {
        self.seen.borrow().reads
    }

    pub fn resumed(&self) -> Vec<bool> {
        self.seen.borrow().resumed.clone()
    }

    pub fn last_request(&self) -> String {
        self.seen.borrow().requests.last().cloned().unwrap_or_default()
    }

    /// The heads of all requests, in order.
    pub fn requests(&self) -> Vec<String> {
        self.seen.borrow().requests.clone()
    }

    /// Once it has read so many requests.
    pub async fn reads(&self, count: usize) {
        self.seen.subscribe().wait_for(|seen| seen.reads >= count).await.unwrap();
    }

    /// Once it has closed so many connections of its own accord.
    pub async fn closed(&self, count: usize) {
        self.seen.subscribe().wait_for(|seen| seen.closed >= count).await.unwrap();
    }
}

async fn connection(stream: TcpStream, script: Vec<Act>, tls: Option<TlsAcceptor>, board: Board) {
    stream.set_nodelay(true).unwrap();
    match tls {
        None => {
            let mut stream = stream;
            if play(&mut stream, &script, &board).await == Some(Act::Reset) {
                stream.set_zero_linger().unwrap();
            }
            drop(stream);
        }
        Some(tls) => {
            // A client that does not like the certificate goes away here.
            let Ok(mut stream) = tls.accept(stream).await else { return };
            let is_resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            board.send_modify(|seen| seen.resumed.push(is_resumed));
            play(&mut stream, &script, &board).await;
        }
    }
    board.send_modify(|seen| seen.closed += 1);
}

/// Follows the script; gives the act that ended it early.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    script: &[Act],
    board: &Board,
) -> Option<Act> {
    for act in script {
        match act {
            Act::Read | Act::ReadHead => {
                let request = request(stream, *act == Act::Read).await?;
                board.send_modify(|seen| {
                    seen.reads += 1;
                    seen.requests.push(request);
                });
            }
            // A client may go before it has taken everything.
            Act::Write(bytes) => {
                stream.write_all(bytes).await.ok()?;
                stream.flush().await.ok()?;
                tokio::task::yield_now().await;
            }
            Act::Close | Act::Reset => return Some(*act),
            Act::Hold => std::future::pending().await,
        }
    }
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    None
}

/// The head of the next request; its body is read and left out.
async fn request<S: AsyncRead + Unpin>(stream: &mut S, with_body: bool) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut left: usize = length.map_or(0, |length| length.parse().unwrap());
    let mut piece = vec![0; 64 * 1024];
    while with_body && left > 0 {
        let most = left.min(piece.len());
        left -= stream.read(&mut piece[..most]).await.ok().filter(|count| *count > 0)?;
    }
    Some(head)
}
