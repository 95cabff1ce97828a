//! A JSON object as the text of each field, so that the digits of numbers and repeated names are seen.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of an object with their JSON texts, in the order of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonObject(Vec<(String, String)>);

impl JsonObject {
    /// Reads an object.
    pub(crate) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The objects of an array.
    pub(crate) fn read_all(text: &str) -> Vec<Self> {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The JSON text of a field.
    pub(crate) fn text(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(field, _)| field == name);
        &field.unwrap_or_else(|| panic!("there is no {name} in {self:?}")).1
    }

    /// The object in a field.
    pub(crate) fn object(&self, name: &str) -> Self {
        Self::read(self.text(name))
    }

    /// Checks that the object has exactly the fields of the table, each once and with this JSON text.
    pub(crate) fn check(&self, table: &[(&str, &dyn fmt::Display)]) {
        let mut found: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        let mut expected: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "the names of the fields");
        for (name, value) in table {
            assert_eq!(self.text(name), value.to_string(), "{name}");
        }
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = JsonObject;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    fields.push((name, value.get().to_owned()));
                }
                Ok(JsonObject(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
