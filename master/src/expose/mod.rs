//! What the master shows: [`rest`] to people and programs, [`prometheus`] to whoever scrapes it.
//!
//! Takes the [`Runs`](crate::run::table::Runs) handle, gives routes. Invariant: nothing here decides anything about a run; a
//! call is read, passed on, and its answer written.

pub mod own_metrics;
pub mod prometheus;
pub mod remote_write;
pub mod rest;
pub(crate) mod serve;
