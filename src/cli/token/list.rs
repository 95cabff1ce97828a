//! `token list`: all tokens as a table of 80 columns, or as JSON. Neither contains a secret or its hash.

use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use serde::Serialize;

use crate::api::principal::token_store::{self, StoredToken};
use crate::base::text::to_the_minute;
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;

/// Arguments of `token list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON, one object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// A token as JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    token: &'a StoredToken,
    state: &'static str,
}

pub(super) async fn list(conn: &mut Connection, args: &Args) -> anyhow::Result<ExitCode> {
    let tokens = token_store::list(conn).await?;
    if args.json {
        tokens.iter().try_for_each(|token| output::print_json(&Line { token, state: token.state() }))?;
    } else if tokens.is_empty() {
        output::print("There are no tokens; `billing-sync token create` creates one.")?;
    } else {
        output::print(&table(&tokens))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Several lines for each token: id, user and five times would not fit beside each other.
fn table(tokens: &[StoredToken]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(output::WIDTH).unwrap_or(u16::MAX));
    table.set_header(["ID, USER, SCOPES, NOTE", "STATE, TIMES IN UTC"]);
    for (at, token) in tokens.iter().enumerate() {
        if at > 0 {
            table.add_row([""; 2]);
        }
        table.add_row([subject(token), times(token)]);
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        // the first column gets the rest of the width, in which an id and a user's id fit
        if at > 0 {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt()
}

fn subject(token: &StoredToken) -> String {
    let user = token.user_id.map(|user| user.to_string());
    // a line break in a note that was written by other means must not look like another row
    let note = token.note.as_ref().map(|note| note.replace('\n', " "));
    [Some(token.id.clone()), user, Some(token.scopes.join("\n")), note]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n")
}

fn times(token: &StoredToken) -> String {
    let expiry =
        token.expires_at.map_or_else(|| "never expires".to_owned(), |at| format!("expires {}", to_the_minute(at)));
    let last_use =
        token.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("used {}", to_the_minute(at)));
    let revocation = token.revoked_at.map(|at| format!("revoked {}", to_the_minute(at)));
    let mut lines =
        vec![token.state().to_owned(), format!("created {}", to_the_minute(token.created_at)), expiry, last_use];
    lines.extend(revocation);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;
    use crate::api::principal::Scope;

    fn stored() -> StoredToken {
        let then = datetime!(2026-11-29 23:59:59 UTC);
        StoredToken {
            id: "0123456789abcdef".to_owned(),
            scopes: Scope::ALL.iter().map(|scope| scope.as_str().to_owned()).collect(),
            user_id: Some(Uuid::from_u128(u128::MAX)),
            note: Some("the nightly import of the usage of all workspaces, ".repeat(3)),
            created_at: then,
            expires_at: Some(then),
            last_used_at: Some(then),
            revoked_at: Some(then),
            is_expired: true,
        }
    }

    fn bare() -> StoredToken {
        StoredToken {
            user_id: None,
            note: None,
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
            is_expired: false,
            ..stored()
        }
    }

    #[test]
    fn the_table_fits_the_terminal_and_keeps_ids_and_times_whole() {
        let table = table(&[stored(), bare()]);
        assert!(table.lines().all(|line| line.chars().count() <= output::WIDTH), "{table}");
        let user = Uuid::from_u128(u128::MAX).to_string();
        for whole in [
            "0123456789abcdef",
            user.as_str(),
            "workspaces:write",
            "created 2026-11-29 23:59",
            "expires 2026-11-29 23:59",
            "used 2026-11-29 23:59",
            "revoked 2026-11-29 23:59",
            "never used",
            "never expires",
        ] {
            assert!(table.contains(whole), "{whole}: {table}");
        }
        assert!(table.lines().any(str::is_empty), "{table}");
    }

    #[test]
    fn a_state_is_that_of_the_strongest_reason() {
        assert_eq!(stored().state(), "revoked");
        assert_eq!(StoredToken { revoked_at: None, ..stored() }.state(), "expired");
        assert_eq!(bare().state(), "active");
    }

    #[test]
    fn a_note_of_two_lines_is_one_line() {
        let token = StoredToken { note: Some("one\ntwo".to_owned()), ..bare() };
        assert!(subject(&token).ends_with("\none two"), "{}", subject(&token));
    }
}
