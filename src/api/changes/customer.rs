//! Creates the customer of a new workspace, in the request that creates the workspace.
//!
//! The workspace does not wait for Stripe: if the customer does not exist in time, the answer has no billing contact, and
//! recovery creates the customer.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::change::{LOOK, Read, Rendering};
use crate::api::answer::Answer;
use crate::api::context::ApiContext;
use crate::api::idempotency::{self, Earlier, KeyedRequest};
use crate::api::principal::Principal;
use crate::api::problem::Problem;
use crate::client::{Urgency, Write};
use crate::database::Connection;
use crate::ledger::read::Progress;
use crate::writes::{self, MARK, NewWrite, OnFailure, SendError, Then};

/// How long the answer waits for Stripe.
const WAIT: Duration = Duration::from_secs(5);

/// A workspace that is created with its customer.
pub(crate) struct NewCustomer<'a> {
    pub(crate) workspace: Uuid,
    pub(crate) principal: &'a Principal,
    pub(crate) request: Option<KeyedRequest>,
    /// Reads the answer for a workspace.
    pub(crate) read: &'a (dyn Fn(Uuid) -> Read + Sync),
}

/// Runs `effect`, which creates the workspace, and creates its customer if there is a key for writes.
pub(crate) async fn create_customer(
    api: &ApiContext,
    new: NewCustomer<'_>,
    effect: impl AsyncFnOnce(&mut Connection) -> Result<(), Problem>,
) -> Result<Answer, Problem> {
    let line = api.writer.as_ref().map(|_| Uuid::new_v4());
    let rendering =
        |workspace| Rendering { read: (new.read)(workspace), request: new.request.clone(), secret_field: None };
    let mut tx = api.begin().await?;
    if let Some(request) = &new.request {
        match idempotency::begin(&mut tx, request, line).await? {
            Earlier::None => {}
            Earlier::Answered(answer, _) => return Ok(answer),
            Earlier::Unanswered(line) => {
                // it holds the key, which the answer needs
                tx.rollback().await?;
                return continue_request(api, line, rendering).await;
            }
        }
    }
    effect(&mut tx).await?;
    let rendering = rendering(new.workspace);
    let Some(line) = line else {
        let answer = rendering.answer(&mut tx, String::new()).await?;
        tx.commit().await?;
        return Ok(answer);
    };
    begin(&mut tx, line, &new).await?;
    tx.commit().await?;
    wait(api, line, &rendering).await.map_err(Problem::after_begin)
}

async fn begin(conn: &mut Connection, line: Uuid, new: &NewCustomer<'_>) -> Result<(), Problem> {
    let profile = &new.principal.profile;
    let write = Write::CreateCustomer {
        name: profile.name.clone(),
        email: profile.email.clone(),
        locale: profile.locale.clone(),
        metadata: vec![("workspace_id", new.workspace.to_string()), (MARK, line.to_string())],
    };
    let new = NewWrite {
        id: line,
        principal: &new.principal.id,
        account: "",
        workspace: Some(new.workspace),
        write: &write,
        then: Then::Nothing,
    };
    // the workspace is new, so nothing else is in progress for it
    writes::begin(conn, &new).await?;
    Ok(())
}

/// Answers a repetition of a request whose process ended before its answer; the workspace exists.
async fn continue_request(
    api: &ApiContext,
    line: Uuid,
    rendering: impl Fn(Uuid) -> Rendering,
) -> Result<Answer, Problem> {
    let workspace = api.writer()?.workspace(line).await?.ok_or_else(idempotency::still_running)?;
    let answer = wait(api, line, &rendering(workspace)).await.map_err(Problem::after_begin)?;
    Ok(answer.into_replayed())
}

/// Waits some seconds for the customer, and otherwise answers with the workspace as it is.
async fn wait(api: &ApiContext, line: Uuid, rendering: &Rendering) -> Result<Answer, Problem> {
    let writer = api.writer()?;
    let completed = async {
        loop {
            match writer.run(line, OnFailure::Keep, Urgency::Interactive, rendering.of_change()).await {
                Ok(answer) => return Some(answer),
                // another process sends it
                Err(SendError::Busy) if matches!(writer.progress(line).await, Ok(Some(Progress::Open { .. }))) => {
                    sleep(LOOK).await;
                }
                Err(_) => return None,
            }
        }
    };
    if let Ok(Some(answer)) = timeout(WAIT, completed).await {
        return answer;
    }
    let mut tx = api.begin().await?;
    let answer = rendering.answer(&mut tx, String::new()).await?;
    tx.commit().await?;
    Ok(answer)
}
