use super::*;

fn identity() -> Identity {
    Identity::new("a".into(), Incarnation(7), ClusterKey::new("0123456789abcdef").unwrap())
}

fn hello(epoch: u64) -> Hello {
    Hello {
        run: RunId::new(),
        epoch: Epoch(epoch),
        agent: "a".into(),
        incarnation: Incarnation(7),
        last_seq: Seq(0),
    }
}

#[test]
fn the_epoch_only_rises_and_a_refused_stream_does_not_raise_it() {
    let mut fence = Fence::new(identity());
    let key = identity().key;
    let mut admit = |hello: Hello, key: &ClusterKey, now_unix_ms| {
        let admitted = fence.admit(&hello.sealed(key, 1_000).unwrap(), now_unix_ms);
        (admitted.map_or_else(|refusal| refusal.code(), |_| "in"), fence.highest())
    };
    assert_eq!(admit(hello(3), &key, 0), ("in", Epoch(3)));
    assert_eq!(admit(hello(3), &key, 1_000), ("in", Epoch(3)));
    assert_eq!(admit(hello(2), &key, 0), ("stale_epoch", Epoch(3)));
    assert_eq!(admit(Hello { agent: "b".into(), ..hello(9) }, &key, 0), ("wrong_agent", Epoch(3)));
    for incarnation in [0, 8].map(Incarnation) {
        let other = Hello { incarnation, ..hello(9) };
        assert_eq!(admit(other, &key, 0), ("other_incarnation", Epoch(3)));
    }
    assert_eq!(admit(hello(9), &ClusterKey::open(), 0), ("bad_seal", Epoch(3)));
    assert_eq!(admit(hello(9), &key, 1_001), ("expired", Epoch(3)));
    assert_eq!(admit(hello(4), &key, 0), ("in", Epoch(4)));
}

#[test]
fn a_hello_is_admitted_once_and_only_as_it_was_sealed() {
    let mut fence = Fence::new(identity());
    let good = hello(3).sealed(&identity().key, 1_000).unwrap();
    let text = String::from_utf8(good.sealed_hello.to_vec()).unwrap();
    let raised = text.replace("\"epoch\":3", "\"epoch\":9000000");
    assert_ne!(raised, text);
    let raised = SealedHello { sealed_hello: raised.into(), seal: good.seal.clone() };
    assert_eq!(fence.admit(&raised, 0), Err(Refusal::BadSeal));
    let unsealed = SealedHello { sealed_hello: good.sealed_hello.clone(), seal: Default::default() };
    assert_eq!(fence.admit(&unsealed, 0), Err(Refusal::BadSeal));
    assert_eq!(fence.highest(), Epoch(0));
    fence.admit(&good, 0).unwrap();
    assert_eq!(fence.admit(&good, 0), Err(Refusal::Replayed));
    let (bytes, seal) =
        Command::new(Purpose::Kill, "a".into(), Incarnation(7), 1_000).sealed(&identity().key).unwrap();
    let kill = SealedHello { sealed_hello: bytes.into(), seal: seal.into() };
    assert_eq!(fence.admit(&kill, 0).unwrap_err().code(), "unreadable");
}

#[test]
fn many_hellos_do_not_make_an_agent_forget_the_orders_that_it_obeyed() {
    let identity = identity();
    let mut fence = Fence::new(identity.clone());
    let kill = || {
        let order = Command::new(Purpose::Kill, "a".into(), Incarnation(7), 1_000);
        let (bytes, seal) = order.sealed(&identity.key).unwrap();
        check_command(&identity, Purpose::Kill, &bytes, &seal, 0)
    };
    kill().unwrap();
    for _ in 0..GREETED_MAX {
        fence.admit(&hello(3).sealed(&identity.key, 1_000).unwrap(), 0).unwrap();
    }
    let further = hello(3).sealed(&identity.key, 3_000).unwrap();
    assert_eq!(fence.admit(&further, 0), Err(Refusal::TooMany { max: GREETED_MAX }));
    assert_eq!(kill(), Err(Refusal::Replayed));
    let drain = Command::new(Purpose::Drain, "a".into(), Incarnation(7), 1_000);
    let (bytes, seal) = drain.sealed(&identity.key).unwrap();
    check_command(&identity, Purpose::Drain, &bytes, &seal, 0).unwrap();
    fence.admit(&further, 1_001).unwrap();
}

#[test]
fn a_run_that_was_made_before_the_kill_switch_was_thrown_does_not_begin_after_it() {
    let made_at = |unix_ms: u64| -> RunId {
        format!("{:08x}-{:04x}-7000-8000-000000000000", unix_ms >> 16, unix_ms & 0xffff).parse().unwrap()
    };
    let mut fence = Fence::new(identity());
    let (before, after) = (made_at(1_800_000_000_123), made_at(1_800_000_000_124));
    fence.check_killed(before).unwrap();
    fence.kill(1_800_000_000_123);
    assert_eq!(fence.check_killed(before), Err(Refusal::Killed(before)));
    fence.check_killed(after).unwrap();
}

