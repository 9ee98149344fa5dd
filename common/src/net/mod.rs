//! Rules for sockets of our own.

pub mod listen;
