//! The law of the history, on generated lives of an object: no wrong end without a raised doubt.

use proptest::prelude::*;
use time::Duration;

use super::*;
use crate::mirror::walk::Stage;

/// One generated change: seconds since the one before (mostly none), the two fields afterwards, and how it is told.
#[derive(Debug, Clone)]
struct Change {
    seconds: i64,
    fields: (u8, u8),
    /// A second event, with an id of its own, tells the same change.
    told_twice: bool,
}

fn change() -> impl Strategy<Value = Change> {
    let seconds = prop_oneof![3 => Just(0), 1 => Just(1), 1 => 2..100_i64];
    (seconds, (0..3_u8, 0..2_u8), prop::bool::weighted(0.1)).prop_map(|(seconds, fields, told_twice)| Change {
        seconds,
        fields,
        told_twice,
    })
}

fn object((a, b): (u8, u8)) -> String {
    // a field that is null or absent in turns, and one that never changes
    let b = if b == 0 { "null".to_owned() } else { b.to_string() };
    format!(r#"{{"id":"x","a":{{"n":{a}}},"b":{b}}}"#)
}

fn previous(before: (u8, u8), after: (u8, u8)) -> Option<String> {
    let a = (before.0 != after.0).then(|| format!(r#""a":{{"n":{}}}"#, before.0));
    let b = if before.1 == 0 { "null".to_owned() } else { before.1.to_string() };
    let b = (before.1 != after.1).then(|| format!(r#""b":{b}"#));
    let changed: Vec<String> = a.into_iter().chain(b).collect();
    (!changed.is_empty()).then(|| format!("{{{}}}", changed.join(",")))
}

/// The events of a life, in their true order. Event ids say nothing of it.
fn events(changes: &[Change], with_creation: bool, salt: u64) -> Vec<Snapshot> {
    let mut at = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
    let mut fields = (0, 0);
    let mut events = Vec::new();
    let mut tell = |at, stage, fields, previous| {
        let number = (events.len() as u64 + 1).wrapping_mul(salt | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let event_id = format!("evt_{number:020}");
        events.push(Snapshot {
            event_id,
            created: at,
            stage,
            content: Some(object(fields)),
            previous,
            api_version: None,
        });
    };
    if with_creation {
        tell(at, Stage::Created, fields, None);
    }
    for change in changes {
        at += Duration::seconds(change.seconds);
        // an update that changes nothing is not announced
        let Some(previous) = previous(fields, change.fields) else { continue };
        fields = change.fields;
        for _ in 0..=u8::from(change.told_twice) {
            tell(at, Stage::Updated, fields, Some(previous.clone()));
        }
    }
    events
}

fn head_of(events: impl IntoIterator<Item = Snapshot>) -> Option<Head> {
    let mut history = History::complete_after(None);
    for event in events {
        history.add(event);
    }
    match history.head() {
        Answer::Head(head) => Some(*head),
        Answer::Nothing | Answer::Needs(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn there_is_no_wrong_end_without_a_doubt_and_no_order_of_arrival_matters(
        (changes, order) in prop::collection::vec(change(), 2..=6).prop_flat_map(|changes| {
            let places: Vec<usize> = (0..=2 * changes.len()).collect();
            (Just(changes), Just(places).prop_shuffle())
        }),
        with_creation: bool,
        salt: u64,
    ) {
        let told = events(&changes, with_creation, salt);
        let Some(truth) = told.last() else { return Ok(()) };
        let shuffled = order.iter().filter_map(|place| told.get(*place)).cloned();
        // every event once more, in the true order: duplicates change nothing
        let head = head_of(shuffled.chain(told.iter().cloned())).expect("there are events");
        let in_true_order = head_of(told.iter().cloned()).expect("there are events");
        prop_assert_eq!(&head, &in_true_order);
        prop_assert!(head.doubt || head.snapshot.content == truth.content, "{:?} is not {:?}", head, truth);
        // doubt must stay the exception, or this law would say nothing: it takes a change that seems to repeat
        let mut seen = std::collections::HashSet::new();
        let repeats = told.iter().any(|one| !seen.insert((one.created, one.content.clone(), one.previous.clone())));
        prop_assert!(!head.doubt || repeats || !with_creation, "doubt without a cause: {:?}", told);
    }
}

fn update(second: i64, from: u8, to: u8) -> Snapshot {
    Snapshot {
        event_id: format!("evt_{second}_{from}{to}"),
        created: OffsetDateTime::UNIX_EPOCH + Duration::seconds(second),
        stage: Stage::Updated,
        content: Some(object((to, 0))),
        previous: previous((from, 0), (to, 0)),
        api_version: None,
    }
}

#[test]
fn a_circuit_needs_the_second_before_and_says_so() {
    let epoch = OffsetDateTime::UNIX_EPOCH;
    let mut history = History::complete_after(Some(epoch + Duration::seconds(10)));
    history.add(update(20, 0, 1));
    history.add(update(20, 1, 0));
    assert_eq!(history.head(), Answer::Needs(epoch + Duration::seconds(10)));
    history.add(update(10, 2, 1));
    history.now_complete_after(Some(epoch + Duration::seconds(9)));
    let Answer::Head(head) = history.head() else { panic!("no head") };
    assert_eq!((head.snapshot.content.unwrap(), head.doubt, head.circuit), (object((1, 0)), false, true));
}

#[test]
fn what_the_mirror_remembers_stands_for_an_archive_that_is_gone() {
    let epoch = OffsetDateTime::UNIX_EPOCH;
    let mut history = History::complete_after(None);
    history.add(update(20, 0, 1));
    history.add(update(20, 1, 0));
    history.remember(epoch, &object((1, 0)));
    let Answer::Head(head) = history.head() else { panic!("no head") };
    assert_eq!((head.snapshot.content.unwrap(), head.doubt), (object((1, 0)), false));
}

/// The head of a circuit at second 20 after an event at second 10, where something else was seen at `otherwise`.
fn after_a_read(otherwise: i64) -> (Option<String>, bool) {
    let mut history = History::complete_after(None);
    for event in [update(10, 2, 1), update(20, 0, 1), update(20, 1, 0)] {
        history.add(event);
    }
    history.seen_otherwise(OffsetDateTime::UNIX_EPOCH + Duration::seconds(otherwise));
    let Answer::Head(head) = history.head() else { panic!("no head") };
    (head.snapshot.content, head.doubt)
}

#[test]
fn a_circuit_that_began_after_a_read_is_in_doubt() {
    assert!(after_a_read(15).1, "what was read at 15 may be where it began");
    assert_eq!(after_a_read(10), (Some(object((1, 0))), false), "the event of that second says what was read");
    assert_eq!(after_a_read(5), (Some(object((1, 0))), false), "the event is newer than the read");
}

#[test]
fn what_the_mirror_remembers_counts_only_where_the_archive_does_not_reach() {
    let epoch = OffsetDateTime::UNIX_EPOCH;
    let mut history = History::complete_after(None);
    history.add(update(20, 0, 1));
    history.add(update(20, 1, 0));
    let known = object((1, 0));
    history.remember(epoch + Duration::seconds(20), &known);
    let Answer::Head(head) = history.head() else { panic!("no head") };
    assert!(head.doubt, "a state of that second is no state before it");
}

#[test]
fn without_any_content_there_is_no_head() {
    assert_eq!(History::complete_after(None).head(), Answer::Nothing);
    let at = OffsetDateTime::UNIX_EPOCH;
    assert_eq!(History::complete_after(Some(at)).head(), Answer::Needs(at));
    let mut history = History::complete_after(Some(at + Duration::seconds(10)));
    history.add(update(10, 0, 1));
    assert_eq!(history.head(), Answer::Needs(at + Duration::seconds(10)), "others of that second may be stored");
}
