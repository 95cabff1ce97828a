//! The description of the API in the OpenAPI format, made from the handlers, and the list of operations for the metrics.

use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa_axum::router::OpenApiRouter;

use super::{checkout_links, workspaces};
use crate::config::settings::API_WORKSPACES;
use crate::metrics::api::Operation;

/// Schemas with this end describe requests, in which fields may be absent.
const REQUESTS: [&str; 2] = ["Write", "Amount"];

/// The document of the workspace API at its default path.
pub fn workspaces() -> OpenApi {
    workspaces_at(API_WORKSPACES.default)
}

/// The document of the workspace API at a path.
pub(super) fn workspaces_at(prefix: &str) -> OpenApi {
    let routes = OpenApiRouter::with_openapi(workspaces::document(prefix)).merge(workspaces::routes());
    without_null_parameters(with_required_fields(routes.into_openapi()))
}

/// The document of checkout links without a prefix.
pub fn checkout_links() -> OpenApi {
    checkout_links_at("")
}

/// The document of checkout links at a path.
pub(super) fn checkout_links_at(prefix: &str) -> OpenApi {
    let routes = OpenApiRouter::with_openapi(checkout_links::document(prefix)).merge(checkout_links::routes());
    without_null_parameters(with_required_fields(routes.into_openapi()))
}

/// The operations of the API.
pub(super) fn operations() -> Vec<Operation> {
    let documents = [workspaces(), checkout_links()];
    let paths = documents.iter().flat_map(|document| &document.paths.paths).flat_map(|(route, item)| {
        let methods = [("GET", &item.get), ("PUT", &item.put), ("POST", &item.post), ("DELETE", &item.delete)];
        let methods = methods.into_iter().filter(|(_, operation)| operation.is_some());
        methods.map(|(method, _)| Operation { method: method.to_owned(), route: route.clone() })
    });
    paths.collect()
}

/// Marks every field of the answers as required: absent values are null, never left out.
fn with_required_fields(mut document: OpenApi) -> OpenApi {
    let Some(components) = &mut document.components else { return document };
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::Object(object)) = schema
            && !name.starts_with("Problem")
            && !REQUESTS.iter().any(|end| name.ends_with(end))
        {
            object.required = object.properties.keys().cloned().collect();
        }
    }
    document
}

/// Parameters are absent or have a value; utoipa allows null because they are optional.
fn without_null_parameters(mut document: OpenApi) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for parameter in
            operations.into_iter().flatten().flat_map(|operation| operation.parameters.iter_mut().flatten())
        {
            if let RefOr::T(parameter) = parameter
                && let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
                && let SchemaType::Array(types) = &mut object.schema_type
            {
                types.retain(|kind| *kind != Type::Null);
                if let [only] = types.as_slice() {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_known_to_the_metrics() {
        let operations = operations();
        assert_eq!(operations.len(), 15, "{operations:?}");
        let get = Operation { method: "GET".to_owned(), route: "/v1/workspaces/{workspaceId}".to_owned() };
        assert!(operations.contains(&get));
    }
}
