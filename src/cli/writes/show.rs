//! `writes show`: all details of one change, and an explanation of its state.

use std::process::ExitCode;

use serde::Serialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::base::text::to_the_second;
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;
use crate::ledger::admin::{self, Line, Surroundings};
use crate::ledger::stripe_key;

/// Time for which Stripe keeps an idempotency key.
const KEY_LIFETIME: Duration = Duration::hours(24);

/// Arguments of `writes show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the change.
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Also print the values of the form, which contain personal data.
    #[arg(long)]
    reveal: bool,
    /// Print JSON, one object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// A change as JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    line: &'a Line,
    stripe_key: String,
    client_key: Option<&'a str>,
    client_status: Option<i32>,
    next_ids: &'a [Uuid],
    is_leased: bool,
    form_fields: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<&'a [(String, String)]>,
}

pub(super) async fn show(conn: &mut Connection, args: &Args) -> anyhow::Result<ExitCode> {
    let found = admin::of_objects(conn, &[], &[args.id], 1).await?.pop();
    let (Some(line), Some(around)) = (found, admin::surroundings(conn, args.id).await?) else {
        return Err(unknown(args.id));
    };
    let form = around.form.as_deref().map(pairs);
    if args.json {
        output::print_json(&JsonLine {
            line: &line,
            stripe_key: stripe_key(line.id, line.key_number),
            client_key: around.client_key.as_deref(),
            client_status: around.client_status,
            next_ids: &around.next,
            is_leased: around.is_leased,
            form_fields: form.as_ref().map(|form| form.iter().map(|(name, _)| name.as_str()).collect()),
            form: form.as_deref().filter(|_| args.reveal),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in fields(&line, &around) {
        output::print(&output::wrapped(&format!("{name:<18}"), &value))?;
    }
    for (name, value) in form_fields(form.as_deref(), args.reveal) {
        output::print(&output::wrapped(&format!("{name:<18}"), &value))?;
    }
    output::print("")?;
    // an indented line is a command to copy, so it is not wrapped
    for text in why(&line, &around).lines() {
        output::print(&if text.starts_with(' ') { text.to_owned() } else { output::wrapped("", text) })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The error of an id that no change has.
pub(super) fn unknown(id: Uuid) -> anyhow::Error {
    anyhow::anyhow!(
        "there is no change {id}; `billing-sync writes list` shows the ids. Changes that are done or refused are deleted \
         after 30 days"
    )
}

fn pairs(form: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(form.as_bytes()).into_owned().collect()
}

fn form_fields(form: Option<&[(String, String)]>, reveals: bool) -> Vec<(&'static str, String)> {
    let Some(form) = form else {
        return vec![("form", "deleted, as a day after the end of each change".to_owned())];
    };
    if !reveals {
        let names = form.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        return vec![("form", format!("{names} (--reveal shows the values)"))];
    }
    let shown = form.iter().enumerate().map(|(at, (name, value))| {
        let head = if at == 0 { "form" } else { "" };
        (head, format!("{name} = {value}"))
    });
    shown.collect()
}

fn fields(line: &Line, around: &Surroundings) -> Vec<(&'static str, String)> {
    let none = || "–".to_owned();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(none);
    let when = |time: Option<OffsetDateTime>| time.map_or_else(none, to_the_second);
    let id = |id: Option<Uuid>| id.map_or_else(none, |id| id.to_string());
    let account = if line.account.is_empty() { "own".to_owned() } else { line.account.clone() };
    let next = match (around.next.is_empty(), line.follow_up_due) {
        (true, false) => none(),
        (true, true) => "due, not begun yet".to_owned(),
        (false, _) => around.next.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", "),
    };
    let known = match (&line.known_event_id, line.known_version) {
        (Some(source), Some(version)) => format!("{source}, as of {}", to_the_second(version)),
        _ => "none was stored before the first attempt".to_owned(),
    };
    let saved = if line.is_error_saved { "yes: the object is read before the next attempt" } else { "no" };
    let client = match (&around.client_key, around.client_status) {
        (Some(key), Some(status)) => format!("{key}, answered with {status}"),
        (Some(key), None) => format!("{key}, not answered yet"),
        (None, _) => "none: the request had no Idempotency-Key, or its key is deleted".to_owned(),
    };
    let leased = match line.leased_until {
        Some(until) if around.is_leased => format!("a process is sending it, at most until {}", to_the_second(until)),
        Some(until) => format!("no process is sending it; the last lease ended at {}", to_the_second(until)),
        None => "no process is sending it".to_owned(),
    };
    let retry = if line.is_open() { to_the_second(line.retry_at) } else { none() };
    let status = line.stripe_status.map_or_else(none, |status| status.to_string());
    vec![
        ("id", line.id.to_string()),
        ("state", line.state.clone()),
        ("operation", line.operation.clone()),
        ("principal", line.principal.clone()),
        ("target", line.target.clone()),
        ("workspace_id", id(line.workspace_id)),
        ("account", account),
        ("object_type", line.object_type.clone()),
        ("object_id", line.object_id.clone().unwrap_or_else(|| "not known yet".to_owned())),
        ("path", format!("/v1{}", line.path)),
        ("begun_at", to_the_second(line.begun_at)),
        ("first_sent_at", format!("{}{}", when(line.first_sent_at), key_age(line, around.now))),
        ("attempts", line.attempts.to_string()),
        ("lease", leased),
        ("retry_at", retry),
        ("finished_at", when(line.finished_at)),
        ("stripe_key", stripe_key(line.id, line.key_number)),
        ("stripe_request_id", text(&line.stripe_request_id)),
        ("stripe_status", status),
        ("last_error", text(&line.last_error)),
        ("is_error_saved", saved.to_owned()),
        ("known_content", known),
        ("client_key", client),
        ("previous_id", id(line.previous_id)),
        ("next", next),
        ("replaces", text(&line.replaces)),
        ("resolved_by", text(&line.resolved_by)),
    ]
}

/// A remark on a key that Stripe no longer has.
fn key_age(line: &Line, now: OffsetDateTime) -> &'static str {
    match line.first_sent_at {
        Some(sent) if now - sent > KEY_LIFETIME => ", more than 24 hours ago: Stripe no longer has the key",
        _ => "",
    }
}

/// Explains the state in a sentence, with the next step.
fn why(line: &Line, around: &Surroundings) -> String {
    let resolved = line.resolved_by.is_some();
    match line.state.as_str() {
        "begun" | "sent" if around.is_leased => "A process is sending the request to Stripe.".to_owned(),
        "begun" => {
            "Nothing was sent yet with the present key. A process with the role api and STRIPE_WRITE_KEY sends it \
                    from retry_at on."
                .to_owned()
        }
        "sent" => {
            "It was sent, and the outcome is not known yet. A process with the role api and STRIPE_WRITE_KEY repeats \
                   it from retry_at on, with the same key, so Stripe makes the change once."
                .to_owned()
        }
        "done" if resolved => "An operator found that Stripe made the change.".to_owned(),
        "done" => "Stripe made the change.".to_owned(),
        "refused" if resolved => "An operator found that Stripe did not make the change.".to_owned(),
        "refused" => {
            "Stripe did not make the change; last_error contains the reason. The client was informed.".to_owned()
        }
        "unknown" => format!(
            "It was sent, and it cannot be found out any more whether Stripe made the change. Search the object and the \
             time first_sent_at in the Stripe dashboard (Developers > Logs). If Stripe made it:\n  {0} \\\n    \
             --as done --reason 'seen in the dashboard'\nIf not:\n  {0} \\\n    --as refused --reason 'not in the \
             dashboard'",
            format_args!("billing-sync writes resolve {}", line.id)
        ),
        _ => "This release does not know its state.".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use time::macros::datetime;

    use super::*;

    pub(in crate::cli::writes) fn line(state: &str) -> Line {
        let then = datetime!(2026-11-29 23:59 UTC);
        let is_open = ["begun", "sent"].contains(&state);
        Line {
            id: Uuid::from_u128(7),
            state: state.to_owned(),
            operation: "customer.update".to_owned(),
            target: "customer/cus_1".to_owned(),
            principal: "token:0123456789abcdef".to_owned(),
            account: String::new(),
            workspace_id: None,
            object_type: "customer".to_owned(),
            object_id: Some("cus_1".to_owned()),
            path: "/customers/cus_1".to_owned(),
            previous_id: None,
            replaces: None,
            follow_up_due: false,
            key_number: 1,
            attempts: 0,
            known_version: None,
            known_event_id: None,
            last_error: None,
            is_error_saved: false,
            stripe_request_id: None,
            stripe_status: None,
            resolved_by: None,
            begun_at: then,
            first_sent_at: None,
            leased_until: None,
            retry_at: then + Duration::seconds(10),
            finished_at: (!is_open).then_some(then),
        }
    }

    #[test]
    fn every_state_has_an_explanation() {
        let around = Surroundings {
            form: None,
            next: Vec::new(),
            is_leased: false,
            client_key: None,
            client_status: None,
            now: datetime!(2026-11-30 00:00 UTC),
        };
        for state in ["begun", "sent", "done", "refused", "unknown"] {
            assert!(!why(&line(state), &around).contains("does not know"), "{state}");
        }
        let commands = why(&line("unknown"), &around);
        assert!(commands.lines().filter(|line| line.starts_with(' ')).all(|line| line.len() <= 80), "{commands}");
    }

    #[test]
    fn the_values_of_a_form_are_shown_on_request_only() {
        let form = pairs("name=Ada+Lovelace&email=ada%40example.com");
        let shown = |reveals| form_fields(Some(&form), reveals).into_iter().map(|(_, text)| text).collect::<String>();
        assert_eq!(shown(false), "name, email (--reveal shows the values)");
        assert!(shown(true).contains("email = ada@example.com"), "{}", shown(true));
    }

    #[test]
    fn an_open_line_was_tried_when_it_was_due_at_the_latest() {
        let open = line("sent");
        assert_eq!(open.tried_at(), open.retry_at);
        let leased = Line { leased_until: Some(open.retry_at + Duration::MINUTE), ..open.clone() };
        assert_eq!(leased.tried_at(), open.retry_at + Duration::MINUTE);
    }
}
