//! PostgreSQL keeps it too, and what else is asked of a store that is a process of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::sql::{Pool, Query, postgres};
use super::*;
use server::Postgres;

#[path = "../../../../tests/harness/postgres.rs"]
mod server;

struct Database(StoreUrl);

#[async_trait]
impl Place for Database {
    async fn open(&self) -> Arc<dyn Store> {
        open(&self.0).await.unwrap()
    }
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let server = Postgres::start().await;
    let number = AtomicU32::new(0);
    let new = async || {
        let name = format!("place_{}", number.fetch_add(1, Ordering::Relaxed));
        Box::new(Database(server.database(&name).await.parse().unwrap())) as Box<dyn Place>
    };
    check(new).await;
}

#[tokio::test]
async fn masters_that_start_at_once_find_their_tables() {
    let server = Postgres::start().await;
    let url: StoreUrl = server.url.parse().unwrap();
    let (one, two, three) = tokio::join!(open(&url), open(&url), open(&url));
    let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    let (first, second, third) = tokio::join!(one.raise_epoch(), two.raise_epoch(), three.raise_epoch());
    let mut epochs = [first.unwrap().0, second.unwrap().0, third.unwrap().0];
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3]);
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_postgres_is_restarted_and_killed() {
    let mut server = Postgres::start().await;
    let store = open(&server.url.parse().unwrap()).await.unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();

    // Between two statements nobody notices.
    server.restart().await;
    let plan = stored_plan("after a restart");
    store.insert_plan(&plan).await.unwrap();
    assert_eq!(store.plan(plan.id).await.unwrap(), Some(plan));

    // In the middle of them: whoever writes tries the same part again, as a run's machine does.
    let (writer, id) = (Arc::clone(&store), run.id());
    let writing = tokio::spawn(async move {
        let mut number = 1;
        let until = Instant::now() + Duration::from_secs(60);
        while number <= 600 {
            match writer.commit(epoch, id, &part(number, number - 1, number, 1, number)).await {
                Ok(()) => number += 1,
                Err(StoreError::Unavailable(_)) => assert!(Instant::now() < until, "it comes back"),
                Err(error) => panic!("{error}"),
            }
        }
    });
    let committed = async |least: u64| {
        while store.run_record(id).await.ok().flatten().is_none_or(|run| run.next_part <= least) {
            tokio::task::yield_now().await;
        }
    };
    committed(50).await;
    server.stop().await;
    server.start_again().await;
    committed(200).await;
    server.kill().await;
    server.start_again().await;
    writing.await.unwrap();
    assert_eq!(store.total(id).await.unwrap().requests(), 600);
    assert_eq!(store.run_record(id).await.unwrap().unwrap().next_part, 601);
    assert_eq!(store.failure(), None);
}

#[tokio::test]
async fn a_write_that_is_given_up_in_the_middle_can_be_tried_again() {
    let server = Postgres::start().await;
    let store = open(&server.url.parse().unwrap()).await.unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(epoch, &run, None).await.unwrap();
    for number in 1..=60 {
        let part = part(number, number - 1, number, 1, number);
        // At any moment of it: before, in, or after its commit.
        let limit = Duration::from_micros(100 * number);
        let _ = tokio::time::timeout(limit, store.commit(epoch, run.id(), &part)).await;
        store.commit(epoch, run.id(), &part).await.unwrap();
    }
    assert_eq!(store.total(run.id()).await.unwrap().requests(), 60);
    // None of the connections that were given up holds the office.
    store.raise_epoch().await.unwrap();
}

#[tokio::test]
async fn a_master_that_freezes_in_a_transaction_does_not_keep_the_next_from_office() {
    let server = Postgres::start().await;
    let store = open(&server.url.parse().unwrap()).await.unwrap();
    let old = store.raise_epoch().await.unwrap();
    let run = record();
    store.insert_run(old, &run, None).await.unwrap();
    let frozen = Pool::Postgres(postgres::open(server.url.parse().unwrap()).await.unwrap());
    let mut transaction = frozen.begin_as(old).await.unwrap();
    let update =
        || Query::new("UPDATE runs SET status = 'stopping' WHERE id = $1").bind(run.view.id.to_string());
    assert_eq!(transaction.run(update()).await.unwrap(), 1);

    let new = store.raise_epoch().await.unwrap();
    assert!(new > old);
    let late = async {
        transaction.run(update()).await?;
        transaction.commit().await
    };
    assert!(matches!(late.await, Err(StoreError::Unavailable(_))), "it wakes too late");
    assert_eq!(store.run(run.id()).await.unwrap().unwrap().status, RunStatus::Preparing);
    assert!(matches!(frozen.begin_as(old).await.err(), Some(StoreError::Fenced { .. })));
}

#[tokio::test]
async fn it_says_that_postgres_is_gone_and_that_it_is_back() {
    let mut server = Postgres::start().await;
    let store = open(&server.url.parse().unwrap()).await.unwrap();
    store.raise_epoch().await.unwrap();
    server.stop().await;
    assert!(matches!(store.raise_epoch().await, Err(StoreError::Unavailable(_))));
    let failure = store.failure().unwrap();
    assert!(store.probe().await.is_err());
    assert_eq!(store.failure().unwrap().since, failure.since, "it is one failure");
    assert!(store.failures() >= 2);
    server.start_again().await;
    store.probe().await.unwrap();
    assert_eq!(store.failure(), None);
}
