//! Where an object stands at the end of one second, told by the events of that second alone.
//!
//! Stripe's `created` has a resolution of one second, so several updates can share it, and they arrive in any
//! order. But an update tells both where it leads (its object) and where it came from (its object overlaid with
//! `previous_attributes`): it is an edge between two states. All edges of one object in one second form one
//! walk, and the end of a walk is known from the degrees of its states: it is entered once more often than it is
//! left. Only a circuit ends where it began, and then the second before decides.
//!
//! PURE. Called by [`super::history`], and only where events share a second.

use std::collections::{BTreeMap, BTreeSet};

use super::state::State;

/// Where an event stands in the life of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `*.created`: it came from nothing.
    Created,
    /// Everything between.
    Updated,
    /// `*.deleted`, or `payment_method.detached`: the last in its second.
    Deleted,
}

/// One event as a move of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Orders the choice where nothing else does.
    pub event_id: String,
    /// Created, updated or deleted.
    pub stage: Stage,
    /// The state that it leads from, where the event tells: its object overlaid with `previous_attributes`.
    pub before: Option<State>,
    /// The state that it leads to: its object.
    pub after: State,
    /// How far along its life the object is in that state, where its type has such an order: an invoice that is paid
    /// was open before, whatever came last. `None` for types that go to and fro.
    pub rank: Option<u8>,
}

impl Move {
    /// The edge of this event, if it is one. `*.created` is an edge from nothing.
    fn edge(&self) -> Option<Edge<'_>> {
        match (self.stage, &self.before) {
            (Stage::Created, _) => Some((None, &self.after)),
            (_, Some(before)) => Some((Some(before), &self.after)),
            (_, None) => None,
        }
    }
}

/// From where (`None`: from nothing) to where.
type Edge<'a> = (Option<&'a State>, &'a State);

/// What is known of the end of the second before.
#[derive(Debug, Clone, Copy)]
pub enum Before<'a> {
    /// Nobody has looked yet.
    NotAsked,
    /// It cannot be known.
    Unknown,
    /// The object was in this state.
    At(&'a State),
}

/// The end of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The object ended in the state of this move.
    At {
        /// Index into the moves that were given.
        index: usize,
        /// The order could not be told; the choice is the same on every machine.
        doubt: bool,
        /// It follows from the end of the second before.
        circuit: bool,
    },
    /// The events lead back to where they began: say where the object was before.
    NeedsBefore,
}

/// The state that the object had at the end of the second in which all these `moves` happened.
///
/// `moves` holds each event once and is not empty; their order has no say.
pub fn end_of_second(moves: &[Move], before: Before<'_>) -> End {
    if moves.iter().any(|one| one.stage == Stage::Deleted) {
        return last_of(moves, |one| one.stage == Stage::Deleted);
    }
    let edges: Vec<Edge<'_>> = moves.iter().filter_map(Move::edge).collect();
    if edges.is_empty() {
        return last_of(moves, |_| true);
    }
    let end = match shape_of(&edges) {
        Shape::Walk(end) => entering(moves, end, false, false),
        Shape::Broken => broken(moves, &edges),
        Shape::Circuit => match before {
            Before::NotAsked => return End::NeedsBefore,
            Before::At(state) if edges.iter().any(|edge| edge.1 == state) => entering(moves, state, false, true),
            Before::At(_) | Before::Unknown => greatest(moves, |one| one.edge().is_some(), true, true),
        },
    };
    with_states_off_the_walk(moves, &edges, end)
}

/// The form that the edges of one second have together.
#[derive(Debug, PartialEq, Eq)]
enum Shape<'a> {
    /// One walk that ends here.
    Walk(&'a State),
    /// One walk that ends where it began, which the edges do not tell.
    Circuit,
    /// No single walk, or two readings with different ends.
    Broken,
}

/// More readings than this are not weighed: then the order is in doubt.
const MOST_READINGS: usize = 64;

