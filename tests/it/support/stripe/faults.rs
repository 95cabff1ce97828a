//! Faults of the fake that tests request, and the record of served requests.

use std::sync::Arc;

use super::FakeStripe;
use super::server::Served;

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 429, with or without a `Retry-After` in seconds.
    TooManyRequests { retry_after: Option<u64> },
    /// 500 with an HTML page, as from a proxy in front of Stripe.
    ServerError,
    /// No answer ever comes.
    Hang,
    /// The connection is closed instead of an answer.
    Close,
    /// 404 for any request.
    NotFound,
    /// The stub of a deleted object for any request.
    DeletedStub,
    /// An empty page with `has_more`.
    EmptyPage,
    /// A page that contains every object twice.
    DoubledPage,
}

/// Used instead of a permission if the key has no access to the account.
pub(crate) const NO_ACCESS: &str = "";

/// A fault for coming requests.
struct Armed {
    prefix: String,
    left: usize,
    fault: Fault,
}

type Hook = Arc<dyn Fn(&Served) + Send + Sync>;

/// Receives requests: the faults requested for them, and the record of requests.
#[derive(Default)]
pub(crate) struct Control {
    armed: Vec<Armed>,
    /// Path prefixes that the key may not read, each with the permission that Stripe's answer names.
    forbidden: Vec<(String, &'static str)>,
    hook: Option<Hook>,
    pub(crate) stale_seconds: i64,
    pub(crate) served: Vec<Served>,
    pub(crate) connections: usize,
    pub(crate) open: usize,
}

impl Control {
    /// Records a request. Returns the action before its answer, and its fault.
    pub(crate) fn receive(&mut self, request: &Served) -> (Option<Hook>, Option<Fault>) {
        self.served.push(request.clone());
        let armed = self.armed.iter_mut().find(|armed| armed.left > 0 && request.path.starts_with(&armed.prefix));
        let fault = armed.map(|armed| {
            armed.left -= 1;
            armed.fault
        });
        (self.hook.clone(), fault)
    }
}

impl Control {
    /// The permission that a request needs and the key does not have.
    pub(crate) fn missing_permission(&self, request: &Served) -> Option<&'static str> {
        let expanded = |path: &str| {
            let object = path.trim_start_matches("/v1/").trim_end_matches('s');
            !object.is_empty()
                && request.query.split('&').any(|pair| pair.starts_with("expand") && pair.contains(object))
        };
        let needs = |(path, _): &&(String, &str)| {
            let is_there = request.path == *path || request.path.starts_with(&format!("{path}/"));
            is_there || expanded(path)
        };
        self.forbidden.iter().find(needs).map(|(_, permission)| *permission)
    }
}

impl FakeStripe {
    /// Makes the next `count` requests fail.
    pub(crate) fn fail_next(&self, count: usize, fault: Fault) {
        self.fail_next_under("/", count, fault);
    }

    /// Makes the next `count` requests fail whose path begins with `path`.
    pub(crate) fn fail_next_under(&self, prefix: &str, count: usize, fault: Fault) {
        self.control().armed.push(Armed { prefix: prefix.to_owned(), left: count, fault });
    }

    /// Removes a permission from the key: requests below these paths get 403, and so do requests that would expand such
    /// an object.
    pub(crate) fn forbid(&self, paths: &[&str], permission: &'static str) {
        self.control().forbidden.extend(paths.iter().map(|path| ((*path).to_owned(), permission)));
    }

    /// Removes the key's access to its account: every request gets 403.
    pub(crate) fn refuse_account(&self) {
        self.control().forbidden.push(("/v1".to_owned(), NO_ACCESS));
    }

    /// Gives the key all permissions.
    pub(crate) fn permit_all(&self) {
        self.control().forbidden.clear();
    }

    /// Removes all faults and makes reads fresh again.
    pub(crate) fn recover(&self) {
        let mut control = self.control();
        control.armed.clear();
        control.stale_seconds = 0;
    }

    /// Makes reads return the state of this many seconds ago.
    pub(crate) fn serve_stale(&self, seconds: i64) {
        self.control().stale_seconds = seconds;
    }

    /// Calls this function before each answer, for changes *during* a read.
    pub(crate) fn on_request(&self, hook: impl Fn(&Served) + Send + Sync + 'static) {
        self.control().hook = Some(Arc::new(hook));
    }

    /// The requests so far, in order of arrival.
    pub(crate) fn served(&self) -> Vec<Served> {
        self.control().served.clone()
    }

    /// Number of open connections.
    pub(crate) fn open_connections(&self) -> usize {
        self.control().open
    }

    /// Number of connections ever opened.
    pub(crate) fn connections(&self) -> usize {
        self.control().connections
    }
}
