//! `health` and `leave`: what probes and hooks ask of a process of ours, where an image has neither shell nor curl.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::args::{HealthArgs, LeaveArgs};
use crate::client::authorities;
use crate::exit::{Exit, Failure};

/// How often an agent that hands over is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long it may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// Whether a URL answers 200.
pub async fn health(args: &HealthArgs) -> Result<Exit, Failure> {
    let mut builder = reqwest::Client::builder().no_proxy().timeout(args.timeout.duration());
    if let Some(path) = &args.ca {
        builder = builder.tls_certs_only(authorities("--ca", path)?);
    }
    let client =
        builder.danger_accept_invalid_certs(args.insecure).build().map_err(Failure::could_not_run)?;
    let answer = client.get(&args.url).send().await.map_err(|error| not_answering(&args.url, &error))?;
    let status = answer.status();
    if status == reqwest::StatusCode::OK {
        return Ok(Exit::Done);
    }
    let text = answer.text().await.unwrap_or_default();
    Err(Failure::could_not_run(format!("{} answers {status}: {}", args.url, text.trim())))
}

#[derive(Deserialize)]
struct Health {
    runs: usize,
    handing_over: bool,
}

/// Has the agent drain, and waits until its load is with others.
pub async fn leave(args: &LeaveArgs) -> Result<Exit, Failure> {
    let base = args.metrics.trim_end_matches('/');
    let client =
        reqwest::Client::builder().no_proxy().timeout(ANSWER_TIME).build().map_err(Failure::could_not_run)?;
    let answer =
        client.post(format!("{base}/drain")).send().await.map_err(|error| not_answering(base, &error))?;
    if !answer.status().is_success() {
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        return Err(Failure::could_not_run(format!("{base} answers {status}: {}", text.trim())));
    }
    let began = Instant::now();
    loop {
        let answer =
            client.get(format!("{base}/health")).send().await.map_err(|error| not_answering(base, &error))?;
        let health: Health = answer.json().await.map_err(|error| not_answering(base, &error))?;
        if health.runs == 0 || !health.handing_over {
            return Ok(Exit::Done);
        }
        if began.elapsed() >= args.wait.duration() {
            return Err(Failure::could_not_run(format!(
                "after {} the agent still hands over its load",
                args.wait
            )));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn not_answering(url: &str, error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Failure::could_not_run(format!("{url} does not answer: {cause}"))
}
