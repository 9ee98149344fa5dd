//! Connections to real sockets on loopback, with real certificates.

use std::net::IpAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use volcanion_common::plan::{
    ClientCertificate, DnsOptions, HttpOptions, HttpVersion, Resolve, TlsOptions, TlsVersion,
};
use volcanion_common::series::Outcome;

use super::*;
use crate::prepare::tests::{plan, request, shard};
use crate::prepare::{AllowList, PrepareError, PrepareSettings, compile};
use crate::send::{Sample, VuClient};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What a server saw of a request.
#[derive(Clone, Debug)]
struct Seen {
    peer: Option<IpAddr>,
    handshake: Option<HandshakeKind>,
    asked_name: Option<String>,
    has_certificate: bool,
    head: String,
}

type Board = Arc<Mutex<Vec<Seen>>>;

/// An authority, and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self::named("ours")
    }

    fn named(name: &str) -> Self {
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.distinguished_name.push(DnType::CommonName, name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, as PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn options(&self) -> TlsOptions {
        TlsOptions { ca_pem: Some(self.0.pem()), ..TlsOptions::default() }
    }

    /// A server for this name, which speaks these versions and wants certificates of its authority if told so.
    fn server(
        &self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        wants_certificate: bool,
        alpn: &[&[u8]],
    ) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
        let builder = if wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// A server that answers every request with 200; it ends with the test's runtime.
struct Server {
    port: u16,
    seen: Board,
}

impl Server {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        Self::listen("127.0.0.1:0", tls).await
    }

    async fn listen(address: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Board::default());
        let board = seen.clone();
        drop(tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                drop(tokio::spawn(accepted(stream, Some(peer.ip()), tls.clone(), board.clone())));
            }
        }));
        Self { port, seen }
    }

    fn at(path: &Path, tls: Option<TlsAcceptor>) -> Self {
        let (listener, seen) = (UnixListener::bind(path).unwrap(), Board::default());
        let board = seen.clone();
        drop(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                drop(tokio::spawn(accepted(stream, None, tls.clone(), board.clone())));
            }
        }));
        Self { port: 0, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The kind of each connection's handshake.
    fn handshakes(&self) -> Vec<HandshakeKind> {
        self.seen().into_iter().map(|seen| seen.handshake.unwrap()).collect()
    }
}

async fn accepted<S>(stream: S, peer: Option<IpAddr>, tls: Option<TlsAcceptor>, board: Board)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let plain = Seen { peer, handshake: None, asked_name: None, has_certificate: false, head: String::new() };
    let Some(tls) = tls else { return answer(stream, plain, &board).await };
    let Ok(stream) = tls.accept(stream).await else { return };
    let session = stream.get_ref().1;
    let seen = Seen {
        handshake: session.handshake_kind(),
        asked_name: session.server_name().map(str::to_owned),
        has_certificate: session.peer_certificates().is_some(),
        ..plain
    };
    answer(stream, seen, &board).await;
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, seen: Seen, board: &Board) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        board.lock().unwrap().push(Seen { head: String::from_utf8(head).unwrap(), ..seen.clone() });
        if stream.write_all(OK).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn vu_with(url: &str, http: HttpOptions, settings: PrepareSettings) -> Result<VuClient, PrepareError> {
    let mut plan = plan(None, vec![request("GET", url, vec![], None)]);
    plan.http = http;
    let program = compile(&shard(1), &plan, &settings)?;
    Ok(VuClient::new(CoreClient::new(Arc::new(program)), 0))
}

fn vu(url: &str, http: HttpOptions) -> VuClient {
    let settings = PrepareSettings { listens_on_loopback: true, ..PrepareSettings::default() };
    vu_with(url, http, settings).unwrap()
}

fn with_tls(tls: TlsOptions) -> HttpOptions {
    HttpOptions { tls, ..HttpOptions::default() }
}

#[track_caller]
fn assert_ok(sample: &Sample) {
    assert_eq!((sample.outcome, sample.detail), (Outcome::Status(200), ""), "{sample:?}");
}

#[track_caller]
fn assert_failed(sample: &Sample, kind: ErrorKind, detail: &str) {
    assert_eq!((sample.outcome, sample.detail), (Outcome::Error(kind), detail), "{sample:?}");
}

