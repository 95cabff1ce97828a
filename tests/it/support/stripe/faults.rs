//! What goes wrong at the fake, as tests order it, and the book of what it served.

use std::sync::Arc;

use super::FakeStripe;
use super::server::Served;

/// How a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 429, with or without a `Retry-After` in seconds.
    TooManyRequests { retry_after: Option<u64> },
    /// 500 with a page of HTML, as a proxy in front of Stripe gives it.
    ServerError,
    /// No answer ever comes.
    Hang,
    /// The connection is closed instead of an answer.
    Close,
    /// 404, whatever is asked for.
    NotFound,
    /// The stub of a deleted object, whatever is asked for.
    DeletedStub,
    /// A page without anything that says that there is more.
    EmptyPage,
    /// A page on which everything stands twice.
    DoubledPage,
}

/// What stands for a permission where the account itself refuses the key.
pub(crate) const NO_ACCESS: &str = "";

/// A fault that waits for its requests.
struct Armed {
    prefix: String,
    left: usize,
    fault: Fault,
}

type Hook = Arc<dyn Fn(&Served) + Send + Sync>;

/// Where requests are received: what was ordered for them, and the book.
#[derive(Default)]
pub(crate) struct Desk {
    armed: Vec<Armed>,
    /// Paths whose first part the key may not read, each with the permission that Stripe's answer names.
    forbidden: Vec<(String, &'static str)>,
    hook: Option<Hook>,
    pub(crate) stale_seconds: i64,
    pub(crate) served: Vec<Served>,
    pub(crate) connections: usize,
    pub(crate) open: usize,
}

impl Desk {
    /// Enters a request into the book; what is to be done before its answer, and what goes wrong with it.
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

impl Desk {
    /// The permission that a request needs and the key lacks.
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
    /// The next `count` requests go wrong.
    pub(crate) fn fail_next(&self, count: usize, fault: Fault) {
        self.fail_next_under("/", count, fault);
    }

    /// The next `count` requests go wrong whose path begins so.
    pub(crate) fn fail_next_under(&self, prefix: &str, count: usize, fault: Fault) {
        self.desk().armed.push(Armed { prefix: prefix.to_owned(), left: count, fault });
    }

    /// The key lacks a permission from now on: all that stands under these paths is answered 403, and so is a request
    /// that would expand it.
    pub(crate) fn forbid(&self, paths: &[&str], permission: &'static str) {
        self.desk().forbidden.extend(paths.iter().map(|path| ((*path).to_owned(), permission)));
    }

    /// The key has no access to its account from now on, whatever it asks for.
    pub(crate) fn refuse_account(&self) {
        self.desk().forbidden.push(("/v1".to_owned(), NO_ACCESS));
    }

    /// The key has all permissions.
    pub(crate) fn permit_all(&self) {
        self.desk().forbidden.clear();
    }

    /// Everything is well again, and reads are fresh.
    pub(crate) fn recover(&self) {
        let mut desk = self.desk();
        desk.armed.clear();
        desk.stale_seconds = 0;
    }

    /// Reads give the state as it was this many seconds ago.
    pub(crate) fn serve_stale(&self, seconds: i64) {
        self.desk().stale_seconds = seconds;
    }

    /// Calls this before each answer: something that happens *during* a read.
    pub(crate) fn on_request(&self, hook: impl Fn(&Served) + Send + Sync + 'static) {
        self.desk().hook = Some(Arc::new(hook));
    }

    /// The requests so far, in the order of their arrival.
    pub(crate) fn served(&self) -> Vec<Served> {
        self.desk().served.clone()
    }

    /// How many connections are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.desk().open
    }

    /// How many connections there ever were.
    pub(crate) fn connections(&self) -> usize {
        self.desk().connections
    }
}
