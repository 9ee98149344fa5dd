//! What is guarded stays so in every spelling, and a list opens what it names alone.

use super::*;

fn open_agent() -> TargetPolicy {
    TargetPolicy::default()
}

fn with_list(rules: &[&str]) -> TargetPolicy {
    let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    TargetPolicy { allow: Some(AllowList(rules)), loopback: false }
}

#[test]
fn metadata_and_link_local_addresses_are_refused_in_every_spelling() {
    let policy = TargetPolicy { loopback: true, ..TargetPolicy::default() };
    for address in [
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::",
        "2001:0:101:101:0:0:5601:5601",
        "2001:db8::5efe:a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
    ] {
        assert!(!policy.permits("x", address.parse().unwrap(), 80), "{address}");
    }
    for address in ["127.0.0.1", "::1", "10.0.0.1", "8.8.8.8", "2001:db8::1", "fd00::1", "169.253.1.1"] {
        assert!(policy.permits("x", address.parse().unwrap(), 80), "{address}");
    }
}

#[test]
fn an_agent_that_others_can_reach_does_not_load_its_own_machine() {
    for address in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
        assert!(!open_agent().permits("localhost", address.parse().unwrap(), 80), "{address}");
    }
    assert!(open_agent().permits("x", "192.0.2.1".parse().unwrap(), 80));
}

#[test]
fn a_list_allows_what_it_names_and_nothing_else() {
    let check = |rule: &str, host: &str, address: &str, port: u16, expected: bool| {
        let permitted = with_list(&[rule]).permits(host, address.parse().unwrap(), port);
        assert_eq!(permitted, expected, "{rule} for {host} at {address}:{port}");
    };
    check("shop.example.com", "shop.example.com", "192.0.2.1", 443, true);
    check("shop.example.com", "SHOP.example.com.", "192.0.2.1", 443, true);
    check("shop.example.com", "example.com", "192.0.2.1", 443, false);
    check("*.example.com", "shop.example.com", "192.0.2.1", 443, true);
    check("*.example.com", "example.com", "192.0.2.1", 443, false);
    check("*.example.com", "badexample.com", "192.0.2.1", 443, false);
    check("bücher.example", "xn--bcher-kva.example", "192.0.2.1", 80, true);
    check("shop.example.com:443", "shop.example.com", "192.0.2.1", 80, false);
    check("10.0.0.0/8", "x", "10.200.0.1", 80, true);
    check("10.0.0.0/8", "x", "11.0.0.1", 80, false);
    check("10.0.0.0/8", "x", "::ffff:10.0.0.1", 80, true);
    check("0.0.0.0/0", "x", "203.0.113.9", 80, true);
    check("192.0.2.7:8080", "x", "192.0.2.7", 8080, true);
    check("192.0.2.7:8080", "x", "192.0.2.7", 8081, false);
    check("2001:db8::/32", "x", "2001:db8::9", 80, true);
    check("[2001:db8::1]:8080", "x", "2001:db8::1", 8080, true);
    check("[2001:db8::1]:8080", "x", "2001:db8::2", 8080, false);
    check("127.0.0.1", "localhost", "127.0.0.1", 80, true);
    check("169.254.0.0/16", "x", "169.254.1.1", 80, true);
    check("::/0", "x", "::ffff:169.254.169.254", 80, false);
    check("::/0", "x", "64:ff9b::169.254.169.254", 80, false);
}

#[test]
fn a_listed_name_does_not_open_metadata_or_loopback() {
    let policy = with_list(&["rebind.example.com"]);
    for address in ["169.254.169.254", "127.0.0.1", "::1"] {
        assert!(!policy.permits("rebind.example.com", address.parse().unwrap(), 80), "{address}");
    }
    assert!(!with_list(&[]).permits("x", "192.0.2.1".parse().unwrap(), 80));
}

#[test]
fn a_unix_socket_is_opened_by_its_exact_path_alone() {
    let policy = with_list(&["unix:/run/app.sock", "0.0.0.0/0", "*.example.com"]);
    assert!(policy.permits_unix("/run/app.sock"));
    for other in ["/run/docker.sock", "/run/app.sock/../docker.sock", "/run//app.sock", ""] {
        assert!(!policy.permits_unix(other), "{other}");
    }
    assert!(!policy.permits("unix", "::1".parse().unwrap(), 80));
    assert!(!open_agent().permits_unix("/run/app.sock"));
    assert!(TargetPolicy { loopback: true, allow: None }.permits_unix("/run/app.sock"));
    let listed = TargetPolicy { loopback: true, ..with_list(&["10.0.0.0/8"]) };
    assert!(!listed.permits_unix("/run/app.sock"));
}

#[test]
fn rules_are_written_back_as_they_are_read_and_wrong_ones_are_named() {
    for rule in [
        "example.com",
        "*.example.com:80",
        "10.0.0.0/8",
        "192.0.2.7:1",
        "[2001:db8::1]:8080",
        "unix:/run/a b.sock",
    ] {
        assert_eq!(rule.parse::<AllowRule>().unwrap().to_string(), rule);
    }
    for wrong in [
        "",
        "10.0.0.0/33",
        "a b",
        "*.",
        "*",
        "a*.b",
        "example.com:99999",
        "10.0.0.0/x",
        "http://a",
        "unix:run/a",
    ] {
        assert!(wrong.parse::<AllowRule>().is_err(), "{wrong}");
    }
}

