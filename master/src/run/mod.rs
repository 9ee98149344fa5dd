//! Runs: one state machine each, its driver, and the table of all.

mod driver;
mod error;
mod interval;
pub mod live;
pub mod machine;
pub mod table;
pub(crate) mod take_over;
#[cfg(test)]
pub(crate) mod tests;
mod writer;
