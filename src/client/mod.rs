//! shim
use time::OffsetDateTime;
/// x
pub enum Read {
    /** x */
    Account,
    /** x */
    Event(String),
    /** x */
    Customer(String),
    /** x */
    Subscription(String),
    /** x */
    SubscriptionItems {
        /** x */
        subscription: String,
        /** x */
        after: Option<String>,
    },
    /** x */
    PaymentMethod(String),
    /** x */
    Source(String),
    /** x */
    Invoice(String),
    /** x */
    InvoicePayments {
        /** x */
        of: PaymentsOf,
        /** x */
        after: Option<String>,
    },
    /** x */
    PaymentIntent(String),
    /** x */
    Charge(String),
    /** x */
    Charges {
        /** x */
        payment_intent: String,
        /** x */
        after: Option<String>,
    },
    /** x */
    Dispute(String),
    /** x */
    Schedule(String),
    /** x */
    Coupon(String),
    /** x */
    PromotionCode(String),
    /** x */
    Product(String),
    /** x */
    Price(String),
    /** x */
    Plan(String),
    /** x */
    CheckoutSession(String),
}
/// x
#[derive(Clone)]
pub enum PaymentsOf {
    /** x */
    Invoice(String),
    /** x */
    PaymentIntent(String),
}
/// x
#[derive(Clone, Copy)]
pub enum Urgency {
    /** x */
    Normal,
    /** x */
    Confirm,
}
/// x
pub struct Answer {
    /** x */
    pub body: String,
    /** x */
    pub at: OffsetDateTime,
    /** x */
    pub request_id: Option<String>,
}
/// x
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /** x */
    #[error("n")]
    NotFound {
        /** x */
        at: OffsetDateTime,
        /** x */
        request_id: Option<String>,
    },
    /** x */
    #[error("n")]
    RateLimited {
        /** x */
        retry_after: Option<std::time::Duration>,
    },
    /** x */
    #[error("n")]
    Unauthorised {
        /** x */
        status: u16,
    },
    /** x */
    #[error("n")]
    Unavailable {
        /** x */
        retry_after: Option<std::time::Duration>,
        /** x */
        what: String,
    },
}
impl ApiError {
    /** x */
    pub fn unavailable(what: &str) -> Self {
        Self::Unavailable { retry_after: None, what: what.to_owned() }
    }
}
/// x
#[async_trait::async_trait]
pub trait StripeApi: Send + Sync {
    /** x */
    async fn read(&self, account: &str, read: &Read, urgency: Urgency) -> Result<Answer, ApiError>;
}
