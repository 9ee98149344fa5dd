//! The rules of how HTTP is spoken, each broken on its own.

use serde_json::{Value, json};

use crate::plan::document::from_json;
use crate::plan::{Body, Resolve};
use crate::validate::tests;
use crate::validate::validate;

fn check(http: Value, expected: &str) {
    tests::check("/http", http, expected);
}

fn fine(http: Value) {
    tests::fine("/http", http);
}

#[test]
fn versions_and_connections() {
    for version in [json!("auto"), json!("1.1"), json!(1.1), json!("2"), json!(2), json!("h2")] {
        fine(json!({ "version": version }));
    }
    check(
        json!({ "version": "3" }),
        "http.version: `3` is not a version of HTTP that is spoken here; use auto, 1.1 or 2",
    );
    check(json!({ "version": 2, "keep_alive": false }), "http.keep_alive: HTTP/2 carries all requests");
    fine(json!({ "keep_alive": false }));
    for connections in [json!("per_vu"), json!(1), json!(1_000_000)] {
        fine(json!({ "connections": connections }));
    }
    fine(json!({ "version": "1.1", "keep_alive": false, "connections": 5 }));
    check(json!({ "connections": 0 }), "http.connections: 0 is out of range; give 1 to 1000000");
    check(json!({ "connections": 1_000_001 }), "give 1 to 1000000");
    check(json!({ "connections": 5_000_000_000_u64 }), "give 1 to 1000000");
    check(
        json!({ "connections": "shared" }),
        "http.connections: the text `shared` is not known here; give per_vu, or the number",
    );
    check(json!({ "connections": 1.5 }), "not a whole number");
    check(json!({ "conections": 1 }), "did you mean `connections`?");
}

#[test]
fn redirects_and_cookies() {
    fine(json!({ "redirects": 0, "cookies": false }));
    fine(json!({ "redirects": 20, "cookies": true }));
    check(json!({ "redirects": 21 }), "http.redirects: 21 is out of range; give 0 to 20");
    check(json!({ "redirects": true }), "not a whole number");
    check(json!({ "cookies": "yes" }), "neither true nor false");
    check(json!({ "redirect": 1 }), "did you mean `redirects`?");
    check(json!({ "cookie": true }), "did you mean `cookies`?");
}

#[test]
fn names() {
    let check = |dns: Value, expected: &str| check(json!({ "dns": dns }), expected);
    let fine = |dns: Value| fine(json!({ "dns": dns }));
    for refresh in ["once", "per_connection", "30s", "1ms", "1d"] {
        fine(json!({ "refresh": refresh }));
    }
    check(json!({ "refresh": "0s" }), "http.dns.refresh: 0s is out of range; give 1ms to 1d");
    check(json!({ "refresh": "25h" }), "out of range");
    check(json!({ "refresh": 30 }), "http.dns.refresh: 30 has no unit; write 30s");
    check(
        json!({ "refresh": "always" }),
        "`always` is not known here; give once, per_connection, or a time such as 30s",
    );
    for family in ["any", "ipv4", "ipv6"] {
        fine(json!({ "family": family }));
    }
    check(
        json!({ "family": "inet6" }),
        "http.dns.family: `inet6` is not known here; give one of: any, ipv4, ipv6",
    );
    fine(json!({ "resolve": ["a.example:80:10.0.0.1,10.0.0.2", "a.example:443:::1", "*:80:127.0.0.1"] }));
    check(
        json!({ "resolve": ["a.example:80"] }),
        "http.dns.resolve[0]: `a.example:80` is not host:port:address",
    );
    check(json!({ "resolve": ["a:80:::1", "A:80:::2"] }), "http.dns.resolve[1]: `a:80` is there twice");
    check(json!({ "resolve": "a:80:::1" }), "not a list");
    check(json!({ "resolve": { "a": "::1" } }), "write a list of `host:port:address`");
    fine(json!({ "family": "ipv4", "resolve": ["a:80:::1,10.0.0.1"] }));
    check(json!({ "family": "ipv4", "resolve": ["a:80:::1"] }), "none of the addresses is IPv4");
    check(json!({ "resolv": [] }), "did you mean `resolve`?");
    let many: Vec<String> = (1..=1_001).map(|port| format!("a:{port}:::1")).collect();
    check(json!({ "resolve": many }), "1001 are too many; at most 1000");
    let many = vec!["::1"; 1_001].join(",");
    check(json!({ "resolve": [format!("a:1:{many}")] }), "1001 addresses are out of range");
}

