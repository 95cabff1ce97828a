//! `outbox retry` and `outbox discard`: dead events by their ids, or all that fit a filter, after a confirmation.
//!
//! By id, other events are refused one by one, but `retry` makes a pending event due. By filter, the events are selected
//! and counted first. Only these are changed after the confirmation, and only if they are still dead.

use std::collections::BTreeMap;
use std::process::ExitCode;

use nix::unistd::{User, getuid};

use super::filter::FilterArgs;
use crate::base::text::counted;
use crate::cli::arguments::{one_line, reason};
use crate::cli::confirm::ConfirmArgs;
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;
use crate::domain::event::EventKey;
use crate::outbox::admin::{self, Discard, Locked, Selected};
use crate::outbox::wake::wake;

/// Number of event types that are named beside the number of events.
const NAMED_TYPES: usize = 5;
/// Maximum length of the operator's name in characters.
const NAME_LENGTH: usize = 100;

/// Which events are decided.
#[derive(Debug, clap::Args)]
pub(super) struct SelectionArgs {
    /// Stripe event ids (evt_…).
    #[arg(
        value_name = "EVENT_ID",
        required_unless_present_any = ["all_dead", "filter"],
        conflicts_with_all = ["all_dead", "filter"]
    )]
    event_ids: Vec<String>,
    /// All dead events.
    #[arg(long, conflicts_with = "filter")]
    all_dead: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Arguments of `outbox retry`.
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// Arguments of `outbox discard`.
#[derive(Debug, clap::Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Why the events are discarded, without personal data; stored for ever.
    #[arg(long, value_name = "TEXT", value_parser = impersonal_reason)]
    reason: String,
    /// Who discards them; stored with the database role [default: login name of the operating system user].
    #[arg(long, value_name = "NAME", value_parser = name)]
    by: Option<String>,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// Refuses an e-mail address: the reason stays when the data of a person is removed.
fn impersonal_reason(text: &str) -> Result<String, String> {
    let is_address =
        |word: &str| word.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
    if text.split_whitespace().any(is_address) {
        return Err("it contains an e-mail address: write an id of Stripe instead".to_owned());
    }
    reason(text)
}

fn name(text: &str) -> Result<String, String> {
    one_line(text, NAME_LENGTH)
}

/// The login name of the user who runs this process, or the number of one without a name, as in some containers.
fn login_name() -> String {
    let user = User::from_uid(getuid()).ok().flatten();
    user.and_then(|user| name(&user.name).ok()).unwrap_or_else(|| format!("uid {}", getuid()))
}

pub(super) async fn retry(conn: &mut Connection, args: &RetryArgs) -> anyhow::Result<ExitCode> {
    if args.selection.event_ids.is_empty() {
        let selected = match args.selection.confirmed(conn, "Retry").await? {
            Ok(selected) => selected,
            Err(code) => return Ok(code),
        };
        let retried = admin::retry(conn, selected.iter().map(|event| &event.key)).await?;
        wake_workers(conn).await;
        return report_selected(retried, selected.len(), ("is pending again", "are pending again"));
    }
    let ids = &args.selection.event_ids;
    let mut transaction = conn.begin().await?;
    let events = decisive(admin::lock(&mut transaction, ids).await?);
    admin::retry(&mut transaction, dead(&events)).await?;
    admin::make_due(&mut transaction, events.values().filter(|event| event.is_postponed).map(|event| &event.key))
        .await?;
    transaction.commit().await?;
    wake_workers(conn).await;
    report(ids, &events, |event| match event.state.as_str() {
        "dead" => Some("is pending again"),
        "pending" if event.is_postponed => Some("is due now"),
        "pending" => Some("was due already"),
        _ => None,
    })
}

/// Notifies the workers. A failure is harmless, because they find the events when they poll.
async fn wake_workers(conn: &mut Connection) {
    if let Err(error) = wake(conn).await {
        tracing::debug!(error = %error, "could not notify the workers");
    }
}

pub(super) async fn discard(conn: &mut Connection, args: &DiscardArgs) -> anyhow::Result<ExitCode> {
    let by = args.by.clone().unwrap_or_else(login_name);
    let discard = Discard { by: &by, reason: &args.reason };
    if args.selection.event_ids.is_empty() {
        let selected = match args.selection.confirmed(conn, "Discard").await? {
            Ok(selected) => selected,
            Err(code) => return Ok(code),
        };
        let discarded = admin::discard(conn, selected.iter().map(|event| &event.key), discard).await?;
        return report_selected(discarded, selected.len(), ("is discarded", "are discarded"));
    }
    let ids = &args.selection.event_ids;
    let mut transaction = conn.begin().await?;
    let events = decisive(admin::lock(&mut transaction, ids).await?);
    admin::discard(&mut transaction, dead(&events), discard).await?;
    transaction.commit().await?;
    report(ids, &events, |event| {
        (event.state == "dead").then_some("is discarded: state done, outcome ignored, reason discarded")
    })
}

