//! The checks of the workspace API: its role, its search, how requests are authenticated, and whether it changes objects
//! at Stripe.

use super::report::{Check, Report};
use crate::api::principal::jwt::JwtVerifier;
use crate::api::principal::token_store;
use crate::cli::output;
use crate::config::api::JwtConfig;
use crate::database::hosts::Hosts;
use crate::database::role::{self, API_ROLE};
use crate::database::{Connection, Session};
use crate::migrations;

/// Checks the role, the search index and the authentication of the workspace API. Reports nothing if it is not used:
/// none of its settings is set, and no token exists.
pub(super) async fn check(
    options: Option<&Hosts>,
    is_configured: bool,
    identity_provider: Option<&JwtConfig>,
    has_write_key: bool,
    report: &mut Report,
) {
    // `database` has reported why there is no connection, and which migrations are missing
    let Some(options) = options else { return };
    let Ok(mut conn) = options.connect(Session::COMMAND).await else { return };
    if !migrations::pending(&mut conn).await.is_ok_and(|status| status.is_current()) {
        return;
    }
    let tokens = match token_store::list(&mut conn).await {
        Ok(tokens) => tokens,
        Err(error) => return report.add(Check::broken("api", &error)),
    };
    if !is_configured && tokens.iter().all(|token| token.revoked_at.is_some()) {
        return;
    }
    report.add(role_of_api(options).await);
    report.add(search(&mut conn).await.unwrap_or_else(|error| Check::broken("api", &error)));
    let active = tokens.iter().filter(|token| token.state() == "active").count();
    report.add(tokens_check(active, identity_provider.is_some()));
    if let Some(config) = identity_provider {
        report.add(keys(config).await);
    }
    if !has_write_key {
        let detail = "STRIPE_WRITE_KEY is not set, so requests that change objects at Stripe are answered 501";
        report.add(Check::ok("api", detail));
    }
}

/// Checks as which role the statements of the API run, and whether it may do what they need.
async fn role_of_api(options: &Hosts) -> Check {
    let checked = async {
        let mut conn = options.connect(Session::API).await?;
        let missing = role::missing_privilege_for_api(&mut conn).await?;
        anyhow::Ok((role::of_session(&mut conn).await?, missing))
    };
    match checked.await {
        Err(error) => Check::failed("api", output::causes(&error), "see also the server's log"),
        Ok((_, Some(missing))) => {
            let (detail, fix) = missing.split_once(": ").unwrap_or((&missing, "run ops/roles.sql"));
            Check::failed("api", detail, fix)
        }
        Ok((roles, None)) if roles.role == API_ROLE => {
            Check::ok("api", format!("its statements run as {API_ROLE}, which may do only what they need"))
        }
        Ok((roles, None)) => {
            let fix =
                format!("run psql --set ON_ERROR_STOP=1 --file ops/roles.sql, and GRANT {API_ROLE} TO {}", roles.login);
            Check::warning(
                "api",
                format!("its statements run as {}, which may do more than they need", roles.role),
                fix,
            )
        }
    }
}

/// Checks whether the search of workspaces can use its index.
async fn search(conn: &mut Connection) -> Result<Check, sqlx::Error> {
    Ok(if role::is_in_schema(conn, "workspaces_search").await? {
        Check::ok("api", "the search of workspaces has its index")
    } else {
        let fix = "run CREATE EXTENSION pg_trgm as an administrator, in a schema that the owner of billing may use; \
                   then, as that owner, SELECT billing.create_workspaces_search()";
        Check::warning("api", "the search of workspaces reads all of them: the index workspaces_search is missing", fix)
    })
}

/// Checks whether any request can be authenticated.
fn tokens_check(active: usize, has_identity_provider: bool) -> Check {
    match active {
        0 if !has_identity_provider => {
            let detail = "every request is refused: no token is active, and no identity provider is configured";
            let fix = "run `billing-sync token create`, or set BILLING_SYNC_API_JWT_ISSUER, \
                       BILLING_SYNC_API_JWT_AUDIENCE and BILLING_SYNC_API_JWT_KEYS";
            Check::warning("api", detail, fix)
        }
        0 => Check::ok("api", "no token is active; only tokens of the identity provider are accepted"),
        1 => Check::ok("api", "1 token is active"),
        _ => Check::ok("api", format!("{active} tokens are active")),
    }
}

/// Loads the keys of the identity provider once.
async fn keys(config: &JwtConfig) -> Check {
    match JwtVerifier::new(config.clone()).load().await {
        Ok(keys) => Check::ok("api", format!("usable keys of the identity provider: {keys}")),
        Err(cause) => {
            let fix =
                "correct BILLING_SYNC_API_JWT_KEYS, or what prevents the load; until then every JWT is answered 503";
            Check::failed("api", format!("the keys of the identity provider cannot be loaded: {cause}"), fix)
        }
    }
}
