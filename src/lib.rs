//! billing-sync keeps PostgreSQL tables of billing contacts, subscriptions and plans in step with Stripe.
//!
//! ```text
//! Stripe ──POST──▶ receiver ──one INSERT──▶ outbox ──batch──▶ worker ──▶ mirror + facts ──▶ projection ──▶ tables
//!                  signature                events (archive)   claim      newest content     PURE           store
//!                  envelope                 outbox (queue)     lock       wins; facts add
//!                  group commit                                settle          ▲      │ queues
//! Stripe's API ◀─── client ◀─────────────────────────────────── fetcher ──reads┘      ▼
//!                      ▲                                           ▲────leases─────  jobs
//!                      └── reconcile: events in Stripe's list that the outbox does not have
//! services, users ──GET──▶ api ──one SELECT──▶ views of the tables
//! ```
//!
//! # Entry points
//!
//! `main` calls [`cli`]; [`service::Service`] is a running process. [`receiver`] stores events in the [`outbox`],
//! [`worker`] processes them, and [`worker::fetch`] reads from Stripe. [`mirror::same_second`] decides the order of
//! events, [`projection`] the meaning of fields, [`limits`] the renewals; [`reconcile`] loads undelivered events.
//! [`api`] answers over HTTP what the tables contain. [`demo`] shows all of it.
//!
//! # Code map
//!
//! A module may use only modules above it in this list; `tests/tidy/` checks that.
//!
//! - [`base`]: the clock, retry delays, durations in SQL, text, files. [`domain`]: events, objects and rows as data.
//! - [`database`]: connections to PostgreSQL. [`tls`]: the trusted certificates.
//! - [`stripe`]: Stripe's JSON, read tolerantly, in every API version (PURE).
//! - [`projection`]: objects to rows (PURE). [`mirror`]: which content wins (PURE except its SQL).
//! - [`outbox`], [`jobs`], [`store`], [`migrations`]: SQL. [`embedded`]: the private PostgreSQL.
//! - [`metrics`], [`config`], [`telemetry`]: counters, settings and logs.
//! - [`client`]: requests to Stripe's API. [`stripe_key`]: checks that the key belongs to the stored data.
//! - [`listener`]: HTTP over plain TCP, its limits and its shutdown.
//! - [`receiver`], [`limits`], [`worker`], [`rebuild`], [`reconcile`], [`backfill`], [`verify`], [`api`],
//!   [`maintenance`], [`ops`]: the parts of a process. [`redaction`]: removes personal data. [`service`]: the process.
//! - [`admin`], [`demo`], [`cli`]: for operators.
//!
//! # Invariants
//!
//! An event is committed before Stripe gets a 200. No unauthenticated byte reaches the database. A second delivery
//! changes nothing. The order of arrival does not matter. A poison event blocks no other event. Each period is renewed
//! exactly once. Nothing is silently dropped. What Stripe sent is kept byte for byte. Secrets and personal data stay
//! out of logs, metrics and errors. A restart is the only recovery needed. `docs/architecture.md` lists the test of
//! each.

pub mod admin;
pub mod api;
pub mod backfill;
pub mod base;
pub mod cli;
pub mod client;
pub mod config;
pub mod database;
pub mod demo;
pub mod domain;
pub mod embedded;
pub mod jobs;
pub mod ledger;
pub mod limits;
pub mod listener;
pub mod maintenance;
pub mod metrics;
pub mod migrations;
pub mod mirror;
pub mod ops;
pub mod outbox;
pub mod projection;
pub mod rebuild;
pub mod receiver;
pub mod reconcile;
pub mod redaction;
pub mod service;
pub mod store;
pub mod stripe;
pub mod stripe_key;
pub mod telemetry;
pub mod tls;
pub mod verify;
pub mod worker;
pub mod writes;
