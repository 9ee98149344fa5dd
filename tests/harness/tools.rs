//! Where the tools are that `make deps` brings, and free ports.

use std::net::TcpListener;
use std::path::PathBuf;

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// The Python with the packages that tests use.
pub fn python() -> String {
    let path = root().join("target/test-tools/venv/bin/python");
    assert!(path.exists(), "{} is not there; run `make deps`", path.display());
    path.display().to_string()
}

/// Helm: the one that was brought, else the installed one.
pub fn helm() -> String {
    let path = root().join("target/test-tools/bin/helm");
    if path.exists() { path.display().to_string() } else { "helm".to_owned() }
}

/// A port that is free now, for programs that cannot choose one themselves.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
        .port()
}
