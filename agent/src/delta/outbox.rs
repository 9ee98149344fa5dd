//! Deltas on their way to the leader, kept until they are acknowledged.
//!
//! Takes an agent's deltas one by one, gives them out under gapless numbers. No I/O, no clock.
//!
//! - A number is given when a delta is first sent; from then on its bytes never change.
//! - At most [`UNACKED_MAX`] are sent and unacknowledged. What comes meanwhile is folded into the one pending delta, so that
//!   however long a cut lasts, the outbox neither grows nor drops a count.

use std::collections::VecDeque;

use bytes::Bytes;
use volcanion_common::delta::Delta;
use volcanion_common::ids::Seq;
use volcanion_common::session::UNACKED_MAX;

/// A delta that was given a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub seq: Seq,
    /// Its encoding, the same at every sending.
    pub bytes: Bytes,
}

/// A leader that speaks of deltas that were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("delta {claimed} was never sent, the last one is {last}")]
pub struct NeverSent {
    /// What the leader says.
    pub claimed: Seq,
    /// The highest number given.
    pub last: Seq,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Sent and unacknowledged, in order of their numbers, without gaps.
    sent: VecDeque<Sent>,
    /// What was never sent.
    pending: Option<Box<Delta>>,
    /// The highest number given.
    last: Seq,
}

impl Outbox {
    /// An outbox that gave its deltas out in an earlier life, all of them acknowledged.
    pub fn ended(last: Seq) -> Self {
        Self { last, ..Self::default() }
    }

    /// Takes a delta.
    pub fn push(&mut self, delta: Delta) {
        match &mut self.pending {
            Some(pending) => pending.add(&delta),
            None => self.pending = Some(Box::new(delta)),
        }
    }

    /// The next delta to send for the first time; nothing while too many are unacknowledged or none is there.
    pub fn send_next(&mut self) -> Option<Sent> {
        if self.sent.len() >= UNACKED_MAX {
            return None;
        }
        let delta = self.pending.take()?;
        self.last = self.last.next();
        let sent = Sent { seq: self.last, bytes: delta.to_bytes().into() };
        self.sent.push_back(sent.clone());
        Some(sent)
    }

    /// Everything up to `seq` is durable and is forgotten. A number that was acknowledged before changes nothing.
    ///
    /// # Errors
    /// The number was never given; nothing is forgotten.
    pub fn ack(&mut self, seq: Seq) -> Result<(), NeverSent> {
        if seq > self.last {
            return Err(NeverSent { claimed: seq, last: self.last });
        }
        while self.sent.front().is_some_and(|sent| sent.seq <= seq) {
            self.sent.pop_front();
        }
        Ok(())
    }

