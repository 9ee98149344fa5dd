//! A real PostgreSQL with a folder of its own, on loopback with a password; it can be stopped, killed and started again.
//!
//! Used by the suite of real processes and, by its path, by the store's own tests; so it leans on nothing of either. PostgreSQL refuses to
//! run as root: where a test does, the server runs as `nobody`.
#![allow(dead_code, reason = "not every test binary uses every part")]

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The user `nobody` and its group, as nearly every system numbers them.
const NOBODY: u32 = 65_534;
/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const USER: &str = "volcanion";
/// With signs that a URL must write otherwise, so that nobody gets by without decoding.
const PASSWORD: &str = "p@ss/w%rd";
const PASSWORD_IN_URL: &str = "p%40ss%2Fw%25rd";
const READY: &str = "database system is ready to accept connections";

/// A running PostgreSQL; the database is empty at first.
pub struct Postgres {
    /// For `--store`.
    pub url: String,
    port: u16,
    programs: PathBuf,
    folder: TempDir,
    child: Option<Child>,
    starts: u32,
}

impl Postgres {
    /// Makes a new one and awaits its word that it is ready.
    pub async fn start() -> Self {
        let programs = programs();
        let folder = TempDir::new().expect("a temporary folder can be made");
        let password_file = folder.path().join("password");
        fs::write(&password_file, PASSWORD).expect("a temporary file can be written");
        if is_root() {
            give_away(folder.path());
            give_away(&password_file);
        }
        let data = folder.path().join("data");
        let made = command(&programs.join("initdb"))
            .args(["--no-sync", "--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", "-U", USER])
            .arg(format!("--pwfile={}", password_file.display()))
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap_or_else(|error| panic!("initdb: {error}; `make deps` installs what tests need"));
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let mut server = Self { url: String::new(), port, programs, folder, child: None, starts: 0 };
        server.start_again().await;
        server.url =
            format!("postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/postgres?sslmode=disable", server.port);
        server
    }

    /// Starts the stopped or killed server on the same port, and awaits its word that it is ready.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it was stopped before");
        let begun = Instant::now();
        loop {
            if self.try_start(begun).await {
                return;
            }
            assert!(begun.elapsed() < START_LIMIT, "PostgreSQL does not start:\n{}", self.last_lines());
            if self.url.is_empty() {
                // Somebody else took the port in between; nobody has heard of this one yet.
                self.port = free_port();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// `false`: it ended at once, as it does while sessions of a killed one are still there.
    async fn try_start(&mut self, begun: Instant) -> bool {
        self.starts += 1;
        let log = fs::File::create(self.log()).expect("the log can be made");
        let child = command(&self.programs.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            // No socket in a common folder; and no disk is waited for, since only processes die here, not the machine.
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=40"])
            .args(["-c", "shared_buffers=16MB", "-c", "log_min_messages=warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("postgres: {error}; `make deps` installs what tests need"));
        loop {
            if self.lines().contains(READY) {
                self.child = Some(child);
                return true;
            }
            if child.try_wait().expect("a child can be asked").is_some() {
                return false;
            }
            assert!(begun.elapsed() < START_LIMIT, "PostgreSQL does not start:\n{}", self.last_lines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it as an administrator does: sessions are cut, what is committed stays. Gone when this returns.
    pub async fn stop(&mut self) {
        self.signal("INT").await;
        self.ended().await;
    }

    /// SIGKILL to the server; its sessions end when they notice.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("a child can be killed");
    }

    /// Stops it and starts it again.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Runs statements by `psql`; gives what it said, one row a line and columns between bars.
    pub async fn psql(&self, statements: &str) -> String {
        let mut command = Command::new(self.programs.join("psql"));
        let done = command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url, "-c", statements])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("psql is there");
        assert!(done.status.success(), "{statements}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Makes a further empty database; gives its URL.
    pub async fn database(&self, name: &str) -> String {
        self.psql(&format!("CREATE DATABASE {name}")).await;
        self.url.replacen("/postgres?", &format!("/{name}?"), 1)
    }

    /// Where PostgreSQL's programs are: `pg_dump` and the like.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// What it logged since its newest start.
    pub fn lines(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        let status = Command::new("kill").args([format!("-{signal}"), id.to_string()]).status().await;
        assert!(status.is_ok_and(|status| status.success()), "PostgreSQL takes a signal");
    }

    async fn ended(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
        assert!(ended.is_ok(), "PostgreSQL does not end:\n{}", self.last_lines());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join(format!("log-{}", self.starts))
    }

    fn last_lines(&self) -> String {
        let lines = self.lines();
        let lines: Vec<&str> = lines.lines().collect();
        lines[lines.len().saturating_sub(25)..].iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- last lines of PostgreSQL\n{}", self.last_lines());
        }
        if self.child.is_none() {
            return;
        }
        // All of its processes are gone after it, so the folder can go; a killed server's sessions would still write there.
        let mut stop = StdCommand::new(self.programs.join("pg_ctl"));
        as_nobody_std(&mut stop);
        let _ = stop
            .args(["stop", "-m", "immediate", "-s", "-t", "10", "-D"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .status();
    }
}

/// The newest installed version's programs; in PATH where Debian's folder is not there.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .filter(|(_, programs)| programs.join("initdb").exists())
        .max();
    match newest {
        Some((_, programs)) => programs,
        None => PathBuf::new(),
    }
}

fn command(program: &Path) -> Command {
    let mut command = StdCommand::new(program);
    as_nobody_std(&mut command);
    // Not every user may be where the tests run.
    command.current_dir("/");
    Command::from(command)
}

fn as_nobody_std(command: &mut StdCommand) {
    use std::os::unix::process::CommandExt;
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may set permissions");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
        .port()
}
