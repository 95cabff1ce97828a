//! `explain`: why a subscription, a customer or a workspace is in its state, and what an event changed.
//!
//! ```text
//! headline   the first lines: the subject, and the verdict on it
//! verdict    may a subscription be used, since when and why; what became of an event
//! steps      the history: events, reads, changes at Stripe, and the rows that they changed
//! limits     the limits of a subscription, month by month
//! workspace  the statement of a workspace's limits, line by line
//! picture    the life of a subscription, or the periods of a limit, as SVG
//! ```

mod headline;
mod limits;
mod picture;
mod steps;
mod verdict;
mod workspace;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use time::OffsetDateTime;
use uuid::Uuid;

use self::headline::Headline;
use self::writes::Causes;
use super::arguments::instant;
use super::settings::{DatabaseSettings, SettingArgs};
use super::task::Task;
use super::{changes, database, output};
use crate::admin::explain::{self, Step, StepKind};
use crate::admin::subscription_state::{self, SubscriptionState};
use crate::base::clock;
use crate::config::source::Source;
use crate::database::Connection;
use crate::domain::object::{ObjectKey, row_id};
use crate::ledger::cause_of;

/// Periods shown of each limit of a subscription.
const PERIODS: i64 = 13;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stripe id of a customer, a subscription, an event, or any other object; or the id of a workspace (a UUID).
    #[arg(value_name = "ID")]
    id: String,
    /// Show at most this number of steps of each kind, the newest ones.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    steps: i64,
    /// Of a workspace or a subscription, show only this limit, such as words.
    #[arg(long, value_name = "KEY")]
    limit: Option<String>,
    /// Print JSON, one step per line.
    #[arg(long)]
    json: bool,
    /// Print a picture in the format SVG: the life of the subscription as a bar, or with --limit the periods of that limit.
    #[arg(long, conflicts_with = "json")]
    svg: bool,
    /// Draw the life of the subscription until this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", requires = "svg", conflicts_with = "limit", value_parser = instant)]
    until: Option<OffsetDateTime>,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// The subject of the explanation.
