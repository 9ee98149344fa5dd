//! Requests that are part of a trace: which, what they say to the target, and the span that is told of each.
//!
//! One in so many attempts is drawn by chance, on its core and with nobody else; the others cost one look at an `Option`, and where there is a share one
//! draw. A span says what a sample says: never a URL, a header or a body.

use std::cell::RefCell;

use volcanion_common::series::Outcome;
use volcanion_common::telemetry::trace::{Kind, Record, SpanId, TraceContext, unix_ns};

use super::clock::now_ns;
use super::sample::Sample;
use crate::prepare::{RequestTrace, Step};
use crate::schedule::Random;

/// The tracing half of one core.
pub struct Traced {
    trace: RequestTrace,
    random: RefCell<Random>,
}

impl Traced {
    /// For a core of its own.
    pub fn new(trace: RequestTrace) -> Self {
        let seed = u64::from_be_bytes(SpanId::random().to_bytes());
        Self { trace, random: RefCell::new(Random::new([seed])) }
    }

    /// Whether the next attempt is part of the trace, and as which span.
    #[inline]
    pub fn draw(&self) -> Option<SpanId> {
        let mut random = self.random.borrow_mut();
        // The upper half of the product is even over the millionths.
        let millionth = (u128::from(random.bits()) * 1_000_000) >> 64;
        (millionth < u128::from(self.trace.sample.millionths())).then(|| SpanId::of(random.bits()))
    }

    /// What such an attempt says as its `traceparent`.
    pub fn traceparent(&self, span: SpanId) -> Vec<u8> {
        self.trace.parent.at(span).to_string().into_bytes()
    }

    /// The attempt is over.
    #[cold]
    pub fn tell(&self, span: SpanId, step: &Step, sample: &Sample) {
        self.trace.tracer.keep_request(|| record(self.trace.parent, span, step, sample));
    }
}

/// From the first byte sent, or where none was from the beginning, to the last one received.
fn record(parent: TraceContext, span: SpanId, step: &Step, sample: &Sample) -> Record {
    let (now_ns, now_unix_ns) = (now_ns(), unix_ns());
    let at = |instant_ns: u64| now_unix_ns.saturating_sub(now_ns.saturating_sub(instant_ns));
    let outcome = match sample.outcome {
        Outcome::Status(status) => ("http.response.status_code", i64::from(status).into()),
        Outcome::Error(kind) => ("error.type", kind.name().into()),
    };
    Record {
        context: parent.at(span),
        parent: Some(parent.span),
        name: step.name.clone().into(),
        kind: Kind::Client,
        began_unix_ns: at(if sample.sent_ns > 0 { sample.sent_ns } else { sample.began_ns }),
        ended_unix_ns: at(sample.ended_ns),
        attributes: vec![("http.request.method", step.method.clone().into()), outcome],
        is_error: !sample.success,
    }
}

#[cfg(test)]
mod tests {
    use volcanion_common::ids::RunId;
    use volcanion_common::telemetry::trace::Tracer;

    use super::*;

    fn traced(sample: &str) -> Traced {
        let parent = TraceContext::of_run(RunId::new());
        Traced::new(RequestTrace { parent, sample: sample.parse().unwrap(), tracer: Tracer::off() })
    }

    #[test]
    fn about_the_share_of_attempts_is_drawn_each_as_a_span_of_its_own() {
        let drawn = |sample: &str| {
            let traced = traced(sample);
            (0..100_000).filter_map(|_| traced.draw()).collect::<Vec<_>>()
        };
        assert_eq!(drawn("100%").len(), 100_000);
        let some = drawn("10%");
        // Ten thousand, give or take ten standard deviations.
        assert!((9_050..=10_950).contains(&some.len()), "{}", some.len());
        let different: std::collections::HashSet<_> = some.iter().collect();
        assert_eq!(different.len(), some.len());
    }

    #[test]
    fn what_is_said_to_the_target_is_the_runs_trace_and_the_attempts_span() {
        let traced = traced("1%");
        let span = SpanId::of(7);
        let said = String::from_utf8(traced.traceparent(span)).unwrap();
        assert_eq!(said.parse::<TraceContext>().unwrap(), traced.trace.parent.at(span));
        assert!(said.ends_with("-0000000000000007-01"), "{said}");
    }
}