impl SelectionArgs {
    /// Selects and counts the dead events of the filter, and asks for a confirmation. The inner error is the exit code of
    /// a command that changes nothing.
    async fn confirmed(&self, conn: &mut Connection, verb: &str) -> anyhow::Result<Result<Vec<Selected>, ExitCode>> {
        let filter = match self.filter.filter(Some("dead")) {
            Ok(filter) => filter,
            Err(wrong) => return Ok(Err(output::refuse(&wrong))),
        };
        let selected = admin::select(conn, &filter, None).await?;
        output::print(&output::wrapped("", &self.describe(&selected)))?;
        // also if there is none: otherwise a script would fail when it is needed for the first time
        if let Err(code) = self.confirm.check() {
            return Ok(Err(code));
        }
        if selected.is_empty() {
            return Ok(Err(ExitCode::SUCCESS));
        }
        let them = if selected.len() == 1 { "it" } else { "them" };
        if !self.confirm.ask(&format!("{verb} {them}?"))? {
            output::complain("nothing was changed");
            return Ok(Err(ExitCode::FAILURE));
        }
        Ok(Ok(selected))
    }

    /// The number of the events and their most frequent types.
    fn describe(&self, selected: &[Selected]) -> String {
        let condition = self.filter.describe();
        let mut types: BTreeMap<&str, usize> = BTreeMap::new();
        for event in selected {
            *types.entry(&event.event_type).or_default() += 1;
        }
        let mut types: Vec<_> = types.into_iter().collect();
        types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rest: usize = types.iter().skip(NAMED_TYPES).map(|(_, count)| count).sum();
        let named = types.iter().take(NAMED_TYPES).map(|(name, count)| format!("{count} of type {name}"));
        let named: Vec<_> = named.chain((rest > 0).then(|| format!("{rest} of other types"))).collect();
        match selected.len() {
            0 => format!("There are no dead events{condition}."),
            1 => format!("1 dead event{condition}: {}.", named.join(", ")),
            count => format!("{count} dead events{condition}: {}.", named.join(", ")),
        }
    }
}

/// The locked events by their ids. If several have the same id, one that can be changed counts.
fn decisive(locked: Vec<Locked>) -> BTreeMap<String, Locked> {
    let rank = |event: &Locked| (event.state == "dead", event.is_postponed);
    let mut events: BTreeMap<String, Locked> = BTreeMap::new();
    for event in locked {
        let id = event.key.event_id.clone();
        if events.get(&id).is_none_or(|known| rank(known) < rank(&event)) {
            events.insert(id, event);
        }
    }
    events
}

fn dead(events: &BTreeMap<String, Locked>) -> impl Iterator<Item = &EventKey> {
    events.values().filter(|event| event.state == "dead").map(|event| &event.key)
}

/// Reports what was changed by filter. Other events are no longer dead: another operator was faster.
fn report_selected(changed: u64, selected: usize, (one, several): (&str, &str)) -> anyhow::Result<ExitCode> {
    let done = if changed == 1 { one } else { several };
    output::print(&format!("{} {done}.", counted(changed, "dead event")))?;
    let others = i128::try_from(selected)? - i128::from(changed);
    if others > 0 {
        output::complain(&format!("{} not dead any more; not changed", counted(others, "selected event")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Reports what was done to each event; `None` means that it was refused.
fn report(
    event_ids: &[String],
    events: &BTreeMap<String, Locked>,
    done: impl Fn(&Locked) -> Option<&'static str>,
) -> anyhow::Result<ExitCode> {
    let mut refused = 0;
    for event_id in event_ids {
        let event = events.get(event_id);
        match (event.and_then(&done), event) {
            (Some(done), _) => output::print(&format!("{event_id} {done}"))?,
            (None, Some(event)) => {
                refused += 1;
                output::complain(&format!("{event_id} is {}, not dead; it was not changed", event.state));
            }
            (None, None) => {
                refused += 1;
                output::complain(&format!("{event_id} is not in the outbox"));
            }
        }
    }
    anyhow::ensure!(refused == 0, "{refused} of {} events were not changed", event_ids.len());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_contains_no_address() {
        assert!(impersonal_reason("customer ada@example.com is gone").is_err());
        assert!(impersonal_reason("<ada@example.com>").is_err());
        assert_eq!(impersonal_reason("tested by @ops at 17:00").as_deref(), Ok("tested by @ops at 17:00"));
    }
}
