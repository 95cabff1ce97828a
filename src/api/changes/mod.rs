//! Requests that change an object at Stripe, for every dialect: what is changed, and what the answer waits for.
//!
//! [`change`] leads a request from its line in the ledger to its answer. The other files say what each request changes,
//! and know neither SQL nor the names of a dialect.

mod change;
mod checkout;
mod checkout_link;
mod contact;
mod customer;

pub(super) use self::change::Read;
pub(super) use self::checkout::{CheckoutRequest, MAX_TRIAL_DAYS, create_session};
pub(super) use self::checkout_link::{AfterCheckout, LinkRequest, create_link};
pub(super) use self::contact::{ContactChange, update_contact};
pub(super) use self::customer::{NewCustomer, create_customer};
