//! What every registry has to do: tests that each implementation runs.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::{Candidacy, Candidate, Fleet, Member, MemberState, Registry, RegistryError, Standing};
use crate::ids::{AgentId, Incarnation};

/// Longer than a lease and everything around it on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A member of this name and a new incarnation.
pub fn member(id: &str) -> Member {
    Member {
        id: AgentId::from(id),
        incarnation: Incarnation::random(),
        address: "127.0.0.1:7070".to_owned(),
        metrics_address: None,
        version: "0.0.0".to_owned(),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        cores: 2,
        capacity: 2.0,
        requests_per_s: None,
        state: MemberState::Ready,
    }
}

/// Waits until the fleet is as it should be; fails with what it is instead.
pub async fn until(fleet: &mut watch::Receiver<Fleet>, what: &str, is_so: impl FnMut(&Fleet) -> bool) {
    let waited = tokio::time::timeout(LIMIT, fleet.wait_for(is_so)).await.map(|found| found.is_ok());
    assert!(matches!(waited, Ok(true)), "never seen: {what}; but {:?}", fleet.borrow());
}

fn names(fleet: &Fleet) -> Vec<&str> {
    fleet.members.keys().map(|id| id.0.as_str()).collect()
}

pub async fn join_update_and_leave(registry: &dyn Registry) {
    let mut fleet = registry.watch().await.unwrap();
    until(&mut fleet, "an empty fleet", |fleet| fleet.connected && fleet.members.is_empty()).await;
    let mut first = member("first");
    let membership = registry.join(first.clone()).await.unwrap();
    until(&mut fleet, "the member", |fleet| fleet.members.get(&first.id) == Some(&first)).await;
    let other = registry.join(member("other")).await.unwrap();
    until(&mut fleet, "both", |fleet| names(fleet) == ["first", "other"]).await;
    first.state = MemberState::Draining;
    membership.update(first.clone());
    until(&mut fleet, "the new state", |fleet| fleet.members.get(&first.id) == Some(&first)).await;
    let left = tokio::time::Instant::now();
    membership.leave().await;
    until(&mut fleet, "the other one alone", |fleet| names(fleet) == ["other"]).await;
    assert!(left.elapsed() < Duration::from_secs(2), "whoever leaves is gone at once, not when a lease ends");
    membership.update(first);
    membership.leave().await;
    other.leave().await;
    until(&mut fleet, "nobody", |fleet| fleet.members.is_empty()).await;
}

pub async fn a_late_watcher_sees_all(registry: &dyn Registry) {
    let mut memberships = Vec::new();
    for name in ["a", "b", "c"] {
        memberships.push(registry.join(member(name)).await.unwrap());
    }
    let mut fleet = registry.watch().await.unwrap();
    until(&mut fleet, "all three", |fleet| fleet.connected && names(fleet) == ["a", "b", "c"]).await;
}

pub async fn a_member_that_dies_vanishes(registry: &dyn Registry) {
    let mut fleet = registry.watch().await.unwrap();
    let membership = registry.join(member("mortal")).await.unwrap();
    until(&mut fleet, "the member", |fleet| names(fleet) == ["mortal"]).await;
    drop(membership);
    until(&mut fleet, "nobody, as the lease has ended", |fleet| fleet.members.is_empty()).await;
    assert!(fleet.borrow().connected);
}

pub async fn a_name_is_taken_while_its_owner_lives(registry: &dyn Registry) {
    let mut fleet = registry.watch().await.unwrap();
    let (old, new) = (member("name"), member("name"));
    let membership = registry.join(old.clone()).await.unwrap();
    match registry.join(new.clone()).await {
        Err(RegistryError::NameTaken(id)) => assert_eq!(id, old.id),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two live members of one name"),
    }
    until(&mut fleet, "the first owner", |fleet| fleet.members.get(&old.id) == Some(&old)).await;
    // The owner dies; whoever comes next under its name gets it, at the latest when the lease has ended.
    drop(membership);
    let membership = registry.join(new.clone()).await.unwrap();
    until(&mut fleet, "the second owner", |fleet| fleet.members.get(&new.id) == Some(&new)).await;
    membership.leave().await;
}

/// A candidate of this name.
pub fn candidate(id: &str) -> Candidate {
    Candidate { id: id.to_owned(), rest: Some(format!("http://{id}.test:8080")), store: None }
}

/// A candidate of this name over a store.
fn candidate_of(id: &str, store: &str) -> Candidate {
    Candidate { store: Some(store.to_owned()), ..candidate(id) }
}

/// Waits until a candidate stands so.
pub async fn until_stands(candidacy: &dyn Candidacy, expected: Standing) {
    let mut standing = candidacy.standing();
    let waited = tokio::time::timeout(LIMIT, standing.wait_for(|now| *now == expected)).await;
    let is_so = matches!(waited, Ok(Ok(_)));
    drop(waited);
    assert!(is_so, "never stood as {expected:?}; but {:?}", standing.borrow());
}

pub async fn one_leads_and_the_next_follows(registry: &dyn Registry) {
    let first = registry.campaign(candidate("first")).await.unwrap();
    until_stands(&*first, Standing::Leads).await;
    let second = registry.campaign(candidate("second")).await.unwrap();
    until_stands(&*second, Standing::Follows(candidate("first"))).await;
    // One that resigns is followed at once, not when a lease ends.
    let resigned = tokio::time::Instant::now();
    first.resign().await;
    until_stands(&*second, Standing::Leads).await;
    assert!(resigned.elapsed() < Duration::from_millis(1_500), "{:?}", resigned.elapsed());
    // One that dies is followed when its lease has ended.
    let third = registry.campaign(candidate("third")).await.unwrap();
    until_stands(&*third, Standing::Follows(candidate("second"))).await;
    drop(second);
    until_stands(&*third, Standing::Leads).await;
    third.resign().await;
    let fourth = registry.campaign(candidate("fourth")).await.unwrap();
    until_stands(&*fourth, Standing::Leads).await;
}

pub async fn a_candidate_of_another_store_does_not_lead(registry: &dyn Registry) {
    let (ours, theirs) = (candidate_of("ours", "one"), candidate_of("theirs", "other"));
    let first = registry.campaign(ours.clone()).await.unwrap();
    until_stands(&*first, Standing::Leads).await;
    let other = registry.campaign(theirs.clone()).await.unwrap();
    until_stands(&*other, Standing::Barred(ours.clone())).await;
    let same = registry.campaign(candidate_of("same", "one")).await.unwrap();
    until_stands(&*same, Standing::Follows(ours.clone())).await;
    // Nor when nobody leads any more; a new candidacy may.
    same.resign().await;
    first.resign().await;
    let again = registry.campaign(candidate_of("again", "one")).await.unwrap();
    until_stands(&*again, Standing::Leads).await;
    let seen = Standing::Barred(candidate_of("again", "one"));
    until_stands(&*other, seen).await;
    again.resign().await;
    other.resign().await;
    let other = registry.campaign(theirs).await.unwrap();
    until_stands(&*other, Standing::Leads).await;
    other.resign().await;
}
