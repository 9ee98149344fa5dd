//! Stored plans: made, read, replaced, removed, copied.

use volcanion_common::ids::PlanId;
use volcanion_common::plan::document::PlanDocument;
use volcanion_common::validate::ValidPlan;

use super::table::{MasterError, Page, PlanPage, Runs, StoredPlan};
use crate::store;

impl Runs {
    /// Holds a plan against what this master allows.
    ///
    /// # Errors
    /// It passes that; says everything that does.
    pub fn check_caps(&self, plan: &ValidPlan) -> Result<(), MasterError> {
        let problems = self.shared.config.caps.problems(plan, 1);
        if problems.is_empty() { Ok(()) } else { Err(MasterError::invalid(problems)) }
    }

    /// Stores a plan.
    ///
    /// # Errors
    /// It passes what this master allows; the store does not work, or another master leads.
    pub async fn create_plan(&self, document: PlanDocument) -> Result<StoredPlan, MasterError> {
        self.check_caps(&document.plan)?;
        self.check_leading()?;
        let now = store::now();
        let PlanDocument { plan, source, is_simple, .. } = document;
        let plan =
            StoredPlan { id: PlanId::new(), source, plan, is_simple, created_at: now, updated_at: now };
        self.shared.store.insert_plan(&plan).await?;
        Ok(plan)
    }

    /// A plan.
    ///
    /// # Errors
    /// There is none.
    pub async fn plan(&self, id: PlanId) -> Result<StoredPlan, MasterError> {
        self.shared.store.plan(id).await?.ok_or_else(|| MasterError::not_found("plan", id))
    }

    /// A page of plans, newest first.
    ///
    /// # Errors
    /// The cursor is none of ours.
    pub async fn plans(&self, page: PlanPage) -> Result<Page<StoredPlan>, MasterError> {
        Ok(self.shared.store.plans(&page).await?)
    }

    /// Replaces a plan's document; runs that are going keep theirs.
    ///
    /// # Errors
    /// There is no such plan; the document passes what this master allows.
    pub async fn replace_plan(&self, id: PlanId, document: PlanDocument) -> Result<StoredPlan, MasterError> {
        self.check_caps(&document.plan)?;
        self.check_leading()?;
        let old = self.plan(id).await?;
        let PlanDocument { plan, source, is_simple, .. } = document;
        let plan = StoredPlan { source, plan, is_simple, updated_at: store::now(), ..old };
        if self.shared.store.replace_plan(&plan).await? {
            Ok(plan)
        } else {
            Err(MasterError::not_found("plan", id))
        }
    }

    /// Removes a plan; its runs stay.
    ///
    /// # Errors
    /// There is no such plan.
    pub async fn delete_plan(&self, id: PlanId) -> Result<(), MasterError> {
        self.check_leading()?;
        if self.shared.store.delete_plan(id).await? {
            Ok(())
        } else {
            Err(MasterError::not_found("plan", id))
        }
    }

    /// Stores a copy of a plan under a new id.
    ///
    /// # Errors
    /// There is no such plan.
    pub async fn clone_plan(&self, id: PlanId) -> Result<StoredPlan, MasterError> {
        self.check_leading()?;
        let now = store::now();
        let copy = StoredPlan { id: PlanId::new(), created_at: now, updated_at: now, ..self.plan(id).await? };
        self.shared.store.insert_plan(&copy).await?;
        Ok(copy)
    }
}
