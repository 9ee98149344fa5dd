//! Prometheus remote write: each interval of a run, once it is durable, to a receiver of the user's.
//!
//! Takes rows from the queue ([`Outgoing`]) and posts them one after the other, each as a request of its own, so that what a receiver does not take of one
//! instant costs no other. What it cannot take now (5xx, 429, no connection) is tried again with pauses until it does, while the queue drops its oldest; what it refuses (4xx) is
//! counted and left. Nothing here is waited for by a run.

mod protocol;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;
use volcanion_common::ids::RunId;
use volcanion_common::units::RunTime;
use volcanion_common::validate::ValidPlan;

use crate::run::outgoing::{Item, Outgoing};
use crate::run::rows::{Cut, Row};
use crate::store::{Store, StoreError};

/// How long a receiver may take for a row, connecting included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between attempts at a row: they double from the first to the last, each cut by chance to between half and all of it.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long what still waits may take at the master's end.
const LAST_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a receiver's trouble is said in the log.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// The most that is shown of a receiver's answer.
const ANSWER_SHOWN_MAX: usize = 200;

/// Where intervals are written to. Never shows credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteWriteUrl(Url);

/// Why a text is no such URL. It may hold a password, so it is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no URL of a remote write receiver; give it as http://HOST:PORT/api/v1/write")]
pub struct RemoteWriteUrlError;

/// What is needed to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteWriteSettings {
    /// The receiver.
    pub url: RemoteWriteUrl,
    /// The file with the token that is shown to it; read anew for each request, so that it may change.
    pub bearer_file: Option<PathBuf>,
}

impl FromStr for RemoteWriteUrl {
    type Err = RemoteWriteUrlError;

    fn from_str(text: &str) -> Result<Self, RemoteWriteUrlError> {
        let url = Url::parse(text).map_err(|_| RemoteWriteUrlError)?;
        match (url.scheme(), url.host()) {
            ("http" | "https", Some(_)) => Ok(Self(url)),
            _ => Err(RemoteWriteUrlError),
        }
    }
}

impl fmt::Display for RemoteWriteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.0.scheme(), self.0.host_str().unwrap_or_default());
        write!(f, "{scheme}://{host}:{}{}", self.0.port_or_known_default().unwrap_or_default(), self.0.path())
    }
}

impl fmt::Debug for RemoteWriteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a row was not taken.
#[derive(Debug, PartialEq, Eq)]
enum NotTaken {
    /// It may be another time.
    Now(String),
    /// It never will be.
    Ever(String),
}

/// Brings rows out until the stop, and then for a moment what still waits.
pub(crate) async fn keep_writing(
    settings: RemoteWriteSettings,
    outgoing: Arc<Outgoing>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
) {
    let client = reqwest::Client::builder()
        .timeout(ANSWER_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("volcanion/", env!("CARGO_PKG_VERSION")))
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "nothing can be written to a remote receiver"),
    };
    tracing::info!(url = %settings.url, "intervals are written to a remote receiver");
    let mut writer = Writer { settings, outgoing, store, stop, client, said: None };
    let stop = writer.stop.clone();
    while let Some(item) = stop.run_until_cancelled(writer.outgoing.next()).await {
        writer.bring(item).await;
    }
    let rest = async {
        while let Some(item) = writer.outgoing.try_next() {
            writer.bring(item).await;
        }
    };
    if tokio::time::timeout(LAST_TIMEOUT, rest).await.is_err() {
        tracing::warn!("some intervals were not written to the remote receiver before the end");
    }
}

struct Writer {
    settings: RemoteWriteSettings,
    outgoing: Arc<Outgoing>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    client: reqwest::Client,
    /// When trouble was said last.
    said: Option<Instant>,
}

impl Writer {
    async fn bring(&mut self, item: Item) {
        match item {
            Item::Row(row) => self.write(&row).await,
            Item::Again { run, plan, start_unix_us, before } => {
                if let Err(error) = self.write_again(run, plan, start_unix_us, before).await {
                    self.say("what is stored of a run could not be written again", &error.to_string());
                }
            }
        }
    }

    /// Writes the newest that is stored of a run: the same numbers at the same instants as its last master did, or would have.
    async fn write_again(
        &mut self,
        run: RunId,
        plan: Arc<ValidPlan>,
        start_unix_us: i64,
        before: u64,
    ) -> Result<(), StoreError> {
        let mut cut = Cut::new(run, plan, RunTime::START);
        for delta in self.store.newest_parts(run, before).await? {
            if let Some(row) = cut.part(&delta, start_unix_us) {
                self.write(&row).await;
            }
        }
        if let Some(row) = cut.rest(start_unix_us) {
            self.write(&row).await;
        }
        Ok(())
    }

    /// Writes a row, again and again where it is not taken now; after the stop once.
    async fn write(&mut self, row: &Row) {
        let (body, samples) = (protocol::body(row), row.samples.len());
        let mut pause = PAUSE_FIRST;
        loop {
            let began = Instant::now();
            let taken = self.post(&body).await;
            self.outgoing.took().record(began.elapsed());
            match taken {
                Ok(()) => return self.outgoing.ended("sent", samples),
                Err(NotTaken::Ever(why)) => {
                    self.say("the remote receiver refuses an interval", &why);
                    return self.outgoing.ended("refused", samples);
                }
                Err(NotTaken::Now(why)) => {
                    self.say("the remote receiver does not take intervals now; they are kept, as far as the queue goes", &why);
                    self.outgoing.again();
                }
            }
            if self.stop.is_cancelled() {
                return self.outgoing.ended("dropped", samples);
            }
            // Whether the stop came or the pause is over: one more attempt.
            let _ = self.stop.run_until_cancelled(tokio::time::sleep(by_chance(pause))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn post(&self, body: &[u8]) -> Result<(), NotTaken> {
        let mut request = self.client.post(self.settings.url.0.clone()).body(body.to_vec());
        for (name, value) in protocol::HEADERS {
            request = request.header(name, value);
        }
        if let Some(file) = &self.settings.bearer_file {
            request = request.header(header::AUTHORIZATION, bearer(file).await?);
        }
        let answer = request.send().await.map_err(|error| NotTaken::Now(innermost(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let text = answer.text().await.unwrap_or_default();
        let why = format!("{status}: {}", text.trim().chars().take(ANSWER_SHOWN_MAX).collect::<String>());
        Err(if status.is_server_error() || status.as_u16() == 429 {
            NotTaken::Now(why)
        } else {
            NotTaken::Ever(why)
        })
    }

    fn say(&mut self, what: &str, why: &str) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!(url = %self.settings.url, why, "{what}");
        }
    }
}

async fn bearer(file: &Path) -> Result<String, NotTaken> {
    let read = tokio::fs::read_to_string(file).await;
    let token = read.map_err(|error| NotTaken::Now(format!("{}: {error}", file.display())))?;
    Ok(format!("Bearer {}", token.trim()))
}

fn by_chance(pause: Duration) -> Duration {
    let half_ms = (pause.as_millis() as u64 / 2).max(1);
    Duration::from_millis(half_ms + Uuid::new_v4().as_u128() as u64 % (half_ms + 1))
}

/// What is behind it, without the URL, which may hold a password.
fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if innermost.is::<reqwest::Error>() { "no answer in time".to_owned() } else { innermost.to_string() }
}

#[cfg(test)]
mod tests;
