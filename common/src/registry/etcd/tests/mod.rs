//! Against a real etcd.

mod server;

use std::time::{Duration, Instant};

use etcd_client::{Client, PutOptions};

use super::dial::Dialer;
use super::watch::{WatchEnd, Watcher};
use super::*;
use crate::ids::AgentId;
use crate::registry::MemberState;
use crate::registry::Standing;
use crate::registry::contract::{self, candidate, member, until, until_stands};
use server::{Etcd, pem};

async fn registry(etcd: &Etcd, prefix: &str) -> EtcdRegistry {
    let options =
        EtcdOptions { endpoints: vec![etcd.url()], prefix: prefix.to_owned(), ..EtcdOptions::default() };
    EtcdRegistry::connect(options).await.unwrap()
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let etcd = Etcd::start().await;
    let (one, two, three, four, five, six) = (
        registry(&etcd, "/1").await,
        registry(&etcd, "/2").await,
        registry(&etcd, "/3").await,
        registry(&etcd, "/4/").await,
        registry(&etcd, "/5").await,
        registry(&etcd, "/6").await,
    );
    tokio::join!(
        contract::join_update_and_leave(&one),
        contract::a_late_watcher_sees_all(&two),
        contract::a_member_that_dies_vanishes(&three),
        contract::a_name_is_taken_while_its_owner_lives(&four),
        contract::one_leads_and_the_next_follows(&five),
        contract::a_candidate_of_another_store_does_not_lead(&six),
    );
}

#[tokio::test]
async fn members_and_watchers_outlive_etcds_restart() {
    let mut etcd = Etcd::start().await;
    let registry = registry(&etcd, "/volcanion").await;
    let mut fleet = registry.watch().await.unwrap();
    let stays = member("stays");
    let membership = registry.join(stays.clone()).await.unwrap();
    let killed = registry.join(member("killed")).await.unwrap();
    until(&mut fleet, "both", |fleet| fleet.members.len() == 2).await;

    // While it is away: the members stay as last seen, and the lease is known to run out.
    etcd.kill().await;
    until(&mut fleet, "the loss", |fleet| !fleet.connected && fleet.members.len() == 2).await;
    let alive_until = membership.alive_until().unwrap();
    assert!(alive_until < Instant::now() + Duration::from_secs(3));
    drop(killed);
    etcd.run().await;
    until(&mut fleet, "the return", |fleet| fleet.connected).await;
    until(&mut fleet, "the one that stays", |fleet| {
        fleet.members.len() == 1 && fleet.members.get(&stays.id) == Some(&stays)
    })
    .await;
    assert!(membership.alive_until().unwrap() > alive_until);

    // An etcd that was rebuilt from nothing: the entry is put again, at a lower revision.
    etcd.kill_and_forget().await;
    etcd.run().await;
    until(&mut fleet, "the member in the new etcd", |fleet| {
        fleet.connected && fleet.members.get(&stays.id) == Some(&stays)
    })
    .await;
    let mut busy = stays.clone();
    busy.state = MemberState::Busy;
    membership.update(busy.clone());
    until(&mut fleet, "an update after it", |fleet| fleet.members.get(&stays.id) == Some(&busy)).await;
    membership.leave().await;
    until(&mut fleet, "nobody", |fleet| fleet.members.is_empty()).await;
}

/// An etcd without a past lists nobody, though whoever was in the old one may count on its lease still.
#[tokio::test]
async fn whoever_a_new_etcd_lacks_is_not_gone_before_its_lease_is() {
    let mut etcd = Etcd::start().await;
    let registry = registry(&etcd, "/volcanion").await;
    let mut fleet = registry.watch().await.unwrap();
    let entry = serde_json::to_vec(&member("silent")).unwrap();
    etcd.client().await.put("/volcanion/agents/silent", entry, None).await.unwrap();
    until(&mut fleet, "the member", |fleet| fleet.connected && fleet.members.len() == 1).await;
    etcd.kill_and_forget().await;
    let forgotten = Instant::now();
    etcd.run().await;
    // Others come meanwhile, and change nothing about that.
    let other = registry.join(member("other")).await.unwrap();
    until(&mut fleet, "the loss", |fleet| fleet.connected && !fleet.members.contains_key(&"silent".into()))
        .await;
    assert!(forgotten.elapsed() >= Duration::from_secs(3), "after {:?}", forgotten.elapsed());
    // One that goes while it is watched is gone at once.
    other.leave().await;
    let left = Instant::now();
    until(&mut fleet, "the leave", |fleet| fleet.connected && fleet.members.is_empty()).await;
    assert!(left.elapsed() < Duration::from_secs(2), "after {:?}", left.elapsed());
}

