//! What more than one crate of Volcanion needs, in the order of the data's way:
//! plan → validate → shard → (schedule → send → record) → delta → merge → evaluate → view.
//!
//! The modules down to [`view`] are pure: values and arithmetic, no clock, no socket, no file; but for one entry,
//! [`plan::document::read_with_files`], which reads the files that a document names, for the command line.
//! [`registry`], [`net`] and [`telemetry`] touch the world.
#![warn(missing_docs)]

pub mod ids;
pub mod problem;
pub mod units;

pub mod plan;
pub mod validate;
pub mod shard;
pub mod series;
pub mod delta;
pub mod session;
pub mod view;

pub mod net;
pub mod registry;
pub mod telemetry;