#[test]
fn source_addresses_and_sockets() {
    fine(json!({ "local_ips": ["127.0.0.2", "10.0.0.0/28", "fd00::1-fd00::9"] }));
    fine(json!({ "local_ips": ["fd00::/118"] }));
    check(
        json!({ "local_ips": ["fd00::/118", "::1"] }),
        "http.local_ips: holds more than 1024 addresses; give fewer",
    );
    check(json!({ "local_ips": ["10.0.0.0/8"] }), "http.local_ips[0]: `10.0.0.0/8` holds more than 1024");
    check(json!({ "local_ips": ["10.0.0.1", "10.0.0.0/29"] }), "10.0.0.1 is there twice");
    check(json!({ "local_ips": ["0.0.0.0"] }), "nothing can be sent from 0.0.0.0");
    check(json!({ "local_ips": ["224.0.0.1"] }), "nothing can be sent from");
    check(json!({ "local_ips": ["eth0"] }), "`eth0` is no address");
    check(
        json!({ "dns": { "family": "ipv6" }, "local_ips": ["10.0.0.1"] }),
        "10.0.0.1 is not IPv6, as dns.family asks",
    );
    fine(json!({ "unix_socket": "/run/app.sock" }));
    check(json!({ "unix_socket": "app.sock" }), "http.unix_socket: \"app.sock\" is not a path from the root");
    check(json!({ "unix_socket": "" }), "not a path from the root");
    check(json!({ "unix_socket": "/a\nb" }), "not a path from the root");
    check(json!({ "unix_socket": format!("/{}", "x".repeat(107)) }), "at most 107");
    check(
        json!({ "unix_socket": "/s", "local_ips": ["10.0.0.1"] }),
        "http.local_ips: a Unix socket has no addresses",
    );
    check(
        json!({ "unix_socket": "/s", "dns": { "resolve": ["a:80:::1"] } }),
        "http.dns: a Unix socket is asked",
    );
    fine(json!({ "unix_socket": "/s", "dns": { "refresh": "once" } }));
}

#[test]
fn tls() {
    let check = |tls: Value, expected: &str| check(json!({ "tls": tls }), expected);
    let fine = |tls: Value| fine(json!({ "tls": tls }));
    fine(
        json!({ "cert": "client.pem", "key": "keys/client.key", "resumption": false, "server_name": "a.example" }),
    );
    fine(json!({ "server_name": "10.0.0.1" }));
    check(
        json!({ "cert": "client.pem" }),
        "http.tls.key: is missing beside `cert`; give both files, or none",
    );
    check(json!({ "key": "client.key" }), "http.tls.cert: is missing beside `key`");
    check(
        json!({ "cert": "/etc/client.pem", "key": "k" }),
        "http.tls.cert: `/etc/client.pem` does not lie below",
    );
    check(json!({ "cert": "c", "key": "../k" }), "http.tls.key: `../k` does not lie below");
    check(json!({ "cert": "c", "key": "" }), "is no file's name");
    check(
        json!({ "cert": "c", "key": "-----BEGIN PRIVATE KEY-----" }),
        "http.tls.key: holds PEM text; put it into a file",
    );
    check(json!({ "server_name": "a b" }), "http.tls.server_name: \"a b\" is no host");
    for version in [json!("1.2"), json!(1.2), json!("1.3"), json!(1.3)] {
        fine(json!({ "min_version": version, "max_version": "1.3" }));
    }
    check(
        json!({ "min_version": "1.1" }),
        "http.tls.min_version: `1.1` is not a version of TLS that is spoken here; give 1.2 or 1.3",
    );
    check(
        json!({ "min_version": "1.3", "max_version": "1.2" }),
        "http.tls.max_version: 1.2 is below min_version (1.3)",
    );
    check(json!({ "max_versions": "1.2" }), "did you mean `max_version`?");
    check(json!({ "resumption": 1 }), "neither true nor false");
}

