//! The workspace API over HTTP. Tests that serve an endpoint of the public pages begin with its number: `a2_`, `b1_`.

mod compatible;
mod contract;
mod harness;
mod schema;
mod workspaces;
