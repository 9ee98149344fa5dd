//! One agent's deltas as they come up its streams: frames put together, the sequence kept.
//!
//! Invariants: deltas leave in the order of their seq, each once; memory is bounded by one delta's frames; a frame that is
//! whole by itself is not copied.

use bytes::{Bytes, BytesMut};
use volcanion_common::ids::Seq;
use volcanion_common::session::{DeltaFrame, FRAME_BYTES_MAX};

/// The most frames of one delta: 64 MiB, far beyond 1,000 series with full histograms.
const FRAMES_MAX: u32 = 64;

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// More frames of this delta are to come.
    Incomplete,
    /// It belongs to a delta that was taken before: its Ack was lost, or is still to come.
    Repeated,
    /// A delta is whole.
    Whole(Seq, Bytes),
    /// Something before it is missing: the stream is of no use any more.
    Broken(String),
}

/// Takes one agent's frames.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The newest whole delta.
    taken: Seq,
    /// Frames of the one after it.
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    count: u32,
    next_index: u32,
    bytes: BytesMut,
}

impl Inbox {
    /// Goes on after this delta.
    pub fn after(taken: Seq) -> Self {
        Self { taken, partial: None }
    }

    /// The newest delta that was taken whole.
    pub fn taken(&self) -> Seq {
        self.taken
    }

    /// A new stream begins: what the old one left incomplete comes again from its first frame.
    pub fn new_stream(&mut self) {
        self.partial = None;
    }

    /// Takes a frame.
    pub fn take(&mut self, frame: DeltaFrame) -> Taken {
        if frame.seq <= self.taken {
            return Taken::Repeated;
        }
        if frame.seq != self.taken.next() {
            return Taken::Broken(format!("delta {} came where {} was due", frame.seq, self.taken.next()));
        }
        if frame.count == 0
            || frame.count > FRAMES_MAX
            || frame.index >= frame.count
            || frame.body.len() > FRAME_BYTES_MAX
        {
            return Taken::Broken(format!(
                "frame {} of {} of delta {} cannot be",
                frame.index, frame.count, frame.seq
            ));
        }
        if frame.count == 1 {
            self.partial = None;
            self.taken = frame.seq;
            return Taken::Whole(frame.seq, frame.body);
        }
        self.take_piece(frame)
    }

    fn take_piece(&mut self, frame: DeltaFrame) -> Taken {
        let mut partial = self.partial.take().unwrap_or(Partial {
            count: frame.count,
            next_index: 0,
            bytes: BytesMut::new(),
        });
        if frame.count == partial.count && frame.index < partial.next_index {
            self.partial = Some(partial);
            return Taken::Incomplete;
        }
        if frame.count != partial.count || frame.index != partial.next_index {
            return Taken::Broken(format!(
                "frame {} of delta {} came where {} was due",
                frame.index, frame.seq, partial.next_index
            ));
        }
        partial.bytes.extend_from_slice(&frame.body);
        partial.next_index += 1;
        if partial.next_index < partial.count {
            self.partial = Some(partial);
            return Taken::Incomplete;
        }
        self.taken = frame.seq;
        Taken::Whole(frame.seq, partial.bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: u64, index: u32, count: u32, body: &'static str) -> DeltaFrame {
        DeltaFrame { seq: Seq(seq), index, count, body: Bytes::from_static(body.as_bytes()) }
    }

    fn whole(seq: u64, body: &'static str) -> Taken {
        Taken::Whole(Seq(seq), Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn deltas_come_out_once_and_in_order() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.take(frame(1, 0, 1, "a")), whole(1, "a"));
        assert_eq!(inbox.take(frame(1, 0, 1, "a")), Taken::Repeated);
        assert!(matches!(inbox.take(frame(3, 0, 1, "c")), Taken::Broken(_)));
        assert_eq!(inbox.take(frame(2, 0, 1, "b")), whole(2, "b"));
        assert_eq!(inbox.taken(), Seq(2));
    }

    #[test]
    fn frames_are_put_together_and_a_new_stream_begins_again() {
        let mut inbox = Inbox::after(Seq(6));
        assert_eq!(inbox.take(frame(7, 0, 3, "x")), Taken::Incomplete);
        assert_eq!(inbox.take(frame(7, 0, 3, "x")), Taken::Incomplete, "a repeated frame does no harm");
        inbox.new_stream();
        assert_eq!(inbox.take(frame(7, 0, 3, "x")), Taken::Incomplete);
        assert_eq!(inbox.take(frame(7, 1, 3, "y")), Taken::Incomplete);
        assert_eq!(inbox.take(frame(7, 2, 3, "z")), whole(7, "xyz"));
        assert_eq!(inbox.take(frame(6, 0, 3, "w")), Taken::Repeated);
    }

    #[test]
    fn a_missing_frame_or_a_false_count_breaks_the_stream() {
        for wrong in [frame(1, 2, 3, ""), frame(1, 0, 0, ""), frame(1, 3, 3, ""), frame(1, 0, 1_000_000, "")]
        {
            assert!(matches!(Inbox::default().take(wrong.clone()), Taken::Broken(_)), "{wrong:?}");
        }
    }
}
