//! From the cores' recorders to the leader's durable total: deltas are cut, numbered, and kept until they are acknowledged.

pub mod cut;
pub mod outbox;