#[test]
fn a_broad_network_does_not_open_what_is_guarded() {
    let guarded = [
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "127.0.0.1",
        "0.0.0.0",
        "fe80::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::1",
        "::",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ];
    let broad = with_list(&[
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "::/1",
        "8000::/1",
        "169.0.0.0/8",
        "169.254.0.0/15",
        "126.0.0.0/7",
        "100.100.100.0/24",
        "192.0.0.0/24",
        "168.63.129.0/24",
        "fe80::/9",
        "fd00::/8",
        "fd00:ec2::/32",
        "64:ff9b::/96",
        "2002::/16",
        "::/96",
        "::/127",
        "*.example.com",
        "metadata.example.com",
    ]);
    for address in guarded {
        for host in [address, "metadata.example.com"] {
            assert!(!broad.permits(host, address.parse().unwrap(), 80), "{host} at {address}");
        }
    }
    for address in
        ["8.8.8.8", "203.0.113.9", "169.253.1.1", "192.0.0.9", "2001:db8::1", "fd00::1", "64:ff9b::808:808"]
    {
        assert!(broad.permits("x", address.parse().unwrap(), 80), "{address}");
    }
    // An agent that is reached from loopback alone may load its own machine by a broad rule too.
    let local = TargetPolicy { loopback: true, ..with_list(&["0.0.0.0/0"]) };
    assert!(local.permits("x", "127.0.0.1".parse().unwrap(), 80));
    assert!(!local.permits("x", "169.254.169.254".parse().unwrap(), 80));
}

#[test]
fn what_is_guarded_is_opened_by_a_rule_about_nothing_else() {
    for (rule, address) in [
        ("169.254.169.254", "169.254.169.254"),
        ("169.254.169.254", "::ffff:169.254.169.254"),
        ("169.254.0.0/16", "169.254.1.1"),
        ("169.254.169.0/24", "169.254.169.254"),
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("fe80::/64", "fe80::1"),
        ("[fd00:ec2::254]", "fd00:ec2::254"),
        ("[64:ff9b::a9fe:a9fe]", "64:ff9b::169.254.169.254"),
    ] {
        assert!(with_list(&[rule]).permits("x", address.parse().unwrap(), 80), "{rule} opens {address}");
    }
    for (rule, address) in [
        ("169.254.169.254", "169.254.169.253"),
        ("169.254.169.254", "64:ff9b::169.254.169.254"),
        ("127.0.0.1", "127.0.0.2"),
        ("169.254.169.254:80", "169.254.169.254"),
    ] {
        assert!(
            !with_list(&[rule]).permits("x", address.parse().unwrap(), 8080),
            "{rule} does not open {address}"
        );
    }
}

/// As a URL may write it: what a plan's reader makes of it is judged, whatever it looked like.
#[test]
fn every_spelling_in_a_url_is_the_address_that_it_is() {
    let open = with_list(&["0.0.0.0/0", "::/0"]);
    for spelling in [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0xA9.0xFE.0xA9.0xFE",
        "0251.0376.0251.0376",
        "025177524776",
        "169.16689662",
        "169.254.43518",
        "169.254.169.254.",
        "１６９.254.169.254",
        "169。254。169。254",
        "%31%36%39.254.169.254",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[::a9fe:a9fe]",
        "[64:ff9b::169.254.169.254]",
        "[2002:a9fe:a9fe::]",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:7f00:1]",
    ] {
        let url = url::Url::parse(&format!("http://{spelling}/")).unwrap();
        let ip: IpAddr = match url.host().unwrap() {
            url::Host::Ipv4(ip) => ip.into(),
            url::Host::Ipv6(ip) => ip.into(),
            url::Host::Domain(name) => panic!("{spelling} is the name {name}"),
        };
        for policy in [&open, &open_agent()] {
            assert!(!policy.permits(spelling, ip, 80), "{spelling} is {ip}");
        }
    }
}

#[test]
fn a_policy_says_what_it_allows() {
    assert_eq!(with_list(&["10.0.0.0/8", "*.example.com:80"]).to_string(), "10.0.0.0/8, *.example.com:80");
    assert_eq!(open_agent().to_string(), "everything but link-local, metadata and loopback addresses");
    let local = TargetPolicy { loopback: true, allow: None };
    assert_eq!(local.to_string(), "everything but link-local and metadata addresses");
}

#[test]
fn what_is_known_of_a_server_is_judged_before_anything_is_connected() {
    let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    let check =
        |policy: &TargetPolicy, known: &[&str]| policy.may_permit("shop.example.com", 80, &ips(known));
    assert!(check(&open_agent(), &[]));
    assert!(!check(&open_agent(), &["169.254.169.254"]));
    assert!(check(&open_agent(), &["169.254.169.254", "192.0.2.1"]));
    assert!(check(&with_list(&["10.0.0.0/8"]), &[]), "it may turn out to be there");
    assert!(!check(&with_list(&["*.example.org"]), &[]));
    assert!(check(&with_list(&["*.example.com"]), &[]));
    assert!(!check(&with_list(&["*.example.com"]), &["127.0.0.1"]));
}
