//! The office: who may write to the store, and under which epoch. A master stands for election, leads for a term, and stands by again.
//!
//! The election says who shall try; the epoch, raised in the store's own transaction, says who may. From then on every older master's write
//! is refused, and that master's term is over at the first one that is. A term has a table of runs of its own ([`Runs`]), so nothing of one gets into
//! the next. Invariants: at most one term at a time; its drivers have left their runs, unwritten, before the next one begins; a master that
//! ends resigns at once.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use volcanion_common::ids::Epoch;
use volcanion_common::registry::{Candidacy, Candidate, Registry, Standing};
use volcanion_common::telemetry::trace::Tracer;

use crate::StartError;
use crate::config::Config;
use crate::fleet::Agents;
use crate::fleet::dial::Dialer;
use crate::run::table::{Outgoing, Runs};
use crate::run::take_over;
use crate::store::{Store, StoreError};

/// How often a master looks whether its epoch still stands, so that one that writes nothing learns of it too.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long drivers may take to leave their runs.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after the store did not let us take office.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a master whom the store deposed, but the election still calls its leader, waits for the election's better knowledge. After it,
/// it resigns and stands anew: who leads then is sure.
const DOUBT: Duration = Duration::from_secs(15);

/// What a master has in every term, and between them.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) agents: Agents,
    pub(crate) dialer: Dialer,
    pub(crate) config: Arc<Config>,
    /// Where durable intervals go besides; `None`: nowhere.
    pub(crate) outgoing: Option<Arc<Outgoing>>,
    pub(crate) tracer: Tracer,
    /// Cancelled when this master is to end.
    pub(crate) stop: CancellationToken,
}

/// Who leads now, as this master knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This master.
    Here,
    /// Another one, whose REST is there.
    At(String),
    /// Another one, which does not say where its REST is.
    Hidden,
    /// One with another store, or nobody since it went: this master has no part in what it does, and does not lead after it.
    OfAnotherStore(Candidate),
    /// Nobody is known to.
    Nobody,
}

/// This moment: the table that answers, and who leads.
#[derive(Clone)]
struct Tenure {
    runs: Runs,
    leader: Leader,
}

/// The present term, for whoever answers clients. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Office {
    tenure: watch::Receiver<Tenure>,
}

impl Office {
    /// The table of this moment.
    pub(crate) fn runs(&self) -> Runs {
        self.tenure.borrow().runs.clone()
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> Leader {
        self.tenure.borrow().leader.clone()
    }
}

/// One who stands for election until its end.
pub(crate) struct Campaigner {
    world: World,
    registry: Arc<dyn Registry>,
    candidate: Candidate,
    candidacy: Box<dyn Candidacy>,
    standing: watch::Receiver<Standing>,
    tenure: watch::Sender<Tenure>,
    /// Answers while this master does not lead.
    standby: Runs,
    /// The term that goes.
    term: Option<Runs>,
    /// The store deposed us although we are elected; until then the election is awaited.
    doubt_until: Option<Instant>,
}

impl Campaigner {
    /// Stands for election. Where it is elected at once, it has taken office, and up what the last master left, when this returns.
    ///
    /// # Errors
    /// The registry cannot be used; the store does not let an elected master take office.
    pub(crate) async fn begin(
        world: World,
        registry: Arc<dyn Registry>,
        candidate: Candidate,
    ) -> Result<(Self, Office), StartError> {
        let candidacy = registry.campaign(candidate.clone()).await?;
        let standby = Runs::standing_by(world.clone());
        let tenure = watch::Sender::new(Tenure { runs: standby.clone(), leader: Leader::Nobody });
        let office = Office { tenure: tenure.subscribe() };
        let standing = candidacy.standing();
        let mut campaigner = Self {
            world,
            registry,
            candidate,
            candidacy,
            standing,
            tenure,
            standby,
            term: None,
            doubt_until: None,
        };
        match campaigner.now() {
            Standing::Leads => campaigner.take_office().await?,
            other => campaigner.stand_by(&other),
        }
        Ok((campaigner, office))
    }

    /// Leads and stands by in turn until the stop; then ends its runs or leaves them, within `most`, and resigns.
    pub(crate) async fn stand(mut self, most: Duration) {
        let stop = self.world.stop.clone();
        while !stop.is_cancelled() {
            match self.term.clone() {
                Some(term) => {
                    self.lead(&term).await;
                    if !stop.is_cancelled() {
                        self.lay_down(term).await;
                    }
                }
                None => self.follow().await,
            }
        }
        let runs = self.term.take().unwrap_or_else(|| self.standby.clone());
        if runs.shared.stops_runs_on_exit() {
            runs.wind_up(most).await;
            self.candidacy.resign().await;
        } else {
            // The next one need not wait for our last words: what comes after its epoch is refused.
            tokio::join!(self.candidacy.resign(), runs.wind_up(most));
        }
    }