#[tokio::test]
async fn sessions_of_both_versions_are_resumed_and_only_where_the_plan_lets_them() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        for no_resumption in [false, true] {
            let server = Server::start(Some(authority.server("127.0.0.1", &[version], false, &[]))).await;
            let tls = TlsOptions { no_resumption, ..authority.options() };
            let http = HttpOptions { no_keep_alive: true, ..with_tls(tls) };
            let mut vu = vu(&format!("https://127.0.0.1:{}/", server.port), http);
            for _ in 0..5 {
                let sample = vu.step(0).await;
                assert_ok(&sample);
                assert!(sample.phases.tls_us.is_some() && sample.phases.connect_us.is_some(), "{sample:?}");
            }
            let later = if no_resumption { HandshakeKind::Full } else { HandshakeKind::Resumed };
            let expected = [HandshakeKind::Full, later, later, later, later];
            assert_eq!(server.handshakes(), expected, "{version:?}");
        }
    }
}

#[tokio::test]
async fn versions_of_tls_are_held_to_the_plans_range() {
    let authority = Authority::new();
    let check = async |speaks: &'static SupportedProtocolVersion, least, most, expected: Result<(), &str>| {
        let server = Server::start(Some(authority.server("127.0.0.1", &[speaks], false, &[]))).await;
        let tls = TlsOptions { min_version: least, max_version: most, ..authority.options() };
        let sample = vu(&format!("https://127.0.0.1:{}/", server.port), with_tls(tls)).step(0).await;
        match expected {
            Ok(()) => assert_ok(&sample),
            Err(detail) => assert_failed(&sample, ErrorKind::Tls, detail),
        }
    };
    check(&TLS12, TlsVersion::V1_2, None, Ok(())).await;
    check(&TLS13, TlsVersion::V1_3, None, Ok(())).await;
    check(&TLS12, TlsVersion::V1_3, None, Err("handshake")).await;
    check(&TLS13, TlsVersion::V1_2, Some(TlsVersion::V1_2), Err("handshake")).await;
}

