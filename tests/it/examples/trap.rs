//! The trap of psycopg that `examples/README.md` describes: a new version of psycopg may remove it, and then the page
//! must change.

use super::example::python;
use super::product::{Product, WORKSPACE};

#[tokio::test]
#[ignore = "needs Python: make test-examples"]
async fn a_select_before_the_transaction_of_psycopg_loses_the_write_without_an_error() {
    let product = Product::with("words 100").await;
    let outcome = python(&product, "savepoint_trap.py", &[&WORKSPACE.to_string()]).await;
    let lines: Vec<&str> = outcome.printed.lines().collect();
    let [wrong, right, noticed, last] = lines[..] else { panic!("{outcome:?}") };
    assert_eq!([wrong, right, last], ["wrong: not stored", "right: stored", "noticed: not stored"]);
    assert!(noticed.contains("would be a savepoint"), "{noticed}");
    assert!(outcome.is_success, "{outcome:?}");
    assert_eq!((product.documents().await.len(), product.used().await), (1, 1));
    product.finish().await;
}
