//! The law of the history, on generated histories of an object: every wrong end is flagged as ambiguous.

use proptest::prelude::*;
use time::Duration;

use super::*;
use crate::mirror::same_second::ChangeKind;

/// One generated change: seconds since the previous one (mostly none), the two fields afterwards, and whether it has
/// two events.
#[derive(Debug, Clone)]
struct Change {
    seconds: i64,
    fields: (u8, u8),
    /// A second event, with an id of its own, reports the same change.
    has_two_events: bool,
}

fn change() -> impl Strategy<Value = Change> {
    let seconds = prop_oneof![3 => Just(0), 1 => Just(1), 1 => 2..100_i64];
    (seconds, (0..3_u8, 0..2_u8), prop::bool::weighted(0.1)).prop_map(|(seconds, fields, has_two_events)| Change {
        seconds,
        fields,
        has_two_events,
    })
}

fn object((a, b): (u8, u8)) -> String {
    // a field that is null or has a value, and one that never changes
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

/// The events of a history, in their true order. Event ids do not follow it.
fn events(changes: &[Change], with_creation: bool, salt: u64) -> Vec<Snapshot> {
    let mut at = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
    let mut fields = (0, 0);
    let mut events = Vec::new();
    let mut emit = |at, stage, fields, previous| {
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
        emit(at, ChangeKind::Created, fields, None);
    }
    for change in changes {
        at += Duration::seconds(change.seconds);
        // an update that changes nothing has no event
        let Some(previous) = previous(fields, change.fields) else { continue };
        fields = change.fields;
        for _ in 0..=u8::from(change.has_two_events) {
            emit(at, ChangeKind::Updated, fields, Some(previous.clone()));
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
        HeadResult::Head(head) => Some(*head),
        HeadResult::Nothing | HeadResult::Needs(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_wrong_end_is_ambiguous_in_any_order_of_arrival(
        (changes, order) in prop::collection::vec(change(), 2..=6).prop_flat_map(|changes| {
            let places: Vec<usize> = (0..=2 * changes.len()).collect();
            (Just(changes), Just(places).prop_shuffle())
        }),
        with_creation: bool,
        salt: u64,
    ) {
        let stated = events(&changes, with_creation, salt);
        let Some(truth) = stated.last() else { return Ok(()) };
        let shuffled = order.iter().filter_map(|place| stated.get(*place)).cloned();
        // every event once more, in the true order: duplicates change nothing
        let head = head_of(shuffled.chain(stated.iter().cloned())).expect("there are events");
        let in_true_order = head_of(stated.iter().cloned()).expect("there are events");
        prop_assert_eq!(&head, &in_true_order);
        prop_assert!(head.ambiguous || head.snapshot.content == truth.content, "{:?} is not {:?}", head, truth);
        // ambiguity must stay the exception, or this law would prove nothing: it requires a change that seems to repeat
        let mut seen = std::collections::HashSet::new();
        let repeats = stated.iter().any(|one| !seen.insert((one.created, one.content.clone(), one.previous.clone())));
        prop_assert!(!head.ambiguous || repeats || !with_creation, "ambiguous without a cause: {:?}", stated);
    }
}

fn update(second: i64, from: u8, to: u8) -> Snapshot {
    Snapshot {
        event_id: format!("evt_{second}_{from}{to}"),
        created: OffsetDateTime::UNIX_EPOCH + Duration::seconds(second),
        stage: ChangeKind::Updated,
        content: Some(object((to, 0))),
        previous: previous((from, 0), (to, 0)),
        api_version: None,
    }
}

#[test]
fn a_circuit_needs_the_second_before() {
    let epoch = OffsetDateTime::UNIX_EPOCH;
    let mut history = History::complete_after(Some(epoch + Duration::seconds(10)));
    history.add(update(20, 0, 1));
    history.add(update(20, 1, 0));
    assert_eq!(history.head(), HeadResult::Needs(epoch + Duration::seconds(10)));
    history.add(update(10, 2, 1));
    history.now_complete_after(Some(epoch + Duration::seconds(9)));
    let HeadResult::Head(head) = history.head() else { panic!("no head") };
    assert_eq!((head.snapshot.content.unwrap(), head.ambiguous, head.circuit), (object((1, 0)), false, true));
}

#[test]
fn the_mirror_replaces_a_missing_archive() {
    let epoch = OffsetDateTime::UNIX_EPOCH;
    let mut history = History::complete_after(None);
    history.add(update(20, 0, 1));
    history.add(update(20, 1, 0));
    history.remember(epoch, &object((1, 0)));
    let HeadResult::Head(head) = history.head() else { panic!("no head") };
    assert_eq!((head.snapshot.content.unwrap(), head.ambiguous), (object((1, 0)), false));
}

/// The head of a circuit at second 20 after an event at second 10, with another state seen at `otherwise`.
fn after_a_read(otherwise: i64) -> (Option<String>, bool) {
    let mut history = History::complete_after(None);
    for event in [update(10, 2, 1), update(20, 0, 1), update(20, 1, 0)] {
        history.add(event);
    }
    history.seen_without_event_at(OffsetDateTime::UNIX_EPOCH + Duration::seconds(otherwise));
    let HeadResult::Head(head) = history.head() else { panic!("no head") };
    (head.snapshot.content, head.ambiguous)
}

#[test]
fn a_circuit_that_began_after_a_read_is_ambiguous() {
    assert!(after_a_read(15).1, "what was read at 15 may be where it began");
    assert_eq!(after_a_read(10), (Some(object((1, 0))), false), "the event of that second shows what was read");
    assert_eq!(after_a_read(5), (Some(object((1, 0))), false), "the event is newer than the read");
}

#[test]
fn the_mirror_counts_only_before_the_archive() {
    let epoch = OffsetDateTime::UNIX_EPOCH;
    let mut history = History::complete_after(None);
    history.add(update(20, 0, 1));
    history.add(update(20, 1, 0));
    let known = object((1, 0));
    history.remember(epoch + Duration::seconds(20), &known);
    let HeadResult::Head(head) = history.head() else { panic!("no head") };
    assert!(head.ambiguous, "a state of that second is not one before it");
}

#[test]
fn without_any_content_there_is_no_head() {
    assert_eq!(History::complete_after(None).head(), HeadResult::Nothing);
    let at = OffsetDateTime::UNIX_EPOCH;
    assert_eq!(History::complete_after(Some(at)).head(), HeadResult::Needs(at));
    let mut history = History::complete_after(Some(at + Duration::seconds(10)));
    history.add(update(10, 0, 1));
    assert_eq!(history.head(), HeadResult::Needs(at + Duration::seconds(10)), "others of that second may be stored");
}

/// An answer to a write of ours within a second, beside the events of that second that have arrived: is it newer?
fn is_before_write(changes: &[(u8, u8)], arrived: &[usize], written: (u8, u8)) -> bool {
    let changes = changes.iter().map(|fields| Change { seconds: 0, fields: *fields, has_two_events: false });
    let events = events(&changes.collect::<Vec<_>>(), false, 7);
    let mut history = History::complete_after(None);
    for index in arrived {
        history.add(events[*index].clone());
    }
    history.written_at(events[0].created, &object(written));
    match history.head() {
        HeadResult::Head(head) => {
            assert!(!head.is_before_write || head.ambiguous, "a read must confirm it");
            head.is_before_write
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_to_a_write_is_newer_until_an_event_shows_its_state() {
    // someone's change, then ours, then another one's
    let changes = [(1, 0), (2, 0), (1, 1)];
    assert!(is_before_write(&changes, &[0], (2, 0)), "only what was before ours");
    assert!(!is_before_write(&changes, &[0, 1], (2, 0)), "our own event has the same state");
    assert!(!is_before_write(&changes, &[0, 2], (2, 0)), "the later event leads away from it");
    assert!(!is_before_write(&changes, &[0, 1, 2], (2, 0)));
}

#[test]
fn an_event_of_another_second_is_not_compared_with_an_answer() {
    let events = events(&[Change { seconds: 5, fields: (1, 0), has_two_events: false }], false, 7);
    let mut history = History::complete_after(None);
    history.add(events[0].clone());
    history.written_at(events[0].created - Duration::SECOND, &object((2, 0)));
    let HeadResult::Head(head) = history.head() else { panic!("there is an event") };
    assert!(!head.is_before_write && !head.ambiguous);
}
