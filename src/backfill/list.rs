//! The lists of a backfill, their order, and one page of a list as received.
//!
//! PURE. Products are read before prices, customers before subscriptions, so that a subscription finds its contact.
//! Both are read before the invoices of all years: rows become usable first, and historical data then completes the
//! details. The final result does not depend on this order.

use std::time::Duration;

use time::OffsetDateTime;

use crate::client::{ListKind, Span};
use crate::domain::object::ObjectKey;
use crate::stripe::json::{Document, Json};
use crate::stripe::nested;
use crate::stripe::views::is_key;
use crate::worker::fetched::FetchedObject;

/// A list of Stripe's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Products.
    Products,
    /// Prices.
    Prices,
    /// Plans, where the server has no list of prices.
    Plans,
    /// Coupons.
    Coupons,
    /// Customers.
    Customers,
    /// Subscriptions of every status.
    Subscriptions,
    /// Checkout sessions, which may contain the only reference to a workspace.
    Sessions,
    /// Invoices of every status.
    Invoices,
    /// Disputes.
    Disputes,
    /// Payments of invoices with their charges.
    Payments,
}

impl List {
    /// The lists that every backfill reads.
    pub const ALL: [Self; 9] = [
        Self::Products,
        Self::Prices,
        Self::Coupons,
        Self::Customers,
        Self::Subscriptions,
        Self::Sessions,
        Self::Invoices,
        Self::Disputes,
        Self::Payments,
    ];

    /// All lists, with the fallbacks.
    fn every() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::ALL.into_iter().filter_map(Self::fallback))
    }

    /// As in `billing.backfill_ranges.list`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::Prices => "prices",
            Self::Plans => "plans",
            Self::Coupons => "coupons",
            Self::Customers => "customers",
            Self::Subscriptions => "subscriptions",
            Self::Sessions => "sessions",
            Self::Invoices => "invoices",
            Self::Disputes => "disputes",
            Self::Payments => "payments",
        }
    }

    /// The list of that name; the CHECK of the column allows no other.
    pub(crate) fn of(name: &str) -> Self {
        Self::every().find(|list| list.as_str() == name).unwrap_or(Self::Customers)
    }

    /// Stage of the list. Lists of one stage are read concurrently; a stage begins when the previous one has ended.
    pub(crate) fn stage(self) -> u8 {
        match self {
            Self::Products | Self::Coupons => 0,
            Self::Prices | Self::Plans => 1,
            Self::Customers => 2,
            Self::Subscriptions | Self::Sessions => 3,
            Self::Invoices | Self::Disputes | Self::Payments => 4,
        }
    }

    /// The type of its objects.
    pub(crate) fn object_type(self) -> &'static str {
        match self {
            Self::Products => "product",
            Self::Prices => "price",
            Self::Plans => "plan",
            Self::Coupons => "coupon",
            Self::Customers => "customer",
            Self::Subscriptions => "subscription",
            Self::Sessions => "checkout.session",
            Self::Invoices => "invoice",
            Self::Disputes => "dispute",
            Self::Payments => "invoice_payment",
        }
    }

    /// Whether the objects belong to no customer. A backfill reads such a list whole, even with `created_after`.
    pub(crate) fn is_catalogue(self) -> bool {
        self.stage() <= 1
    }

    /// Whether the list holds invoices, payments or disputes, most of which change no row.
    pub(crate) fn is_historical(self) -> bool {
        self.stage() == 4
    }

    /// The list as a request of the API client.
    pub(crate) fn listed(self) -> ListKind {
        match self {
            Self::Products => ListKind::Products,
            Self::Prices => ListKind::Prices,
            Self::Plans => ListKind::Plans,
            Self::Coupons => ListKind::Coupons,
            Self::Customers => ListKind::Customers,
            Self::Subscriptions => ListKind::Subscriptions(None),
            Self::Sessions => ListKind::Sessions(None),
            Self::Invoices => ListKind::Invoices(None),
            Self::Disputes => ListKind::Disputes,
            Self::Payments => ListKind::Payments,
        }
    }

    /// The list to read instead if Stripe has no such list.
    pub(crate) fn fallback(self) -> Option<Self> {
        (self == Self::Prices).then_some(Self::Plans)
    }
}

