//! The state of an object at the end of one second, computed from the events of that second.
//!
//! Stripe's `created` has a resolution of one second, so several updates can share it, and they arrive in any order.
//! But an update contains both the state that it leads to (its object) and the state that it leads from (its object
//! overlaid with `previous_attributes`). So it is an edge between two states. All edges of one object in one second
//! form one trail that uses each edge once (an Eulerian trail). The degrees of the states show its end: the state that
//! is entered once more often than it is left. Only a circuit ends where it began; then the second before decides.
//!
//! PURE. Called by [`super::history`], and only where events share a second.

use std::collections::{BTreeMap, BTreeSet};

use super::state::State;

/// Kind of change that an event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// `*.created`: there was no state before.
    Created,
    /// Every other event.
    Updated,
    /// `*.deleted`, or `payment_method.detached`: the last in its second.
    Deleted,
}

/// One event as a transition of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Decides the choice if nothing else does.
    pub event_id: String,
    /// Created, updated or deleted.
    pub stage: ChangeKind,
    /// The state before the event, if the event contains it: its object overlaid with `previous_attributes`.
    pub before: Option<State>,
    /// The state after the event: its object.
    pub after: State,
    /// How far along its lifecycle the state `after` is, for types that have such an order: a paid invoice was open
    /// before, whichever event arrived last. `None` for types without an order.
    pub rank: Option<u8>,
}

impl Transition {
    /// The edge of this event, if it has one. `*.created` is an edge from nothing.
    fn edge(&self) -> Option<Edge<'_>> {
        match (self.stage, &self.before) {
            (ChangeKind::Created, _) => Some((None, &self.after)),
            (_, Some(before)) => Some((Some(before), &self.after)),
            (_, None) => None,
        }
    }
}

/// The state before (`None`: nothing) and the state after.
type Edge<'a> = (Option<&'a State>, &'a State);

/// What is known of the end of the second before.
#[derive(Debug, Clone, Copy)]
pub enum Before<'a> {
    /// Not loaded yet.
    NotAsked,
    /// It cannot be known.
    Unknown,
    /// The object was in this state.
    At(&'a State),
}

/// The result for one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The object ended in the state after this transition.
    At {
        /// Index into the given transitions.
        index: usize,
        /// The order is ambiguous; the choice is deterministic.
        ambiguous: bool,
        /// The end follows from the end of the second before.
        circuit: bool,
    },
    /// The transitions form a circuit: the end of the second before is needed.
    NeedsBefore,
}

/// The state of the object at the end of the second in which all these transitions happened.
///
/// `transitions` contains each event once and is not empty; its order does not matter.
pub fn end_of_second(transitions: &[Transition], before: Before<'_>) -> End {
    if transitions.iter().any(|one| one.stage == ChangeKind::Deleted) {
        return last_of(transitions, |one| one.stage == ChangeKind::Deleted);
    }
    let edges: Vec<Edge<'_>> = transitions.iter().filter_map(Transition::edge).collect();
    if edges.iter().all(|edge| edge.0.is_none()) {
        // only creations and snapshots: every update follows the creation
        let has_update = transitions.iter().any(|one| one.stage != ChangeKind::Created);
        return last_of(transitions, |one| one.stage != ChangeKind::Created || !has_update);
    }
    let end = match shape_from_creation(&edges) {
        Shape::Trail(end) => entering(transitions, end, false, false),
        Shape::Ambiguous => broken(transitions, &edges),
        Shape::Circuit => match before {
            Before::NotAsked => return End::NeedsBefore,
            Before::At(state) if edges.iter().any(|edge| edge.1 == state) => entering(transitions, state, false, true),
            Before::At(_) | Before::Unknown => greatest(transitions, |one| one.edge().is_some(), true, true),
        },
    };
    with_states_off_trail(transitions, &edges, end)
}

/// The form of the edges of one second.
#[derive(Debug, PartialEq, Eq)]
enum Shape<'a> {
    /// One trail that ends here.
    Trail(&'a State),
    /// One trail that ends where it began; the edges do not show where.
    Circuit,
    /// No single trail, or interpretations with different ends.
    Ambiguous,
}

/// The shape of the edges. A creation is the first edge of its second, even if the next update omits some changed
/// fields, so that the two edges are not connected.
fn shape_from_creation<'a>(edges: &[Edge<'a>]) -> Shape<'a> {
    let updates: Vec<Edge<'a>> = edges.iter().copied().filter(|edge| edge.0.is_some()).collect();
    match shape_of(edges) {
        Shape::Ambiguous if updates.len() < edges.len() => match shape_of(&updates) {
            Shape::Circuit => Shape::Ambiguous,
            shape => shape,
        },
        shape => shape,
    }
}

/// Maximum number of interpretations compared; with more, the order is ambiguous.
const MOST_READINGS: usize = 64;

/// The shape of the edges. An edge that occurs twice may have happened twice, or two events report it (an `updated` and
/// a `paused` of one change). Interpretations that form no trail are ignored; the others must agree.
fn shape_of<'a>(edges: &[Edge<'a>]) -> Shape<'a> {
    let mut counts: BTreeMap<Edge<'a>, usize> = BTreeMap::new();
    for edge in edges {
        *counts.entry(*edge).or_default() += 1;
    }
    let number = counts.values().try_fold(1_usize, |product, count| product.checked_mul(*count));
    if number.is_none_or(|number| number > MOST_READINGS) {
        return Shape::Ambiguous;
    }
    let mut readings: Vec<Vec<Edge<'a>>> = vec![Vec::new()];
    for (edge, count) in counts {
        let longer = |times: usize| {
            readings.iter().map(move |reading| [reading.as_slice(), vec![edge; times].as_slice()].concat())
        };
        readings = (1..=count).flat_map(longer).collect();
    }
    let mut shapes = readings.iter().map(|reading| trail(reading)).filter(|shape| *shape != Shape::Ambiguous);
    match shapes.next() {
        Some(shape) if shapes.all(|other| other == shape) => shape,
        _ => Shape::Ambiguous,
    }
}

