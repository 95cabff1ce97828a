//! The effect of events and reads: lock, merge, add facts, project, ask for what is lacking. One transaction, set-based,
//! without any call to the outside.
//!
//! The order is what makes many workers safe (docs/architecture.md): all locks are taken at once and in one order, and
//! only then is anything about the objects read, in statements whose snapshots are younger than the locks. A customer
//! that turns out to be touched after that is not locked late: a job projects it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::Context;
use super::failure::Failure;
use super::project::{self, Causes, Notes};
use super::resolve::ToMerge;
use super::told::Told;
use crate::config::sync::Confirm;
use crate::domain::event::Reason;
use crate::domain::object::ObjectKey;
use crate::jobs::demand::{self, Demands};
use crate::metrics::batch::{Step, Stopwatch};
use crate::mirror::facts::fold::Fact;
use crate::mirror::facts::{known, rows, timeline};
use crate::mirror::merge::{self, Incoming, Merged};
use crate::mirror::{echo, locks, related};
use crate::projection::Projected;
use crate::renewals::follow;
use crate::store::Change;

/// What is put into one transaction.
#[derive(Default)]
pub(super) struct Work {
    /// What is merged.
    pub(super) incoming: Incoming,
    /// The facts stated by it, with their accounts.
    pub(super) facts: Vec<(String, Fact)>,
    /// Which objects and customers each cause (an event id, or `read`) is about.
    pub(super) touches: BTreeMap<String, Touch>,
    /// What is asked for whatever comes of it.
    pub(super) demands: Demands,
    /// What was noticed about objects already.
    pub(super) notes: Notes,
    /// What is projected whatever comes of it, each for a cause: rows that may differ from what they should be.
    pub(super) also: Causes,
    /// It is the past, of which most changes no row: only the customers for whom it may matter are projected.
    pub(super) past: bool,
}

/// What one cause is about.
#[derive(Default)]
pub(super) struct Touch {
    /// The objects that it merges.
    pub(super) objects: BTreeSet<ObjectKey>,
    /// The objects that those name.
    pub(super) named: BTreeSet<ObjectKey>,
    /// The customers that it names itself.
    pub(super) customers: BTreeSet<ObjectKey>,
    /// It states facts about payments, which count even where something newer stands.
    pub(super) pays: bool,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Applied {
    /// What the merge did.
    pub(super) merged: Merged,
    /// What was noticed about each projected object.
    pub(super) notes: Notes,
    /// What was asked for.
    pub(super) demands: Demands,
    /// The rows that were written.
    pub(super) changes: Vec<Change>,
}

impl Work {
    /// Adds what a snapshot event brings.
    pub(super) fn add_event(&mut self, event: ToMerge) {
        let ToMerge { arrival, told, wanted } = event;
        self.add_told(&arrival.snapshot.event_id, &arrival.key, told);
        for key in wanted {
            self.notes.entry(arrival.key.clone()).or_default().insert(Reason::NeedsFetch);
            self.demands.fetch(key, None);
        }
        self.incoming.arrivals.push(arrival);
    }

    /// Adds what an object tells apart from its content; `cause` brought it.
    pub(super) fn add_told(&mut self, cause: &str, key: &ObjectKey, told: Told) {
        for beyond in told.beyond {
            self.notes.entry(key.clone()).or_default().insert(Reason::NeedsFetch);
            self.demands.fetch(beyond, None);
        }
        let touch = self.touches.entry(cause.to_owned()).or_default();
        touch.objects.extend(told.nested.iter().map(|one| one.key.clone()).chain([key.clone()]));
        touch.named.extend(told.named);
        touch.customers.extend(told.customers);
        touch.pays |= told.facts.iter().any(is_of_payment);
        self.facts.extend(told.facts.into_iter().map(|fact| (key.account.clone(), fact)));
        self.incoming.nested.extend(told.nested);
    }

    /// Leaves out the copies of these objects that travelled inside others.
    pub(super) fn leave_out(&mut self, keys: &BTreeSet<ObjectKey>) {
        self.incoming.nested.retain(|one| !keys.contains(&one.key));
        let own: BTreeSet<ObjectKey> = self.incoming.reads.iter().map(|one| one.key.clone()).collect();
        for touch in self.touches.values_mut() {
            touch.objects.retain(|key| own.contains(key) || !keys.contains(key));
        }
    }

    fn objects(&self) -> BTreeSet<ObjectKey> {
        self.touches.values().flat_map(|touch| &touch.objects).cloned().collect()
    }

