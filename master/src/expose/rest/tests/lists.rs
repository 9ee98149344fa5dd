//! Lists: bare arrays, newest first, with the way to the next page.

use serde_json::Value;

use super::Api;

#[tokio::test]
async fn pages_lead_through_all_plans_newest_first() {
    let api = Api::new().await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(api.plan(&format!("plan {number}")).await);
    }
    made.reverse();

    let mut path = "/api/test-plans?limit=3".to_owned();
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let page = api.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        let Value::Array(plans) = page.json() else { panic!("no array: {}", page.text()) };
        sizes.push(plans.len());
        seen.extend(plans.iter().map(|plan| plan["id"].as_str().unwrap().to_owned()));
        let Some(next) =
            page.header("link").strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""))
        else {
            break;
        };
        assert!(next.starts_with("/api/test-plans?limit=3&cursor="), "{next}");
        path = next.to_owned();
    }
    assert_eq!(seen, made);
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(api.get("/api/v1/test-plans").await.header("link"), "", "the last page leads nowhere");
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused() {
    let api = Api::new().await;
    for list in ["test-plans", "test-runs"] {
        api.get(&format!("/api/v1/{list}?cursor=nonsense")).await.assert_problem(400, "validation_error");
    }
}
