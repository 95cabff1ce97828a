//! Webhook endpoints as Stripe lists them, compared with what the rows need.
//!
//! PURE. Owns the supported API versions of events. Called by `doctor`.

use super::catalogue;
use super::json::{Document, Json};

/// The oldest API version whose events are supported.
pub const OLDEST_VERSION: &str = "2020-08-27";

/// The newest API version whose changes were checked; later ones with the same name only add fields.
pub const NEWEST_VERSION: &str = "2026-10-28.endive";

/// All event types, except those that Stripe sends only if they are named. No handled type is known to be among them.
const ALL: &str = "*";

/// A webhook endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookEndpoint {
    /// Its id (`we_…`).
    pub id: String,
    /// Where its events are sent.
    pub url: String,
    /// Whether events are sent. Stripe disables an endpoint whose deliveries fail for days.
    pub is_enabled: bool,
    /// Whether it receives the events of connected accounts, and not those of the account itself.
    pub is_connect: bool,
    /// The mode; `None` if Stripe's answer does not contain it.
    pub livemode: Option<bool>,
    /// The version of its events; `None`: the default of the account, or of each connected account.
    pub api_version: Option<String>,
    /// The event types that it receives, or `*` for all.
    pub enabled_events: Vec<String>,
}

/// A page of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPage {
    /// The endpoints, newest first.
    pub endpoints: Vec<WebhookEndpoint>,
    /// Whether there is a next page.
    pub has_more: bool,
}

/// Reads a page; `None` if `body` is not a page of endpoints.
pub fn page(body: &str) -> Option<EndpointPage> {
    let document = Document::parse(body).ok()?;
    let list = document.root().object()?;
    let endpoints = list.get("data").array()?.into_iter().map(WebhookEndpoint::read).collect::<Option<_>>()?;
    Some(EndpointPage { endpoints, has_more: list.get("has_more").boolean()? })
}

/// What the operator needs of a new endpoint; each is absent if Stripe's answer does not contain it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreatedEndpoint {
    /// Its id (`we_…`).
    pub id: Option<String>,
    /// Its signing secret, which no later answer contains.
    pub secret: Option<String>,
}

/// Reads the endpoint that Stripe returns after its creation.
pub fn created(body: &str) -> CreatedEndpoint {
    let Ok(document) = Document::parse(body) else { return CreatedEndpoint::default() };
    let text = |field| document.root().get(field).text();
    CreatedEndpoint { id: text("id"), secret: text("secret") }
}

impl WebhookEndpoint {
    fn read(endpoint: Json<'_>) -> Option<Self> {
        Some(Self {
            id: endpoint.get("id").text()?,
            url: endpoint.get("url").text()?,
            is_enabled: endpoint.get("status").str().as_deref() == Some("enabled"),
            // Stripe returns no `connect`: the application shows that the endpoint is one of Connect
            is_connect: !endpoint.get("application").is_null(),
            livemode: endpoint.get("livemode").boolean(),
            api_version: endpoint.get("api_version").text(),
            enabled_events: endpoint.get("enabled_events").array()?.into_iter().filter_map(Json::text).collect(),
        })
    }

    /// The event types that rows need and that the endpoint does not receive.
    pub fn missing_types(&self) -> Vec<String> {
        catalogue::subscribed().filter(|needed| !self.receives(needed)).collect()
    }

    /// Whether it receives any event type that rows need.
    pub fn is_useful(&self) -> bool {
        catalogue::subscribed().any(|needed| self.receives(&needed))
    }

    fn receives(&self, event_type: &str) -> bool {
        self.enabled_events.iter().any(|enabled| enabled == event_type || enabled == ALL)
    }

    /// What is wrong with its API version, if anything.
    pub fn version_problem(&self) -> Option<String> {
        version_problem(self.api_version.as_deref()?)
    }
}

/// What is wrong with an API version of events, if anything.
pub fn version_problem(version: &str) -> Option<String> {
    // versions begin with their date, so they compare as texts
    let (date, name) = version.split_once('.').unwrap_or((version, ""));
    let (newest_date, newest_name) = NEWEST_VERSION.split_once('.').unwrap_or((NEWEST_VERSION, ""));
    if date < OLDEST_VERSION {
        return Some(format!("it is older than {OLDEST_VERSION}, the oldest that is supported"));
    }
    (date > newest_date && name != newest_name)
        .then(|| format!("it is newer than {NEWEST_VERSION}, the newest that this release supports"))
}

