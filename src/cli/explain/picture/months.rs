//! The picture of a limit: for each period, one bar of what there was, and one of what became of it. PURE.

use super::canvas::{self, Anchor, Canvas, FAINT_INK, INK, MARGIN, WIDTH, count, text_width};
use crate::admin::subscription_state::Period;
use crate::base::text::{grouped, to_the_minute};

const TITLE: f64 = 26.0;
const LEGEND: f64 = 50.0;
const PLOT_TOP: f64 = 76.0;
const PLOT_HEIGHT: f64 = 220.0;
const PLOT_BOTTOM: f64 = PLOT_TOP + PLOT_HEIGHT;
const PLOT_LEFT: f64 = 96.0;
const PLOT_WIDTH: f64 = WIDTH - MARGIN - PLOT_LEFT;
const HEIGHT: f64 = PLOT_BOTTOM + 56.0;
/// Widest bar.
const WIDEST: f64 = 90.0;
/// Least height of a part with a number in it.
const NUMBER_HEIGHT: f64 = 15.0;

/// A part of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    CarriedOver,
    Included,
    Bonus,
    Used,
    Left,
    Lost,
}

impl Part {
    /// In the order of the legend.
    const ALL: [Self; 6] = [Self::Included, Self::CarriedOver, Self::Bonus, Self::Used, Self::Left, Self::Lost];

    fn name(self) -> &'static str {
        match self {
            Self::CarriedOver => "carried over",
            Self::Included => "included",
            Self::Bonus => "bonus",
            Self::Used => "used",
            Self::Left => "left",
            Self::Lost => "lost",
        }
    }

    fn color(self) -> &'static str {
        match self {
            Self::CarriedOver => canvas::GREEN,
            Self::Included => canvas::BLUE,
            Self::Bonus => canvas::YELLOW,
            Self::Used => canvas::GREY,
            Self::Left => canvas::PALE,
            Self::Lost => canvas::RED,
        }
    }
}

/// The parts of both bars of a period, from the bottom, without empty ones. The bars are equally high, unless more was
/// used than there was: after a downgrade, for example.
fn parts(period: &Period) -> [Vec<(Part, i128)>; 2] {
    let [spillover, bonus, used] = [period.spillover, period.bonus_used, period.used].map(i128::from);
    let lost = i128::from(period.expired);
    let included = i128::from(period.included.unwrap_or_default());
    let rest = if period.included.is_some() { (included + spillover + bonus - used).max(0) } else { 0 };
    let was = vec![(Part::CarriedOver, spillover), (Part::Included, included), (Part::Bonus, bonus)];
    let became = if period.is_over {
        vec![(Part::Used, used), (Part::CarriedOver, rest - lost), (Part::Lost, lost)]
    } else {
        vec![(Part::Used, used), (Part::Left, rest)]
    };
    [was, became].map(|parts| parts.into_iter().filter(|(_, amount)| *amount > 0).collect())
}

/// The picture of the periods of one limit, in order.
pub(super) fn draw(subscription: &str, limit: &str, periods: &[Period]) -> String {
    let title = format!("{limit} of {subscription}, by period");
    let mut canvas = Canvas::new(HEIGHT, &title);
    canvas.bold((MARGIN, TITLE), &title);
    let bars: Vec<_> = periods.iter().map(parts).collect();
    let shown = |part: &Part| bars.iter().flatten().flatten().any(|(other, _)| other == part);
    draw_legend(&mut canvas, &Part::ALL.into_iter().filter(shown).collect::<Vec<_>>());
    let highest = bars.iter().flatten().map(|bar| bar.iter().map(|(_, amount)| amount).sum::<i128>()).max();
    let scale = Scale::up_to(highest.unwrap_or_default());
    draw_scale(&mut canvas, scale);
    let slot = PLOT_WIDTH / count(periods.len().max(1));
    let width = (slot * 0.36).min(WIDEST);
    for (index, (period, bars)) in periods.iter().zip(&bars).enumerate() {
        let middle = PLOT_LEFT + slot * (count(index) + 0.5);
        for (bar, x) in bars.iter().zip([middle - width - 1.0, middle + 1.0]) {
            draw_bar(&mut canvas, bar, (x, width), scale);
        }
        if period.included.is_none() {
            canvas.text((middle, PLOT_TOP + 12.0), Anchor::Middle, INK, "unlimited");
        }
        draw_label(&mut canvas, period, middle, slot);
    }
    canvas.finish()
}

fn draw_legend(canvas: &mut Canvas, parts: &[Part]) {
    let mut x = MARGIN;
    for part in parts {
        canvas.rectangle((x, LEGEND - 10.0), (12.0, 12.0), part.color(), part.name());
        canvas.text((x + 18.0, LEGEND), Anchor::Start, FAINT_INK, part.name());
        x += 18.0 + text_width(part.name()) + 18.0;
    }
}

