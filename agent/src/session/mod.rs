//! What a leader says to this agent and hears from it.
//!
//! Way of an order: [`service`] reads a stream's Hello → [`desk`] asks the [`fence`] and finds the run's task → [`driver`] feeds
//! the run's [`machine`] and does what it answers. The fence and the machine do no I/O and know no clock; [`load`] is what they
//! need of an engine.

pub mod desk;
pub mod driver;
pub mod fence;
pub mod lease;
pub mod load;
pub mod machine;
mod performance;
mod seals;
pub mod service;
pub mod spans;
pub mod tally;