    /// What a new stream must be sent again, unchanged and in order.
    pub fn unacked(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    /// How many are sent and unacknowledged; at most [`UNACKED_MAX`].
    pub fn unacked_count(&self) -> usize {
        self.sent.len()
    }

    /// The oldest number that is still kept; 0: none.
    pub fn first_unacked(&self) -> Seq {
        self.sent.front().map_or(Seq(0), |sent| sent.seq)
    }

    /// The highest number given; 0: none. Final once [`Outbox::all_sent`] holds and nothing is pushed any more.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// Whether everything that was pushed has been sent.
    pub fn all_sent(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether everything that was pushed is durable.
    pub fn is_empty(&self) -> bool {
        self.pending.is_none() && self.sent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use volcanion_common::delta::ScenarioDelta;
    use volcanion_common::units::RunTime;

    use super::*;

    fn delta(number: u64, started: u64) -> Delta {
        let mut delta =
            Delta { from: RunTime(number * 100), to: RunTime(number * 100 + 100), ..Delta::default() };
        delta.scenarios.insert(0, ScenarioDelta { started, ..ScenarioDelta::default() });
        delta
    }

    /// A leader by the rule `seq = high-water + 1`; what is "in flight" can be lost with its stream.
    #[derive(Default)]
    struct Receiver {
        high_water: Seq,
        started: u64,
    }

    impl Receiver {
        fn take(&mut self, sent: &Sent) {
            assert!(sent.seq <= self.high_water.next(), "a gap: {} after {}", sent.seq, self.high_water);
            if sent.seq == self.high_water.next() {
                self.high_water = sent.seq;
                let delta = Delta::from_bytes(&sent.bytes).unwrap();
                self.started += delta.scenarios[&0].started;
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Send,
        Deliver,
        Ack,
        Cut,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..1_000u64).prop_map(Step::Push),
            4 => Just(Step::Send),
            3 => Just(Step::Deliver),
            2 => Just(Step::Ack),
            1 => Just(Step::Cut),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn whatever_is_lost_or_repeated_the_receiver_has_the_sum(steps in steps()) {
            let (mut outbox, mut receiver) = (Outbox::default(), Receiver::default());
            let mut wire: VecDeque<Sent> = VecDeque::new();
            let (mut pushed, mut number) = (0, 0);
            let mut first_bytes: Vec<Bytes> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(started) => {
                        outbox.push(delta(number, started));
                        number += 1;
                        pushed += started;
                    }
                    Step::Send => if let Some(sent) = outbox.send_next() {
                        prop_assert_eq!(sent.seq.0, first_bytes.len() as u64 + 1);
                        first_bytes.push(sent.bytes.clone());
                        wire.push_back(sent);
                    },
                    Step::Deliver => if let Some(sent) = wire.pop_front() {
                        prop_assert_eq!(&sent.bytes, &first_bytes[sent.seq.0 as usize - 1]);
                        receiver.take(&sent);
                    },
                    Step::Ack => prop_assert!(outbox.ack(receiver.high_water).is_ok()),
                    Step::Cut => {
                        prop_assert!(outbox.ack(receiver.high_water).is_ok());
                        wire = outbox.unacked().cloned().collect();
                    }
                }
                prop_assert!(outbox.unacked_count() <= UNACKED_MAX);
            }
            // A last stream without loss.
            outbox.ack(receiver.high_water).unwrap();
            outbox.unacked().for_each(|sent| receiver.take(sent));
            outbox.ack(receiver.high_water).unwrap();
            while let Some(sent) = outbox.send_next() {
                receiver.take(&sent);
            }
            outbox.ack(receiver.high_water).unwrap();
            prop_assert!(outbox.is_empty());
            prop_assert_eq!(receiver.started, pushed);
            prop_assert_eq!(receiver.high_water, outbox.last());
        }
    }

    #[test]
    fn a_long_cut_folds_into_one_delta() {
        let mut outbox = Outbox::default();
        for number in 0..1_000 {
            outbox.push(delta(number, 1));
            outbox.send_next();
        }
        assert_eq!((outbox.unacked_count(), outbox.last()), (UNACKED_MAX, Seq(8)));
        assert!(!outbox.all_sent());
        outbox.ack(Seq(1)).unwrap();
        let folded = Delta::from_bytes(&outbox.send_next().unwrap().bytes).unwrap();
        assert_eq!(folded.scenarios[&0].started, 992);
        assert_eq!((folded.from, folded.to), (RunTime(800), RunTime(100_000)));
        assert!(outbox.all_sent() && !outbox.is_empty());
    }

    #[test]
    fn an_ack_of_what_was_never_sent_is_refused() {
        let mut outbox = Outbox::default();
        outbox.push(delta(0, 1));
        assert_eq!(outbox.ack(Seq(1)), Err(NeverSent { claimed: Seq(1), last: Seq(0) }));
        let sent = outbox.send_next().unwrap();
        assert_eq!((sent.seq, outbox.first_unacked()), (Seq(1), Seq(1)));
        outbox.ack(Seq(1)).unwrap();
        outbox.ack(Seq(0)).unwrap();
        assert_eq!((outbox.is_empty(), outbox.first_unacked()), (true, Seq(0)));
    }
}
