//! The connection string through the real binary: accepted and refused forms; no password is ever printed.

use std::process::{Output, Stdio};

use super::{binary, code, migrated, run, words};

/// Commands that read the connection string, with their required arguments.
const COMMANDS: [&[&str]; 7] = [
    &["migrate"],
    &["doctor", "--json"],
    &["doctor", "--orphans"],
    &["serve"],
    &["explain", "sub_1"],
    &["outbox", "list"],
    &["backfill"],
];

/// Passwords that contain characters with a meaning in connection strings.
const PASSWORDS: [&str; 12] = [
    "qz@XZ/wq:Q7",
    "XQzq/7ZxQ",
    "zqX?sslmode=Q7zX",
    "Zx#7qQXz",
    "q7Xz%zzQx",
    "XqQ7 zxZq",
    "zXQ'qx7Z",
    r"Q7\zxqXZ",
    "xz=QqX7Z",
    "Xz&Q7xqZ=zq",
    "\"7zXqQxZ",
    "zq@xQ@7XZ",
];

fn everything(output: &Output) -> String {
    format!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn shows(printed: &str, password: &str) -> Option<String> {
    let letters: Vec<char> = password.chars().collect();
    letters.windows(4).map(String::from_iter).find(|piece| printed.contains(piece))
}

/// Connection strings to an address without a server: accepted forms fail with that address.
fn strings(password: &str) -> Vec<(&'static str, String)> {
    let encoded: String = password.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
    let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
    vec![
        ("DATABASE_URL", format!("postgres://u:{password}@127.0.0.1:1/d")),
        ("DATABASE_URL", format!("postgres://u:{encoded}@127.0.0.1:1/d?target_session_attrs=standby")),
        ("DATABASE_URL", format!("postgres://u:{encoded}@127.0.0.1:1,127.0.0.1:2/d")),
        ("DATABASE_URL", format!("postgres://127.0.0.1:1/d?user=u&password={password}")),
        ("DATABASE_URL", format!("host=127.0.0.1 port=1 user=u password={password} dbname=d")),
        ("DATABASE_URL", format!("host=127.0.0.1 port=1 user=u password='{quoted}'")),
        ("PGPASSWORD", password.to_owned()),
    ]
}

#[test]
fn no_command_prints_any_part_of_the_password() {
    let mut started = Vec::new();
    for (at, password) in PASSWORDS.into_iter().enumerate() {
        for (form, (variable, text)) in strings(password).into_iter().enumerate() {
            // covers every pair of a form and a command
            let command = COMMANDS[(at + form) % COMMANDS.len()];
            let mut environment = vec![(variable, text.as_str()), ("BILLING_SYNC_LOG", "trace")];
            environment.extend([("STRIPE_WEBHOOK_SECRET", "whsec_x"), ("STRIPE_SECRET_KEY", "sk_test_x")]);
            environment.extend([("BILLING_SYNC_LISTEN", "127.0.0.1:0"), ("BILLING_SYNC_OPS_LISTEN", "127.0.0.1:0")]);
            if variable == "PGPASSWORD" {
                environment.extend([("PGHOST", "127.0.0.1"), ("PGPORT", "1"), ("PGUSER", "u")]);
            }
            let mut process = binary(command, &environment);
            let process = process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            started.push((process, password, text.clone(), command));
        }
        for (process, password, text, command) in started.drain(..) {
            let output = process.wait_with_output().unwrap();
            let printed = everything(&output);
            assert_ne!(code(&output), 0, "{text}: {command:?}: {printed}");
            assert_eq!(shows(&printed, password), None, "{text}: {command:?}: {printed}");
        }
    }
}

#[test]
fn an_unsupported_parameter_is_reported_with_the_fix() {
    for (variable, text, expected) in [
        ("DATABASE_URL", "postgres://u:p@h/d?channel_binding=require", "the parameter channel_binding has a value"),
        ("DATABASE_URL", "postgres://u:p@h/d?target_session_attrs=standby", "set it to read-write, or omit it"),
        ("DATABASE_URL", "postgres://u:p@ss/w:rd@host/db", "write @ as %40, : as %3A, / as %2F"),
        ("DATABASE_URL", "postgres://u:p@h/d?sslmdoe=require", "use the similar parameter sslmode"),
        ("PGSERVICE", "billing", "PGSERVICE wrong is not supported fix service files are not read"),
    ] {
        let output = run(&["migrate"], &[(variable, text)]);
        let printed = words(&output.stderr);
        assert_eq!(code(&output), 2, "{printed}");
        assert!(printed.contains(expected), "{text}: {printed}");
    }
}

#[tokio::test]
async fn the_forms_of_a_connection_string_lead_to_the_same_database() {
    let (database, _conn) = migrated().await;
    let socket = database.options.get_socket().map(|path| path.display().to_string());
    let host = socket.unwrap_or_else(|| database.options.get_host().to_owned());
    let (port, user) = (database.options.get_port().to_string(), database.options.get_username());
    let name = &database.name;
    let encoded = host.replace('/', "%2F");
    for text in [
        format!("postgres://{user}@/{name}?host={host}&port={port}"),
        format!("postgresql://{user}@{encoded}:{port}/{name}"),
        format!("host='{host}' port={port} user={user} dbname={name}"),
        // no server runs at the first host
        format!("host=127.0.0.1,{host} port=1,{port} user={user} dbname={name} target_session_attrs=read-write"),
    ] {
        let output = run(&["migrate"], &[("DATABASE_URL", &text)]);
        assert_eq!(code(&output), 0, "{text}: {}", words(&output.stderr));
    }
    let variables = [("PGHOST", host.as_str()), ("PGPORT", &port), ("PGUSER", user), ("PGDATABASE", name)];
    let output = run(&["migrate"], &variables);
    assert_eq!(code(&output), 0, "{}", words(&output.stderr));
    // a missing DATABASE_URL must not select the embedded database, and PG variables do not exclude it
    let lost = run(&["migrate"], &variables[1..3]);
    assert_eq!(code(&lost), 2);
    assert!(words(&lost.stderr).contains("DATABASE_URL wrong is not set"), "{}", words(&lost.stderr));
}