fn client_files(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.sign("client");
    std::fs::write(folder.path().join("client.pem"), certificate).unwrap();
    std::fs::write(folder.path().join("client.key"), key).unwrap();
    folder
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_its_lack_is_told_apart() {
    let (authority, stranger) = (Authority::new(), Authority::named("a stranger"));
    let (known, foreign) = (client_files(&authority), client_files(&stranger));
    for version in [&TLS12, &TLS13] {
        let server = Server::start(Some(authority.server("127.0.0.1", &[version], true, &[]))).await;
        let url = format!("https://127.0.0.1:{}/", server.port);
        let client =
            ClientCertificate { cert_file: "client.pem".to_owned(), key_file: "client.key".to_owned() };
        let http = with_tls(TlsOptions { client: Some(client), ..authority.options() });
        let settings = |folder: &TempDir| PrepareSettings {
            listens_on_loopback: true,
            files: Some(folder.path().to_owned()),
            ..PrepareSettings::default()
        };
        assert_ok(&vu_with(&url, http.clone(), settings(&known)).unwrap().step(0).await);
        assert!(server.seen()[0].has_certificate);
        let unknown = vu_with(&url, http, settings(&foreign)).unwrap().step(0).await;
        assert_failed(&unknown, ErrorKind::Tls, "client certificate");
        let missing = vu(&url, with_tls(authority.options())).step(0).await;
        assert_failed(&missing, ErrorKind::Tls, "client certificate");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn another_server_name_is_asked_for_and_verified() {
    let authority = Authority::new();
    let server = Server::start(Some(authority.server("shop.example", BOTH, false, &[]))).await;
    let url = format!("https://127.0.0.1:{}/", server.port);
    assert_failed(&vu(&url, with_tls(authority.options())).step(0).await, ErrorKind::Tls, "certificate");
    let named = |name: &str| TlsOptions { server_name: Some(name.to_owned()), ..authority.options() };
    assert_ok(&vu(&url, with_tls(named("shop.example"))).step(0).await);
    assert_eq!(server.seen()[0].asked_name.as_deref(), Some("shop.example"));
    assert!(server.seen()[0].head.contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", server.port)));
    assert_failed(&vu(&url, with_tls(named("other.example"))).step(0).await, ErrorKind::Tls, "certificate");
    let insecure = TlsOptions { insecure: true, ..TlsOptions::default() };
    assert_ok(&vu(&url, with_tls(insecure)).step(0).await);
}

#[tokio::test]
async fn http_2_alone_fails_where_the_target_does_not_choose_it() {
    let authority = Authority::new();
    for alpn in [&[][..], &[b"http/1.1".as_slice()][..]] {
        let server = Server::start(Some(authority.server("127.0.0.1", BOTH, false, alpn))).await;
        let url = format!("https://127.0.0.1:{}/", server.port);
        let http = HttpOptions { version: HttpVersion::Http2, ..with_tls(authority.options()) };
        assert_failed(&vu(&url, http).step(0).await, ErrorKind::Tls, "no h2");
        assert_ok(&vu(&url, with_tls(authority.options())).step(0).await);
    }
}

#[tokio::test]
async fn a_unix_socket_takes_all_connections_and_the_host_stays_the_urls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    for tls in [None, Some(authority.server("shop.example", BOTH, false, &[]))] {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let path = folder.path().join(scheme);
        let server = Server::at(&path, tls);
        let http = HttpOptions {
            unix_socket: Some(path.to_str().unwrap().to_owned()),
            ..with_tls(authority.options())
        };
        let mut vu = vu(&format!("{scheme}://shop.example/x"), http);
        for n in 0..3 {
            let sample = vu.step(0).await;
            assert_ok(&sample);
            assert_eq!((sample.phases.dns_us, sample.phases.connect_us.is_some()), (None, n == 0));
        }
        let head = &server.seen()[2].head;
        assert!(head.starts_with("GET /x ") && head.contains("\r\nhost: shop.example\r\n"), "{head}");
    }
}

#[tokio::test]
async fn a_unix_socket_that_is_not_there_is_refused_and_one_that_is_busy_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let options = |path: &Path| HttpOptions {
        unix_socket: Some(path.to_str().unwrap().to_owned()),
        ..HttpOptions::default()
    };
    let missing = folder.path().join("missing");
    assert_failed(&vu("http://x/", options(&missing)).step(0).await, ErrorKind::Connect, "refused");
    // Nobody accepts: the queue fills up, and then connecting has to wait.
    let path = folder.path().join("busy");
    let listener = StdUnixListener::bind(&path).unwrap();
    let mut queued = Vec::new();
    loop {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        match rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()) {
            Ok(()) => queued.push(socket),
            Err(_) => break,
        }
    }
    let mut vu = vu("http://x/", options(&path));
    let serving = async {
        // The VU has found the queue full by then, or finds it emptied: either way it is answered.
        tokio::task::yield_now().await;
        drop(queued);
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let plain = Seen {
                peer: None,
                handshake: None,
                asked_name: None,
                has_certificate: false,
                head: String::new(),
            };
            drop(tokio::spawn(async move { answer(stream, plain, &Board::default()).await }));
        }
    };
    tokio::select! {
        sample = vu.step(0) => assert_ok(&sample),
        () = serving => {}
    }
}

#[tokio::test]
async fn a_unix_socket_that_the_agent_may_not_load_is_refused_before_the_run() {
    let http = HttpOptions { unix_socket: Some("/run/app.sock".to_owned()), ..HttpOptions::default() };
    let of = |allow: Option<&str>, listens_on_loopback| {
        let allow = allow.map(|rule| AllowList(vec![rule.parse().unwrap()]));
        let settings = PrepareSettings { listens_on_loopback, allow, ..PrepareSettings::default() };
        vu_with("http://x/", http.clone(), settings).map(|_| ()).map_err(|error| error.code)
    };
    assert_eq!(of(None, true), Ok(()));
    assert_eq!(of(None, false), Err("targets"));
    assert_eq!(of(Some("unix:/run/app.sock"), false), Ok(()));
    assert_eq!(of(Some("unix:/run/other.sock"), true), Err("targets"));
}

