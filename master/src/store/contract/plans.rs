//! Plans.

use super::*;

pub(super) async fn plans_are_kept_and_paged(place: &dyn Place) {
    let store = place.open().await;
    let plans: Vec<_> = (0..5).map(|n| stored_plan(&format!("plan {n}"))).collect();
    for plan in &plans {
        store.insert_plan(plan).await.unwrap();
    }
    let store = place.open().await;
    assert_eq!(store.plan(plans[2].id).await.unwrap().as_ref(), Some(&plans[2]));

    let mut seen = Vec::new();
    let mut page = PlanPage { limit: 2, cursor: None };
    loop {
        let next = store.plans(&page).await.unwrap();
        assert!(next.items.len() <= 2);
        seen.extend(next.items);
        page.cursor = next.next;
        if page.cursor.is_none() {
            break;
        }
    }
    assert!(seen.iter().eq(plans.iter().rev()), "newest first, each once");

    let changed = StoredPlan { updated_at: now(), ..stored_plan("changed") };
    let changed = StoredPlan { id: plans[0].id, created_at: plans[0].created_at, ..changed };
    assert!(store.replace_plan(&changed).await.unwrap());
    assert_eq!(store.plan(plans[0].id).await.unwrap(), Some(changed));
    assert!(store.delete_plan(plans[0].id).await.unwrap());
    assert!(!store.delete_plan(plans[0].id).await.unwrap());
    assert!(!store.replace_plan(&plans[0]).await.unwrap());
    assert_eq!(store.plan(plans[0].id).await.unwrap(), None);
    let wrong = PlanPage { limit: 2, cursor: Some("7".to_owned()) };
    assert!(matches!(store.plans(&wrong).await, Err(StoreError::Cursor(_))));
}
