//! Variables that look like settings but are unknown; usually typing errors.
//!
//! They are warnings, because not all of them are errors. Kubernetes sets `BILLING_SYNC_SERVICE_HOST`,
//! `BILLING_SYNC_PORT` and the like in every pod next to a service called billing-sync. After a rollback, the older
//! release finds the newer one's settings. Neither may prevent the start of a process.

use super::settings;
use super::source::Source;

const PREFIX: &str = "BILLING_SYNC_";

/// One sentence for each variable that begins with `BILLING_SYNC_` and is not a setting.
pub fn warnings(source: &Source) -> Vec<String> {
    let in_kubernetes = source.variables().any(|name| name == "BILLING_SYNC_SERVICE_HOST");
    source
        .variables()
        .filter(|name| name.starts_with(PREFIX) && !is_known(name) && !(in_kubernetes && is_service_link(name)))
        .map(warning)
        .collect()
}

fn is_known(name: &str) -> bool {
    let base = name.strip_suffix("_FILE").unwrap_or(name);
    settings::ALL.iter().any(|setting| setting.name == base)
}

fn is_service_link(name: &str) -> bool {
    ["BILLING_SYNC_SERVICE_", "BILLING_SYNC_PORT"].iter().any(|prefix| name.starts_with(prefix))
}

fn warning(name: &str) -> String {
    let nearest = settings::ALL
        .iter()
        .map(|setting| setting.name)
        .filter(|known| known.starts_with(PREFIX))
        .min_by_key(|known| distance(name, known))
        .unwrap_or(PREFIX);
    format!("{name} is not a setting and has no effect; the most similar setting is {nearest}")
}

/// Levenshtein distance: the number of letters to insert, delete or replace.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Flags;

    fn of(names: &[&str]) -> Vec<String> {
        warnings(&Source::new(Flags::new(), names.iter().map(|name| ((*name).to_owned(), "x".into()))))
    }

    #[test]
    fn a_typing_error_is_reported_with_the_nearest_setting() {
        let expected =
            "BILLING_SYNC_WORKRES is not a setting and has no effect; the most similar setting is BILLING_SYNC_WORKERS";
        assert_eq!(of(&["BILLING_SYNC_WORKRES"]), [expected]);
    }

    #[test]
    fn settings_and_foreign_variables_cause_no_warning() {
        assert!(of(&["BILLING_SYNC_LISTEN", "BILLING_SYNC_LISTEN_FILE", "DATABASE_URL", "PATH"]).is_empty());
    }

    #[test]
    fn kubernetes_service_variables_cause_no_warning() {
        assert!(of(&["BILLING_SYNC_SERVICE_HOST", "BILLING_SYNC_PORT_8080_TCP_ADDR", "BILLING_SYNC_PORT"]).is_empty());
        assert_eq!(of(&["BILLING_SYNC_PORT"]).len(), 1);
    }
}
