//! `token revoke`: takes ids, or whole tokens as they were found, and reports the result for each. A pasted token is
//! never repeated: the process keeps only its id.

use std::convert::Infallible;
use std::process::ExitCode;
use std::str::FromStr;

use crate::api::principal::token::TokenId;
use crate::api::principal::token_store::{self, Revocation};
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};
use crate::database::Connection;

/// Arguments of `token revoke`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of tokens, or whole tokens.
    #[arg(value_name = "ID", required = true)]
    tokens: Vec<Subject>,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

/// The id in an argument; `None` if it has none. Not an error of the argument, because its message would quote it.
#[derive(Debug, Clone)]
struct Subject(Option<TokenId>);

impl FromStr for Subject {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(TokenId::named_by(text)))
    }
}

pub(super) async fn revoke(conn: &mut Connection, args: &Args) -> anyhow::Result<ExitCode> {
    let mut unknown = 0;
    for (at, subject) in args.tokens.iter().enumerate() {
        let Some(id) = &subject.0 else {
            unknown += 1;
            output::complain(&format!("argument {} is neither a token nor an id of 16 hexadecimal digits", at + 1));
            continue;
        };
        match token_store::revoke(conn, id).await? {
            Revocation::Revoked => output::print(&format!("{id} is revoked"))?,
            Revocation::AlreadyRevoked => output::print(&format!("{id} was already revoked"))?,
            Revocation::NotFound => {
                unknown += 1;
                output::complain(&format!("{id} is not the id of a token"));
            }
        }
    }
    let count = args.tokens.len();
    anyhow::ensure!(unknown == 0, "{unknown} of {count} are not known; `billing-sync token list` shows the ids");
    Ok(ExitCode::SUCCESS)
}
