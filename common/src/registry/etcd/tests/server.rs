//! A real etcd on loopback: a process of its own in a temporary directory, ended by its id.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use etcd_client::Client;
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub struct Etcd {
    child: Option<Child>,
    directory: TempDir,
    client_port: u16,
    peer_port: u16,
    is_secured: bool,
}

/// A file of the tests' certificates.
pub fn pem(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/registry/etcd/tests/pem").join(name)
}

impl Etcd {
    pub async fn start() -> Self {
        let mut etcd = Self::new(false);
        etcd.run().await;
        etcd
    }

    /// One that speaks TLS only, and with those only who show a certificate of its authority.
    pub async fn start_secured() -> Self {
        let mut etcd = Self::new(true);
        etcd.run().await;
        etcd
    }

    /// One that is not running yet; see [`Etcd::run`].
    pub fn new(is_secured: bool) -> Self {
        // Held together, so that the two differ; free again when etcd takes them.
        let ports = [0, 0].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client_port, peer_port] = ports.map(|port| port.local_addr().unwrap().port());
        Self { child: None, directory: tempfile::tempdir().unwrap(), client_port, peer_port, is_secured }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.is_secured { "https" } else { "http" }, self.client_port)
    }

    pub async fn client(&self) -> Client {
        Client::connect([self.url()], None).await.unwrap()
    }

    /// Starts it, on the data that a former life has left, and waits until it answers.
    pub async fn run(&mut self) {
        let program = std::env::var("VOLCANION_ETCD_BINARY").unwrap_or_else(|_| "etcd".to_owned());
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(&program);
        command.env_clear().arg("--data-dir").arg(self.directory.path().join("data"));
        command.args(["--name", "test", "--log-level", "warn", "--logger", "zap"]);
        command.args(["--listen-client-urls", &self.url(), "--advertise-client-urls", &self.url()]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("test={peer}")]);
        if self.is_secured {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(pem("ca.pem"));
            command.arg("--cert-file").arg(pem("server.pem")).arg("--key-file").arg(pem("server.key"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("`{program}` cannot be started ({error}): run `make deps`, which installs etcd, or name it in VOLCANION_ETCD_BINARY")
        });
        self.child = Some(child);
        self.await_health().await;
    }

    /// Ends it without a chance to say goodbye; its data stays.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.unwrap();
    }

    /// Ends it and takes its data away.
    pub async fn kill_and_forget(&mut self) {
        self.kill().await;
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
    }

    /// Stops it without closing a socket, or lets it go on: `STOP` or `CONT`.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        let sent = Command::new("kill").args([format!("-{signal}"), id.to_string()]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Has it live for a while on another port, where those who know its own do not find it.
    pub async fn run_elsewhere(&mut self, during: impl AsyncFnOnce(&mut Client)) {
        let own_port = self.client_port;
        self.client_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.run().await;
        during(&mut self.client().await).await;
        self.kill().await;
        self.client_port = own_port;
    }

    async fn await_health(&mut self) {
        let answers = async || {
            if self.is_secured {
                return tokio::net::TcpStream::connect(("127.0.0.1", self.client_port)).await.is_ok();
            }
            let read = async { Client::connect([self.url()], None).await?.get("health", None).await };
            matches!(tokio::time::timeout(Duration::from_secs(1), read).await, Ok(Ok(_)))
        };
        for _ in 0..600 {
            if answers().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        panic!("etcd does not answer; its log says:\n{log}");
    }
}
