//! The election in etcd: the key `PREFIX/leader` under the leader's lease; whoever puts it while it is absent leads.
//!
//! A follower looks each 250 ms, so that a leader that died is followed within its lease of 2 s and that. A leader renews each
//! 500 ms. While etcd does not answer, standings stay as they are: a leader whose lease has ended meanwhile finds that out
//! when etcd is back, and puts the key again unless another one was quicker. A candidate that saw a leader of another store only looks from then on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Client, Compare, CompareOp, Error, PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::{Backoff, CALL_LIMIT, CallError, Complaint, Dialer, within};
use crate::registry::RegistryError;
use crate::registry::election::{Candidacy, Candidate, Standing};

/// How long a leader's key outlives its last renewal, in seconds: the least that etcd grants by default.
const LEASE_SECONDS: i64 = 2;
const RENEWAL: Duration = Duration::from_millis(500);
/// How often a follower looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long resigning may take; after it the lease ends the leadership.
const RESIGN_LIMIT: Duration = Duration::from_secs(2);

/// Stands as a candidate. The first look is over when this returns, unless etcd does not answer.
///
/// # Errors
/// etcd refuses us.
pub(super) async fn campaign(
    dialer: Arc<Dialer>,
    candidate: Candidate,
) -> Result<EtcdCandidacy, RegistryError> {
    let (standing, receiver) = watch::channel(Standing::Unknown);
    let mut campaigner = Campaigner {
        key: dialer.leader.clone(),
        dialer,
        candidate,
        standing,
        stop: CancellationToken::new(),
        complaint: Complaint::default(),
    };
    let lease = match campaigner.look().await {
        Ok(lease) => lease,
        Err(error) if error.is_final() => return Err(error.into()),
        Err(error) => {
            campaigner.complaint.failed("standing for election", &error);
            None
        }
    };
    let (stop, tasks) = (campaigner.stop.clone(), TaskTracker::new());
    let abort = tasks.spawn(campaigner.stand_until_stopped(lease)).abort_handle();
    tasks.close();
    Ok(EtcdCandidacy { standing: receiver, stop, tasks, abort })
}

/// A candidacy that is held by a task. Dropping it stops the task and leaves the key to its lease.
pub(super) struct EtcdCandidacy {
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    tasks: TaskTracker,
    abort: AbortHandle,
}

