//! What a run came from: the request that asked for it, and its place in that one's trace.
//!
//! The spans of a run here are `run`, from its being asked for to its end, and in it `choose`, `prepare` and `start`; those of the agents are in `run` too. A run that
//! is taken up from another master has none: its agents go on with the place that they were told.

use volcanion_common::ids::RunId;
use volcanion_common::shard::ShardTrace;
use volcanion_common::telemetry::trace::{Kind, Span, TraceContext, Tracer};
use volcanion_common::units::Share;
use volcanion_common::view::RunStatus;

/// Who asks for a run.
#[derive(Clone, Debug, Default)]
pub struct Cause {
    /// The id of the request, for the logs.
    pub request_id: Option<String>,
    /// The request's place in a trace.
    pub trace: Option<TraceContext>,
}

/// What a run's driver keeps of where the run came from.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// The id of the request that began it.
    pub(crate) request_id: Option<String>,
    spans: Option<RunSpans>,
}

#[derive(Debug)]
struct RunSpans {
    tracer: Tracer,
    run: Span,
    /// What goes on of preparing and starting.
    phase: Option<Span>,
    is_start_fixed: bool,
}

/// What a run's agents are told: its place in a trace, which its id tells where nobody began one; nothing where nothing is traced.
pub(crate) fn told(run: RunId, parent: Option<TraceContext>, sample: Share) -> Option<ShardTrace> {
    if parent.is_none() && sample.is_none() {
        return None;
    }
    // A trace that nobody keeps is no place for requests that somebody wants to see.
    let parent = parent.filter(|parent| parent.is_sampled || sample.is_none());
    Some(ShardTrace { parent: parent.unwrap_or_else(|| TraceContext::of_run(run)), sample })
}

impl Origin {
    /// A run is asked for: its agents are being chosen.
    pub(crate) fn new(tracer: &Tracer, cause: Cause) -> Self {
        let run = tracer.begin("run", Kind::Internal, cause.trace);
        let phase = Some(tracer.begin("choose", Kind::Internal, run.context()));
        let spans = RunSpans { tracer: tracer.clone(), run, phase, is_start_fixed: false };
        Self { request_id: cause.request_id, spans: Some(spans) }
    }

    /// It has its agents: they prepare. Gives what they are told, where there is anything to trace.
    pub(crate) fn accepted(&mut self, run: RunId, sample: Share) -> Option<ShardTrace> {
        let spans = self.spans.as_mut()?;
        spans.run.set("volcanion.run.id", run.to_string().into());
        spans.begin("prepare");
        told(run, spans.run.context(), sample)
    }

    /// How far it is was saved.
    pub(crate) fn saved(&mut self, status: RunStatus, has_start: bool) {
        let Some(spans) = &mut self.spans else { return };
        match status {
            RunStatus::Preparing if has_start && !spans.is_start_fixed => {
                spans.is_start_fixed = true;
                spans.begin("start");
            }
            RunStatus::Preparing => {}
            _ => spans.phase = None,
        }
    }

    /// It ends. Its span does when the driver has wound up.
    pub(crate) fn ended(&mut self, status: RunStatus) {
        let Some(spans) = &mut self.spans else { return };
        if status == RunStatus::Failed {
            spans.run.fail();
        }
        spans.phase = None;
    }
}

impl RunSpans {
    fn begin(&mut self, name: &'static str) {
        self.phase = None;
        self.phase = Some(self.tracer.begin(name, Kind::Internal, self.run.context()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_to_be_seen_are_in_a_trace_that_somebody_keeps() {
        let run = RunId::new();
        let own = TraceContext::of_run(run);
        let (kept, not_kept): (TraceContext, TraceContext) = (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap(),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".parse().unwrap(),
        );
        let check = |parent, sample, expected: Option<TraceContext>| {
            let place = |parent: TraceContext| (parent.trace, parent.is_sampled);
            let told = told(run, parent, sample).map(|told| (place(told.parent), told.sample));
            assert_eq!(told, expected.map(|parent| (place(parent), sample)));
        };
        check(None, Share::NONE, None);
        check(None, Share::ALL, Some(own));
        check(Some(kept), Share::NONE, Some(kept));
        check(Some(kept), Share::ALL, Some(kept));
        check(Some(not_kept), Share::NONE, Some(not_kept));
        check(Some(not_kept), Share::ALL, Some(own));
    }
}
