//! How the connections of a run are made: names and addresses, source addresses, a Unix socket, the name in TLS.
//!
//! Takes the plan's options, gives them as the cores need them. What this machine cannot do is refused here with the field and the way
//! out: a source address that it does not have, a Unix socket that the agent may not load, a server without an address of a family in use.

use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls_pki_types::ServerName;
use volcanion_common::net::host_and_port;
use volcanion_common::plan::{AddressFamily, DnsRefresh, HttpOptions, HttpVersion, Resolve};

use super::{Origin, PrepareError, TargetPolicy};

/// How connections are made.
#[derive(Debug)]
pub struct Network {
    /// How often a name is asked for.
    pub refresh: DnsRefresh,
    /// Whether IPv4 and IPv6 addresses are used: those of the plan's family for which there is a source address.
    pub families: Families,
    /// Source addresses, taken in turn; none: the system's choice.
    pub local_ips: Vec<IpAddr>,
    /// Where all connections go, whatever the URL says.
    pub unix_socket: Option<PathBuf>,
    /// The name that TLS asks for and verifies, instead of an origin's own.
    pub tls_name: Option<ServerName<'static>>,
    /// Whether a TLS connection that does not speak HTTP/2 is a failure.
    pub needs_h2: bool,
    /// Whether TLS sessions are resumed.
    pub resumes_tls: bool,
    resolve: Vec<Resolve>,
    /// Cores that have asked for a place to begin with, and that of the first.
    beginnings: AtomicUsize,
}

/// Which addresses are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Whether this address is used.
    pub fn have(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }
}

impl Network {
    /// From the plan's options. `first` tells the agents of a run apart, so that they begin with different addresses.
    ///
    /// # Errors
    /// `local_ips`: one is not this machine's. `targets`: the Unix socket is not to be loaded. `tls`: the name is none.
    pub(crate) fn new(
        options: &HttpOptions,
        targets: &TargetPolicy,
        first: u32,
    ) -> Result<Self, PrepareError> {
        options.local_ips.iter().try_for_each(|ip| check_local(*ip))?;
        if let Some(path) = options.unix_socket.as_deref().filter(|path| !targets.permits_unix(path)) {
            return Err(PrepareError::new(
                "targets",
                format!(
                    "http.unix_socket: {path} is not among what this agent may load: {targets}; name `unix:{path}` in its list of targets"
                ),
            ));
        }
        let tls_name = options.tls.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|error| {
                PrepareError::new("tls", format!("http.tls.server_name: `{name}` is no host name: {error}"))
            })
        });
        let has_source = |is_v4: bool| {
            options.local_ips.is_empty() || options.local_ips.iter().any(|ip| ip.is_ipv4() == is_v4)
        };
        let families = Families {
            v4: options.dns.family != AddressFamily::Ipv6 && has_source(true),
            v6: options.dns.family != AddressFamily::Ipv4 && has_source(false),
        };
        Ok(Self {
            refresh: options.dns.refresh,
            families,
            local_ips: options.local_ips.clone(),
            unix_socket: options.unix_socket.as_ref().map(PathBuf::from),
            tls_name: tls_name.transpose()?,
            needs_h2: options.version == HttpVersion::Http2,
            resumes_tls: !options.tls.no_resumption,
            resolve: options.dns.resolve.clone(),
            beginnings: AtomicUsize::new(first as usize),
        })
    }

    /// The addresses of a server that are known without asking for its name; of a name, those that the plan gives for it.
    pub fn given(&self, host: &str, port: u16) -> Option<Vec<IpAddr>> {
        let plain = host.strip_suffix('.').unwrap_or(host);
        let of = |name: &str| {
            self.resolve.iter().find(|rule| rule.port == port && rule.host.eq_ignore_ascii_case(name))
        };
        let addresses = match of(plain).or_else(|| of("*")) {
            Some(rule) => rule.addresses.clone(),
            None => vec![host.parse().ok()?],
        };
        Some(addresses.into_iter().filter(|ip| self.families.have(*ip)).collect())
    }

    /// Where a core begins in lists that are taken in turn: each elsewhere, so that few connections on many cores do not
    /// all go to the first.
    pub fn beginning(&self) -> usize {
        self.beginnings.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a server may be loaded, as far as that is known before a name is asked for, and its given addresses leave one to connect to.
    pub(super) fn check(&self, origin: &Origin, targets: &TargetPolicy) -> Result<(), PrepareError> {
        if self.unix_socket.is_some() {
            return Ok(());
        }
        let (host, port) = (&origin.host, origin.port);
        let given = self.given(host, port);
        if !targets.may_permit(host, port, given.as_deref().unwrap_or_default()) {
            let known = given.iter().flatten().find(|ip| ip.to_string() != *host);
            let which = known.map_or(String::new(), |ip| format!(", which is {ip},"));
            return Err(PrepareError::new(
                "targets",
                format!(
                    "`{}`{which} is not among what this agent may load: {targets}",
                    host_and_port(host, port)
                ),
            ));
        }
        if given.is_none_or(|ips| !ips.is_empty()) {
            return Ok(());
        }
        let family = if self.families.v4 { "IPv4" } else { "IPv6" };
        Err(PrepareError::new(
            "plan",
            format!(
                "http: `{host}` has no {family} address, and only those are used (dns.family, local_ips); give addresses of both families or leave them out"
            ),
        ))
    }
}

