//! Laws of the displayed text, over generated states, and named cases.

use proptest::prelude::*;

use super::lines::Lines;
use super::view::{Extent, View};
use super::*;
use crate::base::text::columns;
use crate::base::waits::Wait;

const SECOND: Duration = Duration::from_secs(1);

fn view(extent: Extent, done: u64, seconds: u64) -> View {
    View {
        title: "rebuilding rows".to_owned(),
        unit: "object",
        extent,
        done,
        before: 0,
        facts: "12 rows changed".to_owned(),
        elapsed: SECOND * u32::try_from(seconds).unwrap(),
        idle: Duration::ZERO,
        unexplained: Duration::ZERO,
        wait: None,
    }
}

fn waiting(reason: &'static str, waited: Duration, left: Option<Duration>) -> View {
    let wait = Some(Wait { reason: reason.into(), waited, left });
    View { wait, ..view(Extent::Total(10_000), 4200, 12) }
}

#[test]
fn a_known_total_is_a_bar_and_an_unknown_one_a_count() {
    let known = view(Extent::Total(10_000), 4200, 12);
    assert_eq!(
        known.fitted(120),
        "rebuilding rows [########............] 42 %: 4200 of 10000 objects, 350/s, less than a minute left, 12 rows \
         changed"
    );
    let unknown = view(Extent::Unknown, 4200, 12);
    assert_eq!(unknown.fitted(120), "rebuilding rows: 4200 objects, 350/s, 12 rows changed");
    assert_eq!(unknown.fitted(40), "rebuilding rows: 4200 objects, 350/s");
    let share = view(Extent::Share(0.25), 4200, 3600);
    assert_eq!(share.whole(), "rebuilding rows 25 %: 4200 objects, 1.2/s, about 3 h 0 min left, 12 rows changed");
}

#[test]
fn a_narrow_terminal_leaves_out_what_matters_least() {
    let known = view(Extent::Total(10_000), 4200, 12);
    for (width, expected) in [
        (
            110,
            "rebuilding rows [####......] 42 %: 4200 of 10000 objects, 350/s, less than a minute left, 12 rows changed",
        ),
        (80, "rebuilding rows 42 %: 4200 of 10000 objects, 350/s, less than a minute left"),
        (50, "rebuilding rows 42 %: 4200 of 10000 objects"),
        (40, "42 %: 4200 of 10000 objects"),
        (20, "42 %: 4200 of 10000…"),
    ] {
        assert_eq!(known.fitted(width), expected);
    }
    let waits = waiting("Stripe's rate limit", Duration::ZERO, Some(SECOND * 3));
    assert_eq!(waits.fitted(80), "42 %: 4200 of 10000 objects, waiting for Stripe's rate limit, 3 s");
    assert_eq!(waits.fitted(40), "waiting for Stripe's rate limit, 3 s");
    assert_eq!(waits.fitted(30), "waiting for Stripe's rate lim…");
}

#[test]
fn a_wait_is_shown_with_its_time() {
    let text = |view: &View| view.whole().split_once("waiting for ").map(|(_, wait)| wait.to_owned());
    let millis = Duration::from_millis;
    for (waited, left, expected) in [
        (millis(0), Some(millis(2100)), Some("it, 3 s")),
        (millis(2999), Some(millis(1)), Some("it, 1 s")),
        (millis(3500), Some(millis(0)), Some("it")),
        (millis(0), Some(millis(900)), None),
        (millis(0), Some(SECOND * 150), Some("it, 3 min")),
        (millis(999), None, None),
        (millis(1200), None, Some("it, 2 s so far")),
    ] {
        assert_eq!(text(&waiting("it", waited, left)).as_deref(), expected, "{waited:?} {left:?}");
    }
    // short waits, one after the other, are a long one for the operator
    let stands_still = View { idle: SECOND * 2, ..waiting("it", millis(10), None) };
    assert_eq!(text(&stands_still).as_deref(), Some("it"));
    // a registered wait that has ended is not a wait for the database
    let after_a_wait = View { idle: SECOND * 9, unexplained: SECOND, ..view(Extent::Unknown, 0, 12) };
    assert_eq!(text(&after_a_wait), None);
    let without_reason = View { idle: SECOND * 9, unexplained: SECOND * 5, ..view(Extent::Unknown, 0, 12) };
    assert_eq!(text(&without_reason).as_deref(), Some("the database, 5 s so far"));
}

