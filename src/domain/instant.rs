//! Times in rows, formatted as PostgreSQL formats them in JSON, so that `row_changes` has one format for new and for
//! changed rows.

/// An optional time; `#[serde(with = "…")]` of a field.
pub mod option {
    use serde::{Serialize, Serializer};
    use time::format_description::well_known::Rfc3339;
    use time::{OffsetDateTime, UtcOffset};

    /// Serializes as `2026-11-29T12:00:00+00:00`, or null.
    ///
    /// # Errors
    /// Errors of the serializer, and a time after the year 9999.
    pub fn serialize<S: Serializer>(time: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
        let text = time.map(|time| time.to_offset(UtcOffset::UTC).format(&Rfc3339)).transpose();
        let text = text.map_err(serde::ser::Error::custom)?;
        text.map(|text| text.replace('Z', "+00:00")).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    #[test]
    fn a_time_is_written_as_postgresql_does() {
        #[derive(serde::Serialize)]
        struct Row(#[serde(serialize_with = "super::option::serialize")] Option<time::OffsetDateTime>);
        let written = |time| serde_json::to_string(&Row(time)).unwrap();
        assert_eq!(written(Some(datetime!(2026-11-29 13:00:00.25 +1))), r#""2026-11-29T12:00:00.25+00:00""#);
        assert_eq!(written(Some(datetime!(2026-11-29 12:00 UTC))), r#""2026-11-29T12:00:00+00:00""#);
        assert_eq!(written(None), "null");
    }
}
