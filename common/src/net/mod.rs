//! Rules for sockets of our own.

pub mod allow;
pub mod listen;
pub mod public;
pub mod tls;
