//! `redact`: removes the personal data of one customer from the archive, the mirror, the rows and their history.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context as _;
use prometheus::Registry;

use super::confirm::ConfirmArgs;
use super::settings::{SettingArgs, StripeSettings};
use super::task::Task;
use super::{database, output};
use crate::base::text::counted;
use crate::base::waits::Waits;
use crate::config::database::required;
use crate::config::source::Source;
use crate::config::sync::SyncConfig;
use crate::config::worker::WorkerConfig;
use crate::database::Connection;
use crate::database::hosts::Hosts;
use crate::domain::object::ObjectKey;
use crate::metrics::process::ProcessMetrics;
use crate::rebuild::run::Rebuild;
use crate::redaction;
use crate::worker::Context;

/// Arguments of `redact`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stripe id of the customer (cus_…).
    #[arg(value_name = "CUSTOMER_ID")]
    customer: String,
    /// Connected account of the customer, if it is not of the own account.
    #[arg(long, value_name = "ACCOUNT", default_value = "", hide_default_value = true)]
    account: String,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    pub(super) settings: SettingArgs<StripeSettings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let hosts = required(source);
        let (sync, worker) = (SyncConfig::read(source), WorkerConfig::read(source));
        let (hosts, sync, worker) = (hosts?, sync?, worker?);
        Some(Box::pin(async move {
            match database::current(&hosts).await? {
                Ok(mut conn) => self.run(&mut conn, &hosts, sync, worker).await,
                Err(wrong) => Ok(output::refuse(&wrong)),
            }
        }))
    }

    async fn run(
        self,
        conn: &mut Connection,
        hosts: &Hosts,
        sync: SyncConfig,
        worker: WorkerConfig,
    ) -> anyhow::Result<ExitCode> {
        let customer = ObjectKey::new(&self.account, "customer", &self.customer);
        if let Err(code) = self.confirm.check() {
            return Ok(code);
        }
        let question = "This removes the personal data of the customer for ever. Type the id of the customer:";
        if !self.confirm.ask_for(&self.customer, question)? {
            output::complain("nothing was changed");
            return Ok(ExitCode::FAILURE);
        }
        let left = redaction::in_progress(conn, &customer).await?;
        anyhow::ensure!(
            left == 0,
            "{} of {} still in progress, so nothing was changed; run this again when they are done",
            counted(left, "event or change at Stripe"),
            self.customer
        );
        let Some(found) = redaction::mark(conn, &customer).await? else {
            anyhow::bail!("nothing of {} is stored; check that it belongs to this account and mode", self.customer);
        };
        let objects = redaction::objects(conn, &customer).await?;
        let context = Context::new(database::pool(hosts, 2), sync, worker, ProcessMetrics::new(&Registry::new())?);
        let rows = Rebuild::new(context, false, Waits::default()).objects(objects.iter().cloned().collect()).await;
        let rows = rows.map_err(|failure| anyhow::anyhow!("{failure}")).context(AGAIN)?;
        let removed = redaction::archive(conn, &customer, &objects).await.context(AGAIN)?;
        let types: BTreeSet<&str> = objects.iter().map(|key| key.object_type.as_str()).collect();
        for line in [
            format!("events     {} without payload", counted(removed.events, "event")),
            format!("mirror     {} ({})", counted(objects.len() as u64, "object"), Vec::from_iter(types).join(", ")),
            format!("rows       {} changed", counted(rows.changes.len() as u64, "row")),
            format!("history    {} without values", counted(removed.changes, "change")),
        ] {
            output::print(&line)?;
        }
        if removed.discarded > 0 {
            output::print(&format!("discarded  {}", counted(removed.discarded, "dead event")))?;
        }
        if removed.left > 0 {
            let left = counted(removed.left, "event or change at Stripe");
            output::complain(&format!(
                "{left} still in progress; run this again when `billing-sync status` shows an empty queue"
            ));
        }
        if !found.is_deleted {
            let text = "Stripe still has this customer: delete it there, too. Until then, later events and reads are stored \
                        without personal data, and `verify` finds that its rows differ.";
            output::print(&output::wrapped("", text))?;
        }
        Ok(if removed.left > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// What to do if a step fails; each may be repeated.
const AGAIN: &str = "the redaction is not complete; run the command again";
