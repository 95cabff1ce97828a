//! The product of a price.
//!
//! Must not know pricing plans. PURE.

use std::collections::{BTreeMap, BTreeSet};

use super::price::{LimitEntry, limits};
use super::reader::Reader;
use crate::domain::event::Reason;
use crate::stripe::json::Json;

/// The fields read from a product.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProductView {
    /// `name`.
    pub name: Option<String>,
    /// `active`.
    pub active: Option<bool>,
    /// The limits in its `metadata`, by key.
    pub limits: BTreeMap<String, LimitEntry>,
    /// Notes on invalid values.
    pub notes: BTreeSet<Reason>,
}

impl ProductView {
    /// Reads a product.
    pub fn read(json: Json<'_>) -> Self {
        let mut reader = Reader::default();
        Self {
            name: reader.text(json.get("name")),
            active: reader.boolean(json.get("active")),
            limits: limits(json.get("metadata")),
            notes: reader.notes,
        }
    }
}
