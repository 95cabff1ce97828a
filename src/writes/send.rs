//! Sends one line: leases it, sends it or looks at Stripe, and records the outcome.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::complete::{self, Completed, Object, Render};
use super::key_guard::KeyError;
use super::writer::Writer;
use crate::base::retry::RetryPolicy;
use crate::client::{KeyedWrite, Urgency, Write, WriteError, WriteRequest};
use crate::database::without_values;
use crate::ledger::open::{self, Finish, Leased, Recorded};
use crate::ledger::read::{self, Progress};
use crate::ledger::stripe_key;
use crate::stripe::json::Document;
use crate::stripe::secrets::client_secret;
use crate::worker::failure::Failure;

/// Delays between attempts of one line.
const RETRY: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, initial: Duration::from_secs(2), max: Duration::from_mins(2) };

/// Why a change is not complete.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Another process sends it, or it is finished.
    #[error("the change is in progress, or finished")]
    Busy,
    /// Stripe refused it, or its outcome is unknown.
    #[error("{0}")]
    Stripe(WriteError),
    /// The key for writes may belong to another account; nothing was sent.
    #[error("{0}")]
    Key(String),
    /// Stripe made the change, and the answer could not be merged yet; recovery does it.
    #[error("{0}")]
    Merge(Failure),
    /// Stripe does not have its answer any more.
    #[error("stripe keeps an answer for 24 hours")]
    Expired,
    /// The database failed.
    #[error("{}", without_values(.0))]
    Database(#[from] sqlx::Error),
    /// It cannot be found out any more whether Stripe made the change.
    #[error("the outcome cannot be found out any more")]
    Unknown,
}

/// What to do with a line if nothing was changed, and the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Refuse it: the client gets an error, and may repeat its request.
    Refuse,
    /// Keep it: it is tried again until it succeeds.
    Keep,
}

/// The next step of a line.
enum Step {
    Send,
    LookUp,
}

/// A key that Stripe has forgotten, or under which it has saved an error, says nothing of the object.
fn next_step(line: &Leased) -> Step {
    if line.is_key_expired || line.is_error_saved { Step::LookUp } else { Step::Send }
}

impl Writer {
    /// The client secret of a session that was created, which is stored nowhere: Stripe repeats its answer for a day.
    ///
    /// # Errors
    /// [`SendError::Expired`] if Stripe does not have the answer any more.
    pub async fn client_secret(&self, id: Uuid) -> Result<Option<String>, SendError> {
        let request = read::sent_request(&mut self.context.pool.acquire().await?, id).await?;
        let request = request.ok_or(SendError::Expired)?;
        let key = stripe_key(id, request.key_number);
        let account = request.account;
        let request = WriteRequest::stored(&request.operation, request.path, request.form).ok_or(SendError::Expired)?;
        let write = KeyedWrite {
            account: &account,
            request: &request,
            key: &key,
            urgency: Urgency::Interactive,
            may_have_been_sent: true,
        };
        let answer = match self.client.write(write).await {
            Ok(answer) => answer,
            // the session exists, so Stripe repeats an error that it has saved
            Err(WriteError::Unknown { .. }) => return self.secret_of_session(id, &account).await,
            Err(error) => return Err(SendError::Stripe(error)),
        };
        Ok(client_secret(Document::parse_or_null(&answer.body).root()))
    }

    /// The client secret of a session, from a read.
    async fn secret_of_session(&self, id: Uuid, account: &str) -> Result<Option<String>, SendError> {
        let line = read::progress(&mut self.context.pool.acquire().await?, id).await?;
        let Some(Progress::Done { object_id: Some(session) }) = line else { return Err(SendError::Busy) };
        self.client
            .client_secret(account, &session)
            .await
            .map_err(|error| SendError::Stripe(WriteError::Unreachable { why: error.to_string() }))
    }

