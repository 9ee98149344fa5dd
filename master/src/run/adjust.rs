//! A run's level from outside: what is asked for is held against its plan here, and carried out by its driver.

use std::time::Duration;

use tokio::sync::oneshot;
use volcanion_common::ids::RunId;
use volcanion_common::plan::executor::Control;
use volcanion_common::plan::{Executor, Level, Load, Plan};
use volcanion_common::problem::Problem;
use volcanion_common::units::Rate;
use volcanion_common::view::{ErrorCode, RunStatus, RunView};

use super::live::Live;
use super::machine::NotAdjusted;
use super::table::{Entry, MasterError, Runs};

/// How long a change may take to become durable.
const ADJUST_WAIT: Duration = Duration::from_secs(10);

/// What a run is to be set to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adjustment {
    /// So many VUs.
    pub vus: Option<u64>,
    /// Such a rate.
    pub rate: Option<Rate>,
    /// Which scenario; needed where several of the plan are externally controlled.
    pub scenario: Option<String>,
}

/// What a run's driver is asked for.
pub(crate) struct AdjustRequest {
    /// The scenario's position in the plan.
    pub(crate) scenario: u32,
    /// One that it can take.
    pub(crate) level: Level,
    /// Answered once the change is durable.
    pub(crate) answer: oneshot::Sender<Result<(), NotAdjusted>>,
}

impl Runs {
    /// Changes the level of an externally-controlled scenario while its run goes, or before its load begins. Gives the run with its levels once the change is durable; it
    /// begins for all agents at one moment, half a second later or more. A level that holds already changes nothing.
    ///
    /// # Errors
    /// There is no such run; it is not going; nothing in it, or not the scenario named, is externally controlled; the scenario cannot take the level.
    pub async fn adjust_run(&self, id: RunId, wanted: Adjustment) -> Result<RunView, MasterError> {
        self.adjust_within(id, wanted, ADJUST_WAIT).await
    }

    /// Holds a level against what this master allows.
    fn check_level(&self, live: &Live, level: Level) -> Result<(), MasterError> {
        let is_copied = live.plan().load == Load::PerAgent;
        let copies = if is_copied { live.metrics().agents.len() as u64 } else { 1 };
        match self.shared.config.caps.level_problem(level, copies.max(1)) {
            None => Ok(()),
            Some(problem) => {
                let field = if matches!(level, Level::Rate(_)) { "rate" } else { "vus" };
                Err(MasterError::invalid(vec![Problem::new(field, problem)]))
            }
        }
    }

    pub(super) async fn adjust_within(
        &self,
        id: RunId,
        wanted: Adjustment,
        wait: Duration,
    ) -> Result<RunView, MasterError> {
        let Some(Entry { live, adjusts, .. }) = self.entry(id) else {
            return Err(not_going(&self.ended_run(id).await?));
        };
        let status = live.view().status;
        if status.is_ended() || status == RunStatus::Queued {
            return Err(not_going(&live.view()));
        }
        self.check_leading()?;
        let (scenario, level) = resolve(live.plan(), &wanted)?;
        self.check_level(&live, level)?;
        let (answer, answered) = oneshot::channel();
        let asking = async {
            // A closed channel means that the run is over, or another master's; its view says which.
            adjusts.send(AdjustRequest { scenario, level, answer }).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(wait, asking).await {
            Ok(Some(Ok(()))) => self.run(id).await,
            Ok(Some(Err(reason))) => Err(refusal(id, reason)),
            Ok(None) => Err(not_going(&self.ended_run(id).await?)),
            Err(_) => Err(MasterError::new(
                ErrorCode::StoreUnavailable,
                format!(
                    "the store did not take the change within {} s; it holds once it does, and run {id} shows it then",
                    wait.as_secs()
                ),
            )),
        }
    }
}

fn not_going(view: &RunView) -> MasterError {
    MasterError::conflict(format!(
        "run {} is {}; only a run that goes can be changed",
        view.id,
        view.status.name()
    ))
}

fn refusal(id: RunId, reason: NotAdjusted) -> MasterError {
    let code = match reason {
        NotAdjusted::NotGoing | NotAdjusted::ScenarioOver | NotAdjusted::TooMany => ErrorCode::Conflict,
        NotAdjusted::TooManyAtOnce => ErrorCode::RateLimited,
    };
    MasterError::new(code, format!("run {id} is not changed: {reason}"))
}

/// Which scenario is meant, and whether it can take that.
fn resolve(plan: &Plan, wanted: &Adjustment) -> Result<(u32, Level), MasterError> {
    let controls: Vec<(u32, &str, Control)> = plan.scenarios.iter().zip(0..).filter_map(control).collect();
    if controls.is_empty() {
        let names: Vec<_> = plan.scenarios.iter().take(20).map(|s| s.executor.name()).collect();
        return Err(MasterError::conflict(format!(
            "nothing in this run is changed from outside (its executors: {}); only scenarios with `executor: externally-controlled` are",
            names.join(", ")
        )));
    }
    let names = || controls.iter().map(|(_, name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let wrong = |field: &str, message: String| Err(MasterError::invalid(vec![Problem::new(field, message)]));
    let (index, name, control) = match (&wanted.scenario, &controls[..]) {
        (None, [only]) => *only,
        (None, _) => return wrong("scenario", format!("is missing; say which is meant: {}", names())),
        (Some(name), _) => match controls.iter().find(|(_, known, _)| known == name) {
            Some(found) => *found,
            None => {
                let shown: String = name.chars().take(100).collect();
                let message = format!(
                    "`{shown}` is no externally-controlled scenario of this run; give one of {}",
                    names()
                );
                return wrong("scenario", message);
            }
        },
    };
    match (wanted.vus, wanted.rate, control) {
        (Some(_), Some(_), _) => wrong("rate", "cannot stand beside `vus`; give one of them".to_owned()),
        (None, None, _) => wrong("", "nothing is asked for; give `vus` or `rate`".to_owned()),
        (Some(vus), None, Control::Vus { max_vus, .. }) if vus > max_vus => {
            wrong("vus", format!("{vus} is more than max_vus of `{name}` ({max_vus}); give at most that"))
        }
        (Some(vus), None, Control::Vus { .. }) => Ok((index, Level::Vus(vus))),
        (None, Some(rate), Control::Rate { .. }) if rate > Rate::MAX => {
            wrong("rate", format!("{rate} is too fast; the highest rate is {}", Rate::MAX))
        }
        (None, Some(rate), Control::Rate { .. }) => Ok((index, Level::Rate(rate))),
        (Some(_), None, Control::Rate { .. }) => {
            wrong("vus", format!("`{name}` is an open loop, which is led by its rate; give `rate`"))
        }
        (None, Some(_), Control::Vus { .. }) => {
            wrong("rate", format!("`{name}` is a closed loop, which is led by its VUs; give `vus`"))
        }
    }
}

fn control((scenario, index): (&volcanion_common::plan::Scenario, u32)) -> Option<(u32, &str, Control)> {
    match &scenario.executor {
        Executor::ExternallyControlled { control, .. } => Some((index, scenario.name.as_str(), *control)),
        _ => None,
    }
}
