//! What a demo that keeps serving prints: its addresses, and what to try.
//!
//! Owns the printed queries: each result fits a terminal of 80 columns. `tests/it/demo.rs` runs them.

use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::json;

use super::report::{Report, webhook_url};
use super::story::{ADA_SUB, CLEO, WORDS, WORKSPACE};

/// Addresses and secrets of a demo that keeps serving.
pub(super) struct Endpoints<'a> {
    pub(super) webhooks: SocketAddr,
    pub(super) ops: SocketAddr,
    pub(super) database_url: &'a str,
    /// Base URL of the workspace API, if the demo serves it.
    pub(super) api: Option<String>,
    /// The secret of this run.
    pub(super) secret: &'a str,
    /// Whether the user's own secrets are accepted, too.
    pub(super) extra_secrets: bool,
}

impl<W: Write> Report<'_, W> {
    /// How to inspect the database and to send events to a demo that keeps serving.
    pub(super) fn keeping(&mut self, endpoints: &Endpoints<'_>) -> io::Result<()> {
        let Endpoints { webhooks, ops, database_url, secret, extra_secrets, api: _ } = endpoints;
        let url = webhook_url(*webhooks);
        if self.is_json() {
            // for a script that waits until the demo is serving
            let line = json!({ "table": "serving", "webhooks": url, "ops": format!("http://{ops}"),
                "database_url": database_url, "webhook_secret": secret });
            return self.write(&line.to_string());
        }
        self.print("\nStill serving, until Ctrl-C. The next demo starts with empty tables.\n")?;
        self.print(&format!("  webhooks       {url}"))?;
        self.print(&format!("  operations     http://{ops}/metrics, /livez, /readyz"))?;
        self.print("\nAsk why a row and a balance are what they are, in another terminal:")?;
        self.print(&format!("  export DATABASE_URL='{database_url}'"))?;
        self.print(&format!("  billing-sync explain {ADA_SUB}"))?;
        self.print(&format!("  billing-sync explain {WORKSPACE}"))?;
        self.print("  billing-sync outbox list")?;
        self.print("\nAsk and consume as your product does:")?;
        self.print("  psql \"$DATABASE_URL\"")?;
        for query in queries() {
            query.lines().try_for_each(|line| self.print(&format!("  {line}")))?;
        }
        self.print("\nSend event files, signed with the secret of this run:")?;
        self.print(&format!("  export STRIPE_WEBHOOK_SECRET={secret}"))?;
        self.print(&format!("  billing-sync send EVENT.json --to {url}"))?;
        if *extra_secrets {
            self.print("\nReceive test events of your Stripe account. STRIPE_WEBHOOK_SECRET is accepted;")?;
            self.print("it must be the output of `stripe listen --print-secret`:")?;
        } else {
            self.print("\nReceive test events of your Stripe account. `stripe listen` has its own secret,")?;
            self.print("which the demo needs: stop this demo (Ctrl-C), then")?;
            self.print("  export STRIPE_WEBHOOK_SECRET=$(stripe listen --print-secret)")?;
            self.print("  billing-sync demo --keep")?;
            self.print("and in another terminal")?;
        }
        self.print(&format!("  stripe listen --forward-to {url}"))?;
        self.print("  stripe trigger customer.subscription.created")
    }

    /// Requests to the workspace API.
    pub(super) fn api(&mut self, api: &str, token: &str) -> io::Result<()> {
        if self.is_json() {
            return self.write(&json!({ "table": "api", "url": api, "token": token }).to_string());
        }
        self.print("\nAsk the workspace API whether a customer may use the product, and how much:")?;
        self.print(&format!("  export TOKEN={token}"))?;
        self.print("  curl -H \"Authorization: Bearer $TOKEN\" \\")?;
        self.print(&format!("    '{api}/v1/state?customer={CLEO}'"))?;
        self.print(&format!("Its documentation, in a browser: {api}/docs"))
    }
}

/// What a product asks and does: may this workspace use the product, how much, until when?
fn queries() -> [String; 3] {
    [
        "SELECT workspace_id, active, inactive_reason FROM billing.workspace_billing;".to_owned(),
        format!(
            "SELECT included, spillover, used, available, limit_renewal_date
FROM billing.workspace_limits
WHERE workspace_id = '{WORKSPACE}'
    AND limit_key = '{WORDS}';"
        ),
        format!("SELECT billing.consume('{WORKSPACE}', '{WORDS}', 250);"),
    ]
}
