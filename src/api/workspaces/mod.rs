//! The workspace API: the routes, names and bodies of its public pages.
//!
//! A dialect is routes, names and rendering only. It reads and writes through [`super::rows`].

mod billing;
mod checkout;
mod documented;
mod history;
mod limits;
mod render;
mod schema;
mod state;
mod timestamp;
mod workspace;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use self::documented::document;
use super::context::Shared;

/// The routes with their documentation, without the prefix.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(workspace::list, workspace::create))
        .routes(routes!(workspace::get, workspace::update, workspace::delete))
        .routes(routes!(billing::contact, billing::update))
        .routes(routes!(checkout::create))
        .routes(routes!(checkout::get))
        .routes(routes!(state::get))
        .routes(routes!(limits::list))
        .routes(routes!(limits::consume))
        .routes(routes!(limits::release))
        .routes(routes!(history::list))
}
