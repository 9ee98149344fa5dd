//! An agent's own entry: put under a lease, renewed each second, put again when it was lost.
//!
//! [`join`] puts the entry; a task of the [`EtcdMembership`] then holds it. The lease is counted from the *sending* of
//! the last renewal that was answered, so that what [`Membership::alive_until`] says is never later than what etcd
//! holds. An entry of another incarnation is never overwritten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use etcd_client::{Client, Compare, CompareOp, Error, GetResponse, PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::{Backoff, CALL_LIMIT, CallError, Complaint, Dialer, within};
use crate::registry::{Member, Membership, RegistryError};

/// How long an entry outlives its last renewal, in seconds.
pub(super) const LEASE_SECONDS: i64 = 3;
const RENEWAL: Duration = Duration::from_secs(1);
/// At every so many renewals one looks whether the entry is still there: somebody may have deleted it by hand.
const RENEWALS_PER_LOOK: u32 = 5;
/// How long a name may stay taken before a new process of that name gives up: two leases of a dead owner and some more.
const TAKEN_LIMIT: Duration = Duration::from_secs(2 * LEASE_SECONDS as u64 + 1);
/// How long leaving may take; after it the lease takes the entry away.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// A lease with the entry under it.
#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
}

/// Why an entry could not be put.
enum EnterError {
    /// Another incarnation's is there.
    Taken,
    Call(CallError),
}

/// Why an entry is no longer held.
enum HoldError {
    /// The lease has ended, or the entry is not under it any more.
    Lost,
    Call(CallError),
}

impl From<CallError> for EnterError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<CallError> for HoldError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// Puts the entry, and tries until it can.
///
/// # Errors
/// The name is taken by a live process, or etcd refuses us.
pub(super) async fn join(dialer: Arc<Dialer>, member: Member) -> Result<EtcdMembership, RegistryError> {
    let (sender, receiver) = watch::channel(member.clone());
    let alive = Arc::new(AliveUntil::new());
    let mut holder = Holder {
        key: format!("{}{}", dialer.agents, member.id),
        dialer,
        member: receiver,
        put: member,
        alive: alive.clone(),
        stop: CancellationToken::new(),
        complaint: Complaint::default(),
    };
    let lease = holder.first_entry().await?;
    tracing::info!(agent_id = %holder.put.id, incarnation = %holder.put.incarnation, "entered in etcd");
    let (stop, tasks) = (holder.stop.clone(), TaskTracker::new());
    let abort = tasks.spawn(holder.hold_until_stopped(lease)).abort_handle();
    tasks.close();
    Ok(EtcdMembership { member: sender, alive, stop, tasks, abort })
}

/// An entry that is held by a task. Dropping it stops the task and leaves the entry to its lease.
pub(super) struct EtcdMembership {
    member: watch::Sender<Member>,
    alive: Arc<AliveUntil>,
    stop: CancellationToken,
    tasks: TaskTracker,
    abort: AbortHandle,
}

#[async_trait]
impl Membership for EtcdMembership {
    fn update(&self, member: Member) {
        self.member.send_replace(member);
    }

    fn alive_until(&self) -> Option<Instant> {
        Some(self.alive.get())
    }

