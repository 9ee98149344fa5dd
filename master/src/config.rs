//! What a master needs to know, resolved: nothing here can be wrong any more.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use volcanion_common::net::public::Public;
use volcanion_common::net::tls::{ClientTls, ServerTls};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::telemetry::trace::Collector;
use volcanion_common::units::{Micros, Rate, Share};

use crate::access::{AdminKey, OidcSettings};
use crate::expose::remote_write::RemoteWriteSettings;
use crate::run::caps::Caps;
use crate::store::{Keep, StoreUrl};

/// A master's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where REST and `/metrics` listen; port 0 takes a free one. `None`: nowhere (a run within one process).
    pub listen: Option<SocketAddr>,
    /// Where other masters reach REST; [`Config::rest_url`] where absent.
    pub advertise: Option<AdvertiseUrl>,
    /// Where plans, runs and histories are kept.
    pub store: StoreUrl,
    /// Which ended runs are kept.
    pub keep: Keep,
    /// Seals the orders to agents.
    pub cluster_key: ClusterKey,
    /// Shows agents that a master of the cluster speaks, and that they are of it; `None`: plain.
    pub cluster_tls: Option<ClientTls>,
    /// Tokens of this issuer are taken beside keys.
    pub oidc: Option<OidcSettings>,
    /// REST speaks TLS with this; `None`: plain.
    pub rest_tls: Option<ServerTls>,
    /// How a leader's REST is spoken to over TLS; the system's authorities where absent.
    pub leaders_tls: Option<Arc<rustls::ClientConfig>>,
    /// What one client may ask of REST; `None`: whatever it wants.
    pub rate_limit: Option<Rate>,
    /// Origins whose web pages may ask REST.
    pub origins: Vec<HeaderValue>,
    /// How long changes are kept that were made over REST; `None`: for ever.
    pub keep_audit: Option<Micros>,
    /// Where a leader writes the intervals of its runs besides; `None`: nowhere.
    pub remote_write: Option<RemoteWriteSettings>,
    /// What no run may pass.
    pub caps: Caps,
    /// The first admin's key: with it every client is asked for a key.
    pub admin_key: Option<AdminKey>,
    /// What is answered without a key all the same.
    pub public: Public,
    /// Listen beyond loopback although clients need no credentials.
    pub allow_unauthenticated: bool,
    /// How long the agents of a run go on without any master, unless their own limit is lower. A second at least.
    pub orphan_timeout: Duration,
    /// Where spans go; `None`: there are none.
    pub collector: Option<Collector>,
    /// Which share of the requests of a plan that says none carries a `traceparent`.
    pub trace_sample: Share,
    /// On exit stop the runs that are going, instead of leaving them to the next master. Always so where the store is gone with the process.
    pub stop_runs_on_exit: bool,
}

impl Config {
    /// The settings of a cluster within one process: no port, a store in memory, runs end with the process.
    pub fn embedded(cluster_key: ClusterKey) -> Self {
        Self {
            listen: None,
            advertise: None,
            store: StoreUrl::Memory,
            keep: Keep::default(),
            cluster_key,
            cluster_tls: None,
            oidc: None,
            rest_tls: None,
            leaders_tls: None,
            rate_limit: None,
            origins: Vec::new(),
            keep_audit: None,
            remote_write: None,
            caps: Caps::default(),
            admin_key: None,
            public: Public::default(),
            allow_unauthenticated: false,
            orphan_timeout: Duration::from_secs(30),
            collector: None,
            trace_sample: Share::NONE,
            stop_runs_on_exit: true,
        }
    }

    /// What other masters are told: the URL that was given, else the address that is listened at; `None` where that is every address.
    pub fn rest_url(&self, listening: Option<SocketAddr>) -> Option<String> {
        let given = self.advertise.as_ref().map(|url| url.0.clone());
        given.or_else(|| {
            let address = listening.filter(|address| !address.ip().is_unspecified())?;
            let scheme = if self.rest_tls.is_some() { "https" } else { "http" };
            Some(format!("{scheme}://{address}"))
        })
    }
}

/// Where a master's REST is reached: `http://HOST:PORT` or `https://HOST:PORT`, nothing after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertiseUrl(String);

/// Why a text is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not where a master is reached; give it as http://HOST:PORT")]
pub struct AdvertiseUrlError(String);

impl FromStr for AdvertiseUrl {
    type Err = AdvertiseUrlError;

    fn from_str(text: &str) -> Result<Self, AdvertiseUrlError> {
        let wrong = || AdvertiseUrlError(text.chars().take(200).collect());
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority))
                if is_bare && !authority.host().is_empty() && !authority.as_str().contains('@') =>
            {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_says_where_it_is_reached() {
        let config = |advertise: Option<&str>| Config {
            advertise: advertise.map(|url| url.parse().unwrap()),
            ..Config::embedded(ClusterKey::random())
        };
        let check = |advertise, listening: &str, expected: Option<&str>| {
            let said = config(advertise).rest_url(listening.parse().ok());
            assert_eq!(said.as_deref(), expected, "{advertise:?} {listening}");
        };
        check(None, "127.0.0.1:8080", Some("http://127.0.0.1:8080"));
        check(None, "[::1]:8080", Some("http://[::1]:8080"));
        check(None, "0.0.0.0:8080", None);
        check(None, "nowhere", None);
        check(Some("http://master-0:8080/"), "0.0.0.0:8080", Some("http://master-0:8080"));
        for wrong in
            ["", "master-0:8080", "/x", "http://", "ftp://a", "http://a/b", "http://a?b", "http://u:p@a"]
        {
            assert_eq!(wrong.parse::<AdvertiseUrl>(), Err(AdvertiseUrlError(wrong.to_owned())));
        }
    }
}
