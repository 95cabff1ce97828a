//! Applies events and reads: lock, merge, add facts, project, queue jobs for missing data. One transaction, set-based,
//! no external calls.
//!
//! The order makes many workers safe (docs/architecture.md). All locks are taken at once, in name order. Only then is
//! data about the objects read, in statements whose snapshots are younger than the locks. A customer found to be
//! affected after that is not locked late: a job projects it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::change_set::{Affected, Causes, ChangeSet, Notes};
use super::context::Context;
use super::failure::Failure;
use super::project;
use crate::config::sync::Confirm;
use crate::database::Connection;
use crate::domain::object::ObjectKey;
use crate::jobs::requests::{self, JobRequests};
use crate::ledger::prove::prove;
use crate::limits::invalidate;
use crate::metrics::batch::{Step, Stopwatch};
use crate::mirror::facts::fold::Fact;
use crate::mirror::facts::{self, known, timeline};
use crate::mirror::merge::{self, Merged};
use crate::mirror::{echo, locks, related};
use crate::store::Change;

/// Result of applying a [`ChangeSet`], before the commit.
#[derive(Default)]
pub(super) struct Applied {
    /// What the merge did.
    pub(super) merged: Merged,
    /// Reasons noted about each projected object.
    pub(super) notes: Notes,
    /// The jobs that were queued.
    pub(super) job_requests: JobRequests,
    /// The rows that were written.
    pub(super) changes: Vec<Change>,
}

/// Applies `change_set`, all but the commit.
pub(super) async fn apply(
    conn: &mut Connection,
    context: &Context,
    change_set: ChangeSet,
    watch: &mut Stopwatch,
) -> Result<Applied, Failure> {
    let (mut objects, named) = (change_set.objects(), change_set.named());
    let ChangeSet { mut incoming, facts, affected, mut job_requests, mut notes, force_project, proofs, historical } =
        change_set;
    let echoes = echo::take_out(conn, &mut incoming, |key| force_project.contains_key(key)).await?;
    let repeated: BTreeSet<ObjectKey> = echoes.iter().map(|echo| echo.key.clone()).collect();
    objects.retain(|key| !repeated.contains(key));
    // historical objects name their customer themselves, except a dispute
    let nothing = BTreeSet::new();
    let is_named = historical && objects.iter().all(|key| key.object_type != "dispute");
    let (leading, led) = if is_named { (&nothing, &nothing) } else { (&objects, &named) };
    let around = related::customers_around(conn, leading, led).await?;
    let own = affected.values().flat_map(|touch| &touch.customers).cloned();
    let mut customers: BTreeSet<ObjectKey> = own.chain(around.into_iter().map(|(_, customer)| customer)).collect();
    if historical {
        customers = affected_customers(conn, customers, &objects, &named, &facts).await?;
    }
    let locked: BTreeSet<ObjectKey> =
        customers.into_iter().chain(force_project.keys().chain(&objects).cloned()).collect();
    watch.done(Step::Find);
    locks::acquire(conn, &locked, &repeated).await?;
    watch.done(Step::Lock);

    facts::store::add(conn, &facts).await?;
    let grown = timeline::add(conn, &facts, &incoming.arrivals).await?;
    let merged = merge::merge(conn, incoming).await?;
    let mut causes = customers_to_project(conn, &merged, &affected, leading, led).await?;
    if historical {
        let matter = affected_customers(conn, causes.keys().cloned().collect(), &objects, &named, &facts).await?;
        causes.retain(|customer, _| matter.contains(customer));
    }
    watch.done(Step::Merge);
    for (key, why) in force_project.iter().filter(|(key, _)| key.object_type == "customer") {
        causes.entry(key.clone()).or_default().extend(why.iter().cloned());
    }
    let (here, later): (Causes, Causes) = causes.into_iter().partition(|(customer, _)| locked.contains(customer));
    for customer in later.into_keys() {
        job_requests.reproject(customer);
    }
    if context.sync.confirm != Confirm::Never {
        for (key, second) in &merged.ambiguities {
            job_requests.confirm(key.clone(), *second);
        }
    }
    let disputed = facts.iter().filter_map(|(account, fact)| match fact {
        Fact::Dispute { charge_id, .. } => Some(ObjectKey::new(account, "charge", charge_id)),
        _ => None,
    });
    let customers: BTreeSet<ObjectKey> = here.keys().cloned().collect();
    for key in known::wanted(conn, &customers, &disputed.collect()).await? {
        job_requests.fetch(key, None);
    }
    let mut changes = project::customers(conn, context, &here, &mut notes, &mut job_requests).await?;
    invalidate::mark_timelines(conn, &grown).await?;
    let mut others = of_objects(&affected);
    let mut again = Cow::Borrowed(&merged.changed);
    for (key, why) in force_project {
        again.to_mut().insert(key.clone());
        others.entry(key).or_default().extend(why);
    }
    changes.extend(project::others(conn, &again, &others, &mut notes, &mut job_requests).await?);
    watch.done(Step::Project);
    let job_requests = queue_jobs(conn, context, job_requests).await?;
    prove(conn, &proofs).await?;
    if !echo::confirm(conn, &echoes).await? {
        return Err(Failure::Contended("a price or another shared object changed meanwhile".to_owned()));
    }
    Ok(Applied { merged, notes, job_requests, changes })
}

