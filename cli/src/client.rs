//! A master behind its REST API.

mod sse;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;
use volcanion_common::view::{Metrics, ProblemDetails, RunView};

use crate::args::MasterRef;
use crate::cluster::{Cluster, Update};
use crate::exit::Failure;

/// How long a master may take to answer anything but an event stream.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Speaks to one master.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: reqwest::Url,
    api_key: Option<String>,
}

impl Client {
    /// A client of this master; nothing is sent yet.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(master: &MasterRef) -> Result<Self, Failure> {
        let base = reqwest::Url::parse(&master.master)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Failure::wrong(format!(
                    "--master: `{}` is not a URL such as http://127.0.0.1:8080",
                    master.master
                ))
            })?;
        let http = reqwest::Client::builder();
        let http = match &master.master_ca {
            Some(path) => http.tls_certs_only(authorities("--master-ca", path)?),
            None => http,
        };
        let http = http
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("volcanion/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Failure::could_not_run)?;
        Ok(Self { http, base, api_key: master.api_key.clone() })
    }

    /// GET of a path below `/api/v1/`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Failure> {
        let request = self.request(Method::GET, path).query(query).timeout(ANSWER_TIME);
        self.read(self.send(request).await?).await
    }

    /// POST of a path below `/api/v1/`, with or without a JSON body.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: Option<&Value>) -> Result<T, Failure> {
        let mut request = self.request(Method::POST, path).timeout(ANSWER_TIME);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.read(self.send(request).await?).await
    }

    /// PATCH of a path below `/api/v1/` with a JSON body.
    pub async fn patch<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        let request = self.request(Method::PATCH, path).json(body).timeout(ANSWER_TIME);
        self.read(self.send(request).await?).await
    }

    /// DELETE of a path below `/api/v1/`.
    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(self.request(Method::DELETE, path).timeout(ANSWER_TIME)).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/v1/{path}", self.base.path().trim_end_matches('/')));
        let request = self.http.request(method, url);
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends, and turns an answer that is no success into what it says.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        Err(match serde_json::from_str::<ProblemDetails>(&text) {
            Ok(problem) if problem.errors.len() > 1 => {
                let lines: Vec<String> = problem.errors.iter().map(|p| format!("  {p}")).collect();
                Failure::of_code(problem.error, format!("{}:\n{}", problem.title, lines.join("\n")))
            }
            Ok(problem) => Failure::of_code(problem.error, problem.detail),
            Err(_) if status == StatusCode::NOT_FOUND => {
                Failure::could_not_run(format!("{} answers 404; is it a master of Volcanion?", self.base))
            }
            Err(_) => Failure::could_not_run(format!("{} answers {status}: {}", self.base, text.trim())),
        })
    }

    async fn read<T: DeserializeOwned>(&self, response: reqwest::Response) -> Result<T, Failure> {
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::could_not_run(format!("{} answers what this version cannot read: {error}", self.base))
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        // The innermost cause says what really happened: "connection refused" rather than "error sending request".
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Failure::could_not_run(format!(
            "no master answers at {}: {cause}; start one with `volcanion master`, or name another with --master",
            self.base
        ))
    }
}

/// The authorities of a PEM file that a flag names.
pub fn authorities(flag: &str, path: &Path) -> Result<Vec<reqwest::Certificate>, Failure> {
    let wrong = |error: String| Failure::wrong(format!("{flag} {}: {error}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("it has no certificate".to_owned())) } else { Ok(found) }
}

#[async_trait]
impl Cluster for Client {
    async fn start(&self, document: &Value) -> Result<RunView, Failure> {
        let plan: Value = self.post("test-plans", Some(document)).await?;
        self.post("test-runs/start", Some(&json!({ "plan_id": plan["id"] }))).await
    }

    async fn stop(&self, run: Uuid) -> Result<(), Failure> {
        self.post::<Value>(&format!("test-runs/{run}/stop"), None).await.map(drop)
    }

    async fn updates(&self, run: Uuid) -> Result<BoxStream<'static, Result<Update, Failure>>, Failure> {
        Ok(sse::follow(self.clone(), run).await?.boxed())
    }
}

/// Reads one event of a run.
fn update(event: &str, data: &str) -> Result<Option<Update>, serde_json::Error> {
    Ok(match event {
        "snapshot" => Some(Update::Snapshot(Box::new(serde_json::from_str::<Metrics>(data)?))),
        "state" => Some(Update::State(Box::new(serde_json::from_str(data)?))),
        "warning" => Some(Update::Warning(serde_json::from_str(data)?)),
        "end" => Some(Update::End(Box::new(serde_json::from_str::<Metrics>(data)?))),
        _ => None,
    })
}
