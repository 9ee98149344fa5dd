//! How iterations are started. Names, options and meanings are k6's, the options in snake_case.

use crate::units::{Micros, Rate};

/// How a scenario's iterations are started.
#[derive(Clone, Debug, PartialEq)]
pub enum Executor {
    /// A closed loop: so many VUs iterate, one iteration after the other, until the time is over.
    ConstantVus {
        /// At least 1.
        vus: u64,
        /// More than zero.
        duration: Micros,
    },
    /// A closed loop whose number of VUs follows a line through the stages.
    RampingVus {
        /// At the start.
        start_vus: u64,
        /// At least one; the greatest number in them or `start_vus` is at least 1.
        stages: Vec<Stage<u64>>,
        /// How long the iteration of a VU that is no longer wanted may go on.
        graceful_ramp_down: Micros,
    },
    /// Each VU does so many iterations.
    PerVuIterations {
        /// At least 1.
        vus: u64,
        /// Of each VU; at least 1.
        iterations: u64,
        /// After it no iteration starts.
        max_duration: Micros,
    },
    /// The VUs together do so many iterations.
    SharedIterations {
        /// At least 1.
        vus: u64,
        /// In all; at least `vus`.
        iterations: u64,
        /// After it no iteration starts.
        max_duration: Micros,
    },
    /// An open loop: iterations start at a fixed rate, whatever the target does.
    ConstantArrivalRate {
        /// More than zero.
        rate: Rate,
        /// More than zero.
        duration: Micros,
        /// How arrivals are spaced and carried.
        open: OpenLoop,
    },
    /// An open loop whose rate follows a line through the stages.
    RampingArrivalRate {
        /// At the start.
        start_rate: Rate,
        /// At least one, with a rate above zero somewhere.
        stages: Vec<Stage<Rate>>,
        /// How arrivals are spaced and carried.
        open: OpenLoop,
    },
    /// A loop whose level is changed from outside while it goes.
    ExternallyControlled {
        /// What is changed, and where it begins.
        control: Control,
        /// More than zero.
        duration: Micros,
    },
}

/// What an externally-controlled scenario is led by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A closed loop, by its number of VUs.
    Vus {
        /// At the start; may be zero.
        vus: u64,
        /// The most that it may be set to; at least 1.
        max_vus: u64,
    },
    /// An open loop, by its rate.
    Rate {
        /// At the start; may be zero.
        rate: Rate,
        /// How arrivals are spaced and carried.
        open: OpenLoop,
    },
}

/// What an externally-controlled scenario is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// So many VUs.
    Vus(u64),
    /// So many arrivals.
    Rate(Rate),
}

/// What the two arrival-rate executors share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLoop {
    /// How arrivals are spaced.
    pub arrival: Arrival,
    /// VUs that are there from the start; at most `max_vus`.
    pub pre_allocated_vus: u64,
    /// VUs that there may ever be; at least 1.
    pub max_vus: u64,
    /// What becomes of an arrival that finds every VU busy.
    pub when_busy: WhenBusy,
}

/// A stage of a ramp: within its duration the value goes in a straight line from the one before to its target.
/// A stage of no duration is a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage<T> {
    /// May be zero: a jump.
    pub duration: Micros,
    /// The value at the stage's end.
    pub target: T,
}

/// How the arrivals of an open loop are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrival {
    /// Evenly, over all agents together.
    #[default]
    Uniform,
    /// As independent arrivals: a Poisson process of the same rate.
    Poisson,
}

/// What becomes of an arrival that finds every VU busy and no more to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenBusy {
    /// It is dropped and counted (k6's way).
    #[default]
    Drop,
    /// It starts late, and its response time says so (wrk2's way).
    Queue,
}