    async fn leave(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for EtcdMembership {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// An instant that one task sets and others read without a lock.
struct AliveUntil {
    base: Instant,
    after_base_ns: AtomicU64,
}

impl AliveUntil {
    fn new() -> Self {
        Self { base: Instant::now(), after_base_ns: AtomicU64::new(0) }
    }

    fn get(&self) -> Instant {
        self.base + Duration::from_nanos(self.after_base_ns.load(Ordering::Acquire))
    }

    fn set(&self, until: Instant) {
        let after_base = until.saturating_duration_since(self.base).as_nanos();
        self.after_base_ns.store(u64::try_from(after_base).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// The task that holds an entry.
struct Holder {
    dialer: Arc<Dialer>,
    key: String,
    /// What the entry shall say.
    member: watch::Receiver<Member>,
    /// What it was last put to say.
    put: Member,
    alive: Arc<AliveUntil>,
    stop: CancellationToken,
    complaint: Complaint,
}

impl Holder {
    async fn first_entry(&mut self) -> Result<Lease, RegistryError> {
        let (mut backoff, mut taken_since) = (Backoff::default(), None);
        loop {
            match self.enter().await {
                Ok(lease) => return Ok(lease),
                Err(EnterError::Taken) => {
                    // Perhaps of a process that is dead: then its lease takes it away.
                    let since: Instant = *taken_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > TAKEN_LIMIT {
                        return Err(RegistryError::NameTaken(self.put.id.clone()));
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(EnterError::Call(error)) if error.is_final() => return Err(error.into()),
                Err(EnterError::Call(error)) => {
                    taken_since = None;
                    self.complaint.failed("entering the agent", &error);
                    self.dialer.turn_away();
                    backoff.pause().await;
                }
            }
        }
    }

    async fn hold_until_stopped(mut self, lease: Lease) {
        let (mut lease, mut backoff) = (Some(lease), Backoff::default());
        let stop = self.stop.clone();
        loop {
            // Dropping a half-done turn is safe: what it may have put says our incarnation, by which `depart` finds it.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.turn(&mut lease, &mut backoff) => {}
            }
        }
        if tokio::time::timeout(LEAVE_LIMIT, self.depart(lease)).await.is_err() {
            tracing::warn!(key = self.key, "etcd does not answer; the entry goes when its lease ends");
        }
    }

    /// Enters where there is no lease, holds the entry for as long as that goes, and pauses.
    async fn turn(&mut self, lease: &mut Option<Lease>, backoff: &mut Backoff) {
        let entered = match *lease {
            Some(lease) => Ok(lease),
            None => self.enter().await,
        };
        let error = match entered {
            Ok(held) => {
                *lease = Some(held);
                match self.hold(held, backoff).await {
                    HoldError::Lost => {
                        tracing::warn!(key = self.key, "the entry in etcd is lost; entering again");
                        *lease = None;
                        self.dialer.counts.lost_lease();
                        self.alive.set(Instant::now());
                        return backoff.pause().await;
                    }
                    HoldError::Call(error) => error,
                }
            }
            Err(EnterError::Taken) => {
                tracing::error!(
                    key = self.key,
                    "another live process has this agent's name; give one of them another --id"
                );
                return backoff.pause().await;
            }
            Err(EnterError::Call(error)) => error,
        };
        self.complaint.failed("keeping the agent's entry", &error);
        self.dialer.turn_away();
        backoff.pause().await;
    }

    /// Puts the entry under a new lease, unless another incarnation's is there.
    async fn enter(&mut self) -> Result<Lease, EnterError> {
        let mut client = self.dialer.client().await?;
        let there = within(CALL_LIMIT, client.get(self.key.as_str(), None)).await?;
        let condition = self.if_still(&there).ok_or(EnterError::Taken)?;
        let sent = Instant::now();
        let granted = within(CALL_LIMIT, client.lease_grant(LEASE_SECONDS, None)).await?;
        let lease = Lease { id: granted.id() };
        let member = self.member.borrow_and_update().clone();
        let put = TxnOp::put(self.key.as_str(), value(&member), Some(PutOptions::new().with_lease(lease.id)));
        let done = within(CALL_LIMIT, client.txn(Txn::new().when([condition]).and_then([put]))).await;
        match done {
            Ok(done) if done.succeeded() => {
                self.put = member;
                self.alive.set(sent + seconds(granted.ttl()));
                self.complaint.succeeded("entering the agent");
                Ok(lease)
            }
            // Somebody was quicker. The lease without an entry would end by itself.
            Ok(_) => {
                let _ = within(CALL_LIMIT, client.lease_revoke(lease.id)).await;
                Err(EnterError::Taken)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The condition under which the entry may be put: nothing has changed since `there` was read. `None` where a live one
    /// of another incarnation is there; one without a lease belongs to nobody.
    fn if_still(&self, there: &GetResponse) -> Option<Compare> {
        let Some(entry) = there.kvs().first() else {
            return Some(Compare::create_revision(self.key.as_str(), CompareOp::Equal, 0));
        };
        (entry.lease() == 0 || self.is_ours(entry.value()))
            .then(|| Compare::mod_revision(self.key.as_str(), CompareOp::Equal, entry.mod_revision()))
    }

    fn is_ours(&self, value: &[u8]) -> bool {
        serde_json::from_slice::<Member>(value).is_ok_and(|member| member.incarnation == self.put.incarnation)
    }

    /// Renews the lease and keeps the entry as it shall be; returns when that does not go on.
    async fn hold(&mut self, lease: Lease, backoff: &mut Backoff) -> HoldError {
        match self.renewing(lease, backoff).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn renewing(
        &mut self,
        lease: Lease,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, HoldError> {
        let mut client = self.dialer.client().await?;
        // Opening the stream sends the first renewal and awaits its answer.
        let sent = Instant::now();
        let (mut keeper, mut answers) = match within(CALL_LIMIT, client.lease_keep_alive(lease.id)).await {
            Err(CallError::Etcd(Error::LeaseKeepAliveError(_))) => return Err(HoldError::Lost),
            opened => opened?,
        };
        // How long the answer gives is seen from the second on; the first is held to what was asked for.
        self.alive.set(sent + seconds(LEASE_SECONDS));
        self.confirm(&mut client, lease).await?;
        self.complaint.succeeded("keeping the agent's entry");
        backoff.reset();
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + RENEWAL, RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewals = 0u32;
        loop {
            // Both arms only wait; what is done happens after one was chosen, so nothing half-done is dropped.
            tokio::select! {
                _ = ticks.tick() => {
                    let sent = Instant::now();
                    within(CALL_LIMIT, keeper.keep_alive()).await?;
                    // A late answer would be taken for that of the next renewal: past the limit the stream is given up.
                    let answer = within(CALL_LIMIT, answers.message()).await?.ok_or(CallError::Ended)?;
                    if answer.ttl() <= 0 {
                        return Err(HoldError::Lost);
                    }
                    self.alive.set(sent + seconds(answer.ttl()));
                    renewals = renewals.wrapping_add(1);
                    if renewals.is_multiple_of(RENEWALS_PER_LOOK) {
                        self.confirm(&mut client, lease).await?;
                    }
                }
                changed = self.member.changed() => {
                    if changed.is_err() {
                        // The membership is dropped: this task is about to be ended, and does nothing meanwhile.
                        std::future::pending::<()>().await;
                    }
                    self.confirm(&mut client, lease).await?;
                }
            }
        }
    }

    /// Makes sure that the entry is there under our lease and says what it shall.
    async fn confirm(&mut self, client: &mut Client, lease: Lease) -> Result<(), HoldError> {
        let member = self.member.borrow_and_update().clone();
        let mut then = Vec::new();
        if member != self.put {
            then.push(TxnOp::put(
                self.key.as_str(),
                value(&member),
                Some(PutOptions::new().with_lease(lease.id)),
            ));
        }
        let is_ours = Compare::lease(self.key.as_str(), CompareOp::Equal, lease.id);
        let done = within(CALL_LIMIT, client.txn(Txn::new().when([is_ours]).and_then(then))).await?;
        if !done.succeeded() {
            return Err(HoldError::Lost);
        }
        self.put = member;
        Ok(())
    }

    /// Takes the entry away.
    async fn depart(&mut self, lease: Option<Lease>) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.try_depart(lease).await {
            self.complaint.failed("taking the agent's entry away", &error);
            self.dialer.turn_away();
            backoff.pause().await;
        }
        tracing::info!(agent_id = %self.put.id, "left etcd");
    }

    async fn try_depart(&mut self, lease: Option<Lease>) -> Result<(), CallError> {
        let mut client = self.dialer.client().await?;
        if let Some(lease) = lease {
            match within(CALL_LIMIT, client.lease_revoke(lease.id)).await {
                Ok(_) => {}
                // It has ended before.
                Err(CallError::Etcd(Error::GRpcStatus(status))) if status.code() == tonic::Code::NotFound => {
                }
                Err(error) => return Err(error),
            }
        }
        // An entry of ours under another lease is left where an answer to putting it was lost.
        let there = within(CALL_LIMIT, client.get(self.key.as_str(), None)).await?;
        if let Some(entry) = there.kvs().first().filter(|entry| self.is_ours(entry.value())) {
            let unchanged = Compare::mod_revision(self.key.as_str(), CompareOp::Equal, entry.mod_revision());
            let delete = TxnOp::delete(self.key.as_str(), None);
            within(CALL_LIMIT, client.txn(Txn::new().when([unchanged]).and_then([delete]))).await?;
        }
        Ok(())
    }
}

fn value(member: &Member) -> Vec<u8> {
    serde_json::to_vec(member).expect("a member is plain data with text keys, which JSON always takes")
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}