struct Subject {
    /// The objects whose events and reads are shown.
    objects: Vec<String>,
    /// The rows whose changes are shown.
    rows: Vec<Uuid>,
    /// If set, only changes caused by this event.
    event: Option<String>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        database::run(source, async move |conn| self.run(conn).await)
    }

    async fn run(self, conn: &mut Connection) -> anyhow::Result<ExitCode> {
        if self.svg {
            output::print(&self.picture(conn).await?)?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Ok(workspace) = self.id.parse() {
            return self::workspace::explain(conn, workspace, self.limit.as_deref(), self.json).await;
        }
        let subject = self.subject(conn).await?;
        let (steps, meanings) = self.steps(conn, &subject).await?;
        let rows = explain::rows(conn, &subject.rows).await?;
        anyhow::ensure!(
            !steps.is_empty() || !rows.is_empty(),
            "no event, read or row of {} is stored; check that it belongs to this account and mode",
            self.id
        );
        let subscriptions = match subject.event {
            Some(_) => Vec::new(),
            None => subscription_state::subscriptions(conn, &subject.rows, None).await?,
        };
        let headlines = match &subject.event {
            Some(_) => Headline::of_event(&steps).into_iter().collect(),
            None => headline::of_subscriptions(conn, &subscriptions).await?,
        };
        if self.json {
            headlines.iter().try_for_each(Headline::print_json)?;
            steps.iter().try_for_each(|step| output::print_json(&self::steps::json(step)))?;
            return Ok(ExitCode::SUCCESS);
        }
        headlines.iter().try_for_each(Headline::print)?;
        if !steps.is_empty() {
            output::print("\nhistory, in UTC")?;
        }
        let settled = settled(&steps);
        let lines = steps.iter().flat_map(|step| self::steps::lines(step, &settled, &meanings));
        lines.into_iter().try_for_each(|line| output::print(&line))?;
        // an event is explained by what it changed, not by what the rows are now
        if subject.event.is_none() {
            print_rows(&rows)?;
            self.print_limits(conn, &subscriptions).await?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn picture(&self, conn: &mut Connection) -> anyhow::Result<String> {
        let (rows, workspace) = match self.id.parse() {
            Ok(workspace) => (Vec::new(), Some(workspace)),
            Err(_) => (self.subject(conn).await?.rows, None),
        };
        let subscriptions = subscription_state::subscriptions(conn, &rows, workspace).await?;
        anyhow::ensure!(!subscriptions.is_empty(), "{} has no subscription, so there is nothing to draw", self.id);
        if let Some(limit) = &self.limit {
            return picture::months(conn, &subscriptions, limit, PERIODS).await;
        }
        let until = self.until.unwrap_or_else(clock::now);
        picture::life(conn, &subscriptions, until, self.steps).await
    }

    /// Resolves the id: an event to its object and its customer, any other id to the related objects.
    async fn subject(&self, conn: &mut Connection) -> anyhow::Result<Subject> {
        let id = self.id.as_str();
        let own = explain::events(conn, &[id.to_owned()], 1).await?;
        let event = own.into_iter().find_map(|step| match step.what {
            StepKind::Event { event_id, account, object_id, customer_id, .. } if event_id == id => {
                Some((account, object_id.into_iter().chain(customer_id).collect::<Vec<String>>()))
            }
            _ => None,
        });
        if let Some((account, ids)) = event {
            let mut rows = BTreeSet::new();
            for id in &ids {
                let around = explain::around(conn, id).await?;
                rows.extend(around.iter().map(|key| row_id(&key.account, &key.object_id)));
                rows.insert(row_id(&account, id));
            }
            let objects = vec![id.to_owned()];
            return Ok(Subject { objects, rows: rows.into_iter().collect(), event: Some(id.to_owned()) });
        }
        let around = explain::around(conn, id).await?;
        let is_customer = around.iter().any(|key| key.object_type == "customer" && key.object_id == id);
        let has_row = |key: &&ObjectKey| key.object_id == id || (is_customer && key.object_type == "subscription");
        let rows: BTreeSet<Uuid> =
            around.iter().filter(has_row).map(|key| row_id(&key.account, &key.object_id)).collect();
        let objects: BTreeSet<String> = around.iter().map(|key| key.object_id.clone()).chain([id.to_owned()]).collect();
        Ok(Subject { objects: objects.into_iter().collect(), rows: rows.into_iter().collect(), event: None })
    }

    /// The steps in the order in which they were processed, and what their causes mean.
    async fn steps(&self, conn: &mut Connection, subject: &Subject) -> anyhow::Result<(Vec<Step>, Causes)> {
        let mut steps = explain::events(conn, &subject.objects, self.steps).await?;
        if subject.event.is_none() {
            steps.extend(explain::reads(conn, &subject.objects, self.steps).await?);
            steps.extend(explain::jobs(conn, &subject.objects).await?);
        }
        let of_event = |step: &Step| match (&step.what, &subject.event) {
            (StepKind::Change { causes, .. }, Some(event)) => causes.contains(event),
            _ => true,
        };
        steps.extend(explain::changes(conn, &subject.rows, self.steps).await?.into_iter().filter(of_event));
        // of an event only what it caused is shown
        let objects = if subject.event.is_none() { subject.objects.as_slice() } else { &[] };
        let meanings = writes::add(conn, objects, &mut steps, self.steps).await?;
        Ok((in_order(steps), meanings))
    }

    /// Prints the limits of the subscription, or of the only one of a customer.
    async fn print_limits(&self, conn: &mut Connection, subscriptions: &[SubscriptionState]) -> anyhow::Result<()> {
        let [subscription] = subscriptions else { return Ok(()) };
        let mut periods = subscription_state::periods(conn, subscription.id, PERIODS).await?;
        periods.retain(|period| self.limit.as_ref().is_none_or(|key| *key == period.limit_key));
        for table in limits::tables(&periods, output::width()) {
            output::print(&format!("\n{table}"))?;
        }
        Ok(())
    }
}

fn print_rows(rows: &[(String, String)]) -> anyhow::Result<()> {
    for (table, row) in rows {
        output::print(&format!("\n{table} now"))?;
        changes::values(row, "  ").iter().try_for_each(|line| output::print(line))?;
    }
    Ok(())
}

/// Sorts by processing time. A change is written just before its event is settled, but is shown after it.
fn in_order(mut steps: Vec<Step>) -> Vec<Step> {
    let settled = settled(&steps);
    let sort_key = |step: &Step| match &step.what {
        StepKind::Change { causes, .. } => {
            let by = causes.iter().filter_map(|cause| settled.get(cause)).max();
            (by.copied().unwrap_or(step.at), true)
        }
        _ => (step.at, false),
    };
    steps.sort_by_key(sort_key);
    steps
}

/// The processing time of each event and each change at Stripe among the steps, by the cause that rows name.
fn settled(steps: &[Step]) -> BTreeMap<String, OffsetDateTime> {
    let event = |step: &Step| match &step.what {
        StepKind::Event { event_id, .. } => Some((event_id.clone(), step.at)),
        StepKind::Write { id, .. } => Some((cause_of(*id), step.at)),
        _ => None,
    };
    steps.iter().filter_map(event).collect()
}