fn draw_bar(canvas: &mut Canvas, bar: &[(Part, i128)], (x, width): (f64, f64), scale: Scale) {
    let mut below = 0;
    for (part, amount) in bar {
        let (top, bottom) = (scale.y(below + amount), scale.y(below));
        let number = grouped(&amount.to_string());
        canvas.rectangle((x, top), (width, bottom - top), part.color(), &format!("{} {number}", part.name()));
        if bottom - top >= NUMBER_HEIGHT && text_width(&number) < width {
            canvas.text((x + width / 2.0, f64::midpoint(top, bottom) + 4.0), Anchor::Middle, INK, &number);
        }
        below += amount;
    }
}

/// The beginning of the period, on two lines if the day and the time do not fit on one.
fn draw_label(canvas: &mut Canvas, period: &Period, middle: f64, slot: f64) {
    let start = to_the_minute(period.period_start);
    let (day, time) = start.split_once(' ').unwrap_or((&start, ""));
    // without the year if the periods are many
    let day = if text_width(day) < slot { day } else { &day[day.len().saturating_sub(5)..] };
    canvas.text((middle, PLOT_BOTTOM + 18.0), Anchor::Middle, INK, day);
    canvas.text((middle, PLOT_BOTTOM + 34.0), Anchor::Middle, FAINT_INK, time);
}

/// The amounts from the bottom to the top of the plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scale {
    /// Between two lines.
    step: i128,
    /// At the top.
    most: i128,
}

impl Scale {
    /// Two to five steps of 1, 2 or 5 and zeros.
    fn up_to(highest: i128) -> Self {
        let highest = highest.max(1);
        let powers = std::iter::successors(Some(1_i128), |power| power.checked_mul(10));
        let steps = powers.flat_map(|power| [1, 2, 5].map(|digit| power.saturating_mul(digit)));
        let step = steps.into_iter().find(|step| step.saturating_mul(5) >= highest).unwrap_or(highest);
        Self { step, most: (highest + step - 1) / step * step }
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of the height of the plot")]
    fn y(self, amount: i128) -> f64 {
        PLOT_BOTTOM - PLOT_HEIGHT * (amount as f64 / self.most as f64)
    }
}

fn draw_scale(canvas: &mut Canvas, scale: Scale) {
    let lines = (0..).map(|count| scale.step * count).take_while(|amount| *amount <= scale.most);
    for amount in lines {
        let y = scale.y(amount);
        canvas.line((PLOT_LEFT, y), (WIDTH - MARGIN, y));
        canvas.text((PLOT_LEFT - 8.0, y + 4.0), Anchor::End, FAINT_INK, &grouped(&amount.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn period(included: Option<i64>, [spillover, bonus_used, used, expired]: [i64; 4]) -> Period {
        Period {
            limit_key: "words".to_owned(),
            period_start: datetime!(2026-10-05 09:30 UTC),
            is_over: true,
            included,
            spillover,
            used,
            bonus_used,
            expired,
        }
    }

    #[test]
    fn both_bars_add_up() {
        let [was, became] = parts(&period(Some(1000), [400, 50, 950, 300]));
        assert_eq!(was, [(Part::CarriedOver, 400), (Part::Included, 1000), (Part::Bonus, 50)]);
        assert_eq!(became, [(Part::Used, 950), (Part::CarriedOver, 200), (Part::Lost, 300)]);
        let open = Period { is_over: false, expired: 0, ..period(Some(1000), [400, 0, 500, 0]) };
        assert_eq!(parts(&open)[1], [(Part::Used, 500), (Part::Left, 900)]);
    }

    #[test]
    fn an_unlimited_period_has_only_what_is_used() {
        let unlimited = period(None, [0, 0, 500, 0]);
        assert_eq!(parts(&unlimited), [vec![], vec![(Part::Used, 500)]]);
        assert!(draw("sub_1", "words", &[unlimited]).contains("unlimited"));
    }

    #[test]
    fn more_may_be_used_than_there_was() {
        let downgraded = period(Some(100), [0, 0, 500, 0]);
        assert_eq!(parts(&downgraded), [vec![(Part::Included, 100)], vec![(Part::Used, 500)]]);
    }

    #[test]
    fn a_scale_has_a_few_round_steps() {
        for (highest, step, most) in
            [(0, 1, 1), (1, 1, 1), (7, 2, 8), (1400, 500, 1500), (5_000_001, 2_000_000, 6_000_000)]
        {
            assert_eq!(Scale::up_to(highest), Scale { step, most }, "{highest}");
        }
        let most = i128::from(i64::MAX) * 3;
        let scale = Scale::up_to(most);
        assert!(scale.most >= most && scale.most / scale.step <= 5, "{scale:?}");
    }

    #[test]
    fn all_is_within_the_picture() {
        for count in 1..=13 {
            let periods = vec![period(Some(i64::MAX), [i64::MAX, 0, 5, 0]); count];
            let picture = draw("sub_1", "words", &periods);
            let positions = picture.split(" x=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0);
            let positions: Vec<f64> = positions.map(|x| x.parse().unwrap()).collect();
            assert!(positions.iter().all(|x| (0.0..WIDTH).contains(x)), "{count}: {positions:?}");
        }
    }
}