    /// Sends a line and completes it with `render`, in a task of its own: a client that hangs up does not end it.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        id: Uuid,
        on_failure: OnFailure,
        urgency: Urgency,
        render: Render<T>,
    ) -> Result<T, SendError> {
        let writer = Arc::clone(self);
        let task = self.running.spawn(async move { writer.send(id, on_failure, urgency, &render).await });
        task.await.unwrap_or_else(|_| Err(SendError::Merge(Failure::Retryable("the merge panicked".to_owned()))))
    }

    async fn send<T: Send>(
        &self,
        id: Uuid,
        on_failure: OnFailure,
        urgency: Urgency,
        render: &Render<T>,
    ) -> Result<T, SendError> {
        // before the lease, which would end while Stripe is slow to answer
        let key = self.key.check(&self.client, &self.context.pool).await;
        let line = open::lease(&mut self.context.pool.acquire().await?, id, self.lease).await?;
        let line = line.ok_or(SendError::Busy)?;
        let object = match key {
            Ok(()) => self.object_of(&line, urgency).await,
            Err(error) => Err(of_key(error, &line)),
        };
        let object = match object {
            Ok(object) => object,
            Err(error) => {
                self.record(&line, on_failure, &error).await?;
                return Err(error);
            }
        };
        let request_id = object.request_id.clone();
        match complete::complete(&self.context, &line, object, render).await {
            Ok(rendered) => {
                self.metrics.write(&line.operation, "done");
                tracing::info!(
                    write.id = %line.id,
                    write.operation = line.operation,
                    stripe.request_id = request_id,
                    "changed an object at Stripe"
                );
                Ok(rendered)
            }
            Err(failure) => {
                let error = SendError::Merge(failure);
                self.record(&line, on_failure, &error).await?;
                Err(error)
            }
        }
    }

    /// The object after the change: from Stripe's answer, or from a look.
    async fn object_of(&self, line: &Leased, urgency: Urgency) -> Result<Object, SendError> {
        match next_step(line) {
            Step::Send => self.send_once(line, urgency).await,
            Step::LookUp => self.look_up(line).await,
        }
    }

    async fn send_once(&self, line: &Leased, urgency: Urgency) -> Result<Object, SendError> {
        let request = WriteRequest::stored(&line.operation, line.path.clone(), line.form.clone());
        let Some(request) = request else { return Err(SendError::Unknown) };
        let key = stripe_key(line.id, line.key_number);
        let may_have_been_sent = line.may_have_been_sent;
        let write = KeyedWrite { account: &line.account, request: &request, key: &key, urgency, may_have_been_sent };
        match self.client.write(write).await {
            Ok(answer) => Ok(Object::of_answer(line, answer)),
            // a subscription that Stripe does not have any more has ended
            Err(WriteError::Refused { status: 404, request_id, .. })
                if request.operation == Write::CANCEL_SUBSCRIPTION =>
            {
                Ok(Object::without_content(line, request_id))
            }
            Err(error) => Err(SendError::Stripe(error)),
        }
    }

    /// Records why a line is not complete.
    async fn record(&self, line: &Leased, on_failure: OnFailure, error: &SendError) -> Result<(), SendError> {
        let mut recorded = Recorded { error: error.to_string(), ..Recorded::default() };
        if let SendError::Stripe(error) = error {
            (recorded.request_id, recorded.status) = (error.request_id().map(str::to_owned), error.status());
        }
        let mut delay = RETRY.unlimited(line.attempts.unsigned_abs(), fastrand::f64());
        let mut conn = self.context.pool.acquire().await?;
        let finish = match error {
            SendError::Stripe(WriteError::Refused { .. }) => Some(Finish::Refused),
            SendError::Unknown => Some(Finish::Unknown),
            SendError::Stripe(WriteError::Unknown { is_saved, .. }) => {
                recorded.is_saved = *is_saved;
                if *is_saved {
                    // a look sooner might not show the change yet
                    delay = delay.max(self.context.read_margin + Duration::from_secs(1));
                }
                None
            }
            SendError::Merge(_) => None,
            _ => {
                recorded.is_unsent = !line.may_have_been_sent;
                (on_failure == OnFailure::Refuse && recorded.is_unsent).then_some(Finish::Refused)
            }
        };
        log(line, error, finish);
        self.metrics.write(&line.operation, finish.map_or("retried", Finish::as_str));
        match finish {
            Some(finish) => open::finish(&mut conn, line, finish, None, &recorded).await?,
            None => open::put_back(&mut conn, line, delay, &recorded).await?,
        }
        Ok(())
    }
}

/// The error of a key that may not be used: this attempt sent nothing, an earlier one may have.
fn of_key(error: KeyError, line: &Leased) -> SendError {
    let unknown = |why| SendError::Stripe(WriteError::Unknown { why, is_saved: false, request_id: None });
    match error {
        KeyError::Database(error) => SendError::Database(error),
        KeyError::Refused(why) if line.may_have_been_sent => unknown(why),
        KeyError::Refused(why) => SendError::Key(why),
        KeyError::Unanswered(error) if line.may_have_been_sent => unknown(error.to_string()),
        KeyError::Unanswered(error) => SendError::Stripe(WriteError::Unreachable { why: error.to_string() }),
    }
}

fn log(line: &Leased, error: &SendError, finish: Option<Finish>) {
    let (id, operation) = (line.id, &line.operation);
    let request_id = if let SendError::Stripe(error) = error { error.request_id() } else { None };
    let wrong = match error {
        // an answer for the client: a declined card, or an object that does not exist
        SendError::Stripe(WriteError::Refused { status: 402 | 404, .. }) => false,
        SendError::Stripe(WriteError::Refused { .. } | WriteError::KeyRefused { .. })
        | SendError::Key(_)
        | SendError::Unknown => true,
        _ => false,
    };
    if wrong {
        tracing::error!(
            write.id = %id, write.operation = operation, stripe.request_id = request_id,
            %error, "a change at Stripe failed"
        );
    } else {
        let is_retried = finish.is_none();
        tracing::warn!(
            write.id = %id, write.operation = operation, stripe.request_id = request_id,
            %error, is_retried, "a change at Stripe is not complete"
        );
    }
}

impl Completed {
    /// A render that reads nothing.
    pub fn nothing() -> Render<()> {
        Box::new(|_, _| Box::pin(async { Ok(()) }))
    }
}
