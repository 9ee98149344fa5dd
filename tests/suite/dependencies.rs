//! What we depend on has the licences, sources and versions that deny.toml allows, and no second TLS, wire or HTTP.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::harness::process::{Output, run_within};
use crate::harness::tools::root;

/// cargo-deny with this configuration, without advisories, whose database is elsewhere.
async fn denied(config: &Path) -> Output {
    let tool = root().join("target/test-tools/deny/bin/cargo-deny");
    assert!(tool.exists(), "{} is not there; run `make deps`", tool.display());
    let manifest = root().join("Cargo.toml").display().to_string();
    let config = config.display().to_string();
    let words =
        ["--manifest-path", &manifest, "--locked", "--config", &config, "check", "--hide-inclusion-graph"];
    let words = [&words[..], &["licenses", "bans", "sources"]].concat();
    run_within(Duration::from_secs(300), &tool.display().to_string(), &words).await
}

#[tokio::test]
async fn what_we_depend_on_is_what_may_be_depended_on() {
    let done = denied(&root().join("deny.toml")).await;
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
}

#[tokio::test]
async fn a_licence_or_a_crate_that_may_not_be_there_is_seen() {
    let rules = fs::read_to_string(root().join("deny.toml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("deny.toml");
    for (allowed, then, seen) in [
        ("  \"ISC\",\n", "", "ISC"),
        ("{ crate = \"openssl\",", "{ crate = \"rustls\",", "rustls"),
        ("{ crate = \"tonic\", deny-multiple", "{ crate = \"hashbrown\", deny-multiple", "hashbrown"),
    ] {
        let changed = rules.replacen(allowed, then, 1);
        assert_ne!(changed, rules, "{allowed} is not there");
        fs::write(&config, changed).unwrap();
        let done = denied(&config).await;
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(done.code != 0 && said.contains(seen), "{said}");
    }
}
