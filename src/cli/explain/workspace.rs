//! A workspace: its subscriptions, and the statement of its limits, period by period, with lines that add up.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::headline::{self, Headline};
use super::verdict;
use crate::admin::statement::{self, Line};
use crate::admin::subscription_state::{self, SubscriptionState};
use crate::base::text::{grouped, in_utc, to_the_second};
use crate::cli::output;
use crate::database::Connection;

/// Explains a workspace: its subscriptions, and the statement of its limits.
pub(super) async fn explain(
    conn: &mut Connection,
    id: Uuid,
    limit: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        statement::is_known(conn, id).await?,
        "workspace {id} is unknown: no subscription or customer names it in its metadata, and it has no bonus"
    );
    let subscriptions = subscription_state::subscriptions(conn, &[], Some(id)).await?;
    let lines = statement::lines(conn, id, limit).await?;
    let invalid = statement::invalid_values(conn, id, limit).await?;
    anyhow::ensure!(
        !lines.is_empty() || !invalid.is_empty() || limit.is_none(),
        "workspace {id} has no limit {:?}; set limits in the metadata of Stripe prices or products: limit_words = 10000",
        limit.unwrap_or_default()
    );
    if json {
        lines.iter().try_for_each(|line| output::print_json(&self::json(line)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_verdicts(conn, id, &subscriptions).await?;
    let bonuses = statement::bonuses(conn, id).await?;
    let mut before = None;
    for line in &lines {
        let heading = (&line.limit_key, &line.stripe_subscription_id, line.period_start);
        if before.replace(heading) != Some(heading) {
            output::print(&head(line))?;
        }
        output::print(&text(line))?;
    }
    for bonus in bonuses.iter().filter(|one| limit.is_none_or(|key| *key == one.limit_key)) {
        output::print(&format!("{}: {} of the bonus is left", bonus.limit_key, grouped(&bonus.amount.to_string())))?;
    }
    if !invalid.is_empty() {
        let values = format!("{}; set them in Stripe to a whole number or to unlimited", invalid.join(", "));
        output::print(&format!("\n{}", output::wrapped("values that cannot be read: ", &values)))?;
    } else if lines.is_empty() {
        output::print("\nIt has no limits: the metadata of its prices and products contains no limit_ key.")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The workspace by its current subscription, then its other subscriptions.
async fn print_verdicts(conn: &mut Connection, id: Uuid, subscriptions: &[SubscriptionState]) -> anyhow::Result<()> {
    let headlines = headline::of_subscriptions(conn, subscriptions).await?;
    let Some(current) = subscriptions.first().filter(|state| state.is_current) else {
        return Headline { id: id.to_string(), text: "inactive: it has no subscription".to_owned() }.print();
    };
    let plan = current.plan.as_ref().map(|plan| format!(" ({plan})")).unwrap_or_default();
    let by = format!("by {}{plan}", current.stripe_subscription_id);
    // of the workspace itself, for example that it was deleted
    let reason = subscription_state::inactive_reason(conn, id).await?;
    let own = reason.filter(|reason| current.inactive_reason.as_ref() != Some(reason));
    let own = own.map(|reason| format!("inactive: {}", verdict::meaning(&reason)));
    for (index, headline) in headlines.into_iter().enumerate() {
        let headline = match index {
            0 => Headline { id: id.to_string(), text: format!("{}; {by}", own.as_ref().unwrap_or(&headline.text)) },
            _ => Headline { id: format!("also {}", headline.id), ..headline },
        };
        headline.print()?;
    }
    output::print(&format!("history: billing-sync explain {}", current.stripe_subscription_id))
}

/// The heading of the lines of one period or bonus.
fn head(line: &Line) -> String {
    match (&line.stripe_subscription_id, line.period_start) {
        (Some(id), Some(start)) => {
            let end = line.period_end.map_or_else(|| "without an end".to_owned(), |end| format!("to {}", in_utc(end)));
            format!("\n{} of {id}, {} {end}", line.limit_key, in_utc(start))
        }
        _ => format!("\nbonus of {}", line.limit_key),
    }
}

fn text(line: &Line) -> String {
    let counts = if line.stripe_subscription_id.is_some() { line.amount.as_deref() } else { Some(line.bonus.as_str()) };
    let amount = counts.map(grouped).unwrap_or_default();
    let item = line.stripe_price_id.as_ref().map(|price| format!("{price} x {}", line.quantity.unwrap_or_default()));
    let is_at_its_own_time = ["granted", "taken_back", "corrected"].contains(&line.line.as_str());
    let at = is_at_its_own_time.then(|| in_utc(line.at));
    let remarks: Vec<String> = [item, line.reason.clone(), at].into_iter().flatten().collect();
    let head = format!("  {:<12} {amount:>15}  ", line.line.replace('_', " "));
    output::wrapped(&head, &remarks.join(", ")).trim_end().to_owned()
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

    use super::{Line, json, output};

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
