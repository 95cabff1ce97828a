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
    if edges.iter().all(|edge| edge.0.is_none()) {
        // a creation alone: every update follows it
        let has_update = moves.iter().any(|one| one.stage != Stage::Created);
        return last_of(moves, |one| one.stage != Stage::Created || !has_update);
    }
    let end = match shape_from_creation(&edges) {
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

/// The shape of the edges. A creation is the first of its second, also where the update that follows does not name all
/// that it changed, so that the two do not join.
fn shape_from_creation<'a>(edges: &[Edge<'a>]) -> Shape<'a> {
    let updates: Vec<Edge<'a>> = edges.iter().copied().filter(|edge| edge.0.is_some()).collect();
    match shape_of(edges) {
        Shape::Broken if updates.len() < edges.len() => match shape_of(&updates) {
            Shape::Circuit => Shape::Broken,
            shape => shape,
        },
        shape => shape,
    }
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
    let is_edge = |one: &Move| one.edge().is_some_and(|edge| edge.0.is_some());
    let is_last = |one: &Move| is_edge(one) && !edges.iter().any(|(from, _)| *from == Some(&one.after));
    let chosen = |one: &Move| if moves.iter().any(is_last) { is_last(one) } else { is_edge(one) };
    let furthest = furthest(moves, chosen);
    greatest(moves, |one| chosen(one) && (furthest.is_none() || one.rank == furthest), true, false)
}

/// An event without `previous_attributes` adds a state. On the walk it raises no doubt. Beside it the state that is
/// further along came later; where that cannot be said there is a doubt.
fn with_states_off_the_walk(moves: &[Move], edges: &[Edge<'_>], end: End) -> End {
    let on_the_walk = |state: &State| edges.iter().any(|(from, to)| *from == Some(state) || *to == state);
    let is_stray = |one: &Move| one.edge().is_none() && !on_the_walk(&one.after);
    let End::At { index, doubt, circuit } = end else { return end };
    if !moves.iter().any(is_stray) {
        return end;
    }
    match (moves[index].rank, furthest(moves, is_stray)) {
        (Some(walked), Some(strayed)) if strayed < walked => end,
        (Some(walked), Some(strayed)) if strayed > walked && !doubt => last_of(moves, is_stray),
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

/// The last move that leads to `state`: the fields that rows read are the same in all that do, whether or not they say
/// where they came from.
fn entering(moves: &[Move], state: &State, doubt: bool, circuit: bool) -> End {
    greatest(moves, |one| one.after == *state, doubt, circuit)
}

/// The chosen move that came last, as far as it says: a creation came first, what is further along came later, and what
/// stays in a state came after what led there. Of equals the one with the greatest event id.
fn greatest(moves: &[Move], chosen: impl Fn(&Move) -> bool, doubt: bool, circuit: bool) -> End {
    let stays = |one: &Move| one.before.as_ref() == Some(&one.after);
    let index = moves
        .iter()
        .enumerate()
        .filter(|(_, one)| chosen(one))
        .max_by_key(|(_, one)| (one.stage != Stage::Created, one.rank, stays(one), &one.event_id))
        .map_or(0, |(index, _)| index);
    End::At { index, doubt, circuit }
}

#[cfg(test)]
mod tests;
