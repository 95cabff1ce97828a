//! The programs of `examples/`, which products copy, against a real database and with the role of a product.
//!
//! The laws are in `laws` (for every example) and `retries` (for programs). The Rust example and the statements of the
//! SQL example run in this process. The others need Python, Node.js and psql, so `make test-examples` installs their
//! packages into `target/examples` and runs these tests.

mod example;
mod laws;
mod page;
mod product;
mod proxy;
mod retries;
mod trap;

/// The Rust example.
#[path = "../../../examples/rust/consume.rs"]
#[expect(dead_code, reason = "its main function reads the arguments of the program")]
mod rust_consume;

/// Tests of one example, one for each law of a file, with an attribute or none.
macro_rules! tests {
    ($example:ident $attribute:tt $file:ident: $($law:ident)+) => {
        $(tests!(@ $example $attribute $file $law);)+
    };
    (@ $example:ident [$($attribute:meta)?] $file:ident $law:ident) => {
        #[tokio::test]
        $(#[$attribute])?
        async fn $law() {
            super::$file::$law(super::example::Example::$example).await;
        }
    };
}

macro_rules! laws {
    ($example:ident $attribute:tt) => {
        tests!($example $attribute laws:
            a_document_and_its_words_are_committed_together
            a_refusal_stores_nothing_and_is_not_repeated
            a_repeated_document_is_stored_and_counted_once
            each_refusal_is_reported_by_its_code
        );
    };
}

/// For a program, which repeats a failed transaction.
macro_rules! programs {
    ($example:ident $attribute:tt) => {
        laws!($example $attribute);
        tests!($example $attribute retries:
            a_deadlock_is_repeated
            a_lost_answer_to_the_commit_counts_once
            a_serialization_failure_is_repeated
            a_session_that_the_server_ends_is_repeated
            other_errors_are_not_repeated
            the_attempts_are_bounded
            unlimited_words_are_reported_as_such
        );
    };
}

mod rust {
    programs!(Rust []);
}

mod python {
    programs!(Python[ignore = "needs Python: make test-examples"]);
}

mod node {
    programs!(Node[ignore = "needs Node.js: make test-examples"]);
}

// psql repeats nothing: its user runs the file again
mod sql {
    laws!(Sql []);
}

mod psql {
    laws!(Psql[ignore = "needs psql: make test-examples"]);
}
