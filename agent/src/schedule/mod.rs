//! Schedules: when iterations start, on one core.
//!
//! Takes an executor and the lanes that a core owns; gives starts, drops and changes of VUs as of a given moment. All but the
//! [`pacer`] is pure: no clock, no task, no VU. Times are nanoseconds from the scenario's start.
//!
//! Invariants: what all cores' schedules give is the plan's schedule, each part of it once; an open loop's arrival is
//! started, or dropped and counted, never silently late.

pub mod arrival_rate;
pub mod arrivals;
pub mod iterations;
pub mod pacer;
pub mod random;
pub mod vus;

pub use arrival_rate::{ArrivalRate, Pause, Room, Start};
pub use arrivals::{Arrivals, NewLanes, NewRate};
pub use iterations::Iterations;
pub use pacer::Pacer;
pub use random::Random;
pub use vus::{Change, VuChanges};