#[test]
fn what_http_2_forbids_is_refused_where_it_may_be_spoken() {
    let with = |version: &str, te: &str| {
        let document = json!({
            "name": "n", "target": "https://h", "http": { "version": version }, "variables": { "te": te },
            "scenarios": { "a": { "executor": "constant-vus", "duration": "1s", "steps": [{ "get": "/", "headers": { "TE": "{{ te }}" } }] } }
        });
        from_json(&document).err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    assert_eq!(with("1.1", "gzip"), "");
    assert_eq!(with("2", "trailers"), "");
    for version in ["2", "auto"] {
        assert!(with(version, "gzip").contains("knows no other `te` than `trailers`"), "{version}");
    }
    for (name, part) in [
        ("connection", "use http.keep_alive"),
        ("upgrade", "use http.version to choose"),
        ("http2-settings", "use http.version: 2"),
        ("transfer-encoding", "leave it out"),
    ] {
        tests::check("/headers", json!({ name: "x" }), part);
    }
}

#[test]
fn bodies_come_from_files_below_the_agents_folder() {
    let step = |step: Value| json!([step]);
    let fine =
        |name: &str| tests::fine("/scenarios/a/steps", step(json!({ "post": "/", "body_file": name })));
    let check = |value: Value, expected: &str| tests::check("/scenarios/a/steps", step(value), expected);
    for name in ["a", "./a.bin", "b/c/d.json", "..a", "ä b", "a\\b"] {
        fine(name);
    }
    for name in ["/a", "../a", "a/../b", "a/..", "a/"] {
        check(json!({ "post": "/", "body_file": name }), "scenarios.a.steps[0].body_file: `");
    }
    check(json!({ "post": "/", "body_file": "" }), "is no file's name");
    check(json!({ "post": "/", "body_file": "a\u{0}b" }), "is no file's name");
    check(json!({ "post": "/", "body_file": "x".repeat(1_025) }), "at most 1024");
    check(
        json!({ "post": "/", "body_file": "a", "body": "b" }),
        "body_file: a step has one body; give either `body_file` or `body`",
    );
    check(
        json!({ "post": "/", "body_file": "a", "json": null }),
        "json: a step has one body; give either `json` or `body_file`",
    );
    check(json!({ "post": "/", "file": "a" }), "did you mean `body_file`?");
    let document = json!({
        "name": "n", "scenarios": { "a": { "executor": "constant-vus", "duration": "1s", "steps": [{ "put": "http://h/", "body_file": "{{ x }}" }] } }
    });
    let read = from_json(&document).unwrap();
    let request = &read.plan.steps().next().unwrap().step.request;
    assert_eq!(request.body, Some(Body::File("{{ x }}".to_owned())), "a file's name is no template");
    assert!(request.headers.is_empty());
}

/// Plans that no document made are looked at as well.
#[test]
fn a_plan_made_by_hand_is_checked_too() {
    let document = json!({
        "name": "n", "scenarios": { "a": { "executor": "constant-vus", "duration": "1s", "steps": [{ "get": "http://h/" }] } }
    });
    let good = from_json(&document).unwrap().plan.plan().clone();
    for (host, port, addresses) in [("H", 80, 1), ("a b", 80, 1), ("h", 0, 1), ("h", 80, 0)] {
        let mut plan = good.clone();
        let addresses = vec!["::1".parse().unwrap(); addresses];
        plan.http.dns.resolve = vec![Resolve { host: host.to_owned(), port, addresses }];
        let told = validate(plan).unwrap_err();
        assert!(told.0.len() == 1 && told.0[0].field == "http.dns.resolve[0]", "{host}:{port}: {told}");
    }
}
