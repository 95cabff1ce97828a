//! An event as the outbox sees it: its envelope, its key, and the closed lists of what can become of it.

use time::OffsetDateTime;

/// What identifies one event: a second delivery has the same id *and* the same creation time.
///
/// Both are needed because both are the key of tables partitioned by `created`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// Stripe's event id (`evt_…`).
    pub event_id: String,
    /// When Stripe made the event. Whole seconds for snapshot events, finer for thin ones.
    pub created: OffsetDateTime,
}

/// The two shapes in which Stripe sends an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Carries the object as it was when the event was made (`"object": "event"`).
    Snapshot,
    /// Names the object only (`"object": "v2.core.event"`).
    Thin,
}

impl Format {
    /// The word stored in `billing.outbox.format`.
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
    /// The customer that the object names, or is.
    pub customer_id: Option<String>,
    /// The account that made the event (`account`, else `context`); empty where the event names none.
    pub account: String,
    /// `None` where the sender does not say.
    pub livemode: Option<bool>,
    /// The API version in which the payload is rendered; Stripe may leave it null.
    pub api_version: Option<String>,
}

/// How a processed event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It is the newest word on its object.
    Applied,
    /// It was merged, and something newer stands.
    Superseded,
    /// We know what it is and do not act on it; the reason says why.
    Ignored,
    /// We do not know what it is; kept, counted, not acted on.
    Unknown,
}

impl Outcome {
    /// All outcomes, in the order in which metrics list them.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Superseded, Self::Ignored, Self::Unknown];

    /// The word stored in `billing.outbox.outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Superseded => "superseded",
            Self::Ignored => "ignored",
            Self::Unknown => "unknown",
        }
    }
}

/// Why an outcome is what it is, or what was noticed on the way. A closed list: it is a label and a CHECK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Test event at a live installation, or the reverse.
    ForeignLivemode,
    /// Of a connected account that is not configured.
    ForeignAccount,
    /// A type of a family that Stripe documents, which changes nothing here.
    UnhandledType,
    /// Says what another event says with more effect (`customer.subscription.trial_will_end`).
    Informational,
    /// A type that this release does not know.
    UnknownType,
    /// The snapshot event of the same change is there.
    HasSnapshot,
    /// Dead, and given up by an operator.
    Discarded,
    /// A status, interval or other enumerated value that this release does not know; kept as text.
    UnknownEnum,
    /// The subscription's customer has not been seen yet.
    UnknownCustomer,
    /// The subscription's price came without its content, so that no pricing plan can be named.
    UnknownPrice,
    /// The workspace in the metadata is not a UUID.
    BadWorkspaceId,
    /// A field held a value that cannot be read as what it should be; the column is null.
    UnreadableValue,
    /// A subscription with more than one item; the oldest is used.
    SeveralItems,
    /// The payload holds the first items only.
    MoreItems,
    /// Something is named by its id only and would have to be fetched: the object of a thin event without its
    /// snapshot, a discount, a schedule that may end the subscription, the subscriptions of a deleted customer.
    NeedsFetch,
    /// Under Accounts v2 an account (`customer_account`) stands in the customer's place: there is no contact of it.
    CustomerAccount,
    /// Stripe failed to make events about an object, which is read instead.
    EventsNotGenerated,
}

impl Reason {
    /// All reasons, in the order in which metrics list them.
    pub const ALL: [Self; 17] = [
        Self::ForeignLivemode,
        Self::ForeignAccount,
        Self::UnhandledType,
        Self::Informational,
        Self::UnknownType,
        Self::HasSnapshot,
        Self::Discarded,
        Self::UnknownEnum,
        Self::UnknownCustomer,
        Self::UnknownPrice,
        Self::BadWorkspaceId,
        Self::UnreadableValue,
        Self::SeveralItems,
        Self::MoreItems,
        Self::NeedsFetch,
        Self::CustomerAccount,
        Self::EventsNotGenerated,
    ];

    /// The word stored in `billing.outbox.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignLivemode => "foreign_livemode",
            Self::ForeignAccount => "foreign_account",
            Self::UnhandledType => "unhandled_type",
            Self::Informational => "informational",
            Self::UnknownType => "unknown_type",
            Self::NeedsFetch => "needs_fetch",
            Self::HasSnapshot => "has_snapshot",
            Self::Discarded => "discarded",
            Self::UnknownEnum => "unknown_enum",
            Self::UnknownCustomer => "unknown_customer",
            Self::UnknownPrice => "unknown_price",
            Self::BadWorkspaceId => "bad_workspace_id",
            Self::UnreadableValue => "unreadable_value",
            Self::SeveralItems => "several_items",
            Self::MoreItems => "more_items",
            Self::CustomerAccount => "customer_account",
            Self::EventsNotGenerated => "not_generated",
        }
    }
}