/// Binding tells, without a packet, whether an address is ours.
fn check_local(ip: IpAddr) -> Result<(), PrepareError> {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => Ok(()),
        Err(error) => Err(PrepareError::new(
            "local_ips",
            format!(
                "http.local_ips: {ip} cannot be a source address on this machine: {error}; \
                 add it (ip address add {ip} dev DEVICE) or name only addresses that every agent has"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use volcanion_common::plan::DnsOptions;

    use super::*;

    fn network(options: &HttpOptions) -> Result<Network, PrepareError> {
        Network::new(options, &TargetPolicy { allow: None, loopback: true }, 0)
    }

    fn resolve(host: &str, port: u16, addresses: &[&str]) -> Resolve {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Resolve { host: host.to_owned(), port, addresses }
    }

    #[test]
    fn given_addresses_go_before_asking_and_the_exact_name_before_any() {
        let rules = vec![
            resolve("*", 80, &["10.0.0.9"]),
            resolve("shop.example", 80, &["10.0.0.1", "::1"]),
            resolve("shop.example", 443, &["10.0.0.2"]),
        ];
        let options = HttpOptions {
            dns: DnsOptions { resolve: rules, ..DnsOptions::default() },
            ..HttpOptions::default()
        };
        let network = network(&options).unwrap();
        let check = |host: &str, port: u16, expected: Option<&[&str]>| {
            let expected = expected.map(|list| list.iter().map(|ip| ip.parse().unwrap()).collect());
            assert_eq!(network.given(host, port), expected, "{host}:{port}");
        };
        check("shop.example", 80, Some(&["10.0.0.1", "::1"]));
        check("SHOP.example.", 443, Some(&["10.0.0.2"]));
        check("shop.example", 8080, None);
        check("other.example", 80, Some(&["10.0.0.9"]));
        check("192.0.2.1", 80, Some(&["10.0.0.9"]));
        check("192.0.2.1", 81, Some(&["192.0.2.1"]));
    }

    fn origin(host: &str) -> Origin {
        Origin { host: host.to_owned(), port: 80, tls: None }
    }

    #[test]
    fn only_families_that_have_a_source_are_used() {
        let v4 =
            network(&HttpOptions { local_ips: vec!["127.0.0.2".parse().unwrap()], ..HttpOptions::default() })
                .unwrap();
        assert_eq!(v4.families, Families { v4: true, v6: false });
        let open = TargetPolicy { allow: None, loopback: true };
        assert_eq!(
            (v4.check(&origin("127.0.0.1"), &open), v4.check(&origin("name"), &open)),
            (Ok(()), Ok(()))
        );
        assert!(v4.check(&origin("::1"), &open).unwrap_err().message.contains("`::1` has no IPv4 address"));
        let dns = DnsOptions { family: AddressFamily::Ipv6, ..DnsOptions::default() };
        let v6 = network(&HttpOptions { dns, ..HttpOptions::default() }).unwrap();
        assert!(v6.check(&origin("127.0.0.1"), &open).unwrap_err().message.contains("no IPv6 address"));
    }

    #[test]
    fn a_source_address_that_is_not_this_machines_is_refused_by_name() {
        let of = |ip: &str| HttpOptions { local_ips: vec![ip.parse().unwrap()], ..HttpOptions::default() };
        let error = network(&of("192.0.2.1")).unwrap_err();
        assert_eq!(error.code, "local_ips");
        assert!(error.message.starts_with("http.local_ips: 192.0.2.1 cannot"), "{error}");
        assert!(error.message.contains("ip address add"), "{error}");
        assert!(network(&of("127.9.8.7")).is_ok());
    }

    #[test]
    fn a_unix_socket_needs_an_agent_that_nobody_else_reaches_or_a_rule() {
        let options = HttpOptions { unix_socket: Some("/run/x.sock".to_owned()), ..HttpOptions::default() };
        assert!(network(&options).is_ok());
        let error = Network::new(&options, &TargetPolicy::default(), 0).unwrap_err();
        assert_eq!(error.code, "targets");
        assert!(error.message.contains("`unix:/run/x.sock`"), "{error}");
    }

    #[test]
    fn each_core_begins_elsewhere() {
        let network = Network::new(&HttpOptions::default(), &TargetPolicy::default(), 3).unwrap();
        assert_eq!([network.beginning(), network.beginning()], [3, 4]);
    }

    #[test]
    fn a_server_that_may_not_be_loaded_is_refused_before_anything_is_connected_and_the_list_is_said() {
        let refusal = |host: &str, resolve: serde_json::Value, targets: &TargetPolicy| {
            let document = serde_json::json!({
                "name": "p", "target": "http://shop.example.com", "http": { "dns": { "resolve": resolve } },
                "scenarios": { "s": { "executor": "constant-vus", "vus": 1, "duration": "1s", "steps": [{ "name": "s", "get": "/" }] } }
            });
            let plan = volcanion_common::plan::document::from_json(&document).unwrap().plan;
            let network = Network::new(&plan.http, targets, 0).unwrap();
            network.check(&origin(host), targets).err().map(|error| error.to_string())
        };
        let (open, none) = (TargetPolicy::default(), serde_json::json!([]));
        let said = refusal("169.254.169.254", none.clone(), &open).unwrap();
        assert!(said.contains("everything but link-local, metadata and loopback addresses"), "{said}");
        assert!(refusal("fd00:ec2::254", none.clone(), &open).is_some());
        assert!(refusal("127.0.0.1", none.clone(), &open).is_some());
        assert_eq!(refusal("192.0.2.1", none.clone(), &open), None);
        assert_eq!(refusal("shop.example.com", none.clone(), &open), None);
        let given = serde_json::json!(["shop.example.com:80:169.254.169.254"]);
        let said = refusal("shop.example.com", given, &open).unwrap();
        assert!(said.contains("shop.example.com:80`, which is 169.254.169.254,"), "{said}");
        let rules = ["*.example.org".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let listed = TargetPolicy { allow: Some(crate::prepare::AllowList(rules.into())), loopback: false };
        let said = refusal("192.0.2.1", none.clone(), &listed).unwrap();
        assert!(said.contains("*.example.org, 10.0.0.1"), "{said}");
        assert_eq!(refusal("10.0.0.1", none, &listed), None);
    }
}
