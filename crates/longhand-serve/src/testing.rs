//! A server without a port, for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use http_body_util::BodyExt;
use longhand_engine::{Cpu, Engine, Reader, SamplerSettings, Session};
use longhand_model::{Model, Preset};
use longhand_sessions::{
    CacheSettings, HostSettings, Owner, Sealer, SealingKey, Sessions, SessionsSettings, StateCache,
};
use longhand_text::Tokenizer;
use serde_json::Value;
use tower::ServiceExt;

use crate::app::App;
use crate::auth::Keys;
use crate::limits::Limits;
use crate::models::{Language, ModelSource, Models, Served, Shared, own_template};
use crate::routes::app;
use crate::server::{ServerSettings, serve};

/// A server with one byte-level model of random weights, called `nano`.
pub(crate) struct Server {
    pub(crate) app: App,
    router: Router,
    engine: Arc<Engine>,
    cpu: Arc<Cpu>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(Keys::none().unwrap(), Limits::default())
    }

    /// A server whose models are not read yet.
    pub(crate) fn loading() -> Self {
        Self::bare(Keys::none().unwrap(), Limits::default()).0
    }

    pub(crate) fn with(keys: Keys, limits: Limits) -> Self {
        let (server, shared) = Self::bare(keys, limits);
        server.app.set_models(server.models(&shared));
        server
    }

    /// A server with a classifier of random weights, called `mood`, and none of texts.
    pub(crate) fn classifying(keys: Keys, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::byte().unwrap();
        let config = Preset::StackedLstmClassifier.config(tokenizer.vocab_size());
        Model::new(config, 1).unwrap().save(folder.path()).unwrap();
        tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
        let task = r#"{"type": "classify", "labels": ["bad", "good"], "longest": 1024}"#;
        fs_err::write(folder.path().join("task.json"), task).unwrap();
        let (server, shared) = Self::bare(keys, limits);
        let (name, folder) = ("mood".into(), folder.path().into());
        let source = ModelSource { name, folder, adapters: Vec::new() };
        server.app.set_models(Models::load(&[source], &shared).unwrap());
        server
    }

    /// Another server with the same store.
    pub(crate) fn beside(&self) -> Self {
        let sessions = self.app.sessions().clone();
        let (server, shared) = Self::at(sessions, Keys::none().unwrap(), Limits::default());
        server.app.set_models(server.models(&shared));
        server
    }

    /// Has the model wait, with all of its jobs, until the value is dropped.
    pub(crate) fn hold(&self) -> Sender<()> {
        let (hold, held) = channel::<()>();
        let wait = move |_: &mut Reader| {
            // It hears only that there is nobody any more who could send.
            let _ = held.recv();
        };
        let language = self.app.models().unwrap().language("nano").unwrap();
        language.host.run(Box::new(wait)).unwrap();
        hold
    }

    /// The owner of what is kept where there are no keys.
    pub(crate) fn owner(&self) -> Owner {
        self.app.keys().caller(None).unwrap().owner
    }

    /// The same behind a port, on a thread that ends with the tests.
    pub(crate) fn at_port(settings: ServerSettings) -> (App, SocketAddr) {
        let (server, shared) = Self::bare(Keys::none().unwrap(), Limits::default());
        let (models, state) = (server.models(&shared), server.app.clone());
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let ready = move |address| send.send(address).unwrap();
            serve(&settings, state, move || Ok(models), ready).unwrap();
        });
        (server.app, receive.recv().unwrap())
    }

    fn models(&self, shared: &Shared) -> Models {
        let template = own_template(&self.engine).unwrap();
        let language = Language::start("nano".into(), &self.engine, template, shared).unwrap();
        Models::of(vec![("nano".into(), Served::Language(Arc::new(language)))])
    }

    pub(crate) fn bare(keys: Keys, limits: Limits) -> (Self, Shared) {
        Self::at(Sessions::in_memory(SessionsSettings::default()).unwrap(), keys, limits)
    }

    fn at(sessions: Arc<Sessions>, keys: Keys, limits: Limits) -> (Self, Shared) {
        let tokenizer = Tokenizer::byte().unwrap();
        let model = Model::new(Preset::LonghandNano.config(tokenizer.vocab_size()), 1).unwrap();
        let engine = Engine::new(model, tokenizer).unwrap();
        let cpu = Arc::new(Cpu::new(1));
        let cache = StateCache::new(CacheSettings::default(), sessions.counters()).unwrap();
        let key = SealingKey { id: "test".into(), key: [7; 32] };
        let sealer = Some(Sealer::new(key, Vec::new()).unwrap());
        let app_state = App::new(sessions.clone(), Arc::new(keys), limits);
        let router = app(app_state.clone());
        let settings = HostSettings { streams: 8, ..HostSettings::default() };
        let shared = Shared { cpu: cpu.clone(), sessions, cache, sealer, settings };
        (Self { app: app_state, router, engine, cpu }, shared)
    }

    /// A reader of the model, for what the engine computes by itself.
    pub(crate) fn reader(&self) -> Reader {
        self.engine.reader(&self.cpu)
    }

    /// An empty session of the model.
    pub(crate) fn session(&self) -> Session {
        self.engine.session(SamplerSettings::greedy()).unwrap()
    }

    /// The tokens of a text.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        self.engine.tokenizer().encode(text).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        json(self.call("GET", path, None, None).await).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        json(self.post_raw(path, body).await).await
    }

    pub(crate) async fn post_raw(&self, path: &str, body: Value) -> Response<Body> {
        self.call("POST", path, Some(body), None).await
    }

    /// The data of each event of a stream; `[DONE]` is null.
    pub(crate) async fn stream(&self, path: &str, body: Value) -> Vec<Value> {
        events(self.post_raw(path, body).await).await
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        key: Option<&str>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let body = body.filter(|body| !body.is_null());
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }
}

/// The status and the body of an answer.
pub(crate) async fn json(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// The data of each event of an answer that is a stream; `[DONE]` is null.
pub(crate) async fn events(response: Response<Body>) -> Vec<Value> {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| match data {
            "[DONE]" => Value::Null,
            data => serde_json::from_str(data).unwrap(),
        })
        .collect()
}
