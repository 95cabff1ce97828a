//! `explain workspace`: why a workspace has so much of a limit, period by period, as lines that add up.

use std::process::ExitCode;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Settings;
use crate::admin::statement::{self, Line};
use crate::cli::output;
use crate::cli::settings::SettingArgs;
use crate::text::to_the_second;

/// Arguments of `explain workspace`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The id of a workspace.
    #[arg(value_name = "UUID")]
    id: Uuid,
    /// Only this limit: words, for example.
    #[arg(long, value_name = "KEY")]
    limit: Option<String>,
    /// Print JSON, one line of the statement a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<Settings>,
}

impl Args {
    pub(super) async fn run(self, conn: &mut PgConnection) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            statement::is_known(conn, self.id).await?,
            "nothing is known of workspace {}: no subscription names it in its metadata, and it has no bonus",
            self.id
        );
        let lines = statement::lines(conn, self.id, self.limit.as_deref()).await?;
        anyhow::ensure!(
            !lines.is_empty(),
            "workspace {} has no limit{}: limits are metadata of prices or products in Stripe (limit_words = 10000)",
            self.id,
            self.limit.as_ref().map(|key| format!(" {key:?}")).unwrap_or_default()
        );
        if self.json {
            lines.iter().try_for_each(|line| output::print_json(&json(line)))?;
            return Ok(ExitCode::SUCCESS);
        }
        let bonuses = statement::bonuses(conn, self.id).await?;
        let mut before = None;
        for line in &lines {
            let heading = (&line.limit_key, &line.stripe_subscription_id, line.period_start);
            if before.replace(heading) != Some(heading) {
                output::print(&head(line))?;
            }
            output::print(&text(line))?;
        }
        for bonus in bonuses.iter().filter(|one| self.limit.as_ref().is_none_or(|key| *key == one.limit_key)) {
            output::print(&format!(
                "{}: {} of the bonus are left",
                bonus.limit_key,
                grouped(&bonus.amount.to_string())
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the lines that follow are about.
fn head(line: &Line) -> String {
    match (&line.stripe_subscription_id, line.period_start) {
        (Some(id), Some(start)) => {
            let end =
                line.period_end.map_or_else(|| "without an end".to_owned(), |end| format!("to {}", to_the_second(end)));
            format!("\n{} of {id}, {} {end}", line.limit_key, to_the_second(start))
        }
        _ => format!("\nbonus of {}", line.limit_key),
    }
}

fn text(line: &Line) -> String {
    let counts = if line.stripe_subscription_id.is_some() { line.amount.as_deref() } else { Some(line.bonus.as_str()) };
    let amount = counts.map(grouped).unwrap_or_default();
    let item = line.stripe_price_id.as_ref().map(|price| format!("{price} x {}", line.quantity.unwrap_or_default()));
    let is_at_its_own_time = ["granted", "taken_back", "corrected"].contains(&line.line.as_str());
    let at = is_at_its_own_time.then(|| to_the_second(line.at));
    let remarks: Vec<String> = [item, line.reason.clone(), at].into_iter().flatten().collect();
    let head = format!("  {:<12} {amount:>15}  ", line.line.replace('_', " "));
    output::wrapped(&head, &remarks.join(", ")).trim_end().to_owned()
}

/// With a blank between groups of three digits.
fn grouped(number: &str) -> String {
    let (sign, digits) = number.split_at(usize::from(number.starts_with('-')));
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(|group| String::from_utf8_lossy(group)).collect();
    format!("{sign}{}", groups.join(" "))
}

fn json(line: &Line) -> serde_json::Value {
    let at = |time: Option<OffsetDateTime>| time.map(to_the_second);
    serde_json::json!({
        "limit_key": line.limit_key, "subscription_id": line.stripe_subscription_id, "period_start": at(line.period_start),
        "period_end": at(line.period_end), "at": to_the_second(line.at), "line": line.line,
        "amount": line.amount.as_deref().and_then(|text| text.parse::<i64>().ok()), "bonus": line.bonus.parse::<i64>().ok(),
        "price_id": line.stripe_price_id, "quantity": line.quantity, "reason": line.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_stand_in_groups_of_three() {
        let cases = [("0", "0"), ("-12", "-12"), ("1234", "1 234"), ("-105000", "-105 000"), ("1000000", "1 000 000")];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }
}
