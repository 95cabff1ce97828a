//! Migrations only add, so that the release before still works on the schema: while a new release rolls out, and after a
//! rollback. `tests/it/upgrade/` shows that additions are harmless.

use crate::files;

/// The last migration before the first release. No release runs on the schema of an earlier one, so the check begins
/// after it.
const BASELINE: u32 = 18;

/// What the release before may use, in a statement without comments, texts and bodies of functions.
const REFUSED: [&str; 12] = [
    "DROP COLUMN",
    "DROP TABLE",
    "DROP VIEW",
    "DROP FUNCTION",
    "DROP TRIGGER",
    "DROP TYPE",
    "DROP SCHEMA",
    "DROP DEFAULT",
    "SET NOT NULL",
    "RENAME",
    "TRUNCATE",
    "CONCURRENTLY",
];

/// Ends the transaction of the migration.
const CONTROL: [&str; 4] = ["BEGIN", "COMMIT", "ROLLBACK", "END"];

/// Beginnings of statements that change the session. Behind a pooler the session then serves other clients.
const SESSION: [&str; 13] = [
    "SET",
    "RESET",
    "PREPARE",
    "DEALLOCATE",
    "DISCARD",
    "LISTEN",
    "UNLISTEN",
    "LOAD",
    "CREATE TEMP",
    "CREATE TEMPORARY",
    "CREATE LOCAL",
    "CREATE GLOBAL",
    "SELECT SET_CONFIG",
];

/// Statements of later migrations that may break the rule: the number of the migration, the statement, and why no release
/// that is still in use needs what it removes.
const EXCEPTIONS: [(u32, &str, &str); 0] = [];

/// The statements of a migration in upper case, without comments, texts and bodies of functions.
fn statements(sql: &str) -> Vec<String> {
    let (mut code, mut rest) = (String::new(), sql);
    while let Some((at, begin)) = ["--", "'", "$$"].iter().filter_map(|begin| Some((rest.find(begin)?, *begin))).min() {
        code.push_str(&rest[..at]);
        code.push(' ');
        let end = if begin == "--" { "\n" } else { begin };
        rest = rest[at + begin.len()..].split_once(end).map_or("", |(_, after)| after);
    }
    code.push_str(rest);
    let statements = code.split(';').map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" "));
    statements.map(|statement| statement.to_uppercase()).filter(|statement| !statement.is_empty()).collect()
}

/// The tables that a migration creates: no release before it uses them.
fn created(statements: &[String]) -> Vec<&str> {
    let tables = statements.iter().filter_map(|statement| statement.strip_prefix("CREATE TABLE "));
    tables.filter_map(|rest| rest.split([' ', '(']).next()).collect()
}

/// Whether a statement changes the type of a column: `ALTER COLUMN name TYPE …`, without `COLUMN`, or with `SET DATA`.
fn changes_type(statement: &str) -> bool {
    let words: Vec<&str> = statement.split(' ').collect();
    let is_change = |part: &[&str]| {
        matches!(part, ["COLUMN", _, "TYPE"]) || matches!(part, ["ALTER", name, "TYPE"] if *name != "COLUMN")
    };
    statement.starts_with("ALTER TABLE ")
        && (words.windows(3).any(is_change) || words.windows(3).any(|part| part == ["SET", "DATA", "TYPE"]))
}

/// What is wrong with a migration, as statement and reason.
fn faults(sql: &str) -> Vec<(String, String)> {
    let statements = statements(sql);
    let new = created(&statements);
    let mut found = Vec::new();
    if sql.contains("no-transaction") {
        found.push(("-- no-transaction".to_owned(), "a killed `migrate` would leave a part of it".to_owned()));
    }
    let splits_end =
        |parent: &str| statements.iter().any(|one| one == &format!("DROP TABLE IF EXISTS BILLING.{parent}_SPLIT"));
    for statement in &statements {
        let mut refuse = |reason: &str| found.push((statement.clone(), reason.to_owned()));
        let words: Vec<&str> = statement.split([' ', '(']).collect();
        let beginning = words.join(" ") + " ";
        if SESSION.iter().any(|refused| beginning.starts_with(&format!("{refused} "))) {
            refuse("a pooler gives the session, with what the statement changes, to other clients");
        }
        let is_about = |table: &&str| words.contains(table);
        let is_of_split = statement.starts_with("DROP TABLE IF EXISTS BILLING.") && statement.ends_with("_SPLIT");
        if is_of_split || new.iter().any(is_about) && !statement.starts_with("DROP") {
            continue;
        }
        for part in REFUSED.iter().filter(|part| format!("{statement} ").contains(**part)) {
            refuse(&format!("{} breaks the release before", part.trim()));
        }
        if changes_type(statement) {
            refuse("another TYPE breaks the release before");
        }
        if CONTROL.contains(&words[0]) {
            refuse("the transaction belongs to `migrate`");
        }
        let adds_column = statement.contains("ADD COLUMN");
        if adds_column && statement.contains("NOT NULL") && !statement.contains("DEFAULT") {
            refuse("the release before writes rows without the column, which needs a DEFAULT");
        }
        let is_rule = statement.contains("ADD CONSTRAINT") || statement.contains("ADD CHECK");
        if is_rule || statement.starts_with("CREATE UNIQUE INDEX") {
            refuse("the release before may write rows that the rule refuses");
        }
        for parent in ["EVENTS", "OUTBOX"] {
            if statement.starts_with(&format!("ALTER TABLE BILLING.{parent} ")) && !splits_end(parent) {
                refuse("an unfinished split of the default partition stays without the change: drop it, as 0016 does");
            }
        }
    }
    found
}

