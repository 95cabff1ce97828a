//! The picture of subscriptions' lives: a bar of phases for each, the events on it, and what began each phase. PURE.

use time::OffsetDateTime;

use super::axis;
use super::canvas::{self, Anchor, Canvas, FAINT_INK, INK, MARGIN, WIDTH, count, text_width};
use super::phases::{Kind, Phase};
use crate::base::text::{cut, in_utc};

const BAR_WIDTH: f64 = WIDTH - 2.0 * MARGIN;
const BAR_HEIGHT: f64 = 28.0;
const MOST_MARKS: usize = 8;
/// Distances from the top of a subscription's part.
const TITLE: f64 = 26.0;
const AXIS_LABELS: f64 = 50.0;
const BAR: f64 = 60.0;
const EVENTS: f64 = BAR + BAR_HEIGHT + 10.0;
const NUMBERS: f64 = EVENTS + 20.0;
/// Height of a row of numbers, and of a line of the list.
const ROW: f64 = 20.0;
/// Space above the list.
const GAP: f64 = 12.0;
const RADIUS: f64 = 8.0;
/// Where the columns of the list begin.
const TIMES: f64 = MARGIN + 24.0;
const PHASES: f64 = TIMES + 136.0;
const CAUSES: f64 = 540.0;
/// Longest text of the columns, in letters.
const LONGEST_PHASE: usize = 52;
const LONGEST_CAUSE: usize = 36;

/// A subscription with its phases.
pub(super) struct Subscription {
    pub(super) id: String,
    /// At least one.
    pub(super) phases: Vec<Phase>,
    /// The events of its object, and those that began a phase.
    pub(super) events: Vec<Event>,
}

/// An event on the bar.
pub(super) struct Event {
    pub(super) created: OffsetDateTime,
    pub(super) text: String,
}

