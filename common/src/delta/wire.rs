//! A delta's bytes, for the wire and the store alike.

use prost::Message;
use volcanion_proto::v1 as pb;

use super::{Delta, Phases, Process, ScenarioDelta, Warning};
use crate::series::histogram::DistributionError;
use crate::series::{Distribution, ErrorKind, Outcome, Series, SeriesKey};
use crate::units::RunTime;

/// Why bytes are not a delta.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not the protobuf message.
    #[error("not a delta: {0}")]
    Message(#[from] prost::DecodeError),
    /// A histogram in it is not one of ours.
    #[error("a histogram of the delta cannot be read: {0}")]
    Histogram(#[from] DistributionError),
    /// A value that this version does not know or that cannot be.
    #[error("the delta's {0} is not a legal one")]
    Value(&'static str),
}

impl Delta {
    /// The delta's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_proto(self).encode_to_vec()
    }

    /// Reads what [`Delta::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are not a delta, or hold what no agent of ours would say.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        from_proto(pb::Delta::decode(bytes)?)
    }
}

fn to_proto(delta: &Delta) -> pb::Delta {
    pb::Delta {
        from_us: delta.from.0,
        to_us: delta.to.0,
        series: delta.series.iter().map(|(key, series)| series_to_proto(*key, series)).collect(),
        scenarios: delta
            .scenarios
            .iter()
            .map(|(index, scenario)| scenario_to_proto(*index, scenario))
            .collect(),
        errors: delta
            .errors
            .iter()
            .map(|((step, kind, detail), count)| pb::ErrorCount {
                step: *step,
                kind: kind_to_proto(*kind).into(),
                detail: detail.clone(),
                count: *count,
            })
            .collect(),
        process: Some(pb::Process {
            cpu_us: delta.process.cpu_us,
            resident_bytes: delta.process.resident_bytes,
            open_files: delta.process.open_files,
            cores: delta.process.cores,
        }),
        warnings: delta
            .warnings
            .iter()
            .map(|w| pb::Warning {
                code: w.code.clone(),
                message: w.message.clone(),
                since_us: w.since.0,
                until_us: w.until.0,
                amount: w.amount,
                worst: w.worst,
                scenario: w.scenario,
            })
            .collect(),
    }
}

fn from_proto(message: pb::Delta) -> Result<Delta, WireError> {
    if message.from_us > message.to_us {
        return Err(WireError::Value("span"));
    }
    let mut delta = Delta { from: RunTime(message.from_us), to: RunTime(message.to_us), ..Delta::default() };
    for series in message.series {
        let outcome = match series.outcome.ok_or(WireError::Value("outcome"))? {
            pb::series::Outcome::Status(status) => {
                Outcome::Status(u16::try_from(status).map_err(|_| WireError::Value("status"))?)
            }
            pb::series::Outcome::Error(kind) => Outcome::Error(kind_from_proto(kind)?),
        };
        let value = Series {
            requests: series.requests,
            redirects: series.redirects,
            failed: series.failed,
            bytes_sent: series.bytes_sent,
            bytes_received: series.bytes_received,
            response_time: distribution_from_proto(series.response_time)?,
            service_time: distribution_from_proto(series.service_time)?,
        };
        delta.series.insert(SeriesKey { step: series.step, outcome }, value);
    }
    for scenario in message.scenarios {
        let phases = scenario.phases.unwrap_or_default();
        let value = ScenarioDelta {
            started: scenario.started,
            completed: scenario.completed,
            dropped: scenario.dropped,
            missed: scenario.missed,
            interrupted: scenario.interrupted,
            vus: scenario.vus,
            schedule_lag: distribution_from_proto(scenario.schedule_lag)?,
            phases: Phases {
                dns: distribution_from_proto(phases.dns)?,
                connect: distribution_from_proto(phases.connect)?,
                tls: distribution_from_proto(phases.tls)?,
                wait: distribution_from_proto(phases.wait)?,
                receive: distribution_from_proto(phases.receive)?,
            },
        };
        delta.scenarios.insert(scenario.scenario, value);
    }
    for error in message.errors {
        delta.errors.insert((error.step, kind_from_proto(error.kind)?, error.detail), error.count);
    }
    let process = message.process.unwrap_or_default();
    delta.process = Process {
        cpu_us: process.cpu_us,
        resident_bytes: process.resident_bytes,
        open_files: process.open_files,
        cores: process.cores,
    };
    delta.warnings = message
        .warnings
        .into_iter()
        .map(|w| Warning {
            code: w.code,
            message: w.message,
            scenario: w.scenario,
            since: RunTime(w.since_us),
            until: RunTime(w.until_us.max(w.since_us)),
            amount: w.amount,
            worst: w.worst,
        })
        .collect();
    Ok(delta)
}

