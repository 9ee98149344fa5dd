//! What every store must do. Each test takes a way to open the same store anew, as a restarted master does.

mod changes;
mod fence;
mod audit;
mod keys;
mod parts;
mod places;
mod plans;
mod postgres;
mod retention;
mod runs;

use std::sync::Arc;

use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::plan::Level;
use volcanion_common::session::Move;
use volcanion_common::units::{Micros, Rate};
use volcanion_common::view::{RunStatus, StopReason};

use super::samples::{agent_state, delta, end, part, record, stored_plan};
use super::*;

/// The whole suite.
pub(super) async fn check(new: impl AsyncFn() -> Box<dyn Place>) {
    plans::plans_are_kept_and_paged(&*new().await).await;
    audit::changes_are_kept_in_order_found_and_forgotten(&*new().await).await;
    keys::keys_are_kept_revoked_and_found_by_their_hash(&*new().await).await;
    runs::runs_are_kept_filtered_and_paged(&*new().await).await;
    runs::a_key_starts_one_run(&*new().await).await;
    runs::one_of_many_requests_of_a_key_starts_a_run(&*new().await).await;
    runs::an_ended_run_never_changes(&*new().await).await;
    fence::an_older_epoch_writes_nothing(&*new().await).await;
    fence::every_store_has_a_name_of_its_own(&*new().await, &*new().await).await;
    parts::parts_and_marks_are_one(&*new().await).await;
    parts::warnings_and_lags_stand_until_there_are_newer_ones(&*new().await).await;
    parts::states_of_many_agents_are_kept(&*new().await).await;
    parts::histories_read_exactly(&*new().await).await;
    changes::changes_of_level_are_kept(&*new().await).await;
    changes::members_and_moves_are_kept(&*new().await).await;
    retention::old_runs_are_forgotten_bit_by_bit(&*new().await).await;
    retention::forgetting_thousands_of_parts_holds_up_no_commit(&*new().await).await;
}

/// A way to open one and the same store again and again.
#[async_trait]
pub(super) trait Place {
    async fn open(&self) -> Arc<dyn Store>;
}