    fn named(&self) -> BTreeSet<ObjectKey> {
        self.touches.values().flat_map(|touch| &touch.named).cloned().collect()
    }
}

/// Does it all but the commit.
pub(super) async fn apply(
    conn: &mut PgConnection,
    context: &Context,
    work: Work,
    watch: &mut Stopwatch,
) -> Result<Applied, Failure> {
    let (mut objects, named) = (work.objects(), work.named());
    let Work { mut incoming, facts, touches, mut demands, mut notes, also, past } = work;
    let echoes = echo::take_out(conn, &mut incoming, |key| also.contains_key(key)).await?;
    let repeated: BTreeSet<ObjectKey> = echoes.iter().map(|echo| echo.key.clone()).collect();
    objects.retain(|key| !repeated.contains(key));
    // of the past every object names its customer itself, but for a dispute
    let nothing = BTreeSet::new();
    let is_named = past && objects.iter().all(|key| key.object_type != "dispute");
    let (leading, led) = if is_named { (&nothing, &nothing) } else { (&objects, &named) };
    let around = related::customers_around(conn, leading, led).await?;
    let own = touches.values().flat_map(|touch| &touch.customers).cloned();
    let mut customers: BTreeSet<ObjectKey> = own.chain(around.into_iter().map(|(_, customer)| customer)).collect();
    if past {
        customers = concerned(conn, customers, &objects, &named, &facts).await?;
    }
    let locked: BTreeSet<ObjectKey> = customers.into_iter().chain(also.keys().chain(&objects).cloned()).collect();
    watch.done(Step::Find);
    locks::acquire(conn, &locked, &repeated).await?;
    watch.done(Step::Lock);

    rows::add(conn, &facts).await?;
    let grown = timeline::add(conn, &facts, &incoming.arrivals).await?;
    let merged = merge::merge(conn, incoming).await?;
    let mut causes = touched(conn, &merged, &touches, leading, led).await?;
    if past {
        let matter = concerned(conn, causes.keys().cloned().collect(), &objects, &named, &facts).await?;
        causes.retain(|customer, _| matter.contains(customer));
    }
    watch.done(Step::Merge);
    for (key, why) in also.iter().filter(|(key, _)| key.object_type == "customer") {
        causes.entry(key.clone()).or_default().extend(why.iter().cloned());
    }
    let (here, later): (Causes, Causes) = causes.into_iter().partition(|(customer, _)| locked.contains(customer));
    for customer in later.into_keys() {
        demands.reproject(customer);
    }
    if context.sync.confirm != Confirm::Never {
        for (key, second) in &merged.doubts {
            demands.confirm(key.clone(), *second);
        }
    }
    let disputed = facts.iter().filter_map(|(account, fact)| match fact {
        Fact::Dispute { charge_id, .. } => Some(ObjectKey::new(account, "charge", charge_id)),
        _ => None,
    });
    let customers: BTreeSet<ObjectKey> = here.keys().cloned().collect();
    for key in known::wanted(conn, &customers, &disputed.collect()).await? {
        demands.fetch(key, None);
    }
    let mut changes = project::customers(conn, context, &here, &mut notes, &mut demands).await?;
    follow::timeline(conn, &grown).await?;
    let mut others = of_objects(&touches);
    let mut again = Cow::Borrowed(&merged.changed);
    for (key, why) in also {
        again.to_mut().insert(key.clone());
        others.entry(key).or_default().extend(why);
    }
    changes.extend(project::others(conn, &again, &others, &mut notes, &mut demands).await?);
    watch.done(Step::Project);
    let demands = ask(conn, context, demands).await?;
    if !echo::confirm(conn, &echoes).await? {
        return Err(Failure::Contended("a price or another shared object changed meanwhile".to_owned()));
    }
    Ok(Applied { merged, notes, demands, changes })
}

/// Those of `customers` for whom the invoices and payments of the past may matter: a subscription names the invoice as its
/// latest, or they have paid by SEPA, where a failure holds until something later clears it.
async fn concerned(
    conn: &mut PgConnection,
    customers: BTreeSet<ObjectKey>,
    objects: &BTreeSet<ObjectKey>,
    named: &BTreeSet<ObjectKey>,
    facts: &[(String, Fact)],
) -> Result<BTreeSet<ObjectKey>, sqlx::Error> {
    let invoices = objects.union(named).filter(|key| key.object_type == "invoice").cloned().collect();
    let mut found = known::concerned(conn, &customers, &invoices).await?;
    found.extend(facts.iter().filter_map(|(account, fact)| match fact {
        Fact::Charge { sepa: true, customer_id: Some(id), .. } => Some(ObjectKey::new(account, "customer", id)),
        _ => None,
    }));
    Ok(found)
}

/// Writes the demands, without those that nobody can serve: a rebuild, once there is a key, asks for them again. Returns
/// what was written.
pub(super) async fn ask(conn: &mut PgConnection, context: &Context, demands: Demands) -> Result<Demands, sqlx::Error> {
    let demands = if context.fetches { demands } else { demands.without_reads() };
    demand::add(conn, &demands, context.read_margin).await?;
    Ok(demands)
}

/// The customers to be projected, each with what caused it.
async fn touched(
    conn: &mut PgConnection,
    merged: &Merged,
    touches: &BTreeMap<String, Touch>,
    objects: &BTreeSet<ObjectKey>,
    named: &BTreeSet<ObjectKey>,
) -> Result<Causes, sqlx::Error> {
    // once more: what was merged just now, here or by whoever held the locks before, may lead to others
    let mut around: BTreeMap<ObjectKey, BTreeSet<ObjectKey>> = BTreeMap::new();
    for (object, customer) in related::customers_around(conn, objects, named).await? {
        around.entry(object).or_default().insert(customer);
    }
    let mut causes = Causes::new();
    for (cause, touch) in touches {
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
fn of_objects(touches: &BTreeMap<String, Touch>) -> Causes {
    let mut causes = Causes::new();
    for (cause, touch) in touches {
        for object in &touch.objects {
            causes.entry(object.clone()).or_default().insert(cause.clone());
        }
    }
    causes
}

/// It counts even where something newer stands.
fn is_of_payment(fact: &Fact) -> bool {
    !matches!(fact, Fact::Trial { .. } | Fact::Timeline { .. } | Fact::Phase { .. })
}

/// Takes the row and keeps what was noticed under its object, and what it needs.
pub(super) fn keep<T>(key: &ObjectKey, projected: Projected<T>, notes: &mut Notes, demands: &mut Demands) -> T {
    notes.entry(key.clone()).or_default().extend(projected.notes);
    for need in projected.needs {
        demands.fetch(need, None);
    }
    projected.row
}
