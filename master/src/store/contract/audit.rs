//! Changes that were made over REST.

use jiff::SignedDuration;
use uuid::Uuid;
use volcanion_common::view::Role;

use super::*;

pub(super) async fn changes_are_kept_in_order_found_and_forgotten(place: &dyn Place) {
    let store = place.open().await;
    let begin = now();
    let made = |number: i64, who: &str| AuditRecord {
        id: Uuid::now_v7(),
        at: begin.checked_add(SignedDuration::from_secs(number)).unwrap(),
        who: who.to_owned(),
        who_id: format!("id of {who}"),
        role: Role::Operator,
        action: "POST /test-plans".to_owned(),
        path: "/api/v1/test-plans".to_owned(),
        status: 201,
        made: (number > 0).then(|| "/api/v1/test-plans/1".to_owned()),
        from: (number > 1).then(|| "192.0.2.1".to_owned()),
        request_id: number.to_string(),
    };
    let records = [made(0, "a"), made(1, "b"), made(2, "a")];
    for record in &records {
        store.insert_audit(record).await.unwrap();
        store.insert_audit(record).await.unwrap();
    }
    let store = place.open().await;
    let all = AuditFilter { limit: 10, ..AuditFilter::default() };
    let page = store.audits(&all).await.unwrap();
    assert!(page.items.iter().eq(records.iter().rev()) && page.next.is_none(), "newest first, each once");
    let page = store.audits(&AuditFilter { limit: 2, ..all.clone() }).await.unwrap();
    assert_eq!(page.items.len(), 2);
    let rest = store.audits(&AuditFilter { cursor: page.next, ..all.clone() }).await.unwrap();
    assert_eq!(rest.items, records[..1]);
    for who in ["b", "id of b"] {
        let of = AuditFilter { who: Some(who.to_owned()), ..all.clone() };
        assert_eq!(store.audits(&of).await.unwrap().items, records[1..2]);
    }
    let within = AuditFilter { from: Some(records[1].at), to: Some(records[2].at), ..all.clone() };
    assert_eq!(store.audits(&within).await.unwrap().items, records[1..2]);
    assert!(!store.forget_audits(records[2].at).await.unwrap());
    assert_eq!(store.audits(&all).await.unwrap().items, records[2..]);
}
