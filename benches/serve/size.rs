//! Bytes that one received event writes: to the write-ahead log, and to the tables and their indexes.

use std::time::Duration;

use super::load::{Events, closed_loop};
use super::month;
use super::service::Service;
use super::{Bench, CUSTOMERS, MANY};

/// Long enough for tens of thousands of events.
const TIME: Duration = Duration::from_secs(4);

pub(crate) async fn measure(bench: &mut Bench) {
    bench.begin_anew().await;
    let events = Events::of(CUSTOMERS);
    let before = written(bench).await;
    let service = Service::start(&bench.cluster.url(), Some("receiver"));
    let stored = closed_loop(&service.target(), &events, MANY, TIME).accepted;
    let after = written(bench).await;
    let payloads: usize = month::events(0, CUSTOMERS).take(stored).map(|text| text.len()).sum();
    let an_event = |bytes: f64| bytes / stored as f64;
    let report = &mut bench.report;
    report.figure("payload of an event", an_event(payloads as f64), "bytes", None);
    report.figure("write-ahead log of a received event", an_event(after.log - before.log), "bytes", None);
    report.figure("its row in the archive", an_event(after.archive - before.archive), "bytes", None);
    report.figure("its row in the queue", an_event(after.queue - before.queue), "bytes", None);
}

/// Bytes written so far; for tables including indexes.
struct Written {
    log: f64,
    archive: f64,
    queue: f64,
}

async fn written(bench: &mut Bench) -> Written {
    let query = "SELECT (pg_current_wal_lsn() - '0/0')::float8,
            (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('billing.events'))::float8,
            (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('billing.outbox'))::float8";
    let (log, archive, queue) = sqlx::query_as(query).fetch_one(&mut bench.conn).await.unwrap();
    Written { log, archive, queue }
}
