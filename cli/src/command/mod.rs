//! The commands, a file each.

pub mod adjust;
pub mod agents;
pub mod calibrate;
pub mod demo;
pub mod files;
pub mod http_flags;
pub mod keys;
pub mod kill;
pub mod local;
pub mod plan_file;
pub mod plans;
pub mod run;
pub mod runs;
pub mod start;
pub mod validate;

mod outcome;
mod quick;
