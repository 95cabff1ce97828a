//! Idempotency keys: the saved answers of writes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::routes::Answer;
use super::server::Served;
use super::subscriptions::DAY;

/// The first request with a key.
struct Entry {
    at: i64,
    path: String,
    params: Value,
    request_id: String,
    /// `None` while the request is running.
    answer: Option<Answer>,
}

/// The requests by account and key.
#[derive(Default)]
pub(crate) struct Saved(BTreeMap<(String, String), Entry>);

/// What a key means for a request.
pub(crate) enum LookUp {
    /// The request is the first with its key, or has none.
    Execute,
    Replay {
        answer: Answer,
        original: String,
    },
    Refuse(Answer),
}

/// A request with a key, in one account.
#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) account: String,
    pub(crate) key: String,
    pub(crate) path: String,
    pub(crate) params: Value,
    pub(crate) request_id: String,
    pub(crate) now: i64,
}

impl Attempt {
    /// `None` without a key, and for requests with another method: keys have an effect on POSTs only.
    pub(crate) fn new(served: &Served, account: &str, params: &Value, now: i64) -> Option<Self> {
        let key = served.idempotency_key.clone().filter(|_| served.method == "POST")?;
        let account = served.account.as_deref().unwrap_or(account).to_owned();
        let (path, request_id) = (served.path.clone(), served.request_id.clone());
        Some(Self { account, key, path, params: params.clone(), request_id, now })
    }

    fn name(&self) -> (String, String) {
        (self.account.clone(), self.key.clone())
    }
}

impl Saved {
    pub(crate) fn look_up(&mut self, attempt: &Attempt) -> LookUp {
        self.0.retain(|_, entry| attempt.now - entry.at < DAY);
        let Some(first) = self.0.get(&attempt.name()) else { return LookUp::Execute };
        if first.path != attempt.path {
            return LookUp::Refuse(Answer::other_endpoint(&attempt.key, &first.path, &attempt.path));
        }
        if first.params != attempt.params {
            return LookUp::Refuse(Answer::other_parameters(&attempt.key));
        }
        match &first.answer {
            Some(answer) => LookUp::Replay { answer: answer.clone(), original: first.request_id.clone() },
            None => LookUp::Refuse(Answer::key_in_use(&attempt.key)),
        }
    }

    /// Saves the answer, or with `None` that the request is running.
    pub(crate) fn save(&mut self, attempt: &Attempt, answer: Option<Answer>) {
        let Attempt { path, params, request_id, now, .. } = attempt.clone();
        self.0.insert(attempt.name(), Entry { at: now, path, params, request_id, answer });
    }

    pub(crate) fn remove(&mut self, attempt: &Attempt) {
        self.0.remove(&attempt.name());
    }
}