#[async_trait]
impl Candidacy for EtcdCandidacy {
    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    async fn resign(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for EtcdCandidacy {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

struct Campaigner {
    dialer: Arc<Dialer>,
    key: String,
    candidate: Candidate,
    standing: watch::Sender<Standing>,
    stop: CancellationToken,
    complaint: Complaint,
}

impl Campaigner {
    async fn stand_until_stopped(mut self, mut lease: Option<i64>) {
        let (stop, mut backoff) = (self.stop.clone(), Backoff::default());
        loop {
            // Dropping a half-done turn is safe: a key that it may have put names us, by which `resign` finds it.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.turn(&mut lease, &mut backoff) => {}
            }
        }
        if tokio::time::timeout(RESIGN_LIMIT, self.resign(lease)).await.is_err() {
            tracing::warn!(key = self.key, "etcd does not answer; the leadership goes when its lease ends");
        }
        self.standing.send_replace(Standing::Unknown);
    }

    /// Leads for as long as that goes, or looks once.
    async fn turn(&mut self, lease: &mut Option<i64>, backoff: &mut Backoff) {
        let done = match *lease {
            Some(held) => self.lead(held, backoff).await.map(|()| None),
            None => self.look().await,
        };
        match done {
            Ok(now) => {
                if lease.is_some() && now.is_none() {
                    self.dialer.counts.lost_lease();
                }
                *lease = now;
                self.complaint.succeeded("standing for election");
                if lease.is_none() {
                    backoff.reset();
                    tokio::time::sleep(LOOK).await;
                }
            }
            Err(error) => {
                self.complaint.failed("standing for election", &error);
                self.dialer.turn_away();
                backoff.pause().await;
            }
        }
    }

    /// Puts the key where it is absent; gives the lease where we lead then.
    async fn look(&mut self) -> Result<Option<i64>, CallError> {
        let mut client = self.dialer.client().await?;
        let there = within(CALL_LIMIT, client.get(self.key.as_str(), None)).await?;
        let mut condition = Compare::create_revision(self.key.as_str(), CompareOp::Equal, 0);
        if let Some(entry) = there.kvs().first() {
            // Ours, where the answer to putting it was lost; one without a lease, or that cannot be read, is nobody's.
            let leader = serde_json::from_slice::<Candidate>(entry.value()).ok();
            match leader.filter(|leader| entry.lease() != 0 && leader.id != self.candidate.id) {
                Some(leader) => {
                    self.follow(leader);
                    return Ok(None);
                }
                None => {
                    condition =
                        Compare::mod_revision(self.key.as_str(), CompareOp::Equal, entry.mod_revision());
                }
            }
        }
        if matches!(&*self.standing.borrow(), Standing::Barred(_)) {
            return Ok(None);
        }
        let lease = within(CALL_LIMIT, client.lease_grant(LEASE_SECONDS, None)).await?.id();
        let value = serde_json::to_vec(&self.candidate)
            .expect("a candidate is plain data with text keys, which JSON always takes");
        let put = TxnOp::put(self.key.as_str(), value, Some(PutOptions::new().with_lease(lease)));
        let done = within(CALL_LIMIT, client.txn(Txn::new().when([condition]).and_then([put]))).await?;
        if done.succeeded() {
            self.stand(Standing::Leads);
            return Ok(Some(lease));
        }
        // Somebody was quicker. The lease without a key would end by itself.
        let _ = within(CALL_LIMIT, client.lease_revoke(lease)).await;
        Ok(None)
    }

    /// Renews the lease; returns when it has ended, or the key is no longer under it.
    async fn lead(&mut self, lease: i64, backoff: &mut Backoff) -> Result<(), CallError> {
        let mut client = self.dialer.client().await?;
        let (mut keeper, mut answers) = match within(CALL_LIMIT, client.lease_keep_alive(lease)).await {
            Err(CallError::Etcd(Error::LeaseKeepAliveError(_))) => return Ok(()),
            opened => opened?,
        };
        if !self.is_under(&mut client, lease).await? {
            return Ok(());
        }
        self.complaint.succeeded("standing for election");
        backoff.reset();
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + RENEWAL, RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            within(CALL_LIMIT, keeper.keep_alive()).await?;
            // A late answer would be taken for that of the next renewal: past the limit the stream is given up.
            let answer = within(CALL_LIMIT, answers.message()).await?.ok_or(CallError::Ended)?;
            if answer.ttl() <= 0 || !self.is_under(&mut client, lease).await? {
                return Ok(());
            }
        }
    }

    async fn is_under(&self, client: &mut Client, lease: i64) -> Result<bool, CallError> {
        let is_ours = Compare::lease(self.key.as_str(), CompareOp::Equal, lease);
        Ok(within(CALL_LIMIT, client.txn(Txn::new().when([is_ours]))).await?.succeeded())
    }

    fn follow(&self, leader: Candidate) {
        let is_barred = self.candidate.is_of_another_store(&leader);
        self.stand(if is_barred { Standing::Barred(leader) } else { Standing::Follows(leader) });
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|now| {
            let is_new = *now != standing;
            if is_new {
                tracing::info!(?standing, "the election");
                *now = standing;
            }
            is_new
        });
    }

    async fn resign(&mut self, lease: Option<i64>) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.try_resign(lease).await {
            self.complaint.failed("resigning", &error);
            self.dialer.turn_away();
            backoff.pause().await;
        }
    }

    async fn try_resign(&mut self, lease: Option<i64>) -> Result<(), CallError> {
        let mut client = self.dialer.client().await?;
        if let Some(lease) = lease {
            match within(CALL_LIMIT, client.lease_revoke(lease)).await {
                // It has ended before.
                Err(CallError::Etcd(Error::GRpcStatus(status))) if status.code() == tonic::Code::NotFound => {
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        // A key of ours under another lease is left where an answer to putting it was lost.
        let there = within(CALL_LIMIT, client.get(self.key.as_str(), None)).await?;
        let is_ours = |value| {
            serde_json::from_slice::<Candidate>(value).is_ok_and(|leader| leader.id == self.candidate.id)
        };
        if let Some(entry) = there.kvs().first().filter(|entry| is_ours(entry.value())) {
            let unchanged = Compare::mod_revision(self.key.as_str(), CompareOp::Equal, entry.mod_revision());
            let delete = TxnOp::delete(self.key.as_str(), None);
            within(CALL_LIMIT, client.txn(Txn::new().when([unchanged]).and_then([delete]))).await?;
        }
        Ok(())
    }
}
