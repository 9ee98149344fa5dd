//! What clients read: the JSON documents of REST, which the command line reads too.

pub mod agent;
pub mod audit;
pub mod interval;
pub mod key;
pub mod metrics;
pub mod problem_details;
pub mod run;
pub mod sse;

pub use agent::{AgentView, KillView, KilledAgentView};
pub use audit::AuditView;
pub use interval::IntervalView;
pub use key::{KeyView, NewKeyView, Role};
pub use metrics::Metrics;
pub use problem_details::{ErrorCode, ProblemDetails};
pub use run::{LevelView, RunStatus, RunView, StopReason};