fn series_to_proto(key: SeriesKey, series: &Series) -> pb::Series {
    pb::Series {
        step: key.step,
        outcome: Some(match key.outcome {
            Outcome::Status(status) => pb::series::Outcome::Status(status.into()),
            Outcome::Error(kind) => pb::series::Outcome::Error(kind_to_proto(kind).into()),
        }),
        requests: series.requests,
        redirects: series.redirects,
        failed: series.failed,
        bytes_sent: series.bytes_sent,
        bytes_received: series.bytes_received,
        response_time: distribution_to_proto(&series.response_time),
        service_time: distribution_to_proto(&series.service_time),
    }
}

fn scenario_to_proto(index: u32, scenario: &ScenarioDelta) -> pb::ScenarioDelta {
    let phases = &scenario.phases;
    pb::ScenarioDelta {
        scenario: index,
        started: scenario.started,
        completed: scenario.completed,
        dropped: scenario.dropped,
        missed: scenario.missed,
        interrupted: scenario.interrupted,
        vus: scenario.vus,
        schedule_lag: distribution_to_proto(&scenario.schedule_lag),
        phases: Some(pb::Phases {
            dns: distribution_to_proto(&phases.dns),
            connect: distribution_to_proto(&phases.connect),
            tls: distribution_to_proto(&phases.tls),
            wait: distribution_to_proto(&phases.wait),
            receive: distribution_to_proto(&phases.receive),
        }),
    }
}

fn distribution_to_proto(distribution: &Distribution) -> Option<pb::Distribution> {
    (!distribution.is_empty()).then(|| pb::Distribution {
        histogram_v2: distribution.to_v2(),
        sum_us: distribution.sum_us(),
        min_us: distribution.min_us(),
        max_us: distribution.max_us(),
    })
}

fn distribution_from_proto(message: Option<pb::Distribution>) -> Result<Distribution, DistributionError> {
    message.map_or_else(
        || Ok(Distribution::default()),
        |m| Distribution::from_v2(&m.histogram_v2, m.sum_us, m.min_us, m.max_us),
    )
}

fn kind_to_proto(kind: ErrorKind) -> pb::ErrorKind {
    match kind {
        ErrorKind::Dns => pb::ErrorKind::Dns,
        ErrorKind::Connect => pb::ErrorKind::Connect,
        ErrorKind::Tls => pb::ErrorKind::Tls,
        ErrorKind::Timeout => pb::ErrorKind::Timeout,
        ErrorKind::Reset => pb::ErrorKind::Reset,
        ErrorKind::Protocol => pb::ErrorKind::Protocol,
        ErrorKind::Body => pb::ErrorKind::Body,
        ErrorKind::Check => pb::ErrorKind::Check,
        ErrorKind::Blocked => pb::ErrorKind::Blocked,
        ErrorKind::Interrupted => pb::ErrorKind::Interrupted,
    }
}

fn kind_from_proto(number: i32) -> Result<ErrorKind, WireError> {
    ErrorKind::ALL
        .into_iter()
        .find(|kind| i32::from(kind_to_proto(*kind)) == number)
        .ok_or(WireError::Value("error kind"))
}
