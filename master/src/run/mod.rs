//! Runs: one state machine each, its driver, and the table of all.

mod adjust;
mod driver;
pub mod caps;
mod error;
mod history;
mod interval;
mod levels;
pub mod live;
pub mod machine;
pub mod origin;
mod plans;
pub(crate) mod retention;
mod start;
mod stored;
pub mod table;
pub(crate) mod take_over;
#[cfg(test)]
pub(crate) mod tests;
mod writer;
