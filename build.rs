//! Compiles again when a migration is added: the macro that embeds them sees changed files, but no new ones.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
