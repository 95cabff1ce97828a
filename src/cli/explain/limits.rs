//! The limits of a subscription, month by month, as a table. What is left and not lost is carried into the next month.
//! PURE.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::admin::subscription_state::Period;
use crate::base::text::to_the_minute;

/// One table for each limit, with its periods in order.
pub(super) fn tables(periods: &[Period], width: usize) -> Vec<String> {
    let of_keys = periods.chunk_by(|one, other| one.limit_key == other.limit_key);
    of_keys.map(|periods| table(periods, width)).collect()
}

fn table(periods: &[Period], width: usize) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(["from", "included", "carried in", "bonus", "used", "left", "lost"]);
    for period in periods {
        table.add_row(row(period));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let key = periods.first().map(|period| period.limit_key.as_str()).unwrap_or_default();
    let lines: Vec<String> = table.lines().map(|line| format!("  {}", line.trim())).collect();
    format!("limit {key}\n{}", lines.join("\n"))
}

fn row(period: &Period) -> [String; 7] {
    let of_plan = period.used - period.bonus_used;
    let left = period
        .included
        .map(|included| (i128::from(included) + i128::from(period.spillover) - i128::from(of_plan)).max(0));
    let lost = if period.is_over { period.expired.to_string() } else { "(open)".to_owned() };
    [
        to_the_minute(period.period_start),
        period.included.map_or_else(|| "unlimited".to_owned(), |included| included.to_string()),
        period.spillover.to_string(),
        period.bonus_used.to_string(),
        period.used.to_string(),
        left.map_or_else(|| "unlimited".to_owned(), |left| left.to_string()),
        lost,
    ]
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn each_period_is_a_row_that_adds_up() {
        let closed = Period {
            limit_key: "words".to_owned(),
            period_start: datetime!(2026-10-05 09:30 UTC),
            is_over: true,
            included: Some(1000),
            spillover: 50,
            used: 400,
            bonus_used: 20,
            expired: 0,
        };
        let open = Period {
            period_start: datetime!(2026-11-05 09:30 UTC),
            is_over: false,
            spillover: 670,
            used: 0,
            bonus_used: 0,
            ..closed.clone()
        };
        let unlimited = Period { limit_key: "images".to_owned(), included: None, ..open.clone() };
        let tables = tables(&[unlimited, closed, open], 80);
        assert_eq!(tables.len(), 2);
        let words: Vec<Vec<&str>> = tables[1].lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[2], ["2026-10-05", "09:30", "1000", "50", "20", "400", "670", "0"]);
        assert_eq!(words[3], ["2026-11-05", "09:30", "1000", "670", "0", "0", "1670", "(open)"]);
        assert!(tables[0].contains("unlimited"), "{}", tables[0]);
        assert!(tables.iter().flat_map(|table| table.lines()).all(|line| line.chars().count() <= 80), "{tables:?}");
    }
}