#[tokio::test]
async fn an_etcd_that_falls_silent_is_noticed() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd, "/volcanion").await;
    let mut fleet = registry.watch().await.unwrap();
    let here = member("here");
    let membership = registry.join(here.clone()).await.unwrap();
    until(&mut fleet, "the member", |fleet| fleet.members.len() == 1).await;
    etcd.signal("STOP").await;
    let silent_since = Instant::now();
    until(&mut fleet, "the silence", |fleet| !fleet.connected && fleet.members.len() == 1).await;
    assert!(silent_since.elapsed() < Duration::from_secs(10));
    // Nothing that is sent from now on is answered, so the lease is counted from before.
    assert!(membership.alive_until().unwrap() < silent_since + Duration::from_secs(3));
    etcd.signal("CONT").await;
    until(&mut fleet, "the member again", |fleet| {
        fleet.connected && fleet.members.get(&here.id) == Some(&here)
    })
    .await;
    membership.leave().await;
}

#[tokio::test]
async fn whoever_comes_before_etcd_waits_for_it() {
    let mut etcd = Etcd::new(false);
    let registry = registry(&etcd, "/volcanion").await;
    let mut fleet = registry.watch().await.unwrap();
    assert!(!fleet.borrow().connected);
    let early = member("early");
    let (membership, ()) = tokio::join!(registry.join(early.clone()), etcd.run());
    until(&mut fleet, "the early member", |fleet| fleet.members.get(&early.id) == Some(&early)).await;
    membership.unwrap().leave().await;
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let (dead, etcd) = (Etcd::new(false), Etcd::start().await);
    let endpoints = vec![dead.url(), etcd.url()];
    let options = EtcdOptions { endpoints, prefix: "/volcanion".to_owned(), ..EtcdOptions::default() };
    let registry = EtcdRegistry::connect(options).await.unwrap();
    let membership = registry.join(member("a")).await.unwrap();
    let mut fleet = registry.watch().await.unwrap();
    until(&mut fleet, "the member", |fleet| fleet.members.len() == 1).await;
    membership.leave().await;
}

/// An entry deleted by hand comes back; one that cannot be read harms nobody.
#[tokio::test]
async fn entries_are_kept_whatever_others_do() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd, "/volcanion").await;
    let mut client = etcd.client().await;
    client.put("/volcanion/agents/odd", "no JSON", None).await.unwrap();
    let misnamed = serde_json::to_vec(&member("somebody")).unwrap();
    client.put("/volcanion/agents/misnamed", misnamed, None).await.unwrap();
    let mut fleet = registry.watch().await.unwrap();
    let here = member("here");
    let membership = registry.join(here.clone()).await.unwrap();
    until(&mut fleet, "the readable member alone", |fleet| fleet.members.keys().eq([&here.id])).await;
    // Nobody's: it has no lease.
    let odd = registry.join(member("odd")).await.unwrap();
    until(&mut fleet, "the name that was nobody's", |fleet| {
        fleet.members.contains_key(&AgentId::from("odd"))
    })
    .await;
    odd.leave().await;

    client.delete("/volcanion/agents/here", None).await.unwrap();
    until(&mut fleet, "the deletion", |fleet| fleet.members.is_empty()).await;
    until(&mut fleet, "the entry again", |fleet| fleet.members.get(&here.id) == Some(&here)).await;
    membership.leave().await;
}

/// An outage of etcd deposes nobody by itself; an etcd that was rebuilt has the leader again, or another one, but one.
#[tokio::test]
async fn a_leader_outlives_etcds_outage() {
    let mut etcd = Etcd::start().await;
    let registry = registry(&etcd, "/volcanion").await;
    let leader = registry.campaign(candidate("leader")).await.unwrap();
    until_stands(&*leader, Standing::Leads).await;
    let other = registry.campaign(candidate("other")).await.unwrap();
    until_stands(&*other, Standing::Follows(candidate("leader"))).await;
    etcd.kill().await;
    // Longer than the lease, by the clock: that nothing happens cannot be awaited.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(*leader.standing().borrow(), Standing::Leads);
    assert_eq!(*other.standing().borrow(), Standing::Follows(candidate("leader")));
    etcd.run().await;
    one_leads(&etcd, [&*leader, &*other]).await;
    etcd.kill_and_forget().await;
    etcd.run().await;
    one_leads(&etcd, [&*leader, &*other]).await;
}

