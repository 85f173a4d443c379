//! An endpoint: a path, its methods, and what the OpenAPI document says of them. The router and the
//! document are made of the same list, so that neither has what the other lacks.

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::app::App;
use crate::error::ApiError;

/// A path with its methods.
pub(crate) struct Endpoint {
    path: &'static str,
    router: MethodRouter<App>,
    operations: Vec<Operation>,
}

/// The schema of a type.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The form of what a method takes or gives.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// Nothing: no body at all.
    Nothing,
    /// JSON of a type.
    Json(SchemaOf),
    /// Bytes of another kind.
    Bytes(&'static str),
}

/// One method of an endpoint.
#[derive(Clone)]
pub(crate) struct Operation {
    /// The method of HTTP.
    pub(crate) method: Method,
    /// Its name for programs that are made of the document.
    pub(crate) id: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// The body that it takes.
    pub(crate) body: Form,
    /// The body of its answer.
    pub(crate) answer: Form,
    /// The JSON of each event, where it can answer with a stream of events.
    pub(crate) event: Option<SchemaOf>,
    /// The names in the path, as it spells them, and what they mean.
    pub(crate) names: Vec<(&'static str, &'static str)>,
    /// An object whose fields are the parameters of the query.
    pub(crate) query: Option<SchemaOf>,
    /// Whether it is asked without a key.
    pub(crate) is_open: bool,
    /// Whether its refusals have the form of Anthropic.
    pub(crate) in_messages_form: bool,
    /// The body of a 503, where it has a form of its own.
    pub(crate) unavailable: Option<SchemaOf>,
}

impl Endpoint {
    /// A path without methods.
    pub(crate) fn at(path: &'static str) -> Self {
        Self { path, router: MethodRouter::new(), operations: Vec::new() }
    }

    /// The path with one more method.
    pub(crate) fn on<H, T>(mut self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        // The methods of this crate all have a filter; GET answers HEAD too.
        if let Ok(filter) = MethodFilter::try_from(operation.method.clone()) {
            self.router = self.router.on(filter, handler);
        }
        self.operations.push(operation);
        self
    }

    /// The path, with parameters in braces.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    /// What the document says of its methods.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The methods as a router has them. Any other method is refused with those that there are.
    pub(crate) fn into_router(self) -> MethodRouter<App> {
        let mut allow: Vec<&str> =
            self.operations.iter().map(|operation| operation.method.as_str()).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        let allow = allow.join(", ");
        self.router.fallback(move |request: Request| async move {
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            ApiError::Method { method, path, allow }
        })
    }
}

impl Operation {
    fn new(method: Method, id: &'static str, about: &'static str) -> Self {
        Self {
            method,
            id,
            about,
            body: Form::Nothing,
            answer: Form::Nothing,
            event: None,
            names: Vec::new(),
            query: None,
            is_open: false,
            in_messages_form: false,
            unavailable: None,
        }
    }

    /// A method that reads something.
    pub(crate) fn get(id: &'static str, about: &'static str) -> Self {
        Self::new(Method::GET, id, about)
    }

    /// A method that makes something.
    pub(crate) fn post(id: &'static str, about: &'static str) -> Self {
        Self::new(Method::POST, id, about)
    }

    /// A method that changes something.
    pub(crate) fn patch(id: &'static str, about: &'static str) -> Self {
        Self::new(Method::PATCH, id, about)
    }

    /// A method that erases something.
    pub(crate) fn delete(id: &'static str, about: &'static str) -> Self {
        Self::new(Method::DELETE, id, about)
    }

    /// It takes JSON of a type.
    pub(crate) fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Form::Json(schema::<T>);
        self
    }

    /// It takes other bytes.
    pub(crate) fn takes_bytes(mut self, media: &'static str) -> Self {
        self.body = Form::Bytes(media);
        self
    }

    /// It answers with JSON.
    pub(crate) fn gives<T: JsonSchema>(mut self) -> Self {
        self.answer = Form::Json(schema::<T>);
        self
    }

    /// It answers with other bytes.
    pub(crate) fn gives_bytes(mut self, media: &'static str) -> Self {
        self.answer = Form::Bytes(media);
        self
    }

    /// It can answer with a stream of events.
    pub(crate) fn streams<T: JsonSchema>(mut self) -> Self {
        self.event = Some(schema::<T>);
        self
    }

    /// A part of the path.
    pub(crate) fn with_path(mut self, name: &'static str, about: &'static str) -> Self {
        self.names.push((name, about));
        self
    }

    /// Its query has the fields of a type.
    pub(crate) fn with_query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(T::json_schema);
        self
    }

    /// Anyone may ask it.
    pub(crate) fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Its 503 has a form of its own.
    pub(crate) fn unavailable_as<T: JsonSchema>(mut self) -> Self {
        self.unavailable = Some(schema::<T>);
        self
    }

    /// Its refusals have the form of Anthropic.
    pub(crate) fn refuses_in_messages_form(mut self) -> Self {
        self.in_messages_form = true;
        self
    }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}
