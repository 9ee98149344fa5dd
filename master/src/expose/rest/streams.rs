//! The places of event streams: bounded, and counted by kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use volcanion_common::telemetry::prometheus::Family;
use volcanion_common::telemetry::queue::Filling;

/// Most event streams (SSE and WebSocket together) at a time; one more is refused until one ends.
pub(super) const STREAMS_MAX: usize = 1_000;

/// How events are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sse,
    WebSocket,
}

/// All places. Cheap to clone.
#[derive(Clone)]
pub(super) struct Streams {
    places: Arc<Semaphore>,
    /// Open ones, by kind.
    open: [Arc<AtomicUsize>; 2],
}

/// A place that is taken, until it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    open: Arc<AtomicUsize>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(STREAMS_MAX)), open: Default::default() }
    }

    /// A place, unless all are taken.
    pub(super) fn place(&self, kind: Kind) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let open = Arc::clone(&self.open[kind as usize]);
        open.fetch_add(1, Ordering::Relaxed);
        Some(Place { _permit: permit, open })
    }

    /// How many are taken.
    pub(super) fn filling(&self) -> Filling {
        Filling { depth: STREAMS_MAX - self.places.available_permits(), bound: STREAMS_MAX }
    }

    /// As metrics.
    pub(super) fn family(&self) -> Family {
        let mut family = Family::gauge("volcanion_event_streams", "Event streams that are open to clients.");
        for (kind, open) in ["sse", "websocket"].into_iter().zip(&self.open) {
            family.add(&[("kind", kind)], open.load(Ordering::Relaxed) as f64);
        }
        family
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use volcanion_common::telemetry::prometheus::encode;

    use super::*;

    #[test]
    fn a_place_is_taken_until_it_is_dropped() {
        let streams = Streams::new();
        let check = |sse: usize, websocket: usize| {
            let text = String::from_utf8(encode(vec![streams.family()])).unwrap();
            assert!(text.contains(&format!("{{kind=\"sse\"}} {sse}\n")), "{text}");
            assert!(text.contains(&format!("{{kind=\"websocket\"}} {websocket}\n")), "{text}");
            assert_eq!(streams.filling(), Filling { depth: sse + websocket, bound: STREAMS_MAX });
        };
        let first = streams.place(Kind::Sse);
        let others: Vec<_> = (1..STREAMS_MAX).map(|_| streams.place(Kind::WebSocket)).collect();
        check(1, STREAMS_MAX - 1);
        assert!(streams.place(Kind::Sse).is_none(), "all are taken");
        drop(others);
        check(1, 0);
        drop(first);
        check(0, 0);
    }
}