/// Waits until etcd says of one of `leader` and `other` that it leads, and both know.
async fn one_leads(etcd: &Etcd, [leader, other]: [&dyn Candidacy; 2]) {
    let settled = async {
        loop {
            let there = etcd.client().await.get("/volcanion/leader", None).await.unwrap();
            let held = there.kvs().first().filter(|entry| entry.lease() != 0);
            let name = held.map(|entry| serde_json::from_slice::<Candidate>(entry.value()).unwrap().id);
            let stand = [leader, other].map(|candidacy| candidacy.standing().borrow().clone());
            let follows = |name| Standing::Follows(candidate(name));
            match name.as_deref() {
                Some("leader") if stand == [Standing::Leads, follows("leader")] => return,
                Some("other") if stand == [follows("other"), Standing::Leads] => return,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.expect("one leads again");
}

/// A name that was taken while its owner was away is not taken back from the living.
#[tokio::test]
async fn an_entry_of_another_life_is_never_overwritten() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd, "/volcanion").await;
    let mut fleet = registry.watch().await.unwrap();
    let membership = registry.join(member("name")).await.unwrap();
    let mut client = etcd.client().await;
    let usurper = member("name");
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let value = serde_json::to_vec(&usurper).unwrap();
    client.put("/volcanion/agents/name", value, Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let mut update = member("name");
    update.state = MemberState::Draining;
    membership.update(update);
    membership.leave().await;
    let there = client.get("/volcanion/agents/name", None).await.unwrap();
    assert_eq!(serde_json::from_slice::<Member>(there.kvs()[0].value()).unwrap(), usurper);
    until(&mut fleet, "the other", |fleet| fleet.members.get(&usurper.id) == Some(&usurper)).await;
}

#[tokio::test]
async fn a_compacted_watch_ends_and_a_new_list_mends_it() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let dialer = || Arc::new(Dialer::new(vec![etcd.url()], ConnectOptions::new(), None, "/volcanion"));
    let (mut watcher, fleet) = Watcher::new(dialer());
    let (_, old) = watcher.list().await.unwrap();
    let entry = serde_json::to_vec(&member("a")).unwrap();
    for _ in 0..3 {
        client.put("/volcanion/agents/a", entry.clone(), None).await.unwrap();
    }
    let now = client.get("a", None).await.unwrap().header().unwrap().revision();
    client.compact(now, None).await.unwrap();
    match watcher.follow(etcd.client().await, old + 1).await {
        Err(WatchEnd::Cancelled(reason)) => assert!(reason.contains("compacted"), "{reason}"),
        Err(WatchEnd::Call(error)) => panic!("{error}"),
        Ok(never) => match never {},
    }
    assert!(fleet.borrow().members.is_empty());
    watcher.list().await.unwrap();
    assert_eq!(fleet.borrow().members.len(), 1);
}

/// What happened while the watcher was cut off, and was compacted away meanwhile, is seen all the same.
#[tokio::test]
async fn a_watcher_that_missed_compacted_events_lists_anew() {
    let mut etcd = Etcd::start().await;
    let registry = registry(&etcd, "/volcanion").await;
    let mut fleet = registry.watch().await.unwrap();
    let mut client = etcd.client().await;
    let entry = |name| serde_json::to_vec(&member(name)).unwrap();
    client.put("/volcanion/agents/gone", entry("gone"), None).await.unwrap();
    until(&mut fleet, "the first", |fleet| fleet.members.len() == 1).await;
    etcd.kill().await;
    until(&mut fleet, "the loss", |fleet| !fleet.connected).await;
    // On other ports, out of the watcher's sight, on the same data.
    etcd.run_elsewhere(async |client: &mut Client| {
        client.delete("/volcanion/agents/gone", None).await.unwrap();
        client.put("/volcanion/agents/new", entry("new"), None).await.unwrap();
        let now = client.get("a", None).await.unwrap().header().unwrap().revision();
        client.compact(now, None).await.unwrap();
    })
    .await;
    etcd.run().await;
    until(&mut fleet, "the new one alone", |fleet| {
        fleet.connected && fleet.members.keys().eq([&AgentId::from("new")])
    })
    .await;
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    let etcd = Etcd::start_secured().await;
    let options = EtcdOptions {
        endpoints: vec![etcd.url()],
        prefix: "/volcanion".to_owned(),
        ca: Some(pem("ca.pem")),
        cert: Some(pem("client.pem")),
        key: Some(pem("client.key")),
        ..EtcdOptions::default()
    };
    let registry = EtcdRegistry::connect(options.clone()).await.unwrap();
    let mut fleet = registry.watch().await.unwrap();
    let membership = registry.join(member("secured")).await.unwrap();
    until(&mut fleet, "the member", |fleet| fleet.members.len() == 1).await;
    for strange in [
        EtcdOptions { ca: Some(pem("other-ca.pem")), ..options.clone() },
        EtcdOptions { cert: None, key: None, ..options },
    ] {
        let registry = EtcdRegistry::connect(strange).await.unwrap();
        assert!(!registry.watch().await.unwrap().borrow().connected);
    }
    membership.leave().await;
}

#[tokio::test]
async fn users_need_their_password() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    client.user_add("root", "secret", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
    let options = |user: &str, password: &str| EtcdOptions {
        endpoints: vec![etcd.url()],
        prefix: "/volcanion".to_owned(),
        user: Some(user.to_owned()),
        password: Some(password.to_owned()),
        ..EtcdOptions::default()
    };
    let registry = EtcdRegistry::connect(options("root", "secret")).await.unwrap();
    registry.join(member("a")).await.unwrap().leave().await;
    let wrong = EtcdRegistry::connect(options("root", "guess")).await.unwrap();
    assert!(matches!(wrong.watch().await, Err(RegistryError::Settings(_))));
    assert!(matches!(wrong.join(member("b")).await, Err(RegistryError::Settings(_))));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let refused = async |options: EtcdOptions, part: &str| match EtcdRegistry::connect(options).await {
        Err(RegistryError::Settings(text)) => assert!(text.contains(part), "{text}"),
        _ => panic!("{part}: not refused"),
    };
    let at = |endpoints: &[&str]| EtcdOptions {
        endpoints: endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect(),
        ..EtcdOptions::default()
    };
    refused(at(&[]), "at least one").await;
    refused(at(&["ftp://a"]), "ftp://a").await;
    refused(at(&["http://a:1", "https://b:1"]), "all https or none").await;
    refused(at(&["https://a:1"]), "authority").await;
    refused(EtcdOptions { ca: Some("ca".into()), ..at(&["http://a:1"]) }, "need https").await;
    refused(EtcdOptions { ca: Some("/nowhere/ca.pem".into()), ..at(&["a:1"]) }, "/nowhere/ca.pem").await;
    refused(EtcdOptions { user: Some("u".into()), ..at(&["http://a:1"]) }, "password").await;
    let options = EtcdOptions { password: Some("secret".into()), ..at(&["http://a:1"]) };
    assert!(!format!("{options:?}").contains("secret"));
}

/// Whoever renews certificates starts nothing again: the next connection uses them, whichever file was the wrong one.
#[tokio::test]
async fn certificates_that_change_are_read_again() {
    let etcd = Etcd::start_secured().await;
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for (right, name) in [("ca.pem", "ca"), ("client.pem", "cert"), ("client.key", "key")] {
        for (from, to) in [("ca.pem", "ca"), ("client.pem", "cert"), ("client.key", "key")] {
            std::fs::copy(pem(from), place(to)).unwrap();
        }
        let wrong = if name == "key" { "server.key" } else { "other-ca.pem" };
        std::fs::copy(pem(wrong), place(name)).unwrap();
        let options = EtcdOptions {
            endpoints: vec![etcd.url()],
            prefix: format!("/{name}"),
            ca: Some(place("ca")),
            cert: Some(place("cert")),
            key: Some(place("key")),
            ..EtcdOptions::default()
        };
        let registry = EtcdRegistry::connect(options).await.unwrap();
        let joining = registry.join(member("renewed"));
        tokio::pin!(joining);
        let refused = tokio::time::timeout(Duration::from_secs(1), &mut joining).await;
        assert!(refused.is_err(), "nobody joins by a wrong {name}");
        std::fs::copy(pem(right), place(name)).unwrap();
        let joined = tokio::time::timeout(Duration::from_secs(30), joining).await;
        joined.unwrap_or_else(|_| panic!("the new {name} is used")).unwrap().leave().await;
    }
    // A file that is away for a moment does no harm.
    let options =
        EtcdOptions { ca: Some(place("ca")), endpoints: vec![etcd.url()], ..EtcdOptions::default() };
    let certificates = Certificates::open(&options).await.unwrap();
    std::fs::remove_file(place("ca")).unwrap();
    let _ = certificates.now().await;
}
