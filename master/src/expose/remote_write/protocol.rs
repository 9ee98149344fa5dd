//! The bytes of remote write 1.0: a `WriteRequest` in protobuf, compressed as one block of snappy.
//!
//! prometheus.io/docs/specs/prw/remote_write_spec: labels are sorted by name and none is empty; instants are milliseconds since 1970.

use prost::Message;

use crate::run::rows::{Row, Sample};

/// What a request says of itself.
pub(super) const HEADERS: [(&str, &str); 3] = [
    ("content-encoding", "snappy"),
    ("content-type", "application/x-protobuf"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// `prometheus.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// `prometheus.TimeSeries`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Point>,
}

/// `prometheus.Label`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `prometheus.Sample`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Point {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A row as a request's body.
pub(super) fn body(row: &Row) -> Vec<u8> {
    let bytes = request(row).encode_to_vec();
    // Only what is longer than 4 GB is refused.
    snap::raw::Encoder::new().compress_vec(&bytes).unwrap_or_default()
}

pub(super) fn request(row: &Row) -> WriteRequest {
    let run_id = row.run.to_string();
    let names: Vec<(u32, &str)> = row.plan.steps().map(|step| (step.index, &*step.step.name)).collect();
    let step_of = |index: u32| names.iter().find(|(known, _)| *known == index).map(|(_, name)| *name);
    let scenario_of = |index: u32| row.plan.scenarios.get(index as usize).map(|scenario| &*scenario.name);
    let series = |sample: &Sample| {
        // In the order of their names.
        let labels = [
            ("__name__", Some(sample.name)),
            ("plan", Some(&*row.plan.name)),
            ("quantile", sample.quantile),
            ("run_id", Some(&*run_id)),
            ("scenario", sample.scenario.and_then(scenario_of)),
            ("step", sample.step.and_then(step_of)),
        ];
        let labels = labels.into_iter().filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some(Label { name: name.to_owned(), value: value.to_owned() })
        });
        TimeSeries {
            labels: labels.collect(),
            samples: vec![Point { value: sample.value, timestamp: row.at_unix_ms }],
        }
    };
    WriteRequest { timeseries: row.samples.iter().map(series).collect() }
}