/// The shape of the edges, where an edge that stands there twice may have happened twice or been told twice (an
/// `updated` and a `paused` of one change). Readings that are no walk at all are none; the others must agree.
fn shape_of<'a>(edges: &[Edge<'a>]) -> Shape<'a> {
    let mut counts: BTreeMap<Edge<'a>, usize> = BTreeMap::new();
    for edge in edges {
        *counts.entry(*edge).or_default() += 1;
    }
    let number = counts.values().try_fold(1_usize, |product, count| product.checked_mul(*count));
    if number.is_none_or(|number| number > MOST_READINGS) {
        return Shape::Broken;
    }
    let mut readings: Vec<Vec<Edge<'a>>> = vec![Vec::new()];
    for (edge, count) in counts {
        let longer = |times: usize| {
            readings.iter().map(move |reading| [reading.as_slice(), vec![edge; times].as_slice()].concat())
        };
        readings = (1..=count).flat_map(longer).collect();
    }
    let mut shapes = readings.iter().map(|reading| walk(reading)).filter(|shape| *shape != Shape::Broken);
    match shapes.next() {
        Some(shape) if shapes.all(|other| other == shape) => shape,
        _ => Shape::Broken,
    }
}

/// One walk over every edge, if there is one.
fn walk<'a>(edges: &[Edge<'a>]) -> Shape<'a> {
    if !joined(edges) {
        return Shape::Broken;
    }
    let mut surplus: BTreeMap<Option<&State>, i64> = BTreeMap::new();
    for (from, to) in edges {
        *surplus.entry(*from).or_default() -= 1;
        *surplus.entry(Some(to)).or_default() += 1;
    }
    let mut uneven = surplus.into_iter().filter(|(_, surplus)| *surplus != 0);
    match (uneven.next(), uneven.next(), uneven.next()) {
        // a walk that never leaves its one state ends there
        (None, ..) if edges.iter().all(|edge| edge.1 == edges[0].1) => Shape::Walk(edges[0].1),
        (None, ..) => Shape::Circuit,
        (Some((Some(end), 1)), Some((_, -1)), None) | (Some((_, -1)), Some((Some(end), 1)), None) => Shape::Walk(end),
        _ => Shape::Broken,
    }
}

/// Whether every edge can be reached from the first one, directions aside.
fn joined(edges: &[Edge<'_>]) -> bool {
    let mut reached: BTreeSet<Option<&State>> = BTreeSet::from([edges[0].0]);
    let mut left: Vec<Edge<'_>> = edges.to_vec();
    loop {
        let (near, far): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(from, to)| reached.contains(from) || reached.contains(&Some(*to)));
        if near.is_empty() {
            return far.is_empty();
        }
        reached.extend(near.into_iter().flat_map(|(from, to)| [from, Some(to)]));
        left = far;
    }
}

