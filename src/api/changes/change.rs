//! A request that changes an object at Stripe: from its line in the ledger to its answer.
//!
//! ```text
//! key known? ──answered──▶ the stored answer
//!     │    └───not yet───▶ continue its line ─┐
//!     └─no─▶ key and line, one commit ────────┴─▶ writer ──▶ the answer, stored in the commit of the change
//! ```
//!
//! The key, the line and the request's own rows are committed before Stripe is asked. The answer is stored with the
//! change, once. A request that changed nothing leaves no key, so the client may repeat it. Of a change in two steps, the
//! answer is that of the second one.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::api::answer::Answer;
use crate::api::context::ApiContext;
use crate::api::idempotency::{self, Earlier, KeyedRequest};
use crate::api::problem::{Code, Problem, stripe};
use crate::api::rows::{self, NewCheckoutLink};
use crate::client::{Urgency, WriteError};
use crate::database::Connection;
use crate::ledger::read::Progress;
use crate::writes::{self, Completed, NewWrite, OnFailure, Render, SendError, Then, Writer};

/// How long a request waits for another one of the same key or target.
const WAIT: Duration = Duration::from_secs(2);
/// Interval of the looks while it waits.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Reads the answer after the change, in its transaction, by the id of the changed object.
pub(crate) type Read = Arc<
    dyn for<'c> Fn(&'c mut Connection, String) -> Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send + 'c>>
        + Send
        + Sync,
>;

/// A change to make for a request.
pub(super) struct Change<'a> {
    pub(super) writer: &'a Arc<Writer>,
    pub(super) new: NewWrite<'a>,
    pub(super) with: With<'a>,
    pub(super) rendering: Rendering,
}

/// What else the transaction does that begins the line. A repetition of the request does not do it again.
pub(super) enum With<'a> {
    /// Nothing.
    Nothing,
    /// Compares the client's copy of the object with the answer that it would get now. No other change of the target is in
    /// progress.
    Copy(&'a HeaderMap),
    /// Writes the row of a checkout link.
    Link(&'a NewCheckoutLink<'a>),
    /// Refuses a new request.
    Refusal(Problem),
}

/// How the answer is made and stored.
#[derive(Clone)]
pub(super) struct Rendering {
    pub(super) read: Read,
    pub(super) request: Option<KeyedRequest>,
    /// The field of the answer that shows the client secret of a new object.
    pub(super) secret_field: Option<&'static str>,
}

impl Rendering {
    /// Reads and stores the answer; if one is stored already, returns that.
    pub(super) async fn answer(&self, conn: &mut Connection, object_id: String) -> Result<Answer, Problem> {
        let answer = (self.read)(conn, object_id).await?;
        Ok(match &self.request {
            Some(request) => idempotency::finish(conn, request, answer).await?,
            None => answer,
        })
    }

    /// The same for the transaction of the change.
    pub(super) fn of_change(&self) -> Render<Result<Answer, Problem>> {
        let rendering = self.clone();
        Box::new(move |conn, completed: &Completed| {
            let (rendering, completed) = (rendering.clone(), completed.clone());
            Box::pin(async move {
                let answer = rendering.answer(conn, completed.object_id).await;
                let secret = rendering.secret_field.zip(completed.client_secret);
                match answer {
                    // a failed transaction cannot complete the change
                    Err(problem) if problem.is_of_database() => Err(problem.into_failure()),
                    answer => Ok(answer.map(|answer| answer.with_secret(secret))),
                }
            })
        })
    }
}

/// Where a request continues.
enum Start {
    /// A new line was begun.
    Begun,
    /// The request was answered before.
    Answered(Box<Answer>, Option<Uuid>),
    /// The request was received before, and its line is not complete, or its answer was not stored.
    Continued(Uuid),
}