#[test]
fn a_rate_and_a_remaining_time_need_enough_to_compute_them() {
    let resumed = View { before: 5000, ..view(Extent::Total(10_000), 6000, 10) };
    assert_eq!(
        resumed.whole(),
        "rebuilding rows 60 %: 6000 of 10000 objects, 100/s, less than a minute left, 12 rows changed"
    );
    for (view, expected) in [
        (view(Extent::Total(10_000), 100, 60), "1.7/s, "),
        (view(Extent::Total(10_000), 9_999, 2), "5000/s, "),
        (view(Extent::Total(10_000), 5_000, 120), "42/s, about 2 min left, "),
        (view(Extent::Total(10), 4, 3600), "4 of 10 objects, 0.1/min, about 1 h 30 min left, "),
        (view(Extent::Total(1_000), 999, 86_400), "0.7/min, about 2 min left, "),
    ] {
        let text = view.whole();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn without_a_terminal_a_line_is_printed_at_intervals_and_when_a_wait_begins() {
    let mut lines = Lines::default();
    let (moves, waits) = (view(Extent::Unknown, 1, 1), waiting("it", SECOND, None));
    let printed =
        |lines: &mut Lines, millis: u64, view: &View| lines.due(Duration::from_millis(millis), view).is_some();
    assert!(!printed(&mut lines, 9_900, &moves) && printed(&mut lines, 10_000, &moves));
    assert!(!printed(&mut lines, 10_500, &waits), "two lines within a second");
    assert!(printed(&mut lines, 11_000, &waits));
    assert!(!printed(&mut lines, 15_000, &waits), "the same wait");
    assert!(printed(&mut lines, 16_000, &waiting("another", SECOND, None)));
    assert!(!printed(&mut lines, 25_900, &moves) && printed(&mut lines, 26_000, &moves));
}

fn extents() -> impl Strategy<Value = Extent> {
    prop_oneof![
        Just(Extent::Unknown),
        (0_u64..20_000).prop_map(Extent::Total),
        any::<u64>().prop_map(Extent::Total),
        (0.0..=1.0).prop_map(Extent::Share),
        Just(Extent::Share(1.0)),
    ]
}

/// Texts with letters of zero, one and two columns, sequences of letters, and characters that control a terminal.
fn texts() -> impl Strategy<Value = String> {
    let letters =
        ["a", " ", "é", "e\u{301}", "請", "👩\u{200d}🚀", "❤\u{fe0f}", "\n", "\r", "\u{1b}[2K", "\u{202e}", "word "];
    prop::collection::vec(prop::sample::select(letters.to_vec()), 0..40).prop_map(|letters| letters.concat())
}

fn waits() -> impl Strategy<Value = Option<Wait>> {
    let wait = (texts(), 0_u64..100_000, prop::option::of(0_u64..100_000));
    prop::option::of(wait.prop_map(|(reason, waited, left)| Wait {
        reason: reason.into(),
        waited: Duration::from_millis(waited),
        left: left.map(Duration::from_millis),
    }))
}

/// Whether the text contains a duration or a percentage that means the end: "0 s", "0 min", "100 %".
fn says_that_nothing_is_left(text: &str) -> bool {
    let words: Vec<&str> = text.split([' ', ',', ':']).collect();
    words.windows(2).any(|pair| matches!(pair, ["0", "s" | "min"] | ["100", "%"]))
}

prop_compose! {
    fn views()(
        (title, facts, wait) in (texts(), texts(), waits()),
        extent in extents(),
        (done, before) in prop_oneof![(0_u64..20_000, 0_u64..20_000), any::<(u64, u64)>()],
        (elapsed, idle) in prop_oneof![(0_u64..100_000, 0_u64..100_000), (any::<u64>(), any::<u64>())],
        explained in 0_u64..5_000,
        is_all_done: bool,
    ) -> View {
        // units may be done while the work has not ended
        let done = if let (Extent::Total(total), true) = (extent, is_all_done) { total } else { done };
        let (elapsed, idle) = (Duration::from_millis(elapsed), Duration::from_millis(idle));
        let unexplained = idle.saturating_sub(Duration::from_millis(explained));
        View { title, unit: "object", extent, done, before, facts, elapsed, idle, unexplained, wait }
    }
}

proptest! {
    #[test]
    fn no_line_is_wider_than_the_terminal_or_breaks(view in views(), width in 0_usize..200) {
        let line = view.fitted(width);
        prop_assert!(columns(&line) <= width, "{} columns in {width}: {line:?}", columns(&line));
        for line in [line, view.whole()] {
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn work_in_progress_is_never_said_to_be_over(mut view in views(), width in 20_usize..200) {
        // texts of the caller are not checked
        (view.title, view.facts) = ("rebuilding".to_owned(), String::new());
        for text in [view.fitted(width), view.whole()] {
            prop_assert!(!says_that_nothing_is_left(&text), "{text}");
            if let Some((_, bar)) = text.split_once('[') {
                prop_assert!(bar.split_once(']').is_none_or(|(bar, _)| bar.ends_with('.')), "{text}");
            }
        }
    }

    /// The work advances by any steps: percentage and bar never decrease, and stay below the end.
    #[test]
    fn a_percentage_only_grows(total in 1_u64..5_000, steps in prop::collection::vec(0_u64..500, 1..40)) {
        let (mut done, mut last) = (0, 0);
        for (second, step) in (1_u64..).zip(steps) {
            done = (done + step).min(total);
            let text = view(Extent::Total(total), done, second).whole();
            let percentage: u64 = text.split(' ').nth(2).unwrap().parse().unwrap();
            prop_assert!((last..100).contains(&percentage), "{text}");
            last = percentage;
        }
    }

    /// Whatever is done and however long nothing moves: after two seconds without an explanation, the line says what is
    /// waited for.
    #[test]
    fn a_standstill_is_explained(view in views(), width in 40_usize..200) {
        let unexplained = view.unexplained.max(SECOND * 2);
        let view = View { idle: view.idle.max(unexplained), unexplained, ..view };
        prop_assert!(view.whole().contains("waiting for "), "{}", view.whole());
        prop_assert!(view.fitted(width).contains("waiting for "), "{}", view.fitted(width));
    }
}