/// An object on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its id.
    pub(crate) id: String,
    /// `created` of the object as Unix time, if it has one.
    pub(crate) created: Option<i64>,
    /// Its JSON as received.
    pub(crate) json: String,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Page {
    /// Objects that can be stored.
    pub(crate) elements: Vec<Element>,
    /// Positions, from 1, of the items without a valid id or of another type.
    pub(crate) without_id: Vec<usize>,
    /// Whether the list continues after this page.
    pub(crate) has_more: bool,
}

/// The response is not a page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the response is not a list: it has no `data`")]
pub(crate) struct NoPage;

impl Page {
    /// Parses a page of `list`. An item that is not an object of the list's type counts as one without an id.
    pub(crate) fn read(list: List, body: &str) -> Result<Self, NoPage> {
        let body = Document::parse(body).map_err(|_| NoPage)?;
        let body = body.root();
        let data = body.get("data").array().ok_or(NoPage)?;
        let mut page = Self { has_more: body.get("has_more").boolean() == Some(true), ..Self::default() };
        for (index, object) in data.into_iter().enumerate() {
            match named(list, object) {
                Some(element) => page.elements.push(element),
                None => page.without_id.push(index + 1),
            }
        }
        Ok(page)
    }

    /// The objects to store, as read at `at`. Objects outside of `span` are dropped: a server without `created` filters
    /// returns them, too.
    pub(crate) fn into_parts(
        self,
        account: &str,
        list: List,
        span: Span,
        at: OffsetDateTime,
        margin: Duration,
    ) -> Vec<FetchedObject> {
        let ours = self.elements.into_iter().filter(|element| span.covers(element.created));
        let part = |element: Element| {
            FetchedObject::of_json(ObjectKey::new(account, list.object_type(), &element.id), element.json, at, margin)
        };
        ours.map(part).collect()
    }

    /// Whether the newest objects come first, as in Stripe's lists. Only then are all objects not read yet older than
    /// the last one of the page.
    pub(crate) fn is_newest_first(&self) -> bool {
        let created: Option<Vec<i64>> = self.elements.iter().map(|element| element.created).collect();
        created.is_some_and(|created| {
            created.windows(2).all(|pair| pair[0] >= pair[1])
                && created.first().zip(created.last()).is_some_and(|(first, last)| first > last)
        })
    }
}

fn named(list: List, object: Json<'_>) -> Option<Element> {
    let members = object.object()?;
    let id = members.get("id").text().filter(|id| is_key(id))?;
    let is_of_list = nested::type_of(object) == Some(list.object_type());
    is_of_list.then(|| Element { id, created: members.get("created").integer(), json: object.raw().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(body: &str) -> Page {
        Page::read(List::Customers, body).unwrap()
    }

    #[test]
    fn a_page_keeps_its_objects_as_received() {
        let found = page(
            r#"{"data":[{"id":"cus_2","object":"customer","created":9},{"object":"customer"},
            {"id":"cus_1", "object":"customer"},7,{"id":"sub_1","object":"subscription"}],"has_more":true}"#,
        );
        let [first, second] = &found.elements[..] else { panic!("{found:?}") };
        assert_eq!((first.id.as_str(), first.created), ("cus_2", Some(9)));
        assert_eq!(second.json, r#"{"id":"cus_1", "object":"customer"}"#);
        assert_eq!((found.without_id, found.has_more), (vec![2, 4, 5], true));
        assert_eq!(page(r#"{"data":[]}"#), Page::default());
        assert_eq!(Page::read(List::Customers, r#"{"error":{}}"#), Err(NoPage));
        assert_eq!(Page::read(List::Customers, "<html>"), Err(NoPage));
    }

    #[test]
    fn only_descending_times_are_newest_first() {
        let with = |times: &[i64]| {
            let objects: Vec<String> = (times.iter())
                .map(|time| format!(r#"{{"id":"cus_{time}","object":"customer","created":{time}}}"#))
                .collect();
            page(&format!(r#"{{"data":[{}]}}"#, objects.join(","))).is_newest_first()
        };
        assert!(with(&[3, 2, 2, 1]));
        for times in [&[1, 2, 3][..], &[3, 1, 2], &[2, 2], &[1], &[]] {
            assert!(!with(times), "{times:?}");
        }
        assert!(
            !page(r#"{"data":[{"id":"a","object":"customer","created":2},{"id":"b","object":"customer"}]}"#)
                .is_newest_first()
        );
    }

    #[test]
    fn every_list_is_found_by_its_name() {
        for list in List::every() {
            assert_eq!(List::of(list.as_str()), list);
        }
    }
}
