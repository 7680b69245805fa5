//! What the OpenAPI document says of every route alike: who may call, and how refusals look.

use std::collections::BTreeMap;

use trainyard_api::ErrorBody;
use utoipa::{
    IntoResponses, Modify, OpenApi, PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

/// The document before its routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Trainyard",
        description = "Training runs on your own machines. The API of IBM Watson Machine Learning v3, \
                       as far as it concerned training runs; what Trainyard adds says so.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Security),
    components(schemas(ErrorBody)),
    tags(
        (name = "identity", description = "Tokens"),
        (name = "training runs", description = "Submitted, followed, canceled"),
        (name = "training definitions", description = "Zips of training code, in versions"),
        (name = "models", description = "What the server keeps of finished runs, and what is uploaded"),
        (name = "instance", description = "The server, and what it offers"),
        (name = "elsewhere", description = "Parts of the original that are not here: empty lists"),
        (name = "health", description = "Whether the server lives"),
    ),
)]
pub(crate) struct Document;

/// Ways to sign in.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let scheme = |scheme| SecurityScheme::Http(Http::new(scheme));
        components.add_security_scheme("token", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("password", scheme(HttpAuthScheme::Basic));
    }
}

/// Says of every operation that says nothing else that it takes a token.
pub(crate) fn secure(document: &mut utoipa::openapi::OpenApi) {
    let token = || vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])];
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
            .into_iter()
            .flatten()
        {
            operation.security.get_or_insert_with(token);
        }
    }
}

/// How any request can be refused.
pub(crate) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let all = [
            (400, "The request is wrong; the errors say where"),
            (401, "No token, or one that is not good"),
            (404, "Nothing of that id belongs to the caller"),
            (500, "A defect of the server"),
            (503, "The server has as much to do as it can; `Retry-After` says when to try again"),
            (507, "The server cannot write its data folder"),
        ];
        all.into_iter().map(|(status, what)| (status.to_string(), refusal(what))).collect()
    }
}

/// The thing is in a state that does not allow it.
pub(crate) struct Conflicts;

impl IntoResponses for Conflicts {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([("409".to_owned(), refusal("Not possible in this state"))])
    }
}

/// The body can be too large.
pub(crate) struct Bounded;

impl IntoResponses for Bounded {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([("413".to_owned(), refusal("The body is larger than allowed"))])
    }
}

/// An object store is asked, and can answer anything.
pub(crate) struct Asks;

impl IntoResponses for Asks {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([("502".to_owned(), refusal("The object store answered with an error"))])
    }
}

fn refusal(what: &str) -> RefOr<Response> {
    let schema = RefOr::Ref(Ref::from_schema_name(ErrorBody::name()));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(what).content("application/json", content).build().into()
}

/// Bytes of a file, as the document has them.
pub(crate) struct File;

impl PartialSchema for File {
    fn schema() -> RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build().into()
    }
}

impl ToSchema for File {}
