//! What a scrape shows of spans.

use super::Tracer;
use crate::telemetry::prometheus::Family;

/// A counter of this name by what became of the spans; nothing where none are kept.
pub fn family(name: &str, tracer: &Tracer) -> Option<Family> {
    let counts = tracer.counts()?;
    let help = "Spans that the OTLP collector took (exported), or that found the queue full or the collector away (dropped).";
    let mut family = Family::counter(name, help);
    family.add(&[("result", "exported")], counts.exported as f64);
    family.add(&[("result", "dropped")], counts.dropped as f64);
    Some(family)
}
