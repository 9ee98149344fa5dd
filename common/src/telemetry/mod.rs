//! What the processes say of themselves: logs and metrics.

pub mod log;
pub mod prometheus;
