//! Metric families for Prometheus, filled from numbers that were counted elsewhere.
//!
//! There is no registry of live counters behind this: at each scrape the exposing side builds the families anew from
//! its merged state, so a series that is no longer there is no longer shown. Histograms come from [`Distribution`]s; their
//! buckets are cumulative and in seconds.

use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::series::Distribution;
use crate::units::Micros;

/// The content type of what [`encode`] writes.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Upper bounds of the buckets, in microseconds: 1 ms to 60 s in steps of at most 2.5, and finer ones below for fast targets.
/// The bucket without a bound is added by the format.
pub const BOUNDS_US: [u64; 18] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 60_000_000,
];

/// The metrics of one name.
#[derive(Clone, Debug)]
pub struct Family {
    name: String,
    help: String,
    kind: MetricType,
    metrics: Vec<proto::Metric>,
}

impl Family {
    /// Numbers that only grow; the name ends in `_total`.
    pub fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    /// Numbers that come and go.
    pub fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    /// Distributions; the name ends in `_seconds`.
    pub fn histogram(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::HISTOGRAM)
    }

    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), kind, metrics: Vec::new() }
    }

    /// Adds a number of a counter or gauge under labels that no other one of this family has.
    pub fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        debug_assert!(self.kind != MetricType::HISTOGRAM, "a histogram takes distributions");
        let mut metric = labelled(labels);
        if self.kind == MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    /// Adds a distribution to a histogram under labels that no other one of this family has.
    pub fn add_distribution(&mut self, labels: &[(&str, &str)], values: &Distribution) {
        debug_assert!(self.kind == MetricType::HISTOGRAM, "only a histogram takes distributions");
        let mut metric = labelled(labels);
        metric.set_histogram(histogram(values));
        self.metrics.push(metric);
    }

    /// Adds a distribution that was counted in the buckets of [`BOUNDS_US`], the last one without a bound, to a histogram.
    pub fn add_buckets(
        &mut self,
        labels: &[(&str, &str)],
        counts: &[u64; BOUNDS_US.len() + 1],
        sum_seconds: f64,
    ) {
        debug_assert!(self.kind == MetricType::HISTOGRAM, "only a histogram takes distributions");
        let mut so_far = 0;
        let buckets = BOUNDS_US.iter().zip(counts).map(|(bound_us, count)| {
            so_far += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(Micros(*bound_us).as_secs_f64());
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum_seconds);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }
}

/// Buckets, sum and count of a distribution, in seconds.
pub fn histogram(values: &Distribution) -> proto::Histogram {
    let buckets = BOUNDS_US.iter().map(|bound_us| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(Micros(*bound_us).as_secs_f64());
        bucket.set_cumulative_count(values.count_at_most(Micros(*bound_us)));
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(values.count());
    histogram.set_sample_sum(Micros(values.sum_us()).as_secs_f64());
    histogram
}

/// Prometheus' text format, to be served as [`CONTENT_TYPE`]. A family without metrics is left out.
pub fn encode(families: Vec<Family>) -> Vec<u8> {
    let families: Vec<MetricFamily> =
        families.into_iter().filter(|family| !family.metrics.is_empty()).map(Family::into_proto).collect();
    let mut text = Vec::new();
    // Only an empty family is refused, and writing to memory does not fail.
    let written = TextEncoder::new().encode(&families, &mut text);
    debug_assert!(written.is_ok(), "{written:?}");
    text
}

impl Family {
    fn into_proto(self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name);
        family.set_help(self.help);
        family.set_field_type(self.kind);
        family.set_metric(self.metrics);
        family
    }
}

fn labelled(labels: &[(&str, &str)]) -> proto::Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_in_seconds() {
        let mut values = Distribution::default();
        for us in [100, 900, 900, 40_000, 3_000_000, 100_000_000] {
            values.record(Micros(us));
        }
        let mut family = Family::histogram("http_request_duration_seconds", "Response times.");
        family.add_distribution(&[("step", "a \"b\"\n")], &values);
        let text = String::from_utf8(encode(vec![family])).unwrap();
        for line in [
            "# TYPE http_request_duration_seconds histogram",
            "http_request_duration_seconds_bucket{step=\"a \\\"b\\\"\\n\",le=\"0.00025\"} 1",
            "http_request_duration_seconds_bucket{step=\"a \\\"b\\\"\\n\",le=\"0.001\"} 3",
            "http_request_duration_seconds_bucket{step=\"a \\\"b\\\"\\n\",le=\"0.05\"} 4",
            "http_request_duration_seconds_bucket{step=\"a \\\"b\\\"\\n\",le=\"60\"} 5",
            "http_request_duration_seconds_bucket{step=\"a \\\"b\\\"\\n\",le=\"+Inf\"} 6",
            "http_request_duration_seconds_count{step=\"a \\\"b\\\"\\n\"} 6",
            "http_request_duration_seconds_sum{step=\"a \\\"b\\\"\\n\"} 103.0419",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn counters_and_gauges_are_written_and_empty_families_left_out() {
        let mut requests = Family::counter("http_requests_total", "Requests.");
        requests.add(&[("status", "200")], 7.0);
        requests.add(&[("status", "reset")], 1.0);
        let mut tests = Family::gauge("stress_test_active_tests", "Runs.");
        tests.add(&[], 2.0);
        let text = String::from_utf8(encode(vec![requests, Family::gauge("none", "None."), tests])).unwrap();
        let expected = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n\
            http_requests_total{status=\"200\"} 7\nhttp_requests_total{status=\"reset\"} 1\n\
            # HELP stress_test_active_tests Runs.\n# TYPE stress_test_active_tests gauge\nstress_test_active_tests 2\n";
        assert_eq!(text, expected);
    }
}
