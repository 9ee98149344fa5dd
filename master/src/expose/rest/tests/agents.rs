//! Agents as a client meets them, where there is none.

use serde_json::json;

use super::Api;

#[tokio::test]
async fn an_agent_that_is_not_there_cannot_be_drained() {
    let api = Api::new().await;
    assert_eq!(api.get("/api/v1/agents").await.json(), json!([]));
    let (long, cut) = ("x".repeat(10_000), "%FF");
    for (path, said) in [
        ("/api/v1/agents/agent-9/drain", "agent-9"),
        ("/api/agents/agent-9/drain", "agent-9"),
        (&format!("/api/v1/agents/{long}/drain"), "xxx…"),
        (&format!("/api/v1/agents/{cut}/drain"), "there is no agent"),
    ] {
        let problem = api.post_nothing(path).await.assert_problem(404, "not_found");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(said) && detail.len() < 200, "{detail}");
    }
}
