//! The commands, a file each.

pub mod agents;
pub mod demo;
pub mod plan_file;
pub mod plans;
pub mod run;
pub mod runs;
pub mod start;
pub mod validate;

mod outcome;
mod quick;
