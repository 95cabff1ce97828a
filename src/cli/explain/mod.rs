//! `explain`: the history of a row, event by event, to answer "why is this subscription inactive?" with one command.
//! `explain workspace` answers "why does it have so many words?".

mod workspace;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use sqlx::PgConnection;
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

use self::writes::Causes;
use super::settings::{DatabaseSettings, SettingArgs};
use super::task::Task;
use super::{changes, database, output};
use crate::admin::explain::{self, Step, StepKind};
use crate::config::database::required;
use crate::config::source::{Flags, Source};
use crate::database::hosts::Hosts;
use crate::domain::object::{ObjectKey, row_id};
use crate::ledger::cause_of;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// Stripe id of a customer, a subscription, an event, or any other object.
    #[arg(value_name = "ID", required = true)]
    id: Option<String>,
    /// Show at most this number of steps of each kind, the newest ones.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// Print JSON, one step per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingArgs<DatabaseSettings>,
}

/// Subjects other than a Stripe object.
#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Show how the limits of a workspace came to be: for each period the amounts included by each item, used, carried
    /// over, expired and granted.
    Workspace(workspace::Args),
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
    pub(super) fn flags(&self) -> Flags {
        match &self.other {
            Some(Other::Workspace(args)) => args.settings.flags(),
            None => self.settings.flags(),
        }
    }

    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let options = required(source)?;
        Some(Box::pin(async move { self.run(&options).await }))
    }

    async fn run(mut self, options: &Hosts) -> anyhow::Result<ExitCode> {
        let conn = &mut database::connect(options).await?;
        if let Some(Other::Workspace(args)) = self.other.take() {
            return args.run(conn).await;
        }
        let subject = self.subject(conn).await?;
        let (steps, meanings) = self.steps(conn, &subject).await?;
        let rows = explain::rows(conn, &subject.rows).await?;
        anyhow::ensure!(
            !steps.is_empty() || !rows.is_empty(),
            "no event, read or row of {} is stored; check that it belongs to this account and mode",
            self.id()
        );
        if self.json {
            steps.iter().try_for_each(|step| output::print_json(&json(step)))?;
            return Ok(ExitCode::SUCCESS);
        }
        let settled = settled(&steps);
        steps.iter().flat_map(|step| lines(step, &settled, &meanings)).try_for_each(|line| output::print(&line))?;
        for (table, row) in &rows {
            output::print("")?;
            output::print(&format!("{table} now"))?;
            changes::values(row, "  ").iter().try_for_each(|line| output::print(line))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The id; clap requires it without a subcommand.
    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Resolves the id: an event to its object and its customer, any other id to the related objects.
    async fn subject(&self, conn: &mut PgConnection) -> anyhow::Result<Subject> {
        let id = self.id();
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
    async fn steps(&self, conn: &mut PgConnection, subject: &Subject) -> anyhow::Result<(Vec<Step>, Causes)> {
        let mut steps = explain::events(conn, &subject.objects, self.limit).await?;
        if subject.event.is_none() {
            steps.extend(explain::reads(conn, &subject.objects, self.limit).await?);
            steps.extend(explain::jobs(conn, &subject.objects).await?);
        }
        let of_event = |step: &Step| match (&step.what, &subject.event) {
            (StepKind::Change { causes, .. }, Some(event)) => causes.contains(event),
            _ => true,
        };
        steps.extend(explain::changes(conn, &subject.rows, self.limit).await?.into_iter().filter(of_event));
        // of an event only what it caused is shown
        let objects = if subject.event.is_none() { subject.objects.as_slice() } else { &[] };
        let meanings = writes::add(conn, objects, &mut steps, self.limit).await?;
        Ok((in_order(steps), meanings))
    }
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

fn when(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    time.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_else(|_| time.to_string())
}

/// A step as text. A changed row is indented under the event or the change at Stripe that caused it; without one it has
/// its own time.
fn lines(step: &Step, settled: &BTreeMap<String, OffsetDateTime>, meanings: &Causes) -> Vec<String> {
    let at = when(step.at);
    match &step.what {
        StepKind::Event { event_id, event_type, object_id, created, state, outcome, reason, .. } => {
            let fate = [outcome.as_deref().unwrap_or(state), reason.as_deref().unwrap_or_default()].join(" ");
            let of = object_id.as_ref().map(|id| format!(" of {id}")).unwrap_or_default();
            let line = format!("{event_type}{of}: {}", fate.trim());
            let first = output::wrapped(&format!("{at}  "), &line);
            vec![first, output::wrapped("                     ", &format!("{event_id}, created {}", when(*created)))]
        }
        StepKind::Read { object_id, outcome, cause, request_id, version } => {
            let request = request_id.as_ref().map(|id| format!(", {id}")).unwrap_or_default();
            let line = format!("read of {object_id} ({cause}): {outcome}, as of {}{request}", when(*version));
            vec![output::wrapped(&format!("{at}  "), &line)]
        }
        StepKind::Write { id, operation, object_id, principal, state, request_id, last_error, begun_at } => {
            let of = object_id.as_ref().map(|id| format!(" of {id}")).unwrap_or_default();
            let error = last_error.as_ref().map(|error| format!("; last try: {error}")).unwrap_or_default();
            let line = format!("write {operation}{of} by {principal}: {state}{error}");
            let request = request_id.as_ref().map(|id| format!(", {id}")).unwrap_or_default();
            let second = format!("{id}, begun {}{request}", when(*begun_at));
            vec![output::wrapped(&format!("{at}  "), &line), output::wrapped("                     ", &second)]
        }
        StepKind::Change { table, causes, changes, .. } => {
            let named = causes.iter().map(|cause| meanings.get(cause).unwrap_or(cause).as_str()).collect::<Vec<_>>();
            let why = if named.is_empty() { String::new() } else { format!(" by {}", named.join(", ")) };
            let head = if causes.iter().any(|cause| settled.contains_key(cause)) {
                "                     ".to_owned()
            } else {
                format!("{at}  ")
            };
            let mut lines = vec![output::wrapped(&head, &format!("{table} changed{why}"))];
            lines.extend(changes::lines(changes, "                       "));
            lines
        }
        StepKind::Job { kind, object_id, last_error } => {
            let error = last_error.as_ref().map(|error| format!("; last try: {error}")).unwrap_or_default();
            vec![output::wrapped(&format!("{at}  "), &format!("queued: {kind} of {object_id}{error}"))]
        }
    }
}

/// A step as JSON.
fn json(step: &Step) -> serde_json::Value {
    use serde_json::json;
    let at = when(step.at);
    match &step.what {
        StepKind::Event { event_id, event_type, object_id, created, state, outcome, reason, .. } => json!({
            "at": at, "step": "event", "event_id": event_id, "type": event_type, "object_id": object_id,
            "created": when(*created), "state": state, "outcome": outcome, "reason": reason,
        }),
        StepKind::Read { object_id, outcome, cause, request_id, version } => json!({
            "at": at, "step": "read", "object_id": object_id, "outcome": outcome, "cause": cause,
            "request_id": request_id, "version": when(*version),
        }),
        StepKind::Write { id, operation, object_id, principal, state, request_id, last_error, begun_at } => json!({
            "at": at, "step": "write", "id": id, "operation": operation, "object_id": object_id, "principal": principal,
            "state": state, "request_id": request_id, "last_error": last_error, "begun": when(*begun_at),
        }),
        StepKind::Change { table, row_id, causes, changes } => json!({
            "at": at, "step": "change", "table": table, "row_id": row_id, "causes": causes,
            "changes": changes::json(changes),
        }),
        StepKind::Job { kind, object_id, last_error } => json!({
            "at": at, "step": "job", "kind": kind, "object_id": object_id, "last_error": last_error,
        }),
    }
}
