//! Upgrades and rollbacks: a release works on the schema of a newer one, refuses that of an older one, and a migration is
//! applied wholly or not at all.
//!
//! There is no earlier release to start. So this release is the older one, and `newer` migrates as a later one would. For
//! an upgrade to this release, the first migrations only are applied.

mod newer;
mod older;
