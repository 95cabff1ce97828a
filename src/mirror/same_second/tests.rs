//! The end of a second, on transitions written as letters.

use proptest::prelude::*;

use super::*;

fn state(name: &str) -> State {
    State::of_text(name)
}

/// Letters are states without a rank; digits are states whose rank is the digit.
///
/// `"a>b"` an update, `">b"` a creation, `"b"` a snapshot without previous attributes, `"b!"` a deletion.
fn transitions(texts: &[&str]) -> Vec<Transition> {
    let parse = |(at, text): (usize, &&str)| {
        let event_id = format!("evt_{at}");
        let (stage, before, after) = match text.split_once('>') {
            Some(("", after)) => (ChangeKind::Created, None, after),
            Some((before, after)) => (ChangeKind::Updated, Some(state(before)), after),
            None => match text.strip_suffix('!') {
                Some(after) => (ChangeKind::Deleted, None, after),
                None => (ChangeKind::Updated, None, *text),
            },
        };
        let rank = after.bytes().next().filter(u8::is_ascii_digit);
        Transition { event_id, stage, before, after: state(after), rank }
    };
    texts.iter().enumerate().map(parse).collect()
}

/// The state at the end as its letter, with `?` if it is ambiguous and `~` if it is a circuit.
fn end(texts: &[&str], before: Option<&str>) -> String {
    let transitions = transitions(texts);
    let known = before.map(state);
    match end_of_second(&transitions, known.as_ref().map_or(Before::Unknown, Before::At)) {
        End::At { index, ambiguous, circuit } => {
            let letter = texts[index].trim_end_matches('!').rsplit('>').next().unwrap();
            format!("{letter}{}{}", if circuit { "~" } else { "" }, if ambiguous { "?" } else { "" })
        }
        End::NeedsBefore => "needs before".to_owned(),
    }
}

#[test]
fn updates_end_where_the_trail_ends_in_any_order() {
    for order in [["a>b", "b>c", "c>d"], ["c>d", "b>c", "a>b"], ["b>c", "c>d", "a>b"]] {
        assert_eq!(end(&order, None), "d");
    }
}

#[test]
fn a_trail_may_pass_a_state_twice() {
    assert_eq!(end(&["a>b", "b>a", "a>c"], None), "c");
}

#[test]
fn creation_is_an_edge_from_nothing() {
    assert_eq!(end(&["a>b", ">a"], None), "b");
    assert_eq!(end(&[">a", "a>b", "b>a"], None), "a");
}

#[test]
fn a_creation_is_never_the_last_beside_an_update() {
    assert_eq!(end(&[">a", "b>c"], None), "c", "the update does not name all that it changed");
    assert_eq!(end(&["c>d", ">a", "b>c"], None), "d");
    assert_eq!(end(&["c>d", ">a", "b>a"], None), "a?", "disconnected updates stay ambiguous");
    assert_eq!(end(&["b>c", ">a", "c>b"], None), "b?", "the start of the circuit is unknown");
    assert_eq!(end(&["0", ">1"], None), "0", "whatever rank it has");
    assert_eq!(end(&[">a", "a>b", "b>a"], None), "a");
}

proptest! {
    #[test]
    fn beside_any_updates_no_creation_is_the_last(
        texts in prop::collection::vec("[ab0-2]?>?[abc0-2]", 1..6),
        creation in ">[abc0-2]",
        at in 0..6_usize,
    ) {
        let mut texts = texts;
        texts.insert(at.min(texts.len()), creation);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let transitions = transitions(&texts);
        let End::At { index, .. } = end_of_second(&transitions, Before::Unknown) else { panic!("no end") };
        let has_update = transitions.iter().any(|one| one.stage != ChangeKind::Created);
        prop_assert!(!has_update || transitions[index].stage != ChangeKind::Created, "{:?} ends at {}", texts, index);
    }
}

#[test]
fn a_circuit_ends_where_the_second_before_ended() {
    assert_eq!(end(&["a>b", "b>a"], Some("a")), "a~");
    assert_eq!(end(&["a>b", "b>a"], Some("b")), "b~");
}

#[test]
fn a_circuit_with_an_unknown_or_other_start_is_ambiguous() {
    assert_eq!(end(&["a>b", "b>a"], None), "a~?");
    assert_eq!(end(&["a>b", "b>a"], Some("z")), "a~?");
}

#[test]
fn a_circuit_needs_the_second_before() {
    assert_eq!(end_of_second(&transitions(&["a>b", "b>a"]), Before::NotAsked), End::NeedsBefore);
}

#[test]
fn disconnected_edges_are_ambiguous() {
    assert_eq!(end(&["a>b", "c>d"], None), "d?");
    assert_eq!(end(&["c>d", "a>b"], None), "b?");
    assert_eq!(end(&["a>b", "c>d", "d>c"], None), "b?", "a trail and a circuit that is not connected to it");
    assert_eq!(end(&["a>b", "b>a", "c>d", "d>c"], Some("a")), "c?", "two circuits: no state is left for good");
}

#[test]
fn a_duplicate_edge_is_ambiguous_only_if_it_matters() {
    assert_eq!(end(&["a>b", "a>b"], None), "b");
    assert_eq!(end(&["a>b", "b>a", "a>b"], Some("a")), "b?", "once or twice: b or a");
    assert_eq!(end(&["a>b", "b>a", "a>b", "b>c"], None), "c");
}

#[test]
fn deletion_is_the_last_in_its_second() {
    assert_eq!(end(&["c!", "a>b", "b>a"], None), "c");
}

#[test]
fn a_state_without_an_edge_is_ambiguous_only_off_the_trail() {
    assert_eq!(end(&["a>b", "b"], None), "b");
    assert_eq!(end(&["a>b", "a"], None), "b");
    assert_eq!(end(&["a>b", "z"], None), "b?");
    assert_eq!(end(&["y", "z"], None), "z?");
    assert_eq!(end(&["z", "z"], None), "z");
    assert_eq!(end(&["z", ">a"], None), "z", "an update follows the creation");
    assert_eq!(end(&["z", ">a", "y"], None), "y?");
    assert_eq!(end(&["c>d", ">a", "y"], None), "d?", "a state beside the update");
    assert_eq!(end(&["a>b", "b>a", ">a", "z"], None), "a?", "more than a creation");
}

#[test]
fn a_state_of_higher_rank_came_later() {
    assert_eq!(end(&["1", "2"], None), "2", "open and paid");
    assert_eq!(end(&["2", "1"], None), "2");
    assert_eq!(end(&["2", "1>1"], None), "2", "beside the trail, with a higher rank");
    assert_eq!(end(&["1", "1>2"], None), "2");
    assert_eq!(end(&["0", "1>2"], None), "2", "beside the trail, with a lower rank");
    assert_eq!(end(&[">0", "1", "2"], None), "2");
    assert_eq!(end(&["a", "2"], None), "2?", "one has no rank");
    assert_eq!(end(&["1x", "0>1"], None), "1?", "the same rank, but another state");
    assert_eq!(end(&["5", "0>1", "3>2"], None), "2?", "beside disconnected edges nothing is certain");
    assert_eq!(end(&["0>1", "3>2"], None), "2?", "disconnected edges stay ambiguous, and the highest rank is chosen");
}

#[test]
fn an_update_that_changes_nothing_stays_where_it_is() {
    assert_eq!(end(&["a>a", "a>a"], None), "a");
    assert_eq!(end(&["a>a", "a>b"], None), "b");
}
