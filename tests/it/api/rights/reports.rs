//! What `serve` and `doctor` report about the rights of the workspace API, before a request fails.

use billing_sync::database::role::API_ROLE;

use super::{ROLES, World};
use crate::cli::{code, run, words};
use crate::support::process::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_refuses_to_start_the_api_without_one_of_its_rights() {
    let world = World::start().await;
    world.execute(ROLES).await;
    let url = world.limited_url();
    let refused = |expected: &str| {
        let environment = [("DATABASE_URL", url.as_str())];
        let free = ["--api-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
        let output = run(&[&["serve", "--roles", "api"][..], &free].concat(), &environment);
        let printed = words(&output.stderr);
        assert!(code(&output) == 2 && printed.contains(expected), "{printed}");
    };
    let login = &world.login;
    refused(&format!(
        "the role {login} does not have the privilege USAGE ON SCHEMA billing, which the workspace API needs: as the \
         owner of the schema"
    ));
    refused(&format!("run psql --set ON_ERROR_STOP=1 --file ops/roles.sql, and GRANT {API_ROLE} TO {login}"));
    world.execute(&format!("GRANT {API_ROLE} TO {login}")).await;
    // as after a migration that adds a column, without the new file
    world.execute("REVOKE UPDATE (deleted_at) ON billing.workspaces FROM billing_api").await;
    refused(
        "the role billing_api does not have the privilege UPDATE (deleted_at) ON TABLE billing.workspaces, which the \
         workspace API needs",
    );
    world.execute(ROLES).await;
    let server = Server::start_on(&url, "api", &[("BILLING_SYNC_API_LISTEN", "127.0.0.1:0")]).await;
    let ready = server.ask("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text);
    server.kill().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_checks_the_role_the_search_and_the_credentials_of_the_api() {
    let world = World::start().await;
    let doctor = |settings: &[(&str, &str)]| {
        let always = [("DATABASE_URL", world.app.database.url.as_str()), ("STRIPE_WEBHOOK_SECRET", "whsec_x")];
        let output = run(&["doctor"], &[&always[..], settings].concat());
        (code(&output), words(&output.stdout))
    };
    let (status, report) = doctor(&[]);
    assert!(status == 0 && report.contains("ok api 3 tokens are active"), "{report}");
    assert!(report.contains("which may do more than they need fix: run psql"), "{report}");
    world.execute(ROLES).await;
    world.execute("UPDATE billing.api_tokens SET revoked_at = clock_timestamp()").await;
    world.execute("DROP INDEX IF EXISTS billing.workspaces_search").await;
    let (status, report) = doctor(&[]);
    let is_silent = ["ok", "warn", "FAIL"].iter().all(|word| !report.contains(&format!("{word} api ")));
    assert!(status == 0 && is_silent, "an operator who does not use the API sees no line about it: {report}");
    let (status, report) = doctor(&[("BILLING_SYNC_API_RATE", "50")]);
    assert_eq!(status, 0, "{report}");
    for expected in [
        "ok api its statements run as billing_api",
        "warn api the search of workspaces reads all of them: the index workspaces_search is missing fix: run CREATE \
         EXTENSION pg_trgm",
        "warn api every request is refused: no token is active, and no identity provider is configured fix: run \
         `billing-sync token create`",
    ] {
        assert!(report.contains(expected), "{report}");
    }
    world.execute("REVOKE EXECUTE ON FUNCTION billing.release(uuid, text, bigint) FROM billing_api").await;
    let (status, report) = doctor(&[
        ("BILLING_SYNC_API_JWT_ISSUER", "https://id.example.com/"),
        ("BILLING_SYNC_API_JWT_AUDIENCE", "billing"),
        ("BILLING_SYNC_API_JWT_KEYS", "/nowhere/jwks.json"),
    ]);
    assert_eq!(status, 1, "{report}");
    for expected in [
        "FAIL api the role billing_api does not have the privilege EXECUTE ON FUNCTION billing.release(uuid, text, \
         bigint), which the workspace API needs fix: as the owner of the schema",
        "ok api no token is active; only tokens of the identity provider are accepted",
        "FAIL api the keys of the identity provider cannot be loaded: /nowhere/jwks.json",
    ] {
        assert!(report.contains(expected), "{report}");
    }
    world.finish().await;
}
