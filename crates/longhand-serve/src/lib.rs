//! An HTTP server for language models and task models, in the forms of OpenAI, Anthropic, vLLM and
//! llama.cpp, whose sessions remember.
//!
//! The path of a request:
//! 1. [`server`] accepts connections, with bounds on their number, headers and times; TLS where asked for;
//! 2. `routes` gives each request an id, finds whose key it has, and leads it to an endpoint; [`App`]
//!    is what all of them share;
//! 3. `body` reads JSON, and refuses what is not supported by its name;
//! 4. one file of `endpoints` for each endpoint: its types, its route, its tests;
//! 5. `conversation` makes ids of messages, and finds where a session or a cached prefix goes on;
//! 6. `generation` hands a job to the model's host and receives its events;
//! 7. the endpoint writes them as one answer, or as a stream of events (`sse`).
//!
//! [`models`] holds the models by name; [`traces`] tells a collector where the time of requests goes;
//! `openapi` describes all endpoints. What a session holds, how streams share a batch, and what is
//! durable when, is `longhand-sessions`.

mod address;
mod answer;
pub mod app;
pub mod auth;
mod background;
mod body;
mod charge;
pub mod config;
mod connection;
mod conversation;
mod counted;
mod endpoint;
mod endpoints;
mod error;
mod generation;
mod ids;
mod items;
pub mod limits;
mod lists;
mod liveness;
mod log_probabilities;
mod memory;
mod memory_shares;
pub mod metrics;
pub mod models;
mod openapi;
pub mod page;
mod plain_words;
mod rate;
mod refusal;
mod reload;
pub mod reloads;
mod response_format;
mod routes;
mod sampling;
pub mod sealing;
mod seen;
pub mod server;
mod sse;
mod task_counts;
mod task_worker;
#[cfg(test)]
mod testing;
mod tls;
mod together;
pub mod traces;
mod usage;

pub use app::App;
pub use auth::{Keys, KeysError, new_key};
pub use config::{ConfigError, ServeFile, size};
pub use error::ApiError;
pub use limits::Limits;
pub use longhand_sessions as sessions;
pub use models::{ModelSource, Models, ModelsError, Shared};
pub use reloads::{Reloaded, Reloads};
pub use routes::app;
pub use sealing::{SealingError, SealingFile};
pub use server::{ServerError, ServerSettings, serve};
pub use traces::{Traces, TracesError, traces_endpoint};
