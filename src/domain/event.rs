//! An event in the outbox: its envelope, its key, and the closed lists of its outcomes and reasons.

use time::OffsetDateTime;

/// Identity of an event: a second delivery has the same id *and* the same creation time.
///
/// Both are needed, because they are the key of tables partitioned by `created`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// Stripe's event id (`evt_…`).
    pub event_id: String,
    /// Creation time at Stripe: whole seconds for snapshot events, finer for thin ones.
    pub created: OffsetDateTime,
}

/// The two formats in which Stripe sends events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Contains the object as of the event's creation (`"object": "event"`).
    Snapshot,
    /// Only references the object (`"object": "v2.core.event"`).
    Thin,
}

impl Format {
    /// The value stored in `billing.outbox.format`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Thin => "thin",
        }
    }
}

/// The few fields of an event that ingest needs. The rest of the payload stays opaque bytes.
///
/// No text is longer than 255 bytes or contains NUL, and `created` lies within the years 2000 to 2100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Stripe's event id and creation time.
    pub key: EventKey,
    /// Snapshot or thin.
    pub format: Format,
    /// The event type, `customer.updated` for example. Thin types begin with `v1.` or `v2.`.
    pub event_type: String,
    /// Type of the object that the event is about (`data.object.object`, or `related_object.type`).
    pub object_type: Option<String>,
    /// Id of that object; absent in `invoice.upcoming`.
    pub object_id: Option<String>,
    /// The customer that the object references, or is.
    pub customer_id: Option<String>,
    /// The account of the event (`account`, else `context`); empty if the event contains none.
    pub account: String,
    /// `None` if the event does not contain it.
    pub livemode: Option<bool>,
    /// The API version of the payload; Stripe may leave it null.
    pub api_version: Option<String>,
}

/// Outcome of a processed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The event set the current state of its object.
    Applied,
    /// The event was merged, but the object has a newer state.
    Superseded,
    /// The event is known and deliberately not processed; see the reason.
    Ignored,
    /// The event type is unknown; the event is kept and counted, but not processed.
    Unknown,
}

impl Outcome {
    /// All outcomes, in the order in which metrics list them.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Superseded, Self::Ignored, Self::Unknown];

    /// The value stored in `billing.outbox.outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Superseded => "superseded",
            Self::Ignored => "ignored",
            Self::Unknown => "unknown",
        }
    }
}

/// Reason of an outcome, or a remark. A closed list, because it is a metric label and a CHECK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A test event at a live installation, or the reverse.
    LivemodeMismatch,
    /// An event of a connected account that is not configured.
    AccountNotSynced,
    /// A type of a family that Stripe documents; it changes nothing here.
    UnhandledType,
    /// Another event reports the same change and is processed (`customer.subscription.trial_will_end`).
    Informational,
    /// A type that this release does not know.
    UnknownType,
    /// The snapshot event of the same change is merged.
    SupersededBySnapshot,
    /// A dead event that an operator discarded.
    Discarded,
    /// A status, interval or other enumerated value that this release does not know; kept as text.
    UnknownEnum,
    /// The subscription's customer has not been seen yet.
    UnknownCustomer,
    /// The content of the subscription's price is not known yet, so its pricing plan is null.
    UnknownPrice,
    /// The workspace in the metadata is not a UUID.
    InvalidWorkspaceId,
    /// A field contains an invalid value; the column is null.
    InvalidValue,
    /// The subscription has more than one item; one of them is chosen as the plan.
    MultipleItems,
    /// The payload contains only the first items.
    ItemsTruncated,
    /// An object is known only by its id and must be fetched: the object of a thin event without its snapshot, a
    /// discount, a schedule that may end the subscription, the subscriptions of a deleted customer.
    NeedsFetch,
    /// Under Accounts v2 an account (`customer_account`) replaces the customer; it has no billing contact.
    CustomerAccount,
    /// Stripe failed to generate events about an object, which is fetched instead.
    EventsNotGenerated,
}

impl Reason {
    /// All reasons, in the order in which metrics list them.
    pub const ALL: [Self; 17] = [
        Self::LivemodeMismatch,
        Self::AccountNotSynced,
        Self::UnhandledType,
        Self::Informational,
        Self::UnknownType,
        Self::SupersededBySnapshot,
        Self::Discarded,
        Self::UnknownEnum,
        Self::UnknownCustomer,
        Self::UnknownPrice,
        Self::InvalidWorkspaceId,
        Self::InvalidValue,
        Self::MultipleItems,
        Self::ItemsTruncated,
        Self::NeedsFetch,
        Self::CustomerAccount,
        Self::EventsNotGenerated,
    ];

    /// The value stored in `billing.outbox.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LivemodeMismatch => "livemode_mismatch",
            Self::AccountNotSynced => "account_not_synced",
            Self::UnhandledType => "unhandled_type",
            Self::Informational => "informational",
            Self::UnknownType => "unknown_type",
            Self::NeedsFetch => "needs_fetch",
            Self::SupersededBySnapshot => "superseded_by_snapshot",
            Self::Discarded => "discarded",
            Self::UnknownEnum => "unknown_enum",
            Self::UnknownCustomer => "unknown_customer",
            Self::UnknownPrice => "unknown_price",
            Self::InvalidWorkspaceId => "invalid_workspace_id",
            Self::InvalidValue => "invalid_value",
            Self::MultipleItems => "multiple_items",
            Self::ItemsTruncated => "items_truncated",
            Self::CustomerAccount => "customer_account",
            Self::EventsNotGenerated => "not_generated",
        }
    }
}
