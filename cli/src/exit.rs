//! Exit codes: the contract with scripts.

use std::process::ExitCode;

use volcanion_common::view::metrics::{Metrics, Verdict};
use volcanion_common::view::{ErrorCode, RunStatus, StopReason};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, all thresholds held.
    Done = 0,
    /// The command or the plan is wrong; nothing was sent.
    Wrong = 2,
    /// It could not run: no agent, no master, no port.
    CouldNotRun = 3,
    /// `--require-valid`, and the run is not valid.
    NotValid = 98,
    /// A threshold failed.
    Threshold = 99,
    /// Interrupted; the result so far was printed and kept.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with its exit code; the text goes to stderr.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    /// What the user gave is wrong.
    pub fn wrong(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Wrong, message: message.to_string() }
    }

    /// It could not run.
    pub fn could_not_run(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::CouldNotRun, message: message.to_string() }
    }

    /// What a master answered.
    pub fn of_code(code: ErrorCode, message: impl std::fmt::Display) -> Self {
        match code {
            ErrorCode::ValidationError
            | ErrorCode::NotFound
            | ErrorCode::MethodNotAllowed
            | ErrorCode::Conflict
            | ErrorCode::TooLarge
            | ErrorCode::UnsupportedMediaType => Self::wrong(message),
            ErrorCode::Unauthorized
            | ErrorCode::Forbidden
            | ErrorCode::RateLimited
            | ErrorCode::NoAgents
            | ErrorCode::NoLeader
            | ErrorCode::StoreUnavailable
            | ErrorCode::AgentUnavailable
            | ErrorCode::InternalError => Self::could_not_run(message),
        }
    }
}

/// How a run that has ended ends the command that followed it. A failed threshold goes before a missing validity.
pub fn of_run(metrics: &Metrics, require_valid: bool, interrupted: bool) -> Exit {
    let not_valid = require_valid && metrics.validity.verdict != Verdict::Valid;
    match (metrics.status, metrics.stop_reason) {
        _ if interrupted => Exit::Interrupted,
        (_, Some(StopReason::Threshold)) => Exit::Threshold,
        (Some(RunStatus::Cancelled), _) => Exit::Interrupted,
        (Some(RunStatus::Completed), _) if not_valid => Exit::NotValid,
        (Some(RunStatus::Completed), _) => Exit::Done,
        _ => Exit::CouldNotRun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_threshold_goes_before_a_missing_validity() {
        let mut metrics = Metrics { status: Some(RunStatus::Completed), ..Metrics::default() };
        metrics.stop_reason = Some(StopReason::Completed);
        assert_eq!(of_run(&metrics, true, false), Exit::Done);
        metrics.validity.verdict = Verdict::Invalid;
        assert_eq!(of_run(&metrics, false, false), Exit::Done);
        assert_eq!(of_run(&metrics, true, false), Exit::NotValid);
        metrics.status = Some(RunStatus::Failed);
        metrics.stop_reason = Some(StopReason::Threshold);
        assert_eq!(of_run(&metrics, true, false), Exit::Threshold);
        assert_eq!(of_run(&metrics, true, true), Exit::Interrupted);
        metrics.stop_reason = Some(StopReason::Lost);
        assert_eq!(of_run(&metrics, false, false), Exit::CouldNotRun);
    }
}
