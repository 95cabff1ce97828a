//! Checkout links: completes the row of a link with what its line created or changed at Stripe, or removes it.

use uuid::Uuid;

use crate::database::Connection;

/// Completes the row of a new link. Stripe creates every link enabled.
///
/// # Errors
/// Database errors.
pub async fn created(
    conn: &mut Connection,
    line: Uuid,
    payment_link: &str,
    url: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger.link_created
        UPDATE billing.checkout_links
        SET stripe_payment_link_id = $2, url = coalesce($3, url, ''), is_enabled = coalesce(is_enabled, true)
        WHERE id = $1",
        line,
        payment_link,
        url
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes the row of a link that Stripe did not create.
///
/// # Errors
/// Database errors.
pub async fn refused(conn: &mut Connection, line: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger.link_refused
        DELETE FROM billing.checkout_links WHERE id = $1 AND stripe_payment_link_id IS NULL",
        line
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a link was enabled or disabled.
///
/// # Errors
/// Database errors.
pub async fn enabled(
    conn: &mut Connection,
    account: &str,
    payment_link: &str,
    is_enabled: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "-- ledger.link_enabled
        UPDATE billing.checkout_links SET is_enabled = $3 WHERE account = $1 AND stripe_payment_link_id = $2",
        account,
        payment_link,
        is_enabled
    )
    .execute(conn)
    .await?;
    Ok(())
}