impl Executor {
    /// From the scenario's start until the last moment in which an iteration may start.
    pub fn duration(&self) -> Micros {
        match self {
            Self::ConstantVus { duration, .. }
            | Self::ConstantArrivalRate { duration, .. }
            | Self::ExternallyControlled { duration, .. } => *duration,
            Self::PerVuIterations { max_duration, .. } | Self::SharedIterations { max_duration, .. } => {
                *max_duration
            }
            Self::RampingVus { stages, .. } => total(stages),
            Self::RampingArrivalRate { stages, .. } => total(stages),
        }
    }

    /// The most VUs that there are at any time.
    pub fn max_vus(&self) -> u64 {
        match self {
            Self::ConstantVus { vus, .. }
            | Self::PerVuIterations { vus, .. }
            | Self::SharedIterations { vus, .. } => *vus,
            Self::RampingVus { start_vus, stages, .. } => {
                stages.iter().map(|stage| stage.target).fold(*start_vus, u64::max)
            }
            Self::ExternallyControlled { control: Control::Vus { max_vus, .. }, .. } => *max_vus,
            Self::ConstantArrivalRate { open, .. }
            | Self::RampingArrivalRate { open, .. }
            | Self::ExternallyControlled { control: Control::Rate { open, .. }, .. } => open.max_vus,
        }
    }

    /// The most arrivals that are asked for at any time; `None` for a closed loop.
    pub fn max_rate(&self) -> Option<Rate> {
        let highest = |a: Rate, b: Rate| if b.micro_per_hour() > a.micro_per_hour() { b } else { a };
        match self {
            Self::ConstantArrivalRate { rate, .. } => Some(*rate),
            Self::RampingArrivalRate { start_rate, stages, .. } => {
                Some(stages.iter().map(|stage| stage.target).fold(*start_rate, highest))
            }
            Self::ExternallyControlled { control: Control::Rate { rate, .. }, .. } => Some(*rate),
            _ => None,
        }
    }

    /// How arrivals are spaced and carried; `None` for a closed loop.
    pub fn open_loop(&self) -> Option<&OpenLoop> {
        match self {
            Self::ConstantArrivalRate { open, .. }
            | Self::RampingArrivalRate { open, .. }
            | Self::ExternallyControlled { control: Control::Rate { open, .. }, .. } => Some(open),
            _ => None,
        }
    }

    /// What it is set to at its start, where it is changed from outside.
    pub fn start_level(&self) -> Option<Level> {
        match self {
            Self::ExternallyControlled { control: Control::Vus { vus, .. }, .. } => Some(Level::Vus(*vus)),
            Self::ExternallyControlled { control: Control::Rate { rate, .. }, .. } => {
                Some(Level::Rate(*rate))
            }
            _ => None,
        }
    }

    /// Whether iterations start at times of their own, whatever the target does.
    pub fn is_open_loop(&self) -> bool {
        self.open_loop().is_some()
    }

    /// The name that plans use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ConstantVus { .. } => "constant-vus",
            Self::RampingVus { .. } => "ramping-vus",
            Self::PerVuIterations { .. } => "per-vu-iterations",
            Self::SharedIterations { .. } => "shared-iterations",
            Self::ConstantArrivalRate { .. } => "constant-arrival-rate",
            Self::RampingArrivalRate { .. } => "ramping-arrival-rate",
            Self::ExternallyControlled { .. } => "externally-controlled",
        }
    }
}

impl Level {
    /// So many times as much: the agents' together, where each carries the whole plan.
    pub fn times(self, by: u64) -> Self {
        match self {
            Self::Vus(vus) => Self::Vus(vus.saturating_mul(by)),
            Self::Rate(rate) => {
                Self::Rate(Rate::from_micro_per_hour(rate.micro_per_hour().saturating_mul(by)))
            }
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vus(vus) => write!(f, "{vus} VUs"),
            Self::Rate(rate) => rate.fmt(f),
        }
    }
}

fn total<T>(stages: &[Stage<T>]) -> Micros {
    stages.iter().fold(Micros::ZERO, |sum, stage| sum.saturating_add(stage.duration))
}
