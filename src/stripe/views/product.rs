//! The product: what prices sell.
//!
//! Must not know pricing plans. PURE.

use std::collections::{BTreeMap, BTreeSet};

use super::price::limits;
use super::reader::Reader;
use crate::domain::event::Reason;
use crate::stripe::json::Json;

/// What we read of a product.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProductView {
    /// `name`.
    pub name: Option<String>,
    /// `active`.
    pub active: Option<bool>,
    /// The limits in its `metadata`, by key.
    pub limits: BTreeMap<String, String>,
    /// What could not be read.
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
