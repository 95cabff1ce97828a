//! The first lines of an explanation: each names a subject and says the verdict on it.

use super::{verdict, writes};
use crate::admin::explain::{Step, StepKind};
use crate::admin::subscription_state::SubscriptionState;
use crate::cli::output;
use crate::database::Connection;

/// Longest id beside which the verdict is printed.
const LONG_ID: usize = 32;

/// A subject and the verdict on it.
pub(super) struct Headline {
    pub(super) id: String,
    pub(super) text: String,
}

impl Headline {
    /// What became of the event among the steps.
    pub(super) fn of_event(steps: &[Step]) -> Option<Self> {
        let rows = steps.iter().filter(|step| matches!(step.what, StepKind::Change { .. })).count();
        steps.iter().find_map(|step| match &step.what {
            StepKind::Event { event_id, .. } => {
                Some(Self { id: event_id.clone(), text: verdict::of_event(&step.what, step.at, rows) })
            }
            _ => None,
        })
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        // beside a long id, such as a UUID, the text would be a narrow column
        if self.id.len() > LONG_ID {
            output::print(&format!("{}:", self.id))?;
            return output::print(&output::wrapped("  ", &self.text));
        }
        output::print(&output::wrapped(&format!("{}: ", self.id), &self.text))
    }

    pub(super) fn print_json(&self) -> anyhow::Result<()> {
        output::print_json(&serde_json::json!({ "step": "verdict", "id": self.id, "text": self.text }))
    }
}

/// Whether each subscription may be used now.
pub(super) async fn of_subscriptions(
    conn: &mut Connection,
    subscriptions: &[SubscriptionState],
) -> anyhow::Result<Vec<Headline>> {
    let changes = subscriptions.iter().flat_map(|state| state.activity.iter().chain(&state.reason));
    let causes: Vec<String> = changes.flat_map(|change| change.causes.clone()).collect();
    let meanings = writes::meanings(conn, &causes).await?;
    let headline = |state: &SubscriptionState| Headline {
        id: state.stripe_subscription_id.clone(),
        text: verdict::of_subscription(state, &meanings),
    };
    Ok(subscriptions.iter().map(headline).collect())
}
