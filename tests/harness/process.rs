//! One child process with its words; ended with the test, by its id.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::await_some;

/// Lines of each process that are kept.
pub const LINES_MAX: usize = 50_000;

/// A running process.
pub struct Process {
    pub name: String,
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Starts a program; what it writes is kept.
    pub fn start(name: &str, program: &str, args: &[&str]) -> Self {
        Self::start_with(name, program, args, &[])
    }

    /// Starts a program with further environment variables.
    pub fn start_with(name: &str, program: &str, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; `make deps` installs what tests need"));
        let lines = Arc::default();
        keep(child.stdout.take().expect("it is piped"), Arc::clone(&lines));
        keep(child.stderr.take().expect("it is piped"), Arc::clone(&lines));
        Self { name: name.to_owned(), child, lines }
    }

    /// Starts this build's `volcanion`.
    pub fn volcanion(name: &str, args: &[&str]) -> Self {
        Self::start(name, env!("CARGO_BIN_EXE_volcanion"), args)
    }

    /// The process id; panics once it has been awaited.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// What it wrote so far, stdout and stderr in the order of their coming.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no holder panics").iter().cloned().collect()
    }

    /// Awaits a line that `pick` makes something of.
    pub async fn await_line<T>(&self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        await_some(&format!("{}: {what}", self.name), Duration::from_secs(30), || async {
            self.lines().iter().find_map(|line| pick(line))
        })
        .await
    }

    /// Awaits a JSON log line with this message.
    pub async fn await_log(&self, message: &str) -> Value {
        self.await_line(message, |line| {
            serde_json::from_str::<Value>(line).ok().filter(|log| log["message"] == message)
        })
        .await
    }

    /// Sends a signal, by the process id.
    pub async fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([format!("-{signal}"), self.id().to_string()]).status().await;
        assert!(status.is_ok_and(|status| status.success()), "{} takes a signal", self.name);
    }

    /// SIGKILL, awaited.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// SIGTERM, and the end awaited.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.ended(Duration::from_secs(30)).await
    }

    /// Awaits the end.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => status.unwrap_or_else(|error| panic!("{}: {error}", self.name)),
            Err(_) => panic!("{} does not end within {limit:?}", self.name),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- last lines of {}", self.name);
            let lines = self.lines();
            for line in lines.iter().skip(lines.len().saturating_sub(25)) {
                eprintln!("{line}");
            }
        }
    }
}

fn keep(stream: impl AsyncRead + Unpin + Send + 'static, lines: Arc<Mutex<VecDeque<String>>>) {
    tokio::spawn(async move {
        let mut reader = BufReader::new(stream).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            let mut lines = lines.lock().expect("no holder panics");
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

/// What a command said and how it ended.
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs this build's `volcanion` to its end.
pub async fn volcanion(args: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_volcanion"), args).await
}

/// Runs a program to its end; a minute and a half at most.
pub async fn run(program: &str, args: &[&str]) -> Output {
    run_within(Duration::from_secs(90), program, args).await
}

/// Runs a program to its end.
pub async fn run_within(limit: Duration, program: &str, args: &[&str]) -> Output {
    let running = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(limit, running)
        .await
        .unwrap_or_else(|_| panic!("{program} {args:?} does not end"))
        .unwrap_or_else(|error| panic!("{program}: {error}; `make deps` installs what tests need"));
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
