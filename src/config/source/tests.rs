//! Precedence, files and the collection of problems, with a separate environment for each test.

use std::io::Write;

use super::*;
use crate::config::parse::{self, Expected};
use crate::config::settings::{DATABASE_URL, LISTEN, PG_BIN, STRIPE_SECRET_KEY, WEBHOOK_SECRET, WORKERS};

fn source(environment: &[(&str, &str)]) -> Source {
    Source::new(Flags::new(), environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))))
}

fn file_with(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn found(source: &Source, setting: &Setting) -> Option<(String, Origin)> {
    source.look_up(setting).unwrap().map(|found| (found.text, found.origin))
}

#[test]
fn a_flag_overrides_the_environment_and_the_default() {
    let environment = [("BILLING_SYNC_WORKERS".to_owned(), OsString::from("3"))];
    let flags = Flags::from([("BILLING_SYNC_WORKERS", "2".to_owned())]);
    assert_eq!(found(&Source::new(flags, environment), &WORKERS), Some(("2".to_owned(), Origin::Flag)));
    let environment = source(&[("BILLING_SYNC_WORKERS", "3")]);
    assert_eq!(found(&environment, &WORKERS), Some(("3".to_owned(), Origin::Environment)));
    assert_eq!(found(&source(&[]), &WORKERS), Some(("2".to_owned(), Origin::Default)));
    assert_eq!(found(&source(&[]), &PG_BIN), None);
}

#[test]
fn one_final_newline_of_a_file_is_removed() {
    for (content, text) in [("4\n", "4"), ("4\r\n", "4"), ("4", "4"), ("4\n\n", "4\n")] {
        let file = file_with(content);
        let source = source(&[("BILLING_SYNC_WORKERS_FILE", file.path().to_str().unwrap())]);
        assert_eq!(found(&source, &WORKERS), Some((text.to_owned(), Origin::File(file.path().to_owned()))));
    }
}

#[test]
fn an_unreadable_or_empty_file_is_reported() {
    let missing = source(&[("DATABASE_URL_FILE", "/nowhere/url")]).look_up(&DATABASE_URL).err().unwrap();
    assert_eq!(missing.subject, "DATABASE_URL_FILE");
    assert!(missing.wrong.contains("/nowhere/url"), "{missing}");
    let file = file_with("\n");
    let path = file.path().to_str().unwrap();
    let empty = source(&[("DATABASE_URL_FILE", path)]).look_up(&DATABASE_URL).err().unwrap();
    assert!(empty.wrong.contains(path), "{empty}");
}

#[test]
fn an_endless_file_is_refused_for_every_setting() {
    for setting in [&DATABASE_URL, &WEBHOOK_SECRET, &STRIPE_SECRET_KEY, &WORKERS] {
        let endless = source(&[(setting.file_variable().as_str(), "/dev/zero")]).look_up(setting).err().unwrap();
        assert_eq!(endless.wrong, "the file /dev/zero cannot be read: it has more than 65536 bytes");
    }
}

#[test]
fn a_variable_and_its_file_together_are_refused() {
    let both = source(&[("DATABASE_URL", "postgres://a"), ("DATABASE_URL_FILE", "/run/secrets/url")]);
    let problem = both.look_up(&DATABASE_URL).err().unwrap();
    assert_eq!(problem.to_string(), "DATABASE_URL: is set, and so is DATABASE_URL_FILE; set only one of the two");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let source = source(&[("BILLING_SYNC_WORKERS", ""), ("DATABASE_URL", "")]);
    assert_eq!(found(&source, &WORKERS), Some(("2".to_owned(), Origin::Default)));
    assert_eq!(found(&source, &DATABASE_URL), None);
}

#[test]
fn all_problems_are_reported_at_once() {
    let environment = [("BILLING_SYNC_WORKERS".to_owned(), OsString::from("0"))];
    let mut source = Source::new(Flags::from([("BILLING_SYNC_LISTEN", "here".to_owned())]), environment);
    let result = source.collect(|source| {
        let workers = source.value(&WORKERS, parse::whole::<usize>(1, 64));
        let listen = source.value(&LISTEN, parse::address);
        Some((workers?, listen?))
    });
    let problems: Vec<String> = result.unwrap_err().problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        problems,
        [
            "BILLING_SYNC_WORKERS: \"0\" is not a whole number from 1 to 64; \
             set it to a whole number from 1 to 64, or omit it for the default, 2",
            "--listen: \"here\" is not an IP address with a port, such as 127.0.0.1:8080; set it to an IP address \
             with a port, such as 127.0.0.1:8080, or omit it for the default, 127.0.0.1:8080",
        ]
    );
}

#[test]
fn a_noted_problem_fails_despite_a_value() {
    let mut source = source(&[]);
    let result = source.collect(|source| {
        source.problem(Problem::new("a", "b", "c"));
        Some(())
    });
    assert!(result.is_err());
}

#[test]
fn a_secret_is_never_repeated() {
    let mut source = source(&[("DATABASE_URL", "mysql://u:hunter2@h/d")]);
    let result = source.collect(|source| source.optional(&DATABASE_URL, |_| Err::<(), _>(Expected::new("a URL"))));
    let error = result.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[test]
#[cfg(unix)]
fn invalid_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0x31, 0xff]);
    let source = Source::new(Flags::new(), [("BILLING_SYNC_WORKERS".to_owned(), value)]);
    assert_eq!(source.look_up(&WORKERS).err().unwrap().subject, "BILLING_SYNC_WORKERS");
}
