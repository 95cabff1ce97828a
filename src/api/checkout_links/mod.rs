//! Checkout links: the route, names and bodies of the public page "Create a checkout link", over payment links in Stripe.
//!
//! A dialect is routes, names and rendering only. It reads through [`super::rows`] and changes through [`super::changes`].

mod documented;
mod link;
mod render;
mod schema;
mod wanted;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use self::documented::{LINKS, document};
use super::context::Shared;

/// The routes with their documentation, without the prefix.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(link::create))
}
