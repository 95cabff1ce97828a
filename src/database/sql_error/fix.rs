//! What an operator can do about an error of the database. Each text names one action.

use std::io::ErrorKind;

use sqlx::Error;
use sqlx::error::DatabaseError;

const NOT_POSTGRES: &str = "check that a PostgreSQL server listens at this address and is running, then try again";
const SERVER_LOG: &str = "see the server's log";

/// The fix for an error, as an instruction.
pub fn fix(error: &Error) -> &'static str {
    match error {
        Error::Database(error) => of_code(&error.code().unwrap_or_default(), &**error),
        Error::Io(error) => of_io(error),
        Error::Tls(_) => "correct sslmode and sslrootcert in DATABASE_URL, or enable TLS on the server",
        // the answer is not of PostgreSQL's protocol
        Error::Protocol(_) => NOT_POSTGRES,
        Error::PoolTimedOut => "try again when the server is less busy, or allow more connections",
        Error::Configuration(_) => "correct DATABASE_URL",
        _ => SERVER_LOG,
    }
}

fn of_code(code: &str, error: &dyn DatabaseError) -> &'static str {
    match code {
        "3D000" => "create the database, or correct its name in DATABASE_URL",
        "28P01" => "correct the user or the password in DATABASE_URL",
        // the server has no line for this host, user, database and encryption, or it has one that rejects them
        "28000" if error.message().contains("pg_hba.conf") => {
            "allow this user, database and machine in the server's pg_hba.conf, or correct DATABASE_URL"
        }
        "28000" => "create the role and allow it to log in, or correct the user in DATABASE_URL",
        "42501" => "give the database user this privilege; ops/roles.sql lists all that are needed",
        "42P01" | "42703" | "42883" | "3F000" => "run `billing-sync migrate`, or correct DATABASE_URL",
        "25006" => "correct DATABASE_URL to lead to the primary, or turn default_transaction_read_only off",
        "40001" | "40P01" | "55P03" => "try again; pg_locks shows the session that holds the lock",
        "53100" => "free disk space on the server",
        "53300" => "end other sessions, or raise the connection limit of the server, the database or the role",
        "57014" => "try again when the server is less busy; pg_stat_activity shows what it works on",
        "57P01" | "57P02" | "57P03" => "wait until the server has started, then try again",
        _ => SERVER_LOG,
    }
}

fn of_io(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "start the server, or correct the directory of its socket (host) in DATABASE_URL",
        ErrorKind::ConnectionRefused => "start the server, or correct host and port in DATABASE_URL",
        ErrorKind::PermissionDenied => "allow this process to use the socket, or connect over TCP",
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "check the network and the firewalls between this machine and the server"
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => NOT_POSTGRES,
        // the resolver's errors have no kind of their own
        _ if error.to_string().contains("lookup address") => {
            "correct the host in DATABASE_URL, or repair the name resolution of this machine"
        }
        _ => "check the network between this machine and the server",
    }
}