/// Those of `customers` whose rows historical invoices and payments can affect: a subscription names the invoice as its
/// latest, or they have paid by SEPA, where a failure stands until a later payment clears it.
async fn affected_customers(
    conn: &mut Connection,
    customers: BTreeSet<ObjectKey>,
    objects: &BTreeSet<ObjectKey>,
    named: &BTreeSet<ObjectKey>,
    facts: &[(String, Fact)],
) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    let invoices = objects.union(named).filter(|key| key.object_type == "invoice").cloned().collect();
    let mut found = known::with_relevant_payments(conn, &customers, &invoices).await?;
    found.extend(facts.iter().filter_map(|(account, fact)| match fact {
        Fact::Charge { sepa: true, customer_id: Some(id), .. } => Some(ObjectKey::new(account, "customer", id)),
        _ => None,
    }));
    Ok(found)
}

/// Writes the job requests, except API jobs if no fetcher runs: a rebuild, once there is a key, queues them again.
/// Returns the requests that were written.
pub(crate) async fn queue_jobs(
    conn: &mut Connection,
    context: &Context,
    job_requests: JobRequests,
) -> Result<JobRequests, sqlx::Error> {
    let job_requests = if context.fetches { job_requests } else { job_requests.without_api_jobs() };
    requests::add(conn, &job_requests, context.read_margin).await?;
    Ok(job_requests)
}

/// The customers to project, each with its causes.
async fn customers_to_project(
    conn: &mut Connection,
    merged: &Merged,
    affected: &BTreeMap<String, Affected>,
    objects: &BTreeSet<ObjectKey>,
    named: &BTreeSet<ObjectKey>,
) -> Result<Causes, sqlx::Error> {
    // repeated, because objects merged just now, here or by the previous lock holder, may lead to others
    let mut around: BTreeMap<ObjectKey, BTreeSet<ObjectKey>> = BTreeMap::new();
    for (object, customer) in related::customers_around(conn, objects, named).await? {
        around.entry(object).or_default().insert(customer);
    }
    let mut causes = Causes::new();
    for (cause, touch) in affected {
        if !touch.pays && touch.objects.is_disjoint(&merged.changed) {
            continue;
        }
        let led = touch.objects.union(&touch.named).filter_map(|key| around.get(key)).flatten();
        for customer in touch.customers.iter().chain(led) {
            causes.entry(customer.clone()).or_default().insert(cause.clone());
        }
    }
    for customer in &merged.customers {
        causes.entry(customer.clone()).or_default();
    }
    Ok(causes)
}

/// The causes of each object.
fn of_objects(affected: &BTreeMap<String, Affected>) -> Causes {
    let mut causes = Causes::new();
    for (cause, touch) in affected {
        for object in &touch.objects {
            causes.entry(object.clone()).or_default().insert(cause.clone());
        }
    }
    causes
}
