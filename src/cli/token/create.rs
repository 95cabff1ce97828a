//! `token create`: prints a new token alone on standard output, so that a script can store it.

use std::process::ExitCode;
use std::time::Duration;

use uuid::Uuid;

use crate::api::principal::Scope;
use crate::api::principal::token_store::{self, NewToken};
use crate::base::text::{is_control, to_the_second};
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;

/// Bounds of the time until a token expires. The upper one keeps every expiry a date that PostgreSQL can store.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24 * 3660));

/// Maximum length of a note in characters: it is a label in a table.
const NOTE_LENGTH: usize = 200;

/// Arguments of `token create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the token permits, separated by commas: `workspaces:read`; `workspaces:write`, which includes reading;
    /// `workspaces:admin`, which covers all workspaces; `checkout-link:write`, which creates checkout links.
    #[arg(long, value_name = "SCOPES", required = true, value_delimiter = ',', value_parser = scope)]
    scopes: Vec<Scope>,
    /// The user who counts as logged in: the token sees the workspaces of which this user is a member.
    #[arg(long, value_name = "UUID")]
    user: Option<Uuid>,
    /// Time until the token expires, such as `90d`; without it, the token never expires.
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires: Option<Duration>,
    /// What the token is for, shown by `token list`.
    #[arg(long, value_name = "TEXT", value_parser = note)]
    note: Option<String>,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

impl Args {
    /// Describes arguments that are valid alone, but not together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let is_for_workspaces = self.scopes.iter().any(|scope| *scope != Scope::CheckoutLinkWrite);
        let sees_nothing = self.user.is_none() && !self.scopes.contains(&Scope::WorkspacesAdmin);
        (is_for_workspaces && sees_nothing).then_some(
            "a token without a user sees no workspace: add --user UUID for the workspaces of one user, or the scope \
             workspaces:admin for all workspaces",
        )
    }

    /// The scopes in their order, each once.
    fn distinct_scopes(&self) -> Vec<Scope> {
        let mut scopes = self.scopes.clone();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }
}

pub(super) async fn create(conn: &mut Connection, args: &Args) -> anyhow::Result<ExitCode> {
    let token = token_store::random_token()?;
    let scopes = args.distinct_scopes();
    let new = NewToken {
        token: &token,
        scopes: &scopes,
        user: args.user,
        note: args.note.as_deref(),
        lifetime: args.expires,
    };
    let expires_at = token_store::create(conn, &new).await?;
    if let Err(error) = output::print(&token.expose()) {
        // a valid token must not remain that the operator never saw
        token_store::revoke(conn, token.id()).await?;
        return Err(error.context("the token could not be shown, so it was revoked"));
    }
    let scopes = scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
    let user = args.user.map(|user| format!(", for user {user}")).unwrap_or_default();
    let expiry = expires_at.map_or_else(|| "never expires".to_owned(), |at| format!("expires {}", to_the_second(at)));
    let id = token.id();
    output::complain(&output::wrapped(
        "",
        &format!("created token {id} with {scopes}{user}; it {expiry}; it is shown only this once, so store it now"),
    ));
    Ok(ExitCode::SUCCESS)
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text.trim()).ok_or_else(|| format!("the scopes are {}", Scope::ALL.map(Scope::as_str).join(", ")))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let (least, most) = LIFETIMES;
    humantime::parse_duration(text.trim()).ok().filter(|lifetime| (least..=most).contains(lifetime)).ok_or_else(|| {
        "write a duration from 1s to 10 years with its unit, as in 90d; without --expires the token never expires"
            .to_owned()
    })
}

fn note(text: &str) -> Result<String, String> {
    let note = text.trim();
    if note.is_empty() || note.chars().count() > NOTE_LENGTH || note.contains(is_control) {
        return Err(format!("write one line of at most {NOTE_LENGTH} characters"));
    }
    Ok(note.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_a_unit_and_bounds() {
        assert_eq!(lifetime("90d"), Ok(Duration::from_hours(90 * 24)));
        assert_eq!(lifetime(" 1s "), Ok(Duration::from_secs(1)));
        assert!(lifetime("10years").is_ok());
        for wrong in ["", "0", "0s", "90", "999ms", "-1d", "11years", "soon"] {
            assert!(lifetime(wrong).is_err_and(|fix| fix.contains("as in 90d")), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_scope_is_refused_with_the_known_ones() {
        assert_eq!(scope(" workspaces:read"), Ok(Scope::WorkspacesRead));
        for wrong in ["", "workspaces", "Workspaces:read", "workspaces:read:"] {
            assert_eq!(
                scope(wrong),
                Err("the scopes are workspaces:read, workspaces:write, workspaces:admin, checkout-link:write"
                    .to_owned())
            );
        }
    }

    #[test]
    fn a_note_is_one_short_line() {
        assert_eq!(note(" nightly import "), Ok("nightly import".to_owned()));
        assert!(note(&"ä".repeat(NOTE_LENGTH)).is_ok());
        for wrong in ["", "  ", "two\nlines", "\u{1b}[31m", "\u{202E}", &"x".repeat(NOTE_LENGTH + 1)] {
            assert!(note(wrong).is_err(), "{wrong:?}");
        }
    }
}
