//! `verify`: compares rows with Stripe, and repairs them on request.

use std::process::ExitCode;
use std::time::Duration;

use super::comparison::{Comparison, OutputFormat, Purpose};
use super::progress::Progress;
use super::settings::{SettingArgs, StripeSettings};
use super::stripe_session::StripeSession;
use super::summary::{self, Ending};
use super::task::Task;
use crate::config::source::Source;
use crate::verify::compare::Selection;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 no row differs, or all were fixed; 1 something could not be compared;\n\
    2 usage or configuration error; 3 rows differ; 130 interrupted by Ctrl-C, 143 by SIGTERM.")]
pub struct Args {
    /// Compare only this customer; may be repeated.
    #[arg(long, value_name = "CUSTOMER_ID")]
    customer: Vec<String>,
    /// Compare only this number of stored customers, chosen at random.
    #[arg(long, value_name = "N", conflicts_with = "customer", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Repair the rows that differ, with the data from Stripe.
    #[arg(long)]
    fix: bool,
    /// Print differing rows as JSON, one object per line, and the summary as the last one.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<StripeSettings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let session = StripeSession::read(source)?;
        Some(Box::pin(async move { self.run(session).await }))
    }

    async fn run(self, session: StripeSession) -> anyhow::Result<ExitCode> {
        // events of changes within the staleness margin may still be on their way
        let again_after = session.margin() + Duration::from_secs(1);
        let selection = match (self.customer.is_empty(), self.sample) {
            (false, _) => Selection::Named(self.customer),
            (true, Some(count)) => Selection::Sample(count),
            (true, None) => Selection::All(None),
        };
        let purpose = if self.fix { Purpose::Fix } else { Purpose::Verify };
        let comparison = Comparison::new(purpose, if self.json { OutputFormat::Json } else { OutputFormat::Table });
        summary::run(comparison, self.json, None, async |progress: &Progress, comparison: &mut Comparison| {
            let backfill = match session.open(progress.waits()).await? {
                Ok(backfill) => backfill,
                Err(wrong) => return Ok(Ending::Refused(wrong)),
            };
            comparison.run(&backfill, &selection, Some(again_after), progress).await?;
            let ending = comparison.ending();
            let differs = comparison.differing() > 0 && !self.fix;
            Ok(if differs { Ending::Differs { is_complete: matches!(ending, Ending::Complete) } } else { ending })
        })
        .await
    }
}
