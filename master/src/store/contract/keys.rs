//! Keys of clients.

use volcanion_common::ids::KeyId;
use volcanion_common::view::Role;

use super::*;

pub(super) async fn keys_are_kept_revoked_and_found_by_their_hash(place: &dyn Place) {
    let store = place.open().await;
    let made = |name: &str, role, expires_at| StoredKey {
        id: KeyId::new(),
        name: name.to_owned(),
        role,
        hash: format!("hash of {name}"),
        created_at: now(),
        expires_at,
        revoked_at: None,
        used_at: None,
    };
    let keys =
        [made("a", Role::Viewer, None), made("b", Role::Operator, Some(now())), made("c", Role::Admin, None)];
    for key in &keys {
        store.insert_key(key).await.unwrap();
        store.insert_key(key).await.unwrap();
    }
    let store = place.open().await;
    assert!(store.keys(10).await.unwrap().iter().eq(keys.iter().rev()), "newest first, each once");
    assert_eq!(store.keys(2).await.unwrap().len(), 2);
    assert_eq!(store.key("hash of b").await.unwrap().as_ref(), Some(&keys[1]));
    assert_eq!(store.key("b").await.unwrap(), None);

    let first = now();
    let later = first.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
    let revoked = StoredKey { revoked_at: Some(first), ..keys[0].clone() };
    assert_eq!(store.revoke_key(keys[0].id, first).await.unwrap().as_ref(), Some(&revoked));
    assert_eq!(store.revoke_key(keys[0].id, later).await.unwrap(), Some(revoked), "once, and for ever");
    assert_eq!(store.revoke_key(KeyId::new(), later).await.unwrap(), None);
    store.use_key(keys[2].id, later).await.unwrap();
    store.use_key(keys[2].id, first).await.unwrap();
    assert_eq!(store.key("hash of c").await.unwrap().unwrap().used_at, Some(later), "the newest counts");
}
