//! The script: the events, how each is delivered, and the expected results.
//!
//! Owns every expectation of the demo; they make it a check and not only a show. Dates are fixed and in the past, so
//! the rows are the same on every run. Must not know HTTP or SQL. PURE.

mod act;
mod ada;
mod bo;

pub(super) use self::act::{Act, Delivery, Expected, Step};
use self::ada::Ada;
use super::rows::Row;
use super::sandbox::{ENDIVE, Sandbox};

/// The whole story, in order.
pub(super) fn acts() -> Vec<Act> {
    let mut sandbox = Sandbox::new(ENDIVE);
    let mut ada = Ada::new();
    let mut acts = vec![
        ada.signs_up(&mut sandbox),
        ada.trial_converts(&mut sandbox),
        ada.upgrades_twice(&mut sandbox),
        ada.is_paused(&mut sandbox),
        ada.is_resumed(&mut sandbox),
        ada.moves_twice(&mut sandbox),
    ];
    let (cancels, captured) = ada.cancels(&mut sandbox);
    acts.extend([cancels, ada.changes_her_mind(&mut sandbox)]);
    acts.extend(bo::acts(&mut sandbox));
    acts.push(ada.strangers(&mut sandbox, captured));
    acts
}

/// The rows that must be unchanged at the end.
pub(super) fn ending() -> Vec<Row> {
    vec![ada::subscription(), ada::contact(), bo::contact()]
}
