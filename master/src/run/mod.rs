//! Runs: one state machine each, its driver, and the table of all.

mod adjust;
mod driver;
pub mod caps;
mod error;
mod history;
pub mod inside;
mod interval;
mod levels;
pub mod live;
pub mod machine;
pub mod origin;
pub mod outgoing;
mod plans;
mod queue;
pub(crate) mod retention;
mod start;
mod stored;
pub mod table;
pub(crate) mod take_over;
#[cfg(test)]
pub(crate) mod tests;
mod writer;
