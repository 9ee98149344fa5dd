//! What a process answers over HTTP to whoever asks.

/// Of what stands at the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public {
    /// `/health`, `/livez` and `/readyz`.
    pub health: bool,
    /// `/metrics`.
    pub metrics: bool,
}

impl Public {
    /// All of it.
    pub const ALL: Self = Self { health: true, metrics: true };
}

impl Default for Public {
    /// What probes ask.
    fn default() -> Self {
        Self { health: true, metrics: false }
    }
}
