//! Changes at Stripe as steps of a history, and as causes of changed rows.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::admin::explain::{Step, StepKind};
use crate::ledger::admin::{self, Line};
use crate::ledger::{cause_of, line_of_cause};

/// What the causes of changed rows mean, by cause.
pub(super) type Causes = BTreeMap<String, String>;

/// Adds the changes of `objects`, and returns what the causes of the changed rows mean. A line that was deleted after 30
/// days is missing in both.
pub(super) async fn add(
    conn: &mut PgConnection,
    objects: &[String],
    steps: &mut Vec<Step>,
    limit: i64,
) -> Result<Causes, sqlx::Error> {
    let causes = steps.iter().flat_map(|step| match &step.what {
        StepKind::Change { causes, .. } => causes.as_slice(),
        _ => &[],
    });
    let named: Vec<Uuid> = causes.filter_map(|cause| line_of_cause(cause)).collect();
    let limit_of_named = i64::try_from(named.len()).unwrap_or(i64::MAX);
    let mut lines = admin::of_objects(conn, &[], &named, limit_of_named).await?;
    let meanings = lines.iter().map(|line| (cause_of(line.id), meaning(line))).collect();
    if !objects.is_empty() {
        lines.extend(admin::of_objects(conn, objects, &[], limit).await?);
        lines.sort_by_key(|line| line.id);
        lines.dedup_by_key(|line| line.id);
        steps.extend(lines.into_iter().map(step));
    }
    Ok(meanings)
}

fn meaning(line: &Line) -> String {
    let request = line.stripe_request_id.as_ref().map(|id| format!(" (Stripe {id})")).unwrap_or_default();
    format!("write {} by {}{request}", line.operation, line.principal)
}

fn step(line: Line) -> Step {
    Step {
        at: line.finished_at.unwrap_or(line.begun_at),
        what: StepKind::Write {
            id: line.id,
            operation: line.operation,
            object_id: line.object_id,
            principal: line.principal,
            state: line.state,
            request_id: line.stripe_request_id,
            last_error: line.last_error,
            begun_at: line.begun_at,
        },
    }
}
