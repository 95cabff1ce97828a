//! Changes at Stripe as steps of a history, and as causes of changed rows.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::admin::explain::{Step, StepKind};
use crate::database::Connection;
use crate::ledger::admin::{self, Line};
use crate::ledger::{cause_of, line_of_cause};

/// What the causes of changed rows mean, by cause.
pub(super) type Causes = BTreeMap<String, String>;

/// Adds the changes of `objects`, and returns what the causes of the changed rows mean. A line that was deleted after 30
/// days is missing in both.
pub(super) async fn add(
    conn: &mut Connection,
    objects: &[String],
    steps: &mut Vec<Step>,
    limit: i64,
) -> Result<Causes, sqlx::Error> {
    let causes = steps.iter().flat_map(|step| match &step.what {
        StepKind::Change { causes, .. } => causes.as_slice(),
        _ => &[],
    });
    let mut lines = named(conn, causes).await?;
    let meanings = lines.iter().map(|line| (cause_of(line.id), meaning(line))).collect();
    if !objects.is_empty() {
        lines.extend(admin::of_objects(conn, objects, &[], limit).await?);
        lines.sort_by_key(|line| line.id);
        lines.dedup_by_key(|line| line.id);
        steps.extend(lines.into_iter().map(step));
    }
    Ok(meanings)
}

/// What those of the causes mean that are changes at Stripe.
pub(super) async fn meanings(conn: &mut Connection, causes: &[String]) -> Result<Causes, sqlx::Error> {
    Ok(named(conn, causes).await?.iter().map(|line| (cause_of(line.id), meaning(line))).collect())
}

/// The changes at Stripe that causes of changed rows name.
async fn named(conn: &mut Connection, causes: impl IntoIterator<Item = &String>) -> Result<Vec<Line>, sqlx::Error> {
    let ids: Vec<Uuid> = causes.into_iter().filter_map(|cause| line_of_cause(cause)).collect();
    admin::of_objects(conn, &[], &ids, i64::try_from(ids.len()).unwrap_or(i64::MAX)).await
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
