//! Parts of the original that are not here. Their lists are empty and nothing is found in them, so that
//! clients which look everywhere find out quickly; what would make something says that it is not there yet.

use axum::{
    Json, Router,
    routing::{get, post},
};
use serde::Serialize;
use trainyard_api::{Code, Problem};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, HttpMethod, OpenApi, ResponseBuilder, ResponsesBuilder,
        path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    },
};

use super::documented::Refused;
use crate::{
    auth::User,
    problem::{Answer, Refusal},
    state::App,
};

/// A list without entries.
#[derive(Serialize, ToSchema)]
pub(crate) struct Nothing {
    /// Always empty.
    #[schema(value_type = Vec<Object>, max_items = 0)]
    resources: [(); 0],
}

/// Lists, and what one entry of each would be called.
const LISTS: [(&str, &str); 7] = [
    ("/v3/experiments", "experiment"),
    ("/v3/experiments/{id}/runs", "run"),
    ("/v3/wml_instances/{id}/deployments", "deployment"),
    ("/v3/wml_instances/{id}/published_models/{model}/deployments", "deployment"),
    ("/v3/functions", "function"),
    ("/v4/runtimes", "runtime"),
    ("/v4/libraries", "library"),
];

async fn nothing(_: User) -> Json<Nothing> {
    Json(Nothing { resources: [] })
}

async fn absent(_: User) -> Answer<Json<Nothing>> {
    Err(Refusal::new(Code::NotFound, "there is no such thing"))
}

async fn not_yet(_: User) -> Answer<Json<Nothing>> {
    let message = "experiments, deployments, functions, runtimes and libraries are not there yet";
    Err(Problem::new(Code::NotFound, message).hint("submit training runs by `POST /v3/models`").into())
}

/// The routes.
pub(crate) fn routes() -> Router<App> {
    LISTS.iter().fold(Router::new(), |router, (list, what)| {
        let others = get(absent).put(not_yet).patch(not_yet).delete(absent).post(not_yet);
        router.route(list, get(nothing).merge(post(not_yet))).route(&format!("{list}/{{{what}}}"), others)
    })
}

/// Adds them to the document.
pub(crate) fn document(document: &mut OpenApi) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    schemas.insert(Nothing::name().into_owned(), Nothing::schema());
    for (list, what) in LISTS {
        let one = format!("{list}/{{{what}}}");
        let get = || vec![HttpMethod::Get];
        document.paths.add_path_operation(
            list,
            get(),
            operation(list, &format!("List {what}s: none are here"), true),
        );
        document.paths.add_path_operation(
            &one,
            get(),
            operation(&one, &format!("No {what} is found"), false),
        );
    }
}

fn operation(path: &str, summary: &str, is_list: bool) -> Operation {
    let mut responses = ResponsesBuilder::new().responses_from_into_responses::<Refused>();
    if is_list {
        let schema = utoipa::openapi::Ref::from_schema_name(Nothing::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let found = ResponseBuilder::new().description("Nothing").content("application/json", content);
        responses = responses.response("200", found.build());
    }
    let id = path.replace(['/', '{', '}'], "_");
    let names = path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
    names
        .fold(
            OperationBuilder::new()
                .operation_id(Some(format!("elsewhere{id}")))
                .tag("elsewhere")
                .summary(Some(summary))
                .responses(responses.build()),
            |operation, name| {
                let text = utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String);
                let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path);
                operation
                    .parameter(parameter.required(utoipa::openapi::Required::True).schema(Some(text)).build())
            },
        )
        .build()
}
