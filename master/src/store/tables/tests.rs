use sqlx::Row as _;

use super::super::open::{self, open};
use super::super::sql::sqlite;
use super::super::{StoreUrl, samples};
use super::*;

#[tokio::test]
async fn every_connection_to_a_file_writes_ahead_and_through_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let pool = sqlite::open_file(&folder.path().join("runs.db")).await.unwrap();
    for _ in 0..sqlite::CONNECTIONS_MAX {
        let mut connection = pool.acquire().await.unwrap();
        let row = sqlx::query("SELECT (SELECT journal_mode FROM pragma_journal_mode), (SELECT synchronous FROM pragma_synchronous), (SELECT foreign_keys FROM pragma_foreign_keys)")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!((row.get::<&str, _>(0), row.get::<i64, _>(1), row.get::<i64, _>(2)), ("wal", 2, 1));
        connection.detach();
    }
}

#[tokio::test]
async fn a_plan_that_cannot_be_read_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let store = open(&StoreUrl::SqliteFile(path.clone())).await.unwrap();
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let plan = samples::stored_plan(name);
        store.insert_plan(&plan).await.unwrap();
        ids.push(plan.id);
    }
    let pool = sqlite::open_file(&path).await.unwrap();
    for (id, source) in [(ids[3], "{\"name\": 7}"), (ids[1], "no JSON")] {
        let update = sqlx::query("UPDATE plans SET source = ? WHERE id = ?");
        update.bind(source).bind(id.to_string()).execute(&pool).await.unwrap();
    }
    let (mut page, mut seen) = (PlanPage { limit: 1, cursor: None }, Vec::new());
    loop {
        let read = store.plans(&page).await.unwrap();
        seen.extend(read.items.into_iter().map(|plan| plan.id));
        page.cursor = read.next;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [ids[2], ids[0]]);
    assert!(matches!(store.plan(ids[1]).await, Err(StoreError::Unreadable(_))), "by its id it says why");
    assert!(store.delete_plan(ids[1]).await.unwrap());
}

#[tokio::test]
async fn a_full_disk_is_said_until_a_write_succeeds_and_nothing_is_lost() {
    let url = StoreUrl::Memory;
    let pool = sqlite::open_memory().await.unwrap();
    open::make_tables(&url, &Pool::Sqlite(pool.clone())).await.unwrap();
    let store = TableStore::new(Pool::Sqlite(pool.clone()));
    let epoch = store.raise_epoch().await.unwrap();
    let run = samples::record();
    store.insert_run(epoch, &run, None).await.unwrap();
    let most_pages = async |pages: u32| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&pool).await.unwrap();
    };
    // Never less than there are.
    most_pages(1).await;
    let mut written = 0;
    let refused = loop {
        let part = samples::part(written + 1, written, written + 1, 50, written + 1);
        match store.commit(epoch, run.id(), &part).await {
            Ok(()) => written += 1,
            Err(error) => break (part, error),
        }
    };
    assert!(
        matches!(&refused.1, StoreError::Unavailable(_)) && refused.1.to_string().contains("full"),
        "{}",
        refused.1
    );
    let failure = store.failure().unwrap();
    assert!(failure.error.contains("full"), "{failure:?}");
    assert_eq!(store.total(run.id()).await.unwrap().requests(), 50 * written, "it still reads");
    assert!(store.failure().is_some(), "that it reads does not mean that it writes");
    assert!(store.probe().await.is_err());
    assert!(store.failures() >= 2);

    most_pages(100_000).await;
    store.probe().await.unwrap();
    assert_eq!(store.failure(), None);
    store.commit(epoch, run.id(), &refused.0).await.unwrap();
    assert_eq!(store.total(run.id()).await.unwrap().requests(), 50 * (written + 1));
}
