//! How the agents speak HTTP: version, connections, redirects, cookies, names, addresses, TLS.
//!
//! Files that are named here (`tls.cert`, `tls.key`) are read by each agent below its own folder of files, so that no key ever
//! goes over the wire or into a store.

use std::net::IpAddr;

use crate::units::Micros;

/// Source addresses of a plan at most; each adds some 28,000 ports.
pub const LOCAL_IPS_MAX: usize = 1_024;

/// How the agents speak HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpOptions {
    /// Which version is spoken.
    pub version: HttpVersion,
    /// Whether a connection is used again; true by default in documents.
    pub no_keep_alive: bool,
    /// Who uses which connection.
    pub connections: Connections,
    /// How many redirects of a step are followed, one after the other; 0: an answer with `location` is the answer. At most 20.
    pub redirects: u32,
    /// Whether a VU keeps the cookies that it is given, for the rest of its iteration.
    pub cookies: bool,
    /// How names become addresses.
    pub dns: DnsOptions,
    /// Source addresses, taken in turn; none: the system's choice. Each has ports of its own. At most [`LOCAL_IPS_MAX`].
    pub local_ips: Vec<IpAddr>,
    /// All connections go to this Unix socket, whatever host and port a URL names.
    pub unix_socket: Option<String>,
    /// TLS towards the target.
    pub tls: TlsOptions,
}

/// Which HTTP version is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// Over TLS what the target chooses of HTTP/2 and HTTP/1.1 (ALPN), else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only: by ALPN over TLS, else by prior knowledge.
    Http2,
}

/// Who uses which connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// Each VU has its own.
    #[default]
    PerVu,
    /// The VUs of a run share so many to each server, split over agents and cores like VUs; each core that has VUs has at least
    /// one. At least 1. Over HTTP/2 a connection carries many requests at once, over HTTP/1.1 one.
    Shared(u32),
}

/// How names become addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsOptions {
    /// How often a name is asked for.
    pub refresh: DnsRefresh,
    /// Which of its addresses are used.
    pub family: AddressFamily,
    /// Names whose addresses are given here and not asked for.
    pub resolve: Vec<Resolve>,
}

/// How often a name is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsRefresh {
    /// Once a run and core.
    #[default]
    Once,
    /// For each new connection.
    PerConnection,
    /// For the first new connection after so long. More than zero.
    Every(Micros),
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressFamily {
    /// All.
    #[default]
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// `host:port:address[,address…]`, as curl writes it: connections to this host and port go to these addresses, in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// As in URLs, lower case; `*`: any.
    pub host: String,
    /// As in URLs, given or the scheme's own.
    pub port: u16,
    /// At least one.
    pub addresses: Vec<IpAddr>,
}

/// TLS towards the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Take any certificate.
    pub insecure: bool,
    /// The text (PEM) of the authorities to trust instead of the public ones. Documents name a file; whoever reads the
    /// document for the user (the command line) puts the text in its place, so that agents need no file.
    pub ca_pem: Option<String>,
    /// The client's certificate chain and key.
    pub client: Option<ClientCertificate>,
    /// The name that is asked for (SNI) and verified, instead of the URL's host.
    pub server_name: Option<String>,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
    /// The highest version that is spoken; `None`: the highest there is.
    pub max_version: Option<TlsVersion>,
    /// Whether each connection shakes hands in full; false by default: sessions are resumed.
    pub no_resumption: bool,
}

/// A client certificate, as PEM files below each agent's own folder of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, the client's own first.
    pub cert_file: String,
    /// Its private key (PKCS#8, PKCS#1 or SEC1).
    pub key_file: String,
}

/// A version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}
