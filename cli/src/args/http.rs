//! How `run` speaks HTTP: the flags that stand for `http` of a plan.

use std::path::PathBuf;

use clap::{ArgAction, Args};

#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpArgs {
    /// HTTP version: auto (over TLS what the target chooses, else 1.1), 1.1 or 2
    #[arg(long = "http", env = "VOLCANION_HTTP", value_name = "VERSION")]
    pub version: Option<String>,
    /// Connections that all VUs together have to each server, or per_vu: each has its own [default: per_vu]
    #[arg(long, env = "VOLCANION_CONNECTIONS", value_name = "N|per_vu")]
    pub connections: Option<String>,
    /// A new connection for every request
    #[arg(long, env = "VOLCANION_DISABLE_KEEPALIVE")]
    pub disable_keepalive: bool,
    /// Follow so many redirects of a request, one after the other, 0 to 20 [default: 0]
    #[arg(long, env = "VOLCANION_REDIRECTS", value_name = "N")]
    pub redirects: Option<u32>,
    /// Each VU keeps the cookies that it is given, for the rest of its iteration
    #[arg(long, env = "VOLCANION_COOKIES")]
    pub cookies: bool,
    /// Connections to this host and port go to this address instead, as with curl: HOST:PORT:ADDR[,ADDR]; again and again
    #[arg(
        long,
        env = "VOLCANION_RESOLVE",
        value_name = "HOST:PORT:ADDR",
        value_delimiter = '\n',
        action = ArgAction::Append
    )]
    pub resolve: Vec<String>,
    /// How often a name is asked for: once, per_connection, or after so long (30s) [default: once]
    #[arg(long, env = "VOLCANION_DNS_REFRESH", value_name = "WHEN", value_parser = refresh)]
    pub dns_refresh: Option<String>,
    /// Use IPv4 addresses only
    #[arg(long, short = '4', env = "VOLCANION_IPV4", conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Use IPv6 addresses only
    #[arg(long, short = '6', env = "VOLCANION_IPV6")]
    pub ipv6: bool,
    /// Source address: an address, a network (10.0.0.0/28) or a range (10.0.0.1-10.0.0.9); several are taken in turn; again and again
    #[arg(long = "local-ip", env = "VOLCANION_LOCAL_IP", value_name = "ADDR", value_delimiter = ',')]
    pub local_ips: Vec<String>,
    /// Connect to this Unix socket, whatever host and port the URL names
    #[arg(long, env = "VOLCANION_UNIX_SOCKET", value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,
    /// Take any TLS certificate
    #[arg(long, env = "VOLCANION_INSECURE")]
    pub insecure: bool,
    /// Authorities to trust instead of the public ones (PEM)
    #[arg(long, visible_alias = "ca", env = "VOLCANION_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Client certificate (PEM), the chain
    #[arg(long, env = "VOLCANION_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, env = "VOLCANION_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Name that is asked for by TLS (SNI) and verified, instead of the URL's host
    #[arg(long, env = "VOLCANION_SERVER_NAME", value_name = "NAME")]
    pub server_name: Option<String>,
    /// Lowest TLS version: 1.2 or 1.3 [default: 1.2]
    #[arg(long, env = "VOLCANION_TLS_MIN", value_name = "VERSION")]
    pub tls_min: Option<String>,
    /// Highest TLS version: 1.2 or 1.3 [default: the highest there is]
    #[arg(long, env = "VOLCANION_TLS_MAX", value_name = "VERSION")]
    pub tls_max: Option<String>,
    /// A full TLS handshake for every connection
    #[arg(long, env = "VOLCANION_NO_TLS_RESUMPTION")]
    pub no_tls_resumption: bool,
    /// Folder below which bodies and client certificates are read, in this process [default: the plan's own, or that of the files
    /// that flags name]; with --master each agent has its own
    #[arg(long, env = "VOLCANION_FILES", value_name = "DIR")]
    pub files: Option<PathBuf>,
}

/// A word of the plan's, or a time; a bare number means seconds, as with the other flags.
fn refresh(text: &str) -> Result<String, String> {
    if matches!(text, "once" | "per_connection") {
        return Ok(text.to_owned());
    }
    super::value::duration(text)
        .map(|time| time.to_string())
        .map_err(|_| format!("`{text}` is not known here; give once, per_connection, or a time such as 30s"))
}