#[test]
fn migrations_after_the_baseline_only_add() {
    let mut newest = 0;
    for file in files("migrations", "sql") {
        let number: u32 = file.path.trim_start_matches("migrations/")[..4].parse().unwrap();
        newest = newest.max(number);
        if number <= BASELINE {
            continue;
        }
        for (statement, reason) in faults(&file.text) {
            let is_allowed = EXCEPTIONS.iter().any(|(of, allowed, _)| *of == number && *allowed == statement);
            assert!(is_allowed, "{}: {statement}: {reason}", file.path);
        }
    }
    assert!(newest >= BASELINE, "there is no migration {BASELINE}");
}

#[test]
fn what_would_break_the_release_before_is_refused() {
    for wrong in [
        "ALTER TABLE billing.coupons DROP COLUMN name;",
        "alter table billing.coupons\n  drop column name;",
        "ALTER TABLE billing.coupons RENAME COLUMN name TO title;",
        "ALTER TABLE billing.coupons RENAME TO vouchers;",
        "ALTER TABLE billing.coupons ALTER COLUMN percent_off TYPE text;",
        "ALTER TABLE billing.coupons ALTER COLUMN name SET NOT NULL;",
        "ALTER TABLE billing.coupons ADD COLUMN kind text NOT NULL;",
        "ALTER TABLE billing.coupons ADD CONSTRAINT named CHECK (name <> '');",
        "CREATE UNIQUE INDEX one_name ON billing.coupons (name);",
        "CREATE INDEX CONCURRENTLY by_name ON billing.coupons (name);",
        "DROP TABLE billing.coupons;",
        "DROP VIEW billing.orphans;",
        "DROP FUNCTION billing.consume(uuid, text, bigint, text);",
        "COMMIT;",
        "-- no-transaction\nSELECT 1;",
        "CREATE TABLE billing.vouchers (id uuid); DROP TABLE billing.coupons;",
        "ALTER TABLE billing.outbox ADD COLUMN kind text;",
        "ALTER TABLE billing.coupons ALTER name TYPE text, ADD COLUMN kind text;",
        "ALTER TABLE billing.coupons ADD COLUMN kind text, ALTER COLUMN name SET DATA TYPE text;",
        "SET search_path TO billing;",
        "set local lock_timeout = '5s';",
        "RESET ALL;",
        "PREPARE one AS SELECT 1;",
        "LISTEN billing;",
        "LOAD 'auto_explain';",
        "CREATE TEMP TABLE old AS SELECT 1;",
        "CREATE TEMPORARY VIEW old AS SELECT 1;",
        "SELECT set_config('search_path', 'billing', false);",
    ] {
        assert_eq!(faults(wrong).len(), 1, "{wrong}: {:?}", faults(wrong));
    }
    for right in [
        "-- DROP TABLE billing.coupons\nSELECT 1;",
        "COMMENT ON TABLE billing.coupons IS 'DROP COLUMN; RENAME';",
        "ALTER TABLE billing.coupons ADD COLUMN kind text NOT NULL DEFAULT 'once';",
        "CREATE INDEX by_name ON billing.coupons (name);",
        "CREATE OR REPLACE FUNCTION billing.f() RETURNS void LANGUAGE sql AS $$ TRUNCATE billing.coupons $$;",
        "CREATE TABLE billing.vouchers (id uuid NOT NULL); CREATE UNIQUE INDEX v ON billing.vouchers (id);",
        "CREATE TABLE billing.vouchers(id uuid); ALTER TABLE billing.vouchers ADD CONSTRAINT v CHECK (id IS NOT NULL);",
        "DROP TABLE IF EXISTS billing.outbox_split; ALTER TABLE billing.outbox ADD COLUMN kind text;",
        "COMMENT ON TABLE billing.coupons IS 'see --by'; COMMENT ON TABLE billing.prices IS 'DROP COLUMN';",
        "CREATE TYPE billing.kind AS ENUM ('once');",
        "ALTER TABLE billing.coupons ADD COLUMN type text;",
        "ALTER TABLE billing.coupons ALTER COLUMN type SET DEFAULT 'once';",
        "CREATE OR REPLACE FUNCTION billing.f() RETURNS void LANGUAGE sql SET search_path = billing AS $$ SELECT 1 $$;",
    ] {
        assert_eq!(faults(right), [], "{right}");
    }
    // the statements of real files are found
    let tables: usize = files("migrations", "sql").iter().map(|file| created(&statements(&file.text)).len()).sum();
    assert!(tables > 20, "{tables}");
}
