//! What a person sees of a run: what is known ([`state`]), how it looks while it goes ([`view`]) and in the end ([`summary`]).

pub mod follow;
pub mod state;
pub mod summary;
pub mod table;
pub mod text;
pub mod view;
