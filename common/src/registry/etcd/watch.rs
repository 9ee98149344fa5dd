//! The members as etcd shows them: listed at a revision, then watched from the next one on.
//!
//! Whatever ends a watch (a compaction, a lost connection, etcd's own cancelling) leads to a new list, so a missed event
//! cannot leave a member that is not there. While etcd does not answer, the members last seen stay, marked
//! as not connected. An entry that cannot be read is left out and logged.
//!
//! An entry that goes while it is watched has lost its lease. One that a new list lacks may be lacking because etcd is another one, or was set back to an older
//! state, and its agent may count on its lease for as long as that lasts: until then the fleet counts as not connected.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Event, EventType, GetOptions, KeyValue, ResponseHeader, WatchOptions};
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use super::dial::{Backoff, CALL_LIMIT, CallError, Complaint, Dialer, within};
use super::lease::LEASE_SECONDS;
use crate::ids::AgentId;
use crate::registry::{Fleet, Member, RegistryError};

/// How often one asks whether etcd is there, by a read that needs its quorum.
const HEARTBEAT: Duration = Duration::from_secs(1);
const LIST_LIMIT: Duration = Duration::from_secs(5);
/// How long an agent may count on an entry that a new list lacks.
const DOUBT: Duration = Duration::from_secs(LEASE_SECONDS as u64);

/// Why a watch is over.
#[derive(Debug)]
pub(super) enum WatchEnd {
    /// etcd ended it, as where its revision was compacted away.
    Cancelled(String),
    Call(CallError),
}

impl From<CallError> for WatchEnd {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// Starts a task that keeps the returned fleet true until its last receiver is dropped.
///
/// # Errors
/// etcd refuses us.
pub(super) async fn start(dialer: Arc<Dialer>) -> Result<Receiver<Fleet>, RegistryError> {
    let (mut watcher, fleet) = Watcher::new(dialer);
    let listed = match watcher.list().await {
        Err(error) if error.is_final() => return Err(error.into()),
        Err(error) => {
            watcher.complaint.failed("listing the agents", &error);
            None
        }
        Ok(listed) => Some(listed),
    };
    tokio::spawn(watcher.run(listed));
    Ok(fleet)
}

/// Follows one prefix.
pub(super) struct Watcher {
    dialer: Arc<Dialer>,
    fleet: Sender<Fleet>,
    /// The members as they shall be shown next.
    members: BTreeMap<AgentId, Member>,
    /// Until then nobody is shown as gone.
    doubt_until: Option<Instant>,
    /// Which etcd was heard last, and how far it was.
    seen: Option<Seen>,
    complaint: Complaint,
}

/// An etcd at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    cluster: u64,
    revision: i64,
}

impl Watcher {
    pub(super) fn new(dialer: Arc<Dialer>) -> (Self, Receiver<Fleet>) {
        let (fleet, receiver) = watch::channel(Fleet::default());
        let watcher = Self {
            dialer,
            fleet,
            members: BTreeMap::new(),
            doubt_until: None,
            seen: None,
            complaint: Complaint::default(),
        };
        (watcher, receiver)
    }

    /// From a list on, where there is one.
    async fn run(mut self, mut listed: Option<(Client, i64)>) {
        let mut backoff = Backoff::default();
        let fleet = self.fleet.clone();
        loop {
            let end = tokio::select! {
                // Nothing is half-done in a watch that nobody wants any more.
                () = fleet.closed() => return,
                end = self.round(listed.take(), &mut backoff) => end,
            };
            match end {
                Ok(never) => match never {},
                Err(WatchEnd::Cancelled(reason)) => {
                    tracing::info!(reason, "etcd ended the watch; listing the agents anew")
                }
                Err(WatchEnd::Call(error)) => {
                    self.complaint.failed("watching the agents", &error);
                    self.fleet.send_if_modified(|fleet| std::mem::replace(&mut fleet.connected, false));
                    self.dialer.turn_away();
                }
            }
            backoff.pause().await;
        }
    }

    async fn round(
        &mut self,
        listed: Option<(Client, i64)>,
        backoff: &mut Backoff,
    ) -> Result<Infallible, WatchEnd> {
        let (client, revision) = match listed {
            Some(listed) => listed,
            None => self.list().await?,
        };
        self.complaint.succeeded("watching the agents");
        backoff.reset();
        self.follow(client, revision + 1).await
    }

