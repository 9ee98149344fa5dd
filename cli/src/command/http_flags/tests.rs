use std::path::Path;

use clap::Parser;
use volcanion_common::plan::{
    AddressFamily, Connections, DnsRefresh, HttpOptions, HttpVersion, TlsVersion, document,
};
use volcanion_common::units::Micros;

use super::*;
use crate::args::{Cli, Command};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

/// The plan's `http` under these flags, or what is told.
fn http(own: Value, flags: &[&str], files: &Files) -> Result<HttpOptions, String> {
    let words = ["volcanion", "run", "plan.yaml"].iter().chain(flags);
    let Command::Run(args) = Cli::try_parse_from(words).map_err(|error| error.to_string())?.command else {
        panic!("it is `run`")
    };
    let mut plan = json!({
        "name": "n", "http": own,
        "scenarios": { "a": { "executor": "constant-vus", "duration": "1s", "steps": [{ "get": "https://h/" }] } }
    });
    apply(&args.http, plan.as_object_mut().unwrap(), files).map_err(|failure| failure.to_string())?;
    match document::from_json(&plan) {
        Ok(read) => Ok(read.plan.http.clone()),
        Err(problems) => Err(problems.to_string()),
    }
}

fn of_flags(flags: &str) -> HttpOptions {
    let flags: Vec<&str> = flags.split_whitespace().collect();
    http(Value::Null, &flags, &Files::OfTheAgents).unwrap()
}

#[test]
fn each_flag_reaches_the_plan() {
    assert_eq!(of_flags(""), HttpOptions::default());
    assert_eq!(of_flags("--http 2").version, HttpVersion::Http2);
    assert_eq!(of_flags("--connections 8").connections, Connections::Shared(8));
    assert_eq!(of_flags("--connections per_vu").connections, Connections::PerVu);
    assert!(of_flags("--disable-keepalive").no_keep_alive);
    let followed = of_flags("--redirects 3 --cookies");
    assert_eq!((followed.redirects, followed.cookies), (3, true));
    let dns = of_flags("--resolve h:443:10.0.0.1,10.0.0.2 --resolve *:80:127.0.0.1 --dns-refresh 30").dns;
    assert_eq!((dns.resolve.len(), dns.resolve[0].addresses.len()), (2, 2));
    assert_eq!(dns.refresh, DnsRefresh::Every(Micros::from_secs(30)));
    assert_eq!(of_flags("--dns-refresh per_connection").dns.refresh, DnsRefresh::PerConnection);
    assert_eq!(of_flags("-4").dns.family, AddressFamily::Ipv4);
    assert_eq!(of_flags("--ipv6").dns.family, AddressFamily::Ipv6);
    assert_eq!(of_flags("--local-ip 127.0.0.2,127.0.0.3 --local-ip 10.0.0.0/30").local_ips.len(), 4);
    assert_eq!(of_flags("--unix-socket /run/s").unix_socket.as_deref(), Some("/run/s"));
    let tls =
        of_flags("--insecure --server-name a.example --tls-min 1.3 --tls-max 1.3 --no-tls-resumption").tls;
    assert!(tls.insecure && tls.no_resumption);
    assert_eq!((tls.server_name.as_deref(), tls.min_version), (Some("a.example"), TlsVersion::V1_3));
    assert_eq!(tls.max_version, Some(TlsVersion::V1_3));
    let client = of_flags("--cert c/client.pem --key c/client.key").tls.client.unwrap();
    assert_eq!((client.cert_file.as_str(), client.key_file.as_str()), ("c/client.pem", "c/client.key"));
}

#[test]
fn files_are_named_from_their_folder_and_authorities_become_text() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("ca.pem", PEM), ("client.pem", PEM), ("client.key", "x"), ("none.pem", "x")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let files = Files::here(Some(folder.path()), None, &[]).unwrap();
    let flags = ["--cacert", &path("ca.pem"), "--cert", &path("client.pem"), "--key", &path("client.key")];
    let tls = http(Value::Null, &flags, &files).unwrap().tls;
    assert_eq!(tls.ca_pem.as_deref(), Some(PEM));
    assert_eq!(tls.client.unwrap().key_file, "client.key");
    let told = |flags: &[&str]| http(Value::Null, flags, &files).unwrap_err();
    assert!(told(&["--ca", &path("none.pem")]).contains("holds no certificate"));
    assert!(told(&["--ca", &path("absent.pem")]).contains("--cacert"));
    assert!(told(&["--cert", &path("client.pem")]).contains("--key"));
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    let elsewhere = elsewhere.path().display().to_string();
    assert!(told(&["--cert", &path("client.pem"), "--key", &elsewhere]).contains("does not lie below"));
}

#[test]
fn flags_change_what_they_name_of_a_plan_and_nothing_else() {
    let own = json!({
        "version": "1.1", "cookies": true, "local_ips": ["10.0.0.9"],
        "dns": { "refresh": "1m", "resolve": ["h:443:10.0.0.1", "i:443:10.0.0.1"] }, "tls": { "insecure": true }
    });
    let flags = ["--http", "2", "--resolve", "h:443:10.0.0.2", "--tls-max", "1.2", "--local-ip", "10.0.0.8"];
    let changed = http(own, &flags, &Files::OfTheAgents).unwrap();
    assert_eq!((changed.version, changed.cookies), (HttpVersion::Http2, true));
    assert_eq!(changed.dns.refresh, DnsRefresh::Every(Micros::from_secs(60)));
    assert_eq!(changed.dns.resolve.len(), 1, "the list is another one, not a longer one");
    assert_eq!(changed.local_ips, ["10.0.0.8".parse::<std::net::IpAddr>().unwrap()]);
    assert!(changed.tls.insecure);
    assert_eq!(changed.tls.max_version, Some(TlsVersion::V1_2));
}

#[test]
fn wrong_flags_are_told() {
    let check = |flags: &[&str], part: &str| {
        let told = http(Value::Null, flags, &Files::OfTheAgents).unwrap_err();
        assert!(told.contains(part), "{flags:?}: {told}");
    };
    check(&["--http", "3"], "use auto, 1.1 or 2");
    check(&["--connections", "0"], "give 1 to 1000000");
    check(&["--connections", "many"], "give per_vu");
    check(&["--redirects", "21"], "give 0 to 20");
    check(&["--resolve", "h"], "is not host:port:address");
    check(&["--dns-refresh", "often"], "give once, per_connection");
    check(&["-4", "-6"], "cannot be used with");
    check(&["--local-ip", "eth0"], "is no address");
    check(&["--unix-socket", "s"], "not a path from the root");
    check(&["--unix-socket", "/s", "--local-ip", "10.0.0.1"], "a Unix socket has no addresses");
    check(&["--cert", "/c", "--key", "k"], "http.tls.cert: `/c` does not lie below");
    check(&["--tls-min", "1.3", "--tls-max", "1.2"], "below min_version");
    check(&["--http", "2", "--disable-keepalive"], "HTTP/2 carries all requests");
    assert!(Files::here(None, None, &[("--cert", Path::new("/no/such/file"))]).is_err());
}