#[tokio::test]
async fn connections_come_from_the_plans_addresses_in_turn() {
    let server = Server::start(None).await;
    let local_ips = ["127.0.0.11", "127.0.0.12", "127.0.0.13"].map(|ip| ip.parse().unwrap()).to_vec();
    let http = HttpOptions { no_keep_alive: true, local_ips: local_ips.clone(), ..HttpOptions::default() };
    let mut vu = vu(&format!("http://127.0.0.1:{}/", server.port), http);
    for _ in 0..6 {
        assert_ok(&vu.step(0).await);
    }
    let peers: Vec<IpAddr> = server.seen().into_iter().map(|seen| seen.peer.unwrap()).collect();
    assert_eq!(peers[..3], peers[3..]);
    let mut distinct = peers[..3].to_vec();
    distinct.sort();
    assert_eq!(distinct, local_ips);
}

fn resolved(port: u16, addresses: &[&str]) -> HttpOptions {
    let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    let rule = Resolve { host: "shop.example".to_owned(), port, addresses };
    let dns = DnsOptions { resolve: vec![rule], ..DnsOptions::default() };
    HttpOptions { dns, no_keep_alive: true, ..HttpOptions::default() }
}

#[tokio::test]
async fn given_addresses_are_connected_to_in_turn_without_asking() {
    let first = Server::start(None).await;
    let second = Server::listen(&format!("127.0.0.2:{}", first.port), None).await;
    let mut vu = vu(
        &format!("http://shop.example:{}/", first.port),
        resolved(first.port, &["127.0.0.1", "127.0.0.2"]),
    );
    for _ in 0..6 {
        let sample = vu.step(0).await;
        assert_ok(&sample);
        assert_eq!(sample.phases.dns_us, None);
    }
    assert_eq!((first.seen().len(), second.seen().len()), (3, 3));
}

/// A listener that lets connections hang: its queue is full and nobody accepts.
async fn dead_end(address: &str) -> (tokio::net::TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let to = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(to)).await {
        queued.push(stream.unwrap());
    }
    (listener, queued)
}

#[tokio::test]
async fn a_dead_address_among_several_costs_a_moment_and_not_the_request() {
    let alive = Server::start(None).await;
    let dead = dead_end(&format!("127.0.0.2:{}", alive.port)).await;
    let http = resolved(alive.port, &["127.0.0.1", "127.0.0.2"]);
    let mut vu = vu(&format!("http://shop.example:{}/", alive.port), http);
    let mut waited = Vec::new();
    for _ in 0..2 {
        let sample = vu.step(0).await;
        assert_ok(&sample);
        waited.push(sample.phases.connect_us.unwrap() >= 250_000);
    }
    // The dead one had its turn, and the live one was asked beside it.
    assert!(waited.contains(&true), "{waited:?}");
    assert_eq!(alive.seen().len(), 2);
    drop(dead);
}

#[tokio::test]
async fn every_address_of_a_name_is_judged() {
    let server = Server::start(None).await;
    let url = format!("http://shop.example:{}/", server.port);
    let http = resolved(server.port, &["127.0.0.1", "169.254.169.254"]);
    let of = |rules: &[&str]| {
        let allow = AllowList(rules.iter().map(|rule| rule.parse().unwrap()).collect());
        let settings = PrepareSettings { allow: Some(allow), ..PrepareSettings::default() };
        vu_with(&url, http.clone(), settings)
    };
    let refused = of(&["shop.example"]).err().unwrap();
    assert_eq!(refused.code, "targets");
    assert!(refused.message.ends_with("may load: shop.example"), "{refused}");
    let mut listed = of(&["127.0.0.1"]).unwrap();
    for _ in 0..2 {
        assert_ok(&listed.step(0).await);
    }
}

#[tokio::test]
async fn a_name_of_the_system_is_asked_for_and_its_time_is_told() {
    let server = Server::start(None).await;
    let mut vu = vu(&format!("http://localhost:{}/", server.port), HttpOptions::default());
    let sample = vu.step(0).await;
    assert_ok(&sample);
    assert!(sample.phases.dns_us.is_some() && sample.phases.connect_us.is_some(), "{sample:?}");
    let unknown = self::vu("http://no-such-name.invalid/", HttpOptions::default()).step(0).await;
    assert_eq!(unknown.outcome, Outcome::Error(ErrorKind::Dns), "{unknown:?}");
}
