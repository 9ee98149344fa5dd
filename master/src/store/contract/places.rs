//! SQLite keeps it, in a file and in memory.

use super::*;

struct File(tempfile::TempDir);

#[async_trait]
impl Place for File {
    async fn open(&self) -> Arc<dyn Store> {
        crate::store::open(&StoreUrl::SqliteFile(self.0.path().join("runs.db"))).await.unwrap()
    }
}

#[tokio::test]
async fn a_file_keeps_the_contract() {
    check(async || Box::new(File(tempfile::tempdir().unwrap())) as Box<dyn Place>).await;
}

struct Memory(Arc<dyn Store>);

#[async_trait]
impl Place for Memory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0)
    }
}

#[tokio::test]
async fn memory_keeps_the_contract_within_the_process() {
    let new =
        async || Box::new(Memory(crate::store::open(&StoreUrl::Memory).await.unwrap())) as Box<dyn Place>;
    check(new).await;
}

#[tokio::test]
async fn what_is_no_database_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "not a database, and long enough to be looked at as one ".repeat(20)).unwrap();
    let error = crate::store::open(&StoreUrl::SqliteFile(path)).await.err().unwrap().to_string();
    assert!(error.contains("notes.txt"), "{error}");
}
