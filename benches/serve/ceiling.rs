//! The upper limit for the receiver: `pgbench` inserts the same payloads, one row per transaction, into a table with a
//! primary key.

use std::fs;
use std::time::Duration;

use billing_sync::database::Connection;

use super::load::percentile;
use super::month;
use super::pgbench::{self, Pgbench};
use super::support::run;

/// Result of a `pgbench` run.
pub(crate) struct Ceiling {
    /// Rows a second.
    pub(crate) rate: f64,
    /// Sorted latencies in milliseconds, from the time at which each request was due.
    pub(crate) latencies: Vec<f64>,
}

/// Creates the empty table, with the same compression as in our sessions.
pub(crate) async fn prepare(conn: &mut Connection) {
    run(
        conn,
        r#"DROP TABLE IF EXISTS public.bare_events;
        CREATE TABLE public.bare_events (
            event_id text COLLATE "C" NOT NULL, created timestamptz NOT NULL, payload bytea NOT NULL,
            PRIMARY KEY (event_id, created)
        );
        DO $$
        BEGIN
            IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
                ALTER TABLE public.bare_events ALTER payload SET COMPRESSION lz4;
            END IF;
        END
        $$;
        CHECKPOINT"#,
    )
    .await;
}

/// Inserts for `time`: `rate` rows a second at random times, or without `rate` as fast as possible.
pub(crate) fn insert(pgbench: &Pgbench, url: &str, clients: usize, rate: Option<f64>, time: Duration) -> Ceiling {
    let mut options = vec![format!("--client={clients}"), format!("--time={}", time.as_secs()), "--log".to_owned()];
    options.extend(rate.map(|rate| format!("--rate={rate}")));
    // each run and client has its own counter, so that no key is used twice
    options.extend([format!("--define=run={}", fastrand::u32(..)), "--define=n=0".to_owned()]);
    // one script for each kind of event, with its payload
    let mut scripts = Vec::new();
    for (kind, payload) in month::events(0, 1).enumerate() {
        // bytea in its text form: only a backslash is special
        options.push(format!("--define=payload{kind}={}", payload.replace('\\', r"\\")));
        scripts.push(format!(
            "\\set n :n + 1\nINSERT INTO public.bare_events VALUES ('evt_' || :run || '_' || :client_id || '_' || :n,
                to_timestamp(1790000000 + :n), :payload{kind});"
        ));
    }
    let (printed, folder) = pgbench.run(url, &scripts, &options);
    let mut latencies = Vec::new();
    for file in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgbench_log")) {
            let log = fs::read_to_string(file).unwrap();
            latencies.extend(log.lines().map(|line| {
                let microseconds: f64 = line.split(' ').nth(2).unwrap().parse().unwrap();
                microseconds / 1e3
            }));
        }
    }
    latencies.sort_unstable_by(f64::total_cmp);
    Ceiling { rate: pgbench::rate(&printed), latencies }
}

impl Ceiling {
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        percentile(&self.latencies, share)
    }
}
