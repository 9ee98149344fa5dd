//! What the processes say of themselves: logs, metrics and traces.

pub mod log;
pub mod prometheus;
pub mod request_id;
pub mod trace;
