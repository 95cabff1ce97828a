//! What the API reads and writes in the database: one statement for each request that reads.
//!
//! Every statement takes the caller's [`Access`](super::principal::Access), so that a workspace that the caller may not
//! see is a row that is not found. Only this folder, [`super::idempotency`] and the tokens contain SQL. Must not know HTTP, nor the names of a
//! dialect.

mod billing;
mod checkout;
mod checkout_link;
mod entities;
mod found;
mod fragments;
mod history;
mod limits;
mod list;
mod state;
mod workspace;

pub(crate) use self::billing::{checkout_session, contact};
pub(crate) use self::checkout::{CheckoutBasis, PlanChoice, checkout_basis};
pub(crate) use self::checkout_link::{CheckoutLink, NewCheckoutLink, SoldPlan, create_link, link, sold_plans};
pub(crate) use self::entities::{
    Avatar, Category, CheckoutSession, Contact, Coupon, Freshness, Limit, Plan, Subscription, Workspace,
};
pub(crate) use self::found::Found;
pub(crate) use self::history::{HistoryRange, changes};
pub(crate) use self::limits::{consume, limits, release};
pub use self::list::search_statement;
pub(crate) use self::list::{Filter, Order, SortField, list};
pub(crate) use self::state::{State, Subject, state};
pub use self::workspace::WORKSPACE;
pub(crate) use self::workspace::{
    Deletion, NewWorkspace, Role, create, delete, lock, next_key_index, owned, rename, role, skip_key_indexes,
    workspace,
};
