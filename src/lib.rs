//! billing-sync keeps PostgreSQL tables of billing contacts and subscriptions in step with Stripe.
//!
//! ```text
//! Stripe ──POST──▶ receiver ──one INSERT──▶ outbox ──batch──▶ worker ──▶ mirror + facts ──▶ projection ──▶ product tables
//!                  signature                events (archive)   claim      newest content     PURE           store
//!                  envelope                 outbox (queue)     lock       wins; facts add
//!                  group commit                                settle          ▲      │ asks for
//! Stripe's API ◀─── client ◀─────────────────────────────────── fetcher ──reads┘      ▼
//!                      ▲                                           ▲────leases─────  jobs
//!                      └── reconcile: events that Stripe lists and the outbox lacks
//! ```
//!
//! # Entry points
//!
//! [`cli`] is what `main` calls; [`service::Service`] is a running process; [`receiver`] the way in,
//! [`worker`] the way through, [`outbox`] what lies between them. [`mirror::walk`] is the heart of the ordering,
//! [`projection`] of the meaning, [`worker::fetch`] of the asking, [`renewals`] of the months,
//! [`reconcile`] of what was not delivered. [`demo`] shows it all.
//!
//! # Code map
//!
//! `use` arrows run one way, from the bottom of this list to its top; `tests/tidy.rs` holds them.
//!
//! - [`domain`], [`clock`]: the words; the one clock. [`database`]: connections to PostgreSQL. [`retry`]: when
//!   something that failed is tried again. [`interval`]: durations in SQL. [`text`]: 80 columns.
//!   [`tls`]: the certificates that are trusted.
//! - [`stripe`]: Stripe's JSON, read tolerantly, in every API version (PURE).
//! - [`projection`]: objects to rows (PURE). [`mirror`]: who wins (PURE but for its SQL).
//! - [`outbox`], [`jobs`], [`store`], [`migrations`]: SQL. [`embedded`]: the private PostgreSQL.
//! - [`metrics`], [`config`], [`telemetry`]: what is counted, set and said.
//! - [`client`]: the way out, to Stripe's API.
//! - [`listener`]: HTTP over plain TCP, its limits and its end.
//! - [`receiver`], [`renewals`], [`worker`], [`reconcile`], [`backfill`], [`ops`]: the parts of a process. [`service`]: the process.
//! - [`admin`], [`demo`], [`cli`]: for people.
//!
//! # Invariants
//!
//! An event is committed before Stripe is told so; no unauthenticated byte reaches the database; a second delivery
//! changes nothing; the order of arrival has no say; a poison event stops nobody else; a month is renewed exactly once;
//! nothing is silently dropped;
//! what Stripe sent is kept byte for byte; secrets and personal data stay out of logs, metrics and errors; a start
//! is the only recovery. `docs/architecture.md` says which test holds which.

pub mod admin;
pub mod backfill;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod database;
pub mod demo;
pub mod domain;
pub mod embedded;
pub mod file;
pub mod interval;
pub mod jobs;
pub mod listener;
pub mod metrics;
pub mod migrations;
pub mod mirror;
pub mod ops;
pub mod outbox;
pub mod projection;
pub mod receiver;
pub mod reconcile;
pub mod renewals;
pub mod retry;
pub mod service;
pub mod store;
pub mod stripe;
pub mod telemetry;
pub mod text;
pub mod tls;
pub mod worker;