/// The choice where the edges do not join: the greatest event that leads to a state which is not left again, of those
/// that are furthest along.
fn broken(moves: &[Move], edges: &[Edge<'_>]) -> End {
    let is_last = |one: &Move| one.edge().is_some() && !edges.iter().any(|(from, _)| *from == Some(&one.after));
    let is_edge = |one: &Move| one.edge().is_some();
    let chosen = |one: &Move| if moves.iter().any(is_last) { is_last(one) } else { is_edge(one) };
    let furthest = furthest(moves, chosen);
    greatest(moves, |one| chosen(one) && (furthest.is_none() || one.rank == furthest), true, false)
}

/// An event without `previous_attributes` adds a state. On the walk it raises no doubt. Beside it the state that is
/// further along came later; where that cannot be said there is a doubt, unless the walk is a creation alone, which
/// every update follows.
fn with_states_off_the_walk(moves: &[Move], edges: &[Edge<'_>], end: End) -> End {
    let on_the_walk = |state: &State| edges.iter().any(|(from, to)| *from == Some(state) || *to == state);
    let is_stray = |one: &Move| one.edge().is_none() && !on_the_walk(&one.after);
    let End::At { index, doubt, circuit } = end else { return end };
    if !moves.iter().any(is_stray) {
        return end;
    }
    let creation_alone = !doubt && edges.iter().all(|edge| edge.0.is_none());
    match (moves[index].rank, furthest(moves, is_stray)) {
        (Some(walked), Some(strayed)) if strayed < walked => end,
        (Some(walked), Some(strayed)) if strayed > walked && !doubt => last_of(moves, is_stray),
        _ if creation_alone => last_of(moves, is_stray),
        _ => End::At { index, doubt: true, circuit },
    }
}

/// How far along the chosen moves lead at most; `None` where one of them does not say.
fn furthest(moves: &[Move], chosen: impl Fn(&Move) -> bool) -> Option<u8> {
    let ranks: Option<Vec<u8>> = moves.iter().filter(|one| chosen(one)).map(|one| one.rank).collect();
    ranks.and_then(|ranks| ranks.into_iter().max())
}

/// The greatest of the chosen moves that are furthest along, in doubt where they lead to different states.
fn last_of(moves: &[Move], chosen: impl Fn(&Move) -> bool) -> End {
    let furthest = furthest(moves, &chosen);
    let last = |one: &Move| chosen(one) && (furthest.is_none() || one.rank == furthest);
    let states: BTreeSet<&State> = moves.iter().filter(|one| last(one)).map(|one| &one.after).collect();
    greatest(moves, last, states.len() > 1, false)
}

/// The move that enters `state`; its content is the same in all that do.
fn entering(moves: &[Move], state: &State, doubt: bool, circuit: bool) -> End {
    greatest(moves, |one| one.edge().is_some_and(|edge| edge.1 == state), doubt, circuit)
}

/// The move with the greatest event id among the chosen.
fn greatest(moves: &[Move], chosen: impl Fn(&Move) -> bool, doubt: bool, circuit: bool) -> End {
    let index = moves
        .iter()
        .enumerate()
        .filter(|(_, one)| chosen(one))
        .max_by_key(|(_, one)| &one.event_id)
        .map_or(0, |(index, _)| index);
    End::At { index, doubt, circuit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::json::Json;

    fn state(name: &str) -> State {
        State::of(Json::parse(&format!("{{\"s\":{name:?}}}")).unwrap())
    }

    /// Letters are states without a rank, digits are their own.
    ///
    /// `"a>b"` an update, `">b"` a creation, `"b"` a snapshot without previous attributes, `"b!"` a deletion.
    fn moves(texts: &[&str]) -> Vec<Move> {
        let parse = |(at, text): (usize, &&str)| {
            let event_id = format!("evt_{at}");
            let (stage, before, after) = match text.split_once('>') {
                Some(("", after)) => (Stage::Created, None, after),
                Some((before, after)) => (Stage::Updated, Some(state(before)), after),
                None => match text.strip_suffix('!') {
                    Some(after) => (Stage::Deleted, None, after),
                    None => (Stage::Updated, None, *text),
                },
            };
            let rank = after.bytes().next().filter(u8::is_ascii_digit);
            Move { event_id, stage, before, after: state(after), rank }
        };
        texts.iter().enumerate().map(parse).collect()
    }

    /// The state at the end as its letter, with `?` where there is doubt and `~` where it is a circuit.
    fn end(texts: &[&str], before: Option<&str>) -> String {
        let moves = moves(texts);
        let known = before.map(state);
        match end_of_second(&moves, known.as_ref().map_or(Before::Unknown, Before::At)) {
            End::At { index, doubt, circuit } => {
                let letter = texts[index].trim_end_matches('!').rsplit('>').next().unwrap();
                format!("{letter}{}{}", if circuit { "~" } else { "" }, if doubt { "?" } else { "" })
            }
            End::NeedsBefore => "needs before".to_owned(),
        }
    }

    #[test]
    fn updates_of_one_second_end_where_the_walk_ends_in_any_order() {
        for order in [["a>b", "b>c", "c>d"], ["c>d", "b>c", "a>b"], ["b>c", "c>d", "a>b"]] {
            assert_eq!(end(&order, None), "d");
        }
    }

    #[test]
    fn a_walk_may_pass_a_state_twice() {
        assert_eq!(end(&["a>b", "b>a", "a>c"], None), "c");
    }

    #[test]
    fn creation_is_an_edge_from_nothing() {
        assert_eq!(end(&["a>b", ">a"], None), "b");
        assert_eq!(end(&[">a", "a>b", "b>a"], None), "a");
    }

    #[test]
    fn a_circuit_ends_where_the_second_before_ended() {
        assert_eq!(end(&["a>b", "b>a"], Some("a")), "a~");
        assert_eq!(end(&["a>b", "b>a"], Some("b")), "b~");
    }

    #[test]
    fn a_circuit_whose_start_is_unknown_or_elsewhere_is_in_doubt() {
        assert_eq!(end(&["a>b", "b>a"], None), "a~?");
        assert_eq!(end(&["a>b", "b>a"], Some("z")), "a~?");
    }

    #[test]
    fn a_circuit_asks_for_the_second_before() {
        assert_eq!(end_of_second(&moves(&["a>b", "b>a"]), Before::NotAsked), End::NeedsBefore);
    }

    #[test]
    fn edges_that_do_not_join_are_in_doubt() {
        assert_eq!(end(&["a>b", "c>d"], None), "d?");
        assert_eq!(end(&["c>d", "a>b"], None), "b?");
        assert_eq!(end(&["a>b", "c>d", "d>c"], None), "b?", "a walk and a circuit apart from it");
        assert_eq!(end(&["a>b", "b>a", "c>d", "d>c"], Some("a")), "c?", "two circuits: no state is left for good");
    }

    #[test]
    fn an_edge_told_twice_is_in_doubt_only_where_it_matters() {
        assert_eq!(end(&["a>b", "a>b"], None), "b");
        assert_eq!(end(&["a>b", "b>a", "a>b"], Some("a")), "b?", "once or twice: b or a");
        assert_eq!(end(&["a>b", "b>a", "a>b", "b>c"], None), "c");
    }

    #[test]
    fn deletion_is_the_last_in_its_second() {
        assert_eq!(end(&["c!", "a>b", "b>a"], None), "c");
    }

    #[test]
    fn a_snapshot_without_previous_attributes_is_in_doubt_only_off_the_walk() {
        assert_eq!(end(&["a>b", "b"], None), "b");
        assert_eq!(end(&["a>b", "a"], None), "b");
        assert_eq!(end(&["a>b", "z"], None), "b?");
        assert_eq!(end(&["y", "z"], None), "z?");
        assert_eq!(end(&["z", "z"], None), "z");
        assert_eq!(end(&["z", ">a"], None), "z", "an update follows the creation");
        assert_eq!(end(&["z", ">a", "y"], None), "y?");
        assert_eq!(end(&["c>d", ">a", "y"], None), "a?", "edges that do not join stay in doubt");
        assert_eq!(end(&["a>b", "b>a", ">a", "z"], None), "a?", "more than a creation");
    }

    #[test]
    fn a_state_that_is_further_along_came_later() {
        assert_eq!(end(&["1", "2"], None), "2", "open and paid");
        assert_eq!(end(&["2", "1"], None), "2");
        assert_eq!(end(&["2", "1>1"], None), "2", "beside the walk and further");
        assert_eq!(end(&["1", "1>2"], None), "2");
        assert_eq!(end(&["0", "1>2"], None), "2", "beside the walk and not as far");
        assert_eq!(end(&[">0", "1", "2"], None), "2");
        assert_eq!(end(&["a", "2"], None), "2?", "one does not say");
        assert_eq!(end(&["1x", "0>1"], None), "1?", "as far along, and another state");
        assert_eq!(end(&["5", "0>1", "3>2"], None), "2?", "beside edges that do not join nothing is sure");
        assert_eq!(end(&["0>1", "3>2"], None), "2?", "edges that do not join stay in doubt, and the furthest stands");
    }

    #[test]
    fn an_update_that_changes_nothing_stays_where_it_is() {
        assert_eq!(end(&["a>a", "a>a"], None), "a");
        assert_eq!(end(&["a>a", "a>b"], None), "b");
    }
}
