//! Traces: what a request led to, from REST over the master and the agents to the target, for an OTLP collector.
//!
//! A [`Tracer`] belongs to one master or agent (several may live in a process). [`Tracer::begin`] gives a [`Span`], which goes to the collector
//! when it is dropped; [`Span::context`] is what others are told, by [`context`]'s `traceparent`. Without a collector a tracer is off: it keeps
//! nothing and hands on the context that it was given. Invariants: whoever makes a span never waits, and no span holds what a user wrote in a
//! header, body or query.
//!
//! Spans wait in one queue of [`QUEUE_MAX`]; past that they are dropped and counted. Those of requests to the target, which may be many,
//! leave the last [`RESERVED`] places to the others.

pub mod context;
mod export;
mod shown;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

pub use context::{SpanId, TRACEPARENT, TRACEPARENT_BYTES, TraceContext, TraceId};
pub use export::{Collector, CollectorError, Exporter, TrustError};
pub use shown::family;

/// Spans that wait for the collector; one more is dropped and counted.
pub const QUEUE_MAX: usize = 8_192;
/// Places of the queue that requests to the target do not take.
pub const RESERVED: usize = 512;

/// What a span is to the work around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers a request.
    Server,
    /// It sends one.
    Client,
    /// Neither.
    Internal,
}

/// What is said of a span.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Words: of ours, or names that the plan's author gave.
    Text(Cow<'static, str>),
    /// A whole number.
    Whole(i64),
}

/// A span that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its own place in its trace.
    pub context: TraceContext,
    /// The span that it is part of; `None`: it is its trace's first.
    pub parent: Option<SpanId>,
    /// A word of ours, or a step's name.
    pub name: Cow<'static, str>,
    /// What it is.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub began_unix_ns: u64,
    /// Nanoseconds since 1970.
    pub ended_unix_ns: u64,
    /// By OpenTelemetry's names where it has some.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub is_error: bool,
}

/// How many spans reached the collector, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Taken by the collector.
    pub exported: u64,
    /// Found the queue full, or the collector away for long, or were refused by it.
    pub dropped: u64,
}

/// Makes spans. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    queue: Option<Arc<Queue>>,
}

#[derive(Debug)]
struct Queue {
    records: mpsc::Sender<Record>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    fn drop_some(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Tracer {
    /// One that keeps nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// One for this service towards this collector, or one that is off; and what brings its spans there. Must be called within a runtime.
    pub fn start(
        collector: Option<&Collector>,
        service: &'static str,
        instance: &str,
    ) -> (Self, Option<Exporter>) {
        let Some(collector) = collector else { return (Self::off(), None) };
        let (records, inbox) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::<Counts>::default();
        let exporter = Exporter::start(collector, service, instance, inbox, Arc::clone(&counts));
        (Self { queue: Some(Arc::new(Queue { records, counts })) }, Some(exporter))
    }

    /// Whether spans are kept.
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// What became of the spans so far; `None`: it is off.
    pub fn counts(&self) -> Option<SpanCounts> {
        let counts = &self.queue.as_ref()?.counts;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(SpanCounts { exported: count(&counts.exported), dropped: count(&counts.dropped) })
    }

    /// Begins a span, as a part of `parent` or of a trace of its own. It is kept unless its parent's trace is not.
    pub fn begin(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        parent: Option<TraceContext>,
    ) -> Span {
        let context = match parent {
            _ if !self.is_on() => parent,
            Some(parent) => Some(parent.at(SpanId::random())),
            None => Some(TraceContext { trace: TraceId::random(), span: SpanId::random(), is_sampled: true }),
        };
        self.begin_at(name, kind, context, parent.map(|parent| parent.span))
    }

    /// Begins a span whose place is known already.
    pub fn begin_at(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        context: Option<TraceContext>,
        parent: Option<SpanId>,
    ) -> Span {
        let record = context.filter(|context| self.is_on() && context.is_sampled).map(|context| Record {
            context,
            parent,
            name: name.into(),
            kind,
            began_unix_ns: unix_ns(),
            ended_unix_ns: 0,
            attributes: Vec::new(),
            is_error: false,
        });
        Span { tracer: self.clone(), context, record: record.map(Box::new) }
    }

    /// Takes a span that is over. Where the queue is full, it is dropped and counted.
    pub fn keep(&self, record: Record) {
        let Some(queue) = &self.queue else { return };
        if queue.records.try_send(record).is_err() {
            queue.counts.drop_some(1);
        }
    }

    /// As [`Tracer::keep`], but leaves the queue's last places to others. `record` is asked for only where there is room.
    pub fn keep_request(&self, record: impl FnOnce() -> Record) {
        let Some(queue) = &self.queue else { return };
        if queue.records.capacity() <= RESERVED {
            queue.counts.drop_some(1);
        } else {
            self.keep(record());
        }
    }
}

/// A piece of work that goes on. Over when it is dropped.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    context: Option<TraceContext>,
    /// Boxed, for it is rare and large beside what holds it.
    record: Option<Box<Record>>,
}

impl Span {
    /// The place that parts of this work are to have; without a tracer that is on: what was given as parent.
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Says something of it.
    pub fn set(&mut self, name: &'static str, value: Value) {
        if let Some(record) = &mut self.record {
            record.attributes.push((name, value));
        }
    }

    /// It failed.
    pub fn fail(&mut self) {
        if let Some(record) = &mut self.record {
            record.is_error = true;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.ended_unix_ns = unix_ns();
            self.tracer.keep(*record);
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Whole(number)
    }
}

/// Nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
