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

impl FakeStripe {
    /// The next `count` requests go wrong.
    pub(crate) fn fail_next(&self, count: usize, fault: Fault) {
        self.fail_next_under("/", count, fault);
    }

    /// The next `count` requests go wrong whose path begins so.
    pub(crate) fn fail_next_under(&self, prefix: &str, count: usize, fault: Fault) {
        self.desk().armed.push(Armed { prefix: prefix.to_owned(), left: count, fault });
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