#[test]
fn tombstones_are_bounded_and_the_newest_stay() {
    let mut fence = Fence::new(identity());
    let runs: Vec<RunId> = (0..TOMBSTONES_MAX + 10).map(|_| RunId::new()).collect();
    for run in &runs {
        fence.bury(*run, Tombstone::GivenUp);
        fence.bury(*run, Tombstone::Durable { last_seq: Seq(1) });
    }
    assert_eq!(fence.tombstones.len(), TOMBSTONES_MAX);
    assert_eq!(fence.tombstone(runs[9]), None);
    assert_eq!(fence.tombstone(runs[10]), Some(Tombstone::Durable { last_seq: Seq(1) }));
}

#[test]
fn a_shard_is_opened_only_where_seal_and_names_and_time_are_right() {
    let identity = identity();
    let shard = Shard {
        run: RunId::new(),
        epoch: Epoch(3),
        agent: "a".into(),
        incarnation: Incarnation(7),
        expires_unix_ms: 1_000,
        seed: 1,
        plan: serde_json::json!({}),
        scenarios: Vec::new(),
        first_vu: 0,
        ready_for: Vec::new(),
        orphan_timeout: None,
        trace: None,
    };
    let open = |shard: &Shard, now_unix_ms| {
        let bytes = serde_json::to_vec(shard).unwrap();
        let seal = identity.key.seal(&bytes);
        open_shard(&identity, shard.run, Epoch(3), &bytes, &seal, now_unix_ms)
    };
    assert_eq!(open(&shard, 1_000), Ok(shard.clone()));
    assert_eq!(open(&shard, 1_500), Err(Refusal::Expired { late_ms: 500 }));
    let check = |wrong: Shard, what| assert_eq!(open(&wrong, 0), Err(Refusal::NotOurs(what)));
    check(Shard { epoch: Epoch(2), ..shard.clone() }, "epoch");
    check(Shard { agent: "b".into(), ..shard.clone() }, "agent");
    check(Shard { incarnation: Incarnation(8), ..shard.clone() }, "incarnation");
    let bytes = serde_json::to_vec(&shard).unwrap();
    let seal = identity.key.seal(&bytes);
    let other = open_shard(&identity, RunId::new(), Epoch(3), &bytes, &seal, 0);
    assert_eq!(other, Err(Refusal::NotOurs("run")));
    let mut altered = bytes.clone();
    altered[10] ^= 1;
    let altered = open_shard(&identity, shard.run, Epoch(3), &altered, &seal, 0);
    assert_eq!(altered, Err(Refusal::BadSeal));
    assert_eq!(check_command(&identity, Purpose::Drain, &bytes, &seal, 0).unwrap_err().code(), "unreadable");
}

#[test]
fn an_order_to_drain_is_obeyed_only_where_seal_and_names_and_time_are_right() {
    let identity = identity();
    let order = Command::new(Purpose::Drain, "a".into(), Incarnation(7), 1_000);
    let check = |order: &Command, key: &ClusterKey, now_unix_ms| {
        let (bytes, seal) = order.sealed(key).unwrap();
        check_command(&identity, Purpose::Drain, &bytes, &seal, now_unix_ms).map_err(|refusal| refusal.code())
    };
    assert_eq!(check(&order, &identity.key, 1_000), Ok(()));
    assert_eq!(check(&order, &identity.key, 1_000), Err("replayed"));
    let kill = Command::new(Purpose::Kill, "a".into(), Incarnation(7), 1_000);
    assert_eq!(check(&kill, &identity.key, 0), Err("not_ours"));
    assert_eq!(check(&order, &identity.key, 1_001), Err("expired"));
    assert_eq!(check(&order, &ClusterKey::open(), 0), Err("bad_seal"));
    let other = Command::new(Purpose::Drain, "b".into(), Incarnation(7), 1_000);
    assert_eq!(check(&other, &identity.key, 0), Err("wrong_agent"));
    let other = Command::new(Purpose::Drain, "a".into(), Incarnation(0), 1_000);
    assert_eq!(check(&other, &identity.key, 0), Err("other_incarnation"));
    let long = vec![b' '; COMMAND_BYTES_MAX + 1];
    let refused = check_command(&identity, Purpose::Drain, &long, &identity.key.seal(&long), 0);
    assert_eq!(refused.unwrap_err().code(), "unreadable");
    let (bytes, seal) = order.sealed(&identity.key).unwrap();
    let as_shard = open_shard(&identity, RunId::new(), Epoch(3), &bytes, &seal, 0);
    assert_eq!(as_shard.unwrap_err().code(), "unreadable");
}
