//! The state of a server, which every endpoint is given.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use longhand_sessions::Sessions;
use serde_json::Value;

use crate::auth::{Caller, Keys, KeysError};
use crate::background::Background;
use crate::error::ApiError;
use crate::limits::Limits;
use crate::memory::InUse;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::reloads::Reloads;
use crate::traces::Traces;

/// The longest time of a request, 27 years: the clock's time plus an unbounded one can overflow.
const LONGEST: Duration = Duration::from_secs(10_000 * 24 * 60 * 60);

/// The state of a server. A clone is the same server.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    models: OnceLock<Models>,
    sessions: Arc<Sessions>,
    keys: Arc<Keys>,
    limits: RwLock<Limits>,
    reloads: OnceLock<Reloads>,
    in_use: InUse,
    is_draining: AtomicBool,
    document: OnceLock<Value>,
    metrics: Metrics,
    /// Where traces are sent to, if they are.
    traces: OnceLock<Traces>,
    /// Answers in the background, by their ids, to be cancelled.
    background: Background,
}

impl App {
    /// A server whose models are still to be read.
    pub fn new(sessions: Arc<Sessions>, keys: Arc<Keys>, limits: Limits) -> Self {
        sessions.set_own_quotas(keys.quotas());
        Self(Arc::new(Shared {
            models: OnceLock::new(),
            sessions,
            keys,
            limits: RwLock::new(limits),
            reloads: OnceLock::new(),
            in_use: InUse::default(),
            is_draining: AtomicBool::new(false),
            document: OnceLock::new(),
            metrics: Metrics::new(),
            traces: OnceLock::new(),
            background: Background::default(),
        }))
    }

    /// The models have been read; requests for them are answered from now on. A
    /// second call changes nothing.
    pub fn set_models(&self, models: Models) {
        // The first models stay: hosts that run are never dropped.
        let _ = self.0.models.set(models);
    }

    /// Requests are traced from now on. A second call changes nothing.
    pub fn set_traces(&self, traces: Traces) {
        let _ = self.0.traces.set(traces);
    }

    /// Where traces are sent to, if they are.
    pub(crate) fn traces(&self) -> Option<&Traces> {
        self.0.traces.get()
    }

    /// From now on no new work is taken: `/ready` says so, and generation is refused.
    pub fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }

    /// The models that the server has.
    ///
    /// # Errors
    /// [`ApiError::Loading`] while they are read.
    pub fn models(&self) -> Result<&Models, ApiError> {
        self.0.models.get().ok_or(ApiError::Loading)
    }

    /// The models for new work.
    ///
    /// # Errors
    /// [`ApiError::Loading`] while they are read, [`ApiError::ShuttingDown`] at the end.
    pub(crate) fn models_for_work(&self) -> Result<&Models, ApiError> {
        match self.0.is_draining.load(Ordering::Relaxed) {
            true => Err(ApiError::ShuttingDown),
            false => self.models(),
        }
    }

    /// The store of all sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.0.sessions
    }

    /// The keys that are taken.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.0.keys
    }

    /// What requests are counted in.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Bounds on what one request may take, as they are now.
    pub(crate) fn limits(&self) -> Limits {
        *self.0.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a request that begins now is given up.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.limits().request_time.min(LONGEST)
    }

    /// Other bounds, for requests that come from now on.
    pub(crate) fn set_limits(&self, limits: Limits) {
        *self.0.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// What is read again while the server runs, beside keys and certificate. A
    /// second call changes nothing.
    pub fn set_reloads(&self, reloads: Reloads) {
        let _ = self.0.reloads.set(reloads);
    }

    pub(crate) fn reloads(&self) -> Option<&Reloads> {
        self.0.reloads.get()
    }

    /// Reads the file of keys again, with the limits that keys have of their own.
    ///
    /// # Errors
    /// Those of [`Keys::reload`]; nothing has changed then.
    pub(crate) fn reload_keys(&self) -> Result<(), KeysError> {
        self.0.keys.reload()?;
        self.0.sessions.set_own_quotas(self.0.keys.quotas());
        Ok(())
    }

    pub(crate) fn in_use(&self) -> &InUse {
        &self.0.in_use
    }

    pub(crate) fn background(&self) -> &Background {
        &self.0.background
    }

    /// The OpenAPI document; null before there are routes.
    pub(crate) fn document(&self) -> &Value {
        self.0.document.get().unwrap_or(&Value::Null)
    }

    /// Notes the OpenAPI document of the routes. All routers of a server have the same.
    pub(crate) fn set_document(&self, document: impl FnOnce() -> Value) {
        self.0.document.get_or_init(document);
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or(ApiError::Unauthorized("the request was not let in"))
    }
}
