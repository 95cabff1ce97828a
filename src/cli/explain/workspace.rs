//! `explain workspace`: the statement of a workspace's limits, period by period, with lines that add up.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::admin::statement::{self, Line};
use crate::base::text::to_the_second;
use crate::cli::output;
use crate::cli::settings::{DatabaseSettings, SettingArgs};

/// Arguments of `explain workspace`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the workspace.
    #[arg(value_name = "UUID")]
    id: Uuid,
    /// Show only this limit, such as words.
    #[arg(long, value_name = "KEY")]
    limit: Option<String>,
    /// Print JSON, one line of the statement per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingArgs<DatabaseSettings>,
}

impl Args {
    pub(super) async fn run(self, conn: &mut PgConnection) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            statement::is_known(conn, self.id).await?,
            "workspace {} is unknown: no subscription or customer names it in its metadata, and it has no bonus",
            self.id
        );
        let lines = statement::lines(conn, self.id, self.limit.as_deref()).await?;
        let invalid = statement::invalid_values(conn, self.id, self.limit.as_deref()).await?;
        anyhow::ensure!(
            !lines.is_empty() || invalid.is_empty(),
            "the limits of workspace {} cannot be read; set these values in Stripe to a whole number or to unlimited: {}",
            self.id,
            invalid.join(", ")
        );
        anyhow::ensure!(
            !lines.is_empty(),
            "workspace {} has no limit{}; set limits in the metadata of Stripe prices or products: limit_words = 10000",
            self.id,
            self.limit.as_ref().map(|key| format!(" {key:?}")).unwrap_or_default()
        );
        if self.json {
            lines.iter().try_for_each(|line| output::print_json(&json(line)?))?;
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
                "{}: {} of the bonus is left",
                bonus.limit_key,
                grouped(&bonus.amount.to_string())
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The heading of the lines of one period or bonus.
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

/// A number with a space between groups of three digits.
fn grouped(number: &str) -> String {
    let (sign, digits) = number.split_at(usize::from(number.starts_with('-')));
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(|group| String::from_utf8_lossy(group)).collect();
    format!("{sign}{}", groups.join(" "))
}

/// A line as JSON. Its sums are numbers of any size.
#[derive(Serialize)]
struct JsonLine<'a> {
    limit_key: &'a str,
    subscription_id: Option<&'a str>,
    period_start: Option<String>,
    period_end: Option<String>,
    at: String,
    line: &'a str,
    amount: Option<Box<RawValue>>,
    bonus: Box<RawValue>,
    price_id: Option<&'a str>,
    quantity: Option<i64>,
    reason: Option<&'a str>,
}

fn json(line: &Line) -> Result<JsonLine<'_>, serde_json::Error> {
    // null means unlimited, so an invalid number is an error
    let number = |text: &str| RawValue::from_string(text.to_owned());
    Ok(JsonLine {
        limit_key: &line.limit_key,
        subscription_id: line.stripe_subscription_id.as_deref(),
        period_start: line.period_start.map(to_the_second),
        period_end: line.period_end.map(to_the_second),
        at: to_the_second(line.at),
        line: &line.line,
        amount: line.amount.as_deref().map(number).transpose()?,
        bonus: number(&line.bonus)?,
        price_id: line.stripe_price_id.as_deref(),
        quantity: line.quantity,
        reason: line.reason.as_deref(),
    })
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::{Line, grouped, json, output};

    #[test]
    fn digits_are_grouped_by_three() {
        let cases = [("0", "0"), ("-12", "-12"), ("1234", "1 234"), ("-105000", "-105 000"), ("1000000", "1 000 000")];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }

    /// Null would mean unlimited.
    #[test]
    fn a_sum_beyond_bigint_is_a_number_in_json() {
        let line = Line {
            stripe_subscription_id: Some("sub_1".to_owned()),
            limit_key: "words".to_owned(),
            period_start: None,
            period_end: None,
            at: OffsetDateTime::UNIX_EPOCH,
            line: "included".to_owned(),
            amount: Some("-19000000000000000000".to_owned()),
            bonus: "0".to_owned(),
            stripe_price_id: None,
            quantity: None,
            reason: None,
        };
        let printed = output::json_line(&json(&line).unwrap()).unwrap();
        assert!(printed.contains(r#""amount":-19000000000000000000,"#), "{printed}");
        let unlimited = output::json_line(&json(&Line { amount: None, ..line }).unwrap()).unwrap();
        assert!(unlimited.contains(r#""amount":null,"#) && unlimited.contains(r#""bonus":0,"#), "{unlimited}");
    }
}