impl Change<'_> {
    /// Makes the change and returns its answer.
    pub(super) async fn make(self, api: &ApiContext) -> Result<Answer, Problem> {
        match self.start(api).await? {
            Start::Begun => self.run(api, self.new.id).await.map_err(Problem::after_begin),
            Start::Continued(line) => self.continue_line(api, line).await.map_err(Problem::after_begin),
            Start::Answered(answer, Some(line)) if self.rendering.secret_field.is_some() => {
                self.with_secret(*answer, line).await
            }
            Start::Answered(answer, _) => Ok(*answer),
        }
    }

    /// Whether a second change follows at once, and is what the client waits for.
    fn has_second_step(&self) -> bool {
        self.new.then == Then::Deactivate
    }

    /// Stores the key and begins the line, once no other line of the target is open.
    async fn start(&self, api: &ApiContext) -> Result<Start, Problem> {
        let deadline = Instant::now() + WAIT;
        loop {
            let mut tx = api.begin().await?;
            if let Some(request) = &self.rendering.request {
                match idempotency::begin(&mut tx, request, Some(self.new.id)).await? {
                    Earlier::None => {}
                    Earlier::Answered(answer, line) => return Ok(Start::Answered(Box::new(answer), line)),
                    Earlier::Unanswered(line) => {
                        // it holds the key, which the answer needs
                        tx.rollback().await?;
                        return Ok(Start::Continued(line));
                    }
                }
            }
            if writes::begin(&mut tx, &self.new).await? {
                self.begin_with(&mut tx).await?;
                tx.commit().await?;
                return Ok(Start::Begun);
            }
            // the key must not be stored without a line
            tx.rollback().await?;
            if Instant::now() >= deadline {
                let detail = "another change of the same customer or workspace is in progress; repeat the request";
                return Err(Problem::new(Code::WriteInProgress, detail).retry_after(WAIT));
            }
            sleep(LOOK).await;
        }
    }

    async fn begin_with(&self, conn: &mut Connection) -> Result<(), Problem> {
        match &self.with {
            With::Nothing => Ok(()),
            With::Copy(headers) => (self.rendering.read)(conn, String::new()).await?.check_if_match(headers),
            With::Link(row) => Ok(rows::create_link(conn, row).await?),
            With::Refusal(problem) => Err(problem.clone()),
        }
    }

    /// Continues the line of an earlier request with the same key.
    async fn continue_line(&self, api: &ApiContext, line: Uuid) -> Result<Answer, Problem> {
        let deadline = Instant::now() + WAIT;
        loop {
            match self.writer.progress(line).await? {
                Some(Progress::Done { .. }) if self.has_second_step() => {
                    return self.follow(api, line).await.map(Answer::into_replayed);
                }
                Some(Progress::Done { object_id }) => {
                    return self.answer(api, line, object_id.unwrap_or_default()).await;
                }
                Some(Progress::Open { is_leased: false, is_too_early: true }) => return Err(Problem::outcome_unknown()),
                Some(Progress::Open { is_leased: false, .. }) => {
                    return self.run(api, line).await.map(Answer::into_replayed);
                }
                Some(Progress::Open { .. }) if Instant::now() < deadline => sleep(LOOK).await,
                Some(Progress::Open { .. }) => return Err(idempotency::still_running()),
                Some(Progress::Unknown) => return Err(stripe::of_send(SendError::Unknown)),
                // its process ended before it could forget the key
                Some(Progress::Refused) | None => {
                    self.forget_key(api, line).await?;
                    let detail = "the first request with this key was refused; nothing was changed, so repeat it";
                    return Err(Problem::new(Code::StripeUnavailable, detail).retry_after(Duration::from_secs(1)));
                }
            }
        }
    }

    /// Sends the line, and stores the answer in the transaction of the change.
    async fn run(&self, api: &ApiContext, line: Uuid) -> Result<Answer, Problem> {
        let sent = if self.has_second_step() {
            let first = self.writer.run(line, OnFailure::Refuse, Urgency::Interactive, Completed::nothing());
            first.await.map(|()| None)
        } else {
            let only = self.writer.run(line, OnFailure::Refuse, Urgency::Interactive, self.rendering.of_change());
            only.await.map(Some)
        };
        match sent {
            Ok(Some(answer)) => answer,
            Ok(None) => self.follow(api, line).await,
            // its event has arrived meanwhile, or recovery was faster
            Err(SendError::Busy) => Box::pin(self.continue_line(api, line)).await,
            Err(error) => {
                if changed_nothing(&error) && matches!(self.writer.progress(line).await?, Some(Progress::Refused)) {
                    self.forget_key(api, line).await?;
                }
                Err(stripe::of_send(error))
            }
        }
    }

    /// Sends the line that follows, and stores the answer in its transaction. It is tried until Stripe accepts it, because
    /// the first step is made.
    async fn follow(&self, api: &ApiContext, line: Uuid) -> Result<Answer, Problem> {
        let Some(next) = self.writer.following(line).await? else { return Err(Problem::outcome_unknown()) };
        let deadline = Instant::now() + WAIT;
        loop {
            match self.writer.run(next, OnFailure::Keep, Urgency::Interactive, self.rendering.of_change()).await {
                Ok(answer) => return answer,
                Err(SendError::Busy) => {}
                Err(SendError::Database(error)) => return Err(error.into()),
                Err(_) => return Err(self.unfinished(next).await?),
            }
            match self.writer.progress(next).await? {
                Some(Progress::Done { object_id }) => {
                    return self.answer(api, next, object_id.unwrap_or_default()).await;
                }
                Some(Progress::Open { .. }) if Instant::now() < deadline => sleep(LOOK).await,
                _ => return Err(self.unfinished(next).await?),
            }
        }
    }

    /// The problem of a second step that is not made.
    async fn unfinished(&self, next: Uuid) -> Result<Problem, Problem> {
        Ok(match self.writer.progress(next).await? {
            Some(Progress::Refused) => {
                let detail = "Stripe made the first of two changes and refused the second, so the new object is active; \
                              the operator finds the error in the log";
                Problem::new(Code::StripeRejected, detail)
            }
            _ => Problem::outcome_unknown(),
        })
    }

    /// The answer to a line that was completed without one.
    async fn answer(&self, api: &ApiContext, line: Uuid, object_id: String) -> Result<Answer, Problem> {
        let mut tx = api.begin().await?;
        let answer = self.rendering.answer(&mut tx, object_id).await?;
        tx.commit().await?;
        self.with_secret(answer.into_replayed(), line).await
    }

    /// Adds the client secret, which only Stripe keeps.
    async fn with_secret(&self, answer: Answer, line: Uuid) -> Result<Answer, Problem> {
        let Some(field) = self.rendering.secret_field else { return Ok(answer) };
        let secret = self.writer.client_secret(line).await.map_err(stripe::of_send)?;
        Ok(answer.with_secret(secret.map(|secret| (field, secret))))
    }

    async fn forget_key(&self, api: &ApiContext, line: Uuid) -> Result<(), Problem> {
        let Some(request) = &self.rendering.request else { return Ok(()) };
        let mut tx = api.begin().await?;
        idempotency::forget_unanswered(&mut tx, request, line).await?;
        Ok(tx.commit().await?)
    }
}

/// Whether Stripe has surely not made the change.
fn changed_nothing(error: &SendError) -> bool {
    match error {
        SendError::Stripe(error) => !matches!(error, WriteError::Unknown { .. }),
        SendError::Key(_) => true,
        _ => false,
    }
}
