//! A change as `GET /audit-logs` shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Role;

/// A change that somebody made over REST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Its id; later ones are greater.
    pub id: Uuid,
    /// When it was answered; RFC 3339.
    pub at: String,
    /// The name of whoever made it.
    pub who: String,
    /// What tells that one from others: a key's id, `admin`, `anybody`, or an issuer's name for it.
    pub who_id: String,
    /// What that one may do.
    pub role: Role,
    /// The call, as method and route.
    pub action: String,
    /// What was asked, without its query.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// Where what was made is, where something was.
    pub made: Option<String>,
    /// The client's address; absent where the request did not come over the network.
    pub from: Option<String>,
    /// As in the logs.
    pub request_id: String,
}
