//! `verify`: compares rows with what Stripe says, and mends them on request.

use std::process::ExitCode;
use std::time::Duration;

use super::asking::{self, Asking};
use super::settings::{SettingArgs, Uses};
use super::survey::{Surveyed, Tell};
use super::{Task, output};
use crate::backfill::Keep;
use crate::backfill::survey::Whom;
use crate::config::settings::Concern;
use crate::config::source::Source;

/// Exit code where something differs.
const DRIFT: u8 = 3;

/// The settings of `verify`.
#[derive(Debug)]
pub struct Settings;

impl Uses for Settings {
    const CONCERNS: &'static [Concern] = asking::CONCERNS;
}

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing differs, or all of it was mended; 1 something could not be compared;\n\
    2 usage or configuration error; 3 rows differ.")]
pub struct Args {
    /// Only this customer; can be given several times.
    #[arg(long, value_name = "CUSTOMER_ID")]
    customer: Vec<String>,
    /// Only so many customers that are stored here, chosen at random.
    #[arg(long, value_name = "N", conflicts_with = "customer", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Write what Stripe says into the rows that differ.
    #[arg(long)]
    fix: bool,
    /// Print differing rows as JSON, one object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

impl Args {
    pub(super) fn plan(self, source: &mut Source) -> Option<Task> {
        let asking = Asking::read(source)?;
        Some(Box::pin(async move { self.run(asking).await }))
    }

    async fn run(self, asking: Asking) -> anyhow::Result<ExitCode> {
        // what changed within the margin may be on its way here
        let again_after = asking.margin() + Duration::from_secs(1);
        let backfill = match asking.open().await? {
            Ok(backfill) => backfill,
            Err(wrong) => return Ok(output::refuse(&wrong)),
        };
        let whom = match (self.customer.is_empty(), self.sample) {
            (false, _) => Whom::Named(self.customer),
            (true, Some(count)) => Whom::Sample(count),
            (true, None) => Whom::All(None),
        };
        let keep = if self.fix { Keep::Yes("verify") } else { Keep::No };
        let mut surveyed = Surveyed::new(if self.json { Tell::Json } else { Tell::Table });
        backfill.survey(&whom, keep, Some(again_after), &mut |sight| surveyed.see(sight)).await?;
        let differs = surveyed.differing() > 0;
        let ended = surveyed.end(if self.fix { "differed and are mended" } else { "differ" })?;
        Ok(if differs && !self.fix { ExitCode::from(DRIFT) } else { ended })
    }
}