/// The trail over all edges, if there is one.
fn trail<'a>(edges: &[Edge<'a>]) -> Shape<'a> {
    if !is_connected(edges) {
        return Shape::Ambiguous;
    }
    let mut surplus: BTreeMap<Option<&State>, i64> = BTreeMap::new();
    for (from, to) in edges {
        *surplus.entry(*from).or_default() -= 1;
        *surplus.entry(Some(to)).or_default() += 1;
    }
    let mut uneven = surplus.into_iter().filter(|(_, surplus)| *surplus != 0);
    match (uneven.next(), uneven.next(), uneven.next()) {
        // a trail that never leaves its one state ends there
        (None, ..) if edges.iter().all(|edge| edge.1 == edges[0].1) => Shape::Trail(edges[0].1),
        (None, ..) => Shape::Circuit,
        (Some((Some(end), 1)), Some((_, -1)), None) | (Some((_, -1)), Some((Some(end), 1)), None) => Shape::Trail(end),
        _ => Shape::Ambiguous,
    }
}

/// Whether every edge can be reached from the first one, ignoring directions.
fn is_connected(edges: &[Edge<'_>]) -> bool {
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

/// The choice if the edges are disconnected or form no trail: of the events that lead to a state that is not left
/// again, those with the highest rank, and of these the greatest.
fn broken(transitions: &[Transition], edges: &[Edge<'_>]) -> End {
    let is_edge = |one: &Transition| one.edge().is_some_and(|edge| edge.0.is_some());
    let is_last = |one: &Transition| is_edge(one) && !edges.iter().any(|(from, _)| *from == Some(&one.after));
    let chosen = |one: &Transition| if transitions.iter().any(is_last) { is_last(one) } else { is_edge(one) };
    let max_rank = max_rank(transitions, chosen);
    greatest(transitions, |one| chosen(one) && (max_rank.is_none() || one.rank == max_rank), true, false)
}

/// An event without `previous_attributes` adds a state. If the trail passes that state, nothing is ambiguous. Otherwise
/// the state with the higher rank came later; without ranks the order is ambiguous.
fn with_states_off_trail(transitions: &[Transition], edges: &[Edge<'_>], end: End) -> End {
    let on_the_trail = |state: &State| edges.iter().any(|(from, to)| *from == Some(state) || *to == state);
    let is_stray = |one: &Transition| one.edge().is_none() && !on_the_trail(&one.after);
    let End::At { index, ambiguous, circuit } = end else { return end };
    if !transitions.iter().any(is_stray) {
        return end;
    }
    match (transitions[index].rank, max_rank(transitions, is_stray)) {
        (Some(in_trail), Some(strayed)) if strayed < in_trail => end,
        (Some(in_trail), Some(strayed)) if strayed > in_trail && !ambiguous => last_of(transitions, is_stray),
        _ => End::At { index, ambiguous: true, circuit },
    }
}

/// The highest rank of the chosen transitions; `None` if one of them has no rank.
fn max_rank(transitions: &[Transition], chosen: impl Fn(&Transition) -> bool) -> Option<u8> {
    let ranks: Option<Vec<u8>> = transitions.iter().filter(|one| chosen(one)).map(|one| one.rank).collect();
    ranks.and_then(|ranks| ranks.into_iter().max())
}

/// The greatest of the chosen transitions with the highest rank; ambiguous if they lead to different states.
fn last_of(transitions: &[Transition], chosen: impl Fn(&Transition) -> bool) -> End {
    let max_rank = max_rank(transitions, &chosen);
    let last = |one: &Transition| chosen(one) && (max_rank.is_none() || one.rank == max_rank);
    let states: BTreeSet<&State> = transitions.iter().filter(|one| last(one)).map(|one| &one.after).collect();
    greatest(transitions, last, states.len() > 1, false)
}

/// The last transition that leads to `state`. All of them agree in the fields that rows read, whether or not they have
/// a state before.
fn entering(transitions: &[Transition], state: &State, ambiguous: bool, circuit: bool) -> End {
    greatest(transitions, |one| one.after == *state, ambiguous, circuit)
}

/// The chosen transition that came last, as far as it shows: a creation came first, a higher rank came later, and a
/// transition that stays in a state came after the one that led there. Of equals, the one with the greatest event id.
fn greatest(transitions: &[Transition], chosen: impl Fn(&Transition) -> bool, ambiguous: bool, circuit: bool) -> End {
    let stays = |one: &Transition| one.before.as_ref() == Some(&one.after);
    let index = transitions
        .iter()
        .enumerate()
        .filter(|(_, one)| chosen(one))
        .max_by_key(|(_, one)| (one.stage != ChangeKind::Created, one.rank, stays(one), &one.event_id))
        .map_or(0, |(index, _)| index);
    End::At { index, ambiguous, circuit }
}

#[cfg(test)]
mod tests;
