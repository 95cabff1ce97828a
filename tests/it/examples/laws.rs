//! What every example promises: the document and its words are stored together or not at all, and each refusal is
//! reported by its SQLSTATE.

use uuid::Uuid;

use super::example::Example;
use super::product::{Product, WORKSPACE};
use crate::limits::rows::NEW;

pub(crate) async fn a_document_and_its_words_are_committed_together(example: Example) {
    let product = Product::with("words 100").await;
    let document = Uuid::new_v4();
    let outcome = example.store(&product, 25, document).await;
    assert!(outcome.is_success && outcome.printed.contains("75"), "{outcome:?}");
    assert_eq!(product.documents().await, [(document, 25)]);
    assert_eq!(product.used().await, 25);
    product.finish().await;
}

pub(crate) async fn a_refusal_stores_nothing_and_is_not_repeated(example: Example) {
    let mut product = Product::with("words 100").await;
    product.disturb(0, "NULL").await;
    let outcome = example.store(&product, 101, Uuid::new_v4()).await;
    assert!(!outcome.is_success, "{outcome:?}");
    assert!(outcome.printed.contains("LM001") && outcome.printed.contains("100"), "what is left: {outcome:?}");
    assert_eq!(product.documents().await, []);
    assert_eq!((product.used().await, product.attempts().await), (0, 1));
    product.finish().await;
}

pub(crate) async fn each_refusal_is_reported_by_its_code(example: Example) {
    let product = Product::with("images 5").await;
    let [unpaid, unlimited, unknown, none] = [1, 2, 3, 4].map(Uuid::from_u128);
    for (workspace, limits) in [(unpaid, "words 100"), (unlimited, "words unlimited"), (unknown, "images 5")] {
        let sub = format!("sub of {workspace}");
        product.rows.subscribe(&sub, "other", limits, NEW).await;
        product
            .rows
            .execute(&format!(
                "UPDATE billing.subscriptions SET workspace_id = '{workspace}' WHERE stripe_subscription_id = '{sub}'"
            ))
            .await;
    }
    product.rows.becomes(&format!("sub of {unpaid}"), "unpaid").await;
    // its price has not been read from Stripe yet
    product
        .rows
        .execute(&format!(
            "DELETE FROM billing.plan_limits WHERE pricing_plan_id = md5('plan sub of {unknown}')::uuid;
            DELETE FROM billing.pricing_plans WHERE id = md5('plan sub of {unknown}')::uuid"
        ))
        .await;
    for (workspace, words, code, detail) in [
        (unpaid, 1, "LM002", "unpaid"),
        (none, 1, "LM003", ""),
        (WORKSPACE, 1, "LM004", ""),
        (unlimited, 1_000_000_000_000_000_001, "LM007", ""),
        (unknown, 1, "LM008", ""),
    ] {
        let outcome = example.store_for(&product, workspace, words, Uuid::new_v4()).await;
        assert!(!outcome.is_success && outcome.printed.contains(code), "{code}: {outcome:?}");
        assert!(outcome.printed.contains(detail), "{code}: {outcome:?}");
    }
    assert_eq!(product.documents().await, []);
    product.finish().await;
}

pub(crate) async fn a_repeated_document_is_stored_and_counted_once(example: Example) {
    let product = Product::with("words 100").await;
    let document = Uuid::new_v4();
    for _ in 0..2 {
        let outcome = example.store(&product, 25, document).await;
        assert!(outcome.is_success && outcome.printed.contains("75"), "{outcome:?}");
    }
    let other = example.store(&product, 30, document).await;
    assert!(!other.is_success && other.printed.contains("LM005"), "the same id with other words: {other:?}");
    assert_eq!(product.documents().await, [(document, 25)]);
    assert_eq!(product.used().await, 25);
    product.finish().await;
}
