use super::*;

#[tokio::test]
async fn every_connection_to_a_file_writes_ahead_and_through_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&StoreUrl::SqliteFile(folder.path().join("runs.db"))).await.unwrap();
    for _ in 0..CONNECTIONS_MAX {
        let mut connection = store.pool.acquire().await.unwrap();
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
    let store = SqliteStore::open(&StoreUrl::Memory).await.unwrap();
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let document = crate::store::samples::document_named(name);
        let now = crate::store::now();
        let plan = StoredPlan {
            id: PlanId::new(),
            source: document.source,
            plan: document.plan,
            is_simple: true,
            created_at: now,
            updated_at: now,
        };
        store.insert_plan(&plan).await.unwrap();
        ids.push(plan.id);
    }
    for (id, source) in [(ids[3], "{\"name\": 7}"), (ids[1], "no JSON")] {
        let update = sqlx::query("UPDATE plans SET source = ? WHERE id = ?");
        update.bind(source).bind(id.to_string()).execute(&store.pool).await.unwrap();
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
