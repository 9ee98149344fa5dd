//! Runs: one state machine each, its driver, and the table of all.

mod adjust;
pub mod caps;
mod driver;
mod error;
mod history;
pub mod inside;
mod interval;
mod levels;
mod life;
pub mod live;
pub mod machine;
pub mod origin;
pub mod outgoing;
mod plans;
mod queue;
pub(crate) mod retention;
pub mod rows;
mod start;
mod stored;
pub mod table;
pub(crate) mod take_over;
#[cfg(test)]
pub(crate) mod tests;
mod writer;
