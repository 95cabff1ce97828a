//! Faults of the fake that tests request, and the record of served requests.

use std::sync::Arc;

use tokio::sync::watch;

use super::FakeStripe;
use super::idempotency::Saved;
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
    /// The request is executed, then the connection is closed.
    CloseAfterEffect,
    /// The request is executed, but no answer ever comes.
    HangAfterEffect,
    /// The request is executed and its answer saved, but a proxy answers 500 with an HTML page.
    ServerErrorAfterEffect,
    /// The request stays in progress until [`FakeStripe::finish_running`], even if the client disconnects.
    StillRunning,
    /// 500 of Stripe, without the effect; saved under the idempotency key.
    ApiError,
    /// 500 of Stripe after the effect; saved under the idempotency key.
    ApiErrorAfterEffect,
    /// 402 because of insufficient funds; saved.
    CardDeclined,
    /// Another request holds the lock of the object; not saved. Stripe documents the status 429.
    LockTimeout { status: u16 },
    /// 400 of any code; saved unless the code is about a parameter.
    BadRequest { code: &'static str },
}

/// Used instead of a permission if the key has no access to the account.
pub(crate) const NO_ACCESS: &str = "";

/// A fault for coming requests.
struct Armed {
    /// `None`: requests with any method.
    method: Option<&'static str>,
    prefix: String,
    left: usize,
    fault: Fault,
}

/// An executed write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) idempotency_key: Option<String>,
}

/// A permission that the keys do not have.
struct Forbidden {
    path: String,
    /// As Stripe's answer names it.
    permission: &'static str,
    is_for_writes: bool,
}

type Hook = Arc<dyn Fn(&Served) + Send + Sync>;

/// Receives requests: the faults requested for them, and the record of requests.
#[derive(Default)]
pub(crate) struct Control {
    armed: Vec<Armed>,
    forbidden: Vec<Forbidden>,
    hook: Option<Hook>,
    pub(crate) stale_seconds: i64,
    pub(crate) served: Vec<Served>,
    pub(crate) connections: usize,
    pub(crate) open: usize,
    pub(crate) is_write_key_foreign: bool,
    pub(crate) saved: Saved,
    /// Signals the end of requests in progress.
    pub(crate) finished: watch::Sender<()>,
    effects: Vec<Effect>,
    stray_writes: usize,
}

impl Control {
    /// Records a request, and numbers it. Returns the action before its answer, and its fault.
    pub(crate) fn receive(&mut self, request: &mut Served) -> (Option<Hook>, Option<Fault>) {
        request.request_id = format!("req_{}", self.served.len() + 1);
        self.served.push(request.clone());
        let matches = |armed: &&mut Armed| {
            let is_method = armed.method.is_none_or(|method| request.method == method);
            armed.left > 0 && is_method && request.path.starts_with(&armed.prefix)
        };
        let armed = self.armed.iter_mut().find(matches);
        let fault = armed.map(|armed| {
            armed.left -= 1;
            armed.fault
        });
        (self.hook.clone(), fault)
    }

    /// Records the execution of a write, in our account or in the other one.
    pub(crate) fn record_effect(&mut self, request: &Served, is_elsewhere: bool) {
        if is_elsewhere {
            self.stray_writes += 1;
            return;
        }
        let (method, path) = (request.method.clone(), request.path.clone());
        self.effects.push(Effect { method, path, idempotency_key: request.idempotency_key.clone() });
    }

    pub(crate) fn forbid_writes(&mut self, paths: &[&str], permission: &'static str) {
        self.forbid(paths, permission, true);
    }

    fn forbid(&mut self, paths: &[&str], permission: &'static str, is_for_writes: bool) {
        let forbidden = |path: &&str| Forbidden { path: (*path).to_owned(), permission, is_for_writes };
        self.forbidden.extend(paths.iter().map(forbidden));
    }

    /// The permission that a request needs and the key does not have.
    pub(crate) fn missing_permission(&self, request: &Served) -> Option<&'static str> {
        let expanded = |path: &str| {
            let object = path.trim_start_matches("/v1/").trim_end_matches('s');
            !object.is_empty()
                && request
                    .query
                    .split('&')
                    .chain(request.body.split('&'))
                    .any(|pair| pair.starts_with("expand") && pair.contains(object))
        };
        let needs = |Forbidden { path, is_for_writes, .. }: &&Forbidden| {
            let is_there = request.path == *path || request.path.starts_with(&format!("{path}/"));
            if *is_for_writes { is_there && request.is_write() } else { is_there || expanded(path) }
        };
        self.forbidden.iter().find(needs).map(|forbidden| forbidden.permission)
    }
}

impl FakeStripe {
    /// Makes the next `count` requests fail.
    pub(crate) fn fail_next(&self, count: usize, fault: Fault) {
        self.fail_next_under("/", count, fault);
    }

    /// Makes the next `count` requests fail whose path begins with `path`.
    pub(crate) fn fail_next_under(&self, prefix: &str, count: usize, fault: Fault) {
        self.arm(None, prefix, count, fault);
    }

    /// Makes the next `count` requests with this method fail whose path begins with `prefix`.
    pub(crate) fn fail_next_of(&self, method: &'static str, prefix: &str, count: usize, fault: Fault) {
        self.arm(Some(method), prefix, count, fault);
    }

    fn arm(&self, method: Option<&'static str>, prefix: &str, count: usize, fault: Fault) {
        self.control().armed.push(Armed { method, prefix: prefix.to_owned(), left: count, fault });
    }

    /// Executes and answers the requests in progress, see [`Fault::StillRunning`].
    pub(crate) fn finish_running(&self) {
        self.control().finished.send_replace(());
    }

    /// Removes a permission from the key: requests below these paths get 403, and so do requests that would expand such
    /// an object.
    pub(crate) fn forbid(&self, paths: &[&str], permission: &'static str) {
        self.control().forbid(paths, permission, false);
    }

    /// Removes the key's access to its account: every request gets 403.
    pub(crate) fn refuse_account(&self) {
        self.control().forbid(&["/v1"], NO_ACCESS, false);
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

    /// The writes among the requests so far, whatever their answers.
    pub(crate) fn writes(&self) -> Vec<Served> {
        self.served().into_iter().filter(Served::is_write).collect()
    }

    /// The executed writes of our account, in order. A replayed or refused request is not among them.
    pub(crate) fn effects(&self) -> Vec<Effect> {
        self.control().effects.clone()
    }

    /// The executed writes with an idempotency key.
    pub(crate) fn effects_of(&self, key: &str) -> Vec<Effect> {
        self.effects().into_iter().filter(|effect| effect.idempotency_key.as_deref() == Some(key)).collect()
    }

    /// Number of writes that were executed in the account of another owner.
    pub(crate) fn stray_writes(&self) -> usize {
        self.control().stray_writes
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