    /// Takes the members as they are now; gives the revision at which they were.
    pub(super) async fn list(&mut self) -> Result<(Client, i64), CallError> {
        let mut client = self.dialer.client().await?;
        let options = GetOptions::new().with_prefix();
        let listed = within(LIST_LIMIT, client.get(self.dialer.agents.as_str(), Some(options))).await?;
        self.members.clear();
        for entry in listed.kvs() {
            self.put(entry);
        }
        let is_same = self.see(listed.header());
        let is_missing = |shown: &Member| {
            self.members.get(&shown.id).is_none_or(|member| member.incarnation != shown.incarnation)
        };
        if self.fleet.borrow().members.values().any(is_missing) {
            tracing::info!(
                is_same,
                "etcd does not list every agent that was there; they are awaited for a while"
            );
            self.doubt_until = Some(Instant::now() + DOUBT);
        }
        self.publish();
        self.dialer.counts.listed();
        Ok((client, listed.header().map_or(0, |header| header.revision())))
    }

    /// Takes down which etcd answers; whether it is the one before, at the same state or a later one.
    fn see(&mut self, header: Option<&ResponseHeader>) -> bool {
        let Some(header) = header else { return true };
        let now = Seen { cluster: header.cluster_id(), revision: header.revision() };
        let before = self.seen.replace(now);
        before.is_none_or(|before| before.cluster == now.cluster && before.revision <= now.revision)
    }

    /// Takes changes from a revision on.
    pub(super) async fn follow(&mut self, mut client: Client, revision: i64) -> Result<Infallible, WatchEnd> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision);
        let mut changes =
            within(CALL_LIMIT, client.watch(self.dialer.agents.as_str(), Some(options))).await?;
        let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Awaiting a message takes nothing out of the stream before it is whole.
            tokio::select! {
                change = changes.message() => {
                    let change = change.map_err(CallError::from)?.ok_or(CallError::Ended)?;
                    if change.canceled() {
                        let compacted = change.compact_revision();
                        return Err(WatchEnd::Cancelled(match change.cancel_reason() {
                            "" if compacted > 0 => format!("revision {revision} was compacted, the first is {compacted}"),
                            reason => reason.to_owned(),
                        }));
                    }
                    self.see(change.header());
                    if !change.events().is_empty() {
                        change.events().iter().for_each(|event| self.apply(event));
                        self.publish();
                    }
                }
                _ = beats.tick() => {
                    let options = GetOptions::new().with_prefix().with_count_only();
                    let there = within(2 * CALL_LIMIT, client.get(self.dialer.agents.as_str(), Some(options))).await?;
                    if !self.see(there.header()) {
                        return Err(WatchEnd::Cancelled("etcd is another one, or older than it was".to_owned()));
                    }
                }
                () = doubt_is_over(self.doubt_until) => self.publish(),
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        let Some(entry) = event.kv() else { return };
        match event.event_type() {
            EventType::Put => self.put(entry),
            EventType::Delete => {
                if let Some(id) = self.id(entry) {
                    self.members.remove(&id);
                }
            }
        }
    }

    fn put(&mut self, entry: &KeyValue) {
        let Some(id) = self.id(entry) else { return };
        match serde_json::from_slice::<Member>(entry.value()) {
            Ok(member) if member.id == id => {
                self.members.insert(id, member);
            }
            Ok(member) => self.leave_out(&id, &format!("it names itself `{}`", member.id)),
            Err(error) => self.leave_out(&id, &error.to_string()),
        }
    }

    fn leave_out(&mut self, id: &AgentId, problem: &str) {
        tracing::warn!(agent_id = %id, problem, "an agent's entry in etcd cannot be read; left out");
        self.members.remove(id);
    }

    /// The name within the key; `None` for keys that are no agent's.
    fn id(&self, entry: &KeyValue) -> Option<AgentId> {
        let key = std::str::from_utf8(entry.key()).ok()?;
        key.strip_prefix(self.dialer.agents.as_str()).filter(|name| !name.is_empty()).map(AgentId::from)
    }

    fn publish(&mut self) {
        if self.doubt_until.is_some_and(|until| Instant::now() < until) {
            self.fleet.send_if_modified(|fleet| std::mem::replace(&mut fleet.connected, false));
            return;
        }
        self.doubt_until = None;
        self.fleet.send_if_modified(|fleet| {
            let is_new = !fleet.connected || *fleet.members != self.members;
            if is_new {
                *fleet = Fleet { members: Arc::new(self.members.clone()), connected: true };
            }
            is_new
        });
    }
}

async fn doubt_is_over(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
