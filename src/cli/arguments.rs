//! Values of arguments that several commands have.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Parses a time such as 2026-01-31T00:00:00Z.
pub(super) fn instant(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "write the time with its time zone, as in 2026-12-01T00:00:00Z".to_owned())
}
