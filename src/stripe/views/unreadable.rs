//! The error of an object that has no valid value in a mandatory field. PURE.

/// An object cannot be projected, because a mandatory field is missing or invalid.
///
/// Every other invalid value becomes `None` and adds `Reason::InvalidValue` to the notes of its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is missing or cannot be read")]
pub struct Unreadable {
    /// Object type and field (`subscription.status`), never the value.
    pub field: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_object_type_and_the_field() {
        let error = Unreadable { field: "subscription.status" };
        assert_eq!(error.to_string(), "subscription.status is missing or cannot be read");
    }
}
