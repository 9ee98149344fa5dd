//! The flags of `master`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::HeaderValue;
use volcanion_common::units::{Micros, Rate, Share};
use volcanion_common::view::Role;
use volcanion_master::expose::remote_write::RemoteWriteUrl;

use super::cluster::{EtcdArgs, KeyArgs, OtlpArgs, TargetsArgs};
use super::value::{RateLimit, duration, oidc_role, origin, rate, rate_limit, share};

#[derive(Debug, Args)]
pub struct MasterArgs {
    /// Where REST listens
    #[arg(long, env = "VOLCANION_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where other masters reach REST, http://HOST:PORT [default: the listening address, unless that is every one]
    #[arg(long, env = "VOLCANION_ADVERTISE_URL", value_name = "URL")]
    pub advertise_url: Option<volcanion_master::AdvertiseUrl>,
    /// Where plans and runs are kept: sqlite:PATH, or postgres://USER@HOST/DATABASE for several masters
    #[arg(
        long,
        env = "VOLCANION_STORE",
        default_value = "sqlite:volcanion.db",
        value_name = "URL",
        hide_env_values = true
    )]
    pub store: String,
    /// Forget all but so many of the newest ended runs [default: keep all]
    #[arg(long, env = "VOLCANION_KEEP_RUNS", value_name = "NUMBER")]
    pub keep_runs: Option<u64>,
    /// Forget runs that ended longer ago than this, as in 30d [default: keep all]
    #[arg(long, env = "VOLCANION_KEEP_FOR", value_name = "DURATION", value_parser = duration)]
    pub keep_for: Option<Micros>,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    #[command(flatten)]
    pub key: KeyArgs,
    /// File with the first admin's key, at least 16 characters: with it every client needs a key, see `volcanion keys`
    #[arg(long, env = "VOLCANION_ADMIN_KEY_FILE", value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// What is answered without a key all the same
    #[arg(
        long,
        env = "VOLCANION_PUBLIC",
        value_name = "WORD[,WORD]",
        value_delimiter = ',',
        default_value = "health"
    )]
    pub public: Vec<PublicWord>,
    #[command(flatten)]
    pub targets: TargetsArgs,
    /// Certificate of REST (PEM), with those between it and its authority: with it clients speak TLS; read again when it changes
    #[arg(long, env = "VOLCANION_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of that certificate (PEM)
    #[arg(long, env = "VOLCANION_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Authority of the other masters' REST certificates (PEM), which must have the DNS name volcanion-master [default: the system's authorities, and the name in --advertise-url]
    #[arg(long, env = "VOLCANION_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Requests a second that one client may send, twice as many at once; or `off`
    #[arg(long, env = "VOLCANION_RATE_LIMIT", value_name = "RATE|off", default_value = "200/s", value_parser = rate_limit)]
    pub rate_limit: RateLimit,
    /// Web pages of this origin may ask too, as in https://load.example.com; again and again [default: none]
    #[arg(long = "cors-origin", env = "VOLCANION_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<HeaderValue>,
    /// Issuer of tokens (JWT) that are taken beside keys, as in https://login.example.com/realms/a
    #[arg(long, env = "VOLCANION_OIDC_ISSUER", value_name = "URL", requires_all = ["admin_key_file", "oidc_audience", "oidc_roles"])]
    pub oidc_issuer: Option<String>,
    /// Whom its tokens must be for
    #[arg(long, env = "VOLCANION_OIDC_AUDIENCE", value_name = "NAME", requires = "oidc_issuer")]
    pub oidc_audience: Option<String>,
    /// The claim that says what one is; dots lead into objects
    #[arg(long, env = "VOLCANION_OIDC_ROLE_CLAIM", value_name = "CLAIM", default_value = "roles")]
    pub oidc_role_claim: String,
    /// What a value of that claim lets do, as in load-testers=operator; again and again
    #[arg(long = "oidc-role", env = "VOLCANION_OIDC_ROLE", value_name = "VALUE=ROLE", value_delimiter = ',', value_parser = oidc_role, requires = "oidc_issuer")]
    pub oidc_roles: Vec<(String, Role)>,
    /// Forget changes that were made over REST longer ago than this, as in 365d [default: keep all]
    #[arg(long, env = "VOLCANION_KEEP_AUDIT", value_name = "DURATION", value_parser = duration)]
    pub keep_audit: Option<Micros>,
    /// Prometheus remote write receiver that gets each interval of every run, as in http://prometheus:9090/api/v1/write
    #[arg(long, env = "VOLCANION_REMOTE_WRITE", value_name = "URL", hide_env_values = true)]
    pub remote_write: Option<RemoteWriteUrl>,
    /// File with the token (bearer) for that receiver; read again for each request
    #[arg(long, env = "VOLCANION_REMOTE_WRITE_BEARER_FILE", value_name = "FILE", requires = "remote_write")]
    pub remote_write_bearer_file: Option<PathBuf>,
    /// The most iterations a second that the open loops of a run may start, as in 10000/s [default: any]
    #[arg(long, env = "VOLCANION_MAX_RATE", value_name = "RATE", value_parser = rate)]
    pub max_rate: Option<Rate>,
    /// The most VUs that a run may have [default: any]
    #[arg(long, env = "VOLCANION_MAX_VUS", value_name = "NUMBER")]
    pub max_vus: Option<u64>,
    /// The longest that a run may load, as in 1h [default: any]
    #[arg(long, env = "VOLCANION_MAX_DURATION", value_name = "DURATION", value_parser = duration)]
    pub max_duration: Option<Micros>,
    /// How long the agents of a run go on without any master: at most so long, or as long as an agent's own --orphan-timeout where that is less
    #[arg(long, env = "VOLCANION_ORPHAN_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub orphan_timeout: Micros,
    #[command(flatten)]
    pub otlp: OtlpArgs,
    /// Share of the requests to the target that carries a traceparent, and is spans of the agents, of plans that do not say `trace`: 1%, or 0 to 1
    #[arg(long, env = "VOLCANION_TRACE_SAMPLE", value_name = "SHARE", default_value = "0%", value_parser = share)]
    pub trace_sample: Share,
}

/// What may be answered to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublicWord {
    /// /health, /livez and /readyz
    Health,
    /// /metrics
    Metrics,
    /// Nothing
    None,
}
