//! What the processes say of themselves: logs, metrics, traces, and for finding out why one is slow profiles and memory.

pub mod counted;
pub mod log;
pub mod memory;
pub mod pprof;
pub mod process;
pub mod prometheus;
pub mod queue;
pub mod request_id;
pub mod trace;
