//! Variables that look like settings and are none: typing errors, mostly.
//!
//! A warning and not an error, because not all of them are errors: Kubernetes puts `BILLING_SYNC_SERVICE_HOST`,
//! `BILLING_SYNC_PORT` and the like into every pod beside a service called billing-sync, and after a rollback the
//! older release meets the newer one's settings. Neither may stop a process at start-up.

use super::settings;
use super::source::Source;

const PREFIX: &str = "BILLING_SYNC_";

/// One sentence for each variable that begins with `BILLING_SYNC_` and is no setting.
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
    format!("{name} is not a setting and has no effect; the nearest one is {nearest}")
}

/// Levenshtein's distance: how many letters must be put in, left out or replaced.
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
    fn a_typing_error_is_named_with_the_nearest_setting() {
        let expected =
            "BILLING_SYNC_WORKRES is not a setting and has no effect; the nearest one is BILLING_SYNC_WORKERS";
        assert_eq!(of(&["BILLING_SYNC_WORKRES"]), [expected]);
    }

    #[test]
    fn settings_their_files_and_variables_of_others_are_left_alone() {
        assert!(of(&["BILLING_SYNC_LISTEN", "BILLING_SYNC_LISTEN_FILE", "DATABASE_URL", "PATH"]).is_empty());
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_this_name_is_no_typing_error() {
        assert!(of(&["BILLING_SYNC_SERVICE_HOST", "BILLING_SYNC_PORT_8080_TCP_ADDR", "BILLING_SYNC_PORT"]).is_empty());
        assert_eq!(of(&["BILLING_SYNC_PORT"]).len(), 1);
    }
}