    /// Until this term is over, or the stop.
    async fn lead(&mut self, term: &Runs) {
        let (stop, store, ours) = (self.world.stop.clone(), Arc::clone(&self.world.store), term.shared.epoch);
        let mut is_closed = false;
        while self.now() == Standing::Leads {
            // Each branch may be dropped half-way: each is a wait or a look.
            tokio::select! {
                () = stop.cancelled() => return,
                () = term.shared.deposed.cancelled() => break,
                changed = self.standing.changed(), if !is_closed => is_closed = changed.is_err(),
                higher = higher_epoch(&*store, ours) => {
                    tracing::warn!(epoch = higher.0, ours = ours.0, "another master leads; this one steps down");
                    break;
                }
            }
        }
        if self.now() == Standing::Leads {
            self.doubt_until = Some(Instant::now() + DOUBT);
        } else {
            tracing::warn!(epoch = ours.0, "another master was elected; this one steps down");
        }
    }

    async fn lay_down(&mut self, term: Runs) {
        // Readers go to the store at once; the drivers of this term write nothing any more, whether they have left or not.
        let standing = self.now();
        self.stand_by(&standing);
        term.leave(LEAVE_TIMEOUT).await;
    }

    /// Stands by until something changes, or takes office where it is elected.
    async fn follow(&mut self) {
        let standing = self.now();
        if standing != Standing::Leads {
            self.doubt_until = None;
        }
        self.stand_by(&standing);
        match (standing, self.doubt_until) {
            (Standing::Leads, None) => {
                let stop = self.world.stop.clone();
                // A take-over that is broken off leaves its runs to the next master.
                let taking = stop.run_until_cancelled(self.take_office()).await;
                if let Some(Err(error)) = taking {
                    tracing::error!(%error, "elected, but the store does not let this master take office; it tries again");
                    self.wait(Some(Instant::now() + AGAIN_AFTER)).await;
                }
            }
            (Standing::Leads, Some(doubt_until)) => {
                self.wait(Some(doubt_until)).await;
                if Instant::now() >= doubt_until && !self.world.stop.is_cancelled() {
                    self.stand_anew().await;
                }
            }
            (Standing::Barred(leader), _) => {
                tracing::error!(
                    leader = leader.rest.as_deref(),
                    store = leader.store.as_deref(),
                    ours = self.candidate.store.as_deref(),
                    "a master with another store leads here, so this one does not stand for election: give both the same --store, or another --prefix; \
                     where the store was changed on purpose, start this one again when the other one is gone"
                );
                self.wait(None).await;
            }
            (Standing::Follows(_) | Standing::Unknown, _) => self.wait(None).await,
        }
    }

    /// Until the standing changes, the time has come, or the stop.
    async fn wait(&mut self, until: Option<Instant>) {
        let stop = self.world.stop.clone();
        let at = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = at => {}
            changed = self.standing.changed() => if changed.is_err() {
                // The candidacy broke; nothing more is heard of it.
                sleep(AGAIN_AFTER).await;
                self.stand_anew().await;
            }
        }
    }

    async fn stand_anew(&mut self) {
        tracing::warn!("standing for election anew");
        self.candidacy.resign().await;
        match self.registry.campaign(self.candidate.clone()).await {
            Ok(candidacy) => {
                self.standing = candidacy.standing();
                self.candidacy = candidacy;
                self.doubt_until = None;
            }
            Err(error) => {
                tracing::error!(%error, "this master cannot stand for election; it tries again");
                self.doubt_until = Some(Instant::now() + DOUBT);
            }
        }
    }

    /// Raises the epoch and takes up what the last master left. Reads of the new term are answered while it does.
    async fn take_office(&mut self) -> Result<(), StoreError> {
        let epoch = self.world.store.raise_epoch().await?;
        tracing::info!(epoch = epoch.0, "this master leads");
        let term = Runs::new(self.world.clone(), epoch);
        self.tenure.send_replace(Tenure { runs: term.clone(), leader: Leader::Here });
        self.term = Some(term.clone());
        let taken = take_over::take_over(&term).await;
        if taken.is_err() {
            self.lay_down(term).await;
        }
        taken
    }

    fn stand_by(&mut self, standing: &Standing) {
        self.term = None;
        let leader = match standing {
            // Where we are elected ourselves but do not lead (yet), nobody does.
            Standing::Leads | Standing::Unknown => Leader::Nobody,
            Standing::Follows(leader) => leader_at(leader, &self.candidate),
            Standing::Barred(leader) => Leader::OfAnotherStore(leader.clone()),
        };
        self.tenure.send_replace(Tenure { runs: self.standby.clone(), leader });
    }

    fn now(&mut self) -> Standing {
        self.standing.borrow_and_update().clone()
    }
}

/// Looks now and then until the store's epoch is higher than `ours`. A store that does not answer deposes nobody.
async fn higher_epoch(store: &dyn Store, ours: Epoch) -> Epoch {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        match store.epoch().await {
            Ok(epoch) if epoch > ours => return epoch,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "who leads is not known"),
        }
    }
}

/// Where the leader is asked. One at our own address is not there any more: it is us, before we were started again.
fn leader_at(leader: &Candidate, us: &Candidate) -> Leader {
    match &leader.rest {
        Some(_) if leader.rest == us.rest => Leader::Nobody,
        Some(rest) => Leader::At(rest.clone()),
        None => Leader::Hidden,
    }
}
