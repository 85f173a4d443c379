//! One file for each endpoint: its types, its route, its tests.

use crate::endpoint::Endpoint;

mod chat_completions;
mod completions;
mod conversations;
mod detokenize;
mod embeddings;
mod messages;
mod metrics;
mod models;
mod openapi;
mod responses;
mod scores;
mod sessions;
mod status;
mod tasks;
mod tokenize;

/// Every endpoint of a server. The router and the OpenAPI document are made of this list.
pub(crate) fn all() -> Vec<Endpoint> {
    let lists = [
        status::endpoints(),
        vec![openapi::endpoint(), metrics::endpoint()],
        models::endpoints(),
        vec![completions::endpoint(), chat_completions::endpoint(), embeddings::endpoint()],
        responses::endpoints(),
        conversations::endpoints(),
        messages::endpoints(),
        sessions::endpoints(),
        tokenize::endpoints(),
        vec![detokenize::endpoint()],
        tasks::endpoints(),
        scores::endpoints(),
    ];
    lists.into_iter().flatten().collect()
}
