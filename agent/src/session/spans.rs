//! The spans of a run on this agent: `prepare`, `start`, `load` and `finish`, parts of the run's own span on the master.
//!
//! A span that was begun ends with the next one's beginning, or with the run's task. An agent without a tracer makes none; then requests to the target are
//! parts of the run's span itself.

use volcanion_common::ids::RunId;
use volcanion_common::shard::Shard;
use volcanion_common::telemetry::trace::{Kind, Span, SpanId, TraceContext, Tracer};

/// See the module.
pub struct RunSpans {
    run: RunId,
    tracer: Tracer,
    /// The run's place, once a shard said it.
    parent: Option<TraceContext>,
    /// The place of `load`, which requests are told before it begins.
    load: Option<TraceContext>,
    now: Option<Span>,
}

impl RunSpans {
    /// Of a run of which nothing is known yet.
    pub fn new(run: RunId, tracer: Tracer) -> Self {
        Self { run, tracer, parent: None, load: None, now: None }
    }

    /// A shard is going to be compiled: its requests are to be parts of `load`.
    pub fn prepare(&mut self, shard: &mut Shard) {
        let Some(trace) = shard.trace.as_mut().filter(|_| self.tracer.is_on()) else { return };
        let load = trace.parent.at(SpanId::random());
        (self.parent, self.load) = (Some(trace.parent), Some(load));
        trace.parent = load;
        self.begin("prepare");
    }

    /// It was compiled, or could not be.
    pub fn prepared(&mut self, is_good: bool) {
        if let Some(span) = self.now.as_mut().filter(|_| !is_good) {
            span.fail();
        }
        self.now = None;
    }

    /// The start was ordered.
    pub fn start(&mut self) {
        self.begin("start");
    }

    /// All cores have begun.
    pub fn load(&mut self) {
        let Some(parent) = self.parent else { return };
        self.now = None;
        self.now =
            Some(self.of_run(self.tracer.begin_at("load", Kind::Internal, self.load, Some(parent.span))));
    }

    /// The load is over, or broke off; what is left is to make its last deltas durable.
    pub fn finish(&mut self, is_good: bool) {
        self.prepared(is_good);
        self.begin("finish");
    }

    fn begin(&mut self, name: &'static str) {
        if self.parent.is_some() {
            self.now = None;
            self.now = Some(self.of_run(self.tracer.begin(name, Kind::Internal, self.parent)));
        }
    }

    fn of_run(&self, mut span: Span) -> Span {
        span.set("volcanion.run.id", self.run.to_string().into());
        span
    }
}