/// Event types in a sentence: kinds of which all needed types are in the list are named once.
pub fn in_words(types: &[String]) -> String {
    let needed: Vec<String> = catalogue::subscribed().collect();
    let mut kinds: Vec<&str> = types.iter().map(|one| kind(one)).collect();
    kinds.dedup();
    let is_in = |event_type: &String| types.contains(event_type);
    let (whole, partial): (Vec<&str>, Vec<&str>) =
        kinds.into_iter().partition(|of| needed.iter().filter(|one| kind(one) == *of).all(is_in));
    let rest: Vec<&str> = types.iter().map(String::as_str).filter(|one| partial.contains(&kind(one))).collect();
    match (whole.as_slice(), rest.as_slice()) {
        ([], _) => rest.join(", "),
        (_, []) => format!("all of {}", whole.join(", ")),
        _ => format!("all of {}; {}", whole.join(", "), rest.join(", ")),
    }
}

/// The part before the last dot.
fn kind(event_type: &str) -> &str {
    event_type.rsplit_once('.').map_or(event_type, |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(enabled_events: &[&str], api_version: Option<&str>) -> WebhookEndpoint {
        WebhookEndpoint {
            id: "we_1".to_owned(),
            url: "https://a.example".to_owned(),
            is_enabled: true,
            is_connect: false,
            livemode: Some(false),
            api_version: api_version.map(str::to_owned),
            enabled_events: enabled_events.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    #[test]
    fn a_page_is_read_with_connect_and_disabled_endpoints() {
        let body = r#"{"object":"list","has_more":true,"data":[
            {"id":"we_2","url":"https://b","status":"disabled","application":"ca_1","livemode":true,
             "api_version":"2024-06-20","enabled_events":["*"]},
            {"id":"we_1","url":"https://a.example","status":"enabled","application":null,"livemode":false,
             "api_version":null,"enabled_events":["customer.created"]}]}"#;
        let found = page(body).unwrap();
        assert!(found.has_more);
        assert_eq!(found.endpoints[1], endpoint(&["customer.created"], None));
        assert!(found.endpoints[0].is_connect && !found.endpoints[0].is_enabled);
        for odd in ["", "{}", r#"{"data":[{}],"has_more":false}"#, r#"{"data":[]}"#] {
            assert_eq!(page(odd), None, "{odd}");
        }
    }

    #[test]
    fn the_secret_of_a_new_endpoint_is_read_without_its_other_fields() {
        let created = |body| {
            let CreatedEndpoint { id, secret } = created(body);
            (id.unwrap_or_default(), secret.unwrap_or_default())
        };
        assert_eq!(created(r#"{"secret":"whsec_1","url":null}"#), (String::new(), "whsec_1".to_owned()));
        assert_eq!(created(r#"{"id":"we_1"}"#), ("we_1".to_owned(), String::new()));
        for odd in ["", "[]", "<html>"] {
            assert_eq!(created(odd), (String::new(), String::new()), "{odd}");
        }
    }

    #[test]
    fn missing_types_are_those_that_rows_need() {
        assert_eq!(endpoint(&["*"], None).missing_types(), Vec::<String>::new());
        let all: Vec<String> = catalogue::subscribed().collect();
        let mut types: Vec<&str> = all.iter().map(String::as_str).collect();
        types.extend(["issuing_card.created"]);
        assert_eq!(endpoint(&types, None).missing_types(), Vec::<String>::new());
        let without: Vec<&str> = types.iter().copied().filter(|one| *one != "price.updated").collect();
        assert_eq!(endpoint(&without, None).missing_types(), ["price.updated"]);
        assert!(!endpoint(&["issuing_card.created"], None).is_useful());
    }

    #[test]
    fn a_whole_kind_is_named_once() {
        let words = |types: &[&str]| in_words(&types.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["price.created", "price.deleted"]), "price.created, price.deleted");
        assert_eq!(words(&["mandate.updated", "price.created"]), "all of mandate; price.created");
        assert_eq!(words(&["coupon.created", "coupon.deleted", "coupon.updated"]), "all of coupon");
    }

    #[test]
    fn versions_are_compared_by_date_and_by_name() {
        let problem = |version| endpoint(&[], Some(version)).version_problem();
        for fine in ["2020-08-27", "2024-06-20", NEWEST_VERSION, "2026-11-25.endive"] {
            assert_eq!(problem(fine), None, "{fine}");
        }
        assert_eq!(endpoint(&[], None).version_problem(), None);
        assert!(problem("2019-12-03").unwrap().contains("older than 2020-08-27"));
        assert!(problem("2027-03-31.fennel").unwrap().contains("newer than 2026-10-28.endive"));
        let walked = include_str!("../../docs/stripe-versions.md");
        let last = walked.lines().filter_map(|line| line.strip_prefix("## 2")).next_back().unwrap();
        assert_eq!(format!("2{last}"), NEWEST_VERSION, "the changes of this version were checked line by line");
    }
}