/// The time that all bars show.
#[derive(Clone, Copy)]
struct Span {
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Span {
    /// The position on the bar.
    fn x(self, at: OffsetDateTime) -> f64 {
        let share = (at - self.from).as_seconds_f64() / (self.until - self.from).as_seconds_f64();
        MARGIN + BAR_WIDTH * share.clamp(0.0, 1.0)
    }
}

/// The picture. `until` is later than the beginning of each phase.
pub(super) fn draw(subscriptions: &[Subscription], until: OffsetDateTime) -> String {
    let first =
        subscriptions.iter().filter_map(|subscription| subscription.phases.first()).map(|phase| phase.from).min();
    let from = first.unwrap_or(until);
    let span = Span { from, until: end(subscriptions, from, until) };
    let numbers: Vec<_> =
        subscriptions.iter().map(|subscription| number_positions(&subscription.phases, span)).collect();
    let heights = subscriptions
        .iter()
        .zip(&numbers)
        .map(|(subscription, numbers)| list_top(numbers) + ROW * count(subscription.phases.len()));
    let heights: Vec<f64> = heights.collect();
    let ids: Vec<&str> = subscriptions.iter().map(|subscription| subscription.id.as_str()).collect();
    let mut canvas = Canvas::new(heights.iter().sum::<f64>(), &format!("The life of {}", ids.join(", ")));
    let mut top = 0.0;
    for ((subscription, numbers), height) in subscriptions.iter().zip(&numbers).zip(heights) {
        draw_one(&mut canvas, top, subscription, numbers, span);
        top += height;
    }
    canvas.finish()
}

/// If all subscriptions have ended, some time after the last end: the time since then shows nothing.
fn end(subscriptions: &[Subscription], from: OffsetDateTime, until: OffsetDateTime) -> OffsetDateTime {
    let ended = |subscription: &Subscription| {
        subscription.phases.last().filter(|phase| phase.kind == Kind::Ended).map(|phase| phase.from)
    };
    let ends: Option<Vec<OffsetDateTime>> = subscriptions.iter().map(ended).collect();
    match ends.and_then(|ends| ends.into_iter().max()) {
        Some(last) if last > from => until.min(last + (last - from) / 8),
        _ => until,
    }
}

fn draw_one(canvas: &mut Canvas, top: f64, subscription: &Subscription, numbers: &[(usize, f64)], span: Span) {
    let Some(last) = subscription.phases.last() else { return };
    canvas.bold((MARGIN, top + TITLE), &format!("{}: {} since {}", subscription.id, last.text(), in_utc(last.from)));
    for (at, label) in axis::marks(span.from, span.until, MOST_MARKS) {
        canvas.line((span.x(at), top + AXIS_LABELS + 4.0), (span.x(at), top + BAR));
        canvas.text((span.x(at), top + AXIS_LABELS), Anchor::Middle, FAINT_INK, &label);
    }
    let ends = subscription.phases.iter().skip(1).map(|phase| phase.from).chain([span.until]);
    for (phase, end) in subscription.phases.iter().zip(ends) {
        draw_phase(canvas, top, phase, (span.x(phase.from), span.x(end)));
    }
    for event in subscription.events.iter().filter(|event| (span.from..=span.until).contains(&event.created)) {
        canvas.circle((span.x(event.created), top + EVENTS), 2.5, canvas::DARK, &event.text);
    }
    let first_line = top + list_top(numbers);
    for (index, (phase, (row, x))) in subscription.phases.iter().zip(numbers).enumerate() {
        let line = first_line + ROW * count(index);
        for center in [(*x, top + NUMBERS + ROW * count(*row)), (MARGIN + RADIUS, line)] {
            canvas.circle(center, RADIUS, color(phase.kind), &phase.text());
            canvas.text((center.0, center.1 + 4.0), Anchor::Middle, INK, &(index + 1).to_string());
        }
        canvas.text((TIMES, line + 4.0), Anchor::Start, FAINT_INK, &in_utc(phase.from));
        canvas.text((PHASES, line + 4.0), Anchor::Start, INK, &cut(&phase.text(), LONGEST_PHASE));
        if !phase.causes.is_empty() {
            canvas.text((CAUSES, line + 4.0), Anchor::Start, FAINT_INK, &cut(&phase.causes.join(", "), LONGEST_CAUSE));
        }
    }
}

fn draw_phase(canvas: &mut Canvas, top: f64, phase: &Phase, (start, end): (f64, f64)) {
    // a short phase is still seen
    let width = (end - start).max(1.0);
    canvas.rectangle((start, top + BAR), (width, BAR_HEIGHT), color(phase.kind), &phase.text());
    let name = phase.kind.name();
    if text_width(name) + 6.0 < width {
        canvas.text((start + width / 2.0, top + BAR + 18.0), Anchor::Middle, INK, name);
    }
}

/// The top of the list, below the last row of numbers.
fn list_top(numbers: &[(usize, f64)]) -> f64 {
    let last = numbers.iter().map(|(row, _)| *row).max().unwrap_or_default();
    NUMBERS + ROW * count(last + 1) + GAP
}

/// The row and the center of the number of each phase. A number that would overlap another one goes into the next row.
fn number_positions(phases: &[Phase], span: Span) -> Vec<(usize, f64)> {
    let mut ends: Vec<f64> = Vec::new();
    let position = |phase: &Phase| {
        let x = span.x(phase.from).clamp(MARGIN + RADIUS, MARGIN + BAR_WIDTH - RADIUS);
        let row = ends.iter().position(|end| *end <= x - RADIUS).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(0.0);
        }
        ends[row] = x + RADIUS + 1.0;
        (row, x)
    };
    phases.iter().map(position).collect()
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::NotRecorded => canvas::PALE,
        Kind::Trial => canvas::BLUE,
        Kind::Active => canvas::GREEN,
        Kind::Grace => canvas::YELLOW,
        Kind::Paused => canvas::ORANGE,
        Kind::Inactive => canvas::RED,
        Kind::Ended => canvas::GREY,
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-10-29 09:30 UTC);

    fn subscription(phases: &[(Kind, i64)]) -> Subscription {
        let phase = |(kind, day): &(Kind, i64)| Phase {
            kind: *kind,
            reason: (*kind == Kind::Paused).then(|| "payment_paused".to_owned()),
            from: START + Duration::days(*day),
            causes: vec!["evt_<1>".to_owned()],
        };
        let phases: Vec<Phase> = phases.iter().map(phase).collect();
        let event = |phase: &Phase| Event { created: phase.from, text: "evt_<1>".to_owned() };
        Subscription { id: "sub_1".to_owned(), events: phases.iter().map(event).collect(), phases }
    }

    /// The value of an attribute of every element with this name, in order.
    fn values(picture: &str, element: &str, attribute: &str) -> Vec<f64> {
        let start = format!("<{element} ");
        let elements = picture.split(start.as_str()).skip(1);
        let value = |element: &str| {
            let (_, value) = element.split_once(&format!(" {attribute}=\"")).unwrap();
            value.split_once('"').unwrap().0.parse().unwrap()
        };
        elements.map(value).collect()
    }

    #[test]
    fn the_bar_is_as_long_as_the_phases() {
        let picture = draw(
            &[subscription(&[(Kind::Trial, 0), (Kind::Active, 10), (Kind::Paused, 15)])],
            START + Duration::days(20),
        );
        // the first rectangle is the background
        assert_eq!(values(&picture, "rect", "width")[1..], [BAR_WIDTH / 2.0, BAR_WIDTH / 4.0, BAR_WIDTH / 4.0]);
        assert!(picture.contains("sub_1: paused: payment collection is paused since 2026-11-13 09:30:00"), "{picture}");
    }

    #[test]
    fn after_the_end_only_a_short_time_is_shown() {
        let picture = draw(&[subscription(&[(Kind::Active, 0), (Kind::Ended, 80)])], START + Duration::days(2000));
        let widths = values(&picture, "rect", "width");
        assert!((widths[1] / widths[2] - 8.0).abs() < 0.1, "{widths:?}");
        let both = [subscription(&[(Kind::Active, 0), (Kind::Ended, 80)]), subscription(&[(Kind::Active, 90)])];
        let widths = values(&draw(&both, START + Duration::days(180)), "rect", "width");
        assert!((widths[3] / BAR_WIDTH - 0.5).abs() < 0.01, "the other one is active: {widths:?}");
    }

    #[test]
    fn numbers_do_not_overlap() {
        let phases: Vec<(Kind, i64)> = (0..12).map(|day| (Kind::Active, day)).collect();
        let phases = subscription(&phases).phases;
        let positions = number_positions(&phases, Span { from: START, until: START + Duration::days(400) });
        for (index, (row, x)) in positions.iter().enumerate() {
            let overlaps = |(other_row, other): &&(usize, f64)| other_row == row && (other - x).abs() < 2.0 * RADIUS;
            assert_eq!(positions[..index].iter().filter(overlaps).count(), 0, "{positions:?}");
        }
    }

    #[test]
    fn text_of_others_is_escaped() {
        let picture = draw(&[subscription(&[(Kind::Active, 0)])], START + Duration::days(1));
        assert!(picture.contains("evt_&lt;1&gt;") && !picture.contains("evt_<"), "{picture}");
    }
}
