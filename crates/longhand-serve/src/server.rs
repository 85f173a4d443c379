//! The port: connections with bounds, TLS, signals, and the end in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::background::RENEWAL;
use crate::metrics::Metrics;
use crate::models::{Models, ModelsError};
use crate::reload::{reload_all, reload_changed};
use crate::routes::app;
use crate::tls::{Tls, TlsError};

/// How often files are looked at for changes, and sessions for their time.
const LOOK: Duration = Duration::from_secs(60);
/// How long the last bytes of answers, and work that nobody waits for, are waited for at the end.
const LAST: Duration = Duration::from_secs(5);
/// Bytes of the head of a request, and its lines.
const HEAD_BYTES: usize = 64 << 10;
const HEAD_LINES: usize = 100;

/// Where a server listens, and for how long it waits.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The address and the port; port 0 is any that is free.
    pub address: SocketAddr,
    /// The certificate and its key; none for plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Connections at one time; further ones wait to be accepted.
    pub connections: usize,
    /// The time within which the head of a request must have come. Default: 15 seconds.
    pub head_time: Duration,
    /// The time within which a client must read something of its answer. Default: 30 seconds.
    pub write_time: Duration,
    /// The time that running answers have after the signal to end. Default: 30 seconds.
    pub drain_time: Duration,
}

impl ServerSettings {
    /// The defaults at an address.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            connections: 1024,
            head_time: Duration::from_secs(15),
            write_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
        }
    }
}

/// Why a server does not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The port cannot be had.
    #[error("the server cannot listen at {address} ({reason}): name another --port or --host")]
    Listen {
        /// The address and the port.
        address: SocketAddr,
        /// What the operating system says of it.
        reason: io::Error,
    },
    /// The runtime or a signal cannot be had.
    #[error("the system refuses what a server needs ({0})")]
    System(io::Error),
    /// A certificate or a key that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A model that cannot be served.
    #[error(transparent)]
    Models(#[from] ModelsError),
}

/// Listens, reads the models, and serves until SIGTERM or Ctrl-C. Then no new work is taken, what runs
/// has some time to come to its end, and all sessions are durable.
///
/// `load` reads the models; the server answers that they are loading meanwhile. `ready` is told the
/// address once they are there.
///
/// # Errors
/// A port in use, a certificate that does not fit its key, a model that cannot be served.
pub fn serve(
    settings: &ServerSettings,
    state: App,
    load: impl FnOnce() -> Result<Models, ModelsError> + Send + 'static,
    ready: impl FnOnce(SocketAddr) + Send + 'static,
) -> Result<(), ServerError> {
    let tls = settings.tls.as_ref();
    let tls = tls.map(|(certificate, key)| Tls::new(certificate, key)).transpose()?.map(Arc::new);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ServerError::System)?;
    let served = runtime.block_on(run(settings.clone(), state.clone(), tls, load, ready));
    // A text whose client has left may still be made into tokens; sessions are durable by now.
    runtime.shutdown_timeout(LAST);
    if let Some(traces) = state.traces() {
        traces.end();
    }
    served
}

async fn run(
    settings: ServerSettings,
    state: App,
    tls: Option<Arc<Tls>>,
    load: impl FnOnce() -> Result<Models, ModelsError> + Send + 'static,
    ready: impl FnOnce(SocketAddr) + Send + 'static,
) -> Result<(), ServerError> {
    let address = settings.address;
    let refused = |reason| ServerError::Listen { address, reason };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let mut signals = Signals::listen().map_err(ServerError::System)?;
    let accepting = Accepting {
        router: app(state.clone()),
        settings: settings.clone(),
        tls: tls.clone(),
        graceful: GracefulShutdown::new(),
        places: Arc::new(Semaphore::new(settings.connections.max(1))),
        metrics: state.metrics().clone(),
    };
    let mut loading = tokio::task::spawn_blocking(load);
    // It ends with the runtime: responses in the background are written until then.
    tokio::spawn(renew(state.clone()));
    let mut ready = Some(ready);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            accepted = accepting.accept(&listener) => {
                if let Some((stream, place)) = accepted {
                    accepting.serve(stream, place);
                }
            }
            loaded = &mut loading, if ready.is_some() => {
                let loaded = loaded.map_err(|error| ServerError::System(io::Error::other(error)))?;
                state.set_models(loaded?);
                if let Some(ready) = ready.take() {
                    ready(address);
                }
            }
            signal = signals.next() => match signal {
                Signal::Reload => apart(&state, &tls, reload_all),
                Signal::End => break,
            },
            _ = look.tick() => apart(&state, &tls, tidy),
        }
    }
    end(&state, accepting, listener, settings.drain_time).await;
    Ok(())
}

/// Lets what runs come to its end, and ends the hosts, which make all sessions durable. Until then the
/// server answers `/ready`, and refuses new work with a status that says why.
async fn end(state: &App, accepting: Accepting, listener: TcpListener, within: Duration) {
    tracing::info!("ending: no new work is taken");
    let begun = Instant::now();
    state.drain();
    let mut hosts = tokio::task::spawn_blocking({
        let state = state.clone();
        move || state.models().map_or(0, |models| models.drain(within))
    });
    let interrupted = loop {
        tokio::select! {
            accepted = accepting.accept(&listener) => {
                if let Some((stream, place)) = accepted {
                    accepting.serve(stream, place);
                }
            }
            interrupted = &mut hosts => break interrupted.unwrap_or(0),
        }
    };
    drop(listener);
    // Connections without a request end at once, the others with their answers.
    let left = within.saturating_sub(begun.elapsed()) + LAST;
    let closed = tokio::time::timeout(left, accepting.graceful.shutdown()).await;
    // What is written in the background has no job any more, but may not have kept its end yet.
    let kept = tokio::time::timeout(LAST, state.background().ended()).await;
    if interrupted > 0 || closed.is_err() || kept.is_err() {
        tracing::warn!(interrupted, "answers were broken off");
    }
    tracing::info!("ended");
}

/// Runs what reads files beside the connections; nobody waits for it.
fn apart(state: &App, tls: &Option<Arc<Tls>>, work: fn(&App, Option<&Tls>)) {
    let (state, tls) = (state.clone(), tls.clone());
    drop(tokio::task::spawn_blocking(move || work(&state, tls.as_deref())));
}

/// Shows now and then that this server writes what it writes in the background.
async fn renew(state: App) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        let state = state.clone();
        let renewed =
            tokio::task::spawn_blocking(move || state.background().renew(state.sessions()));
        if let Err(error) = renewed.await {
            tracing::error!(%error, "it cannot be shown that responses are being written");
        }
    }
}

/// Looks for changed files, forgets sessions whose time is over, and names those that are damaged.
fn tidy(state: &App, tls: Option<&Tls>) {
    reload_changed(state, tls);
    match state.sessions().sweep() {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "sessions have expired"),
        Err(error) => tracing::error!(%error, "expired sessions could not be erased"),
    }
    for damaged in state.sessions().newly_damaged() {
        tracing::warn!("{damaged}");
    }
}

/// Takes connections in, and serves each.
struct Accepting {
    router: Router,
    settings: ServerSettings,
    tls: Option<Arc<Tls>>,
    graceful: GracefulShutdown,
    places: Arc<Semaphore>,
    metrics: Metrics,
}

impl Accepting {
    /// The next connection, once there is a place for it.
    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((stream, _)) => {
                // Events are small, and each is to be seen at once.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection delays small packets");
                }
                Some((stream, place))
            }
            Err(error) => {
                // Out of descriptors, most likely: others will be given back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }

    fn serve(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let Some(tls) = &self.tls else {
            return self.serve_stream(stream, place);
        };
        let acceptor = TlsAcceptor::from(tls.config());
        let (limit, one) = (self.settings.head_time, self.one());
        let (watcher, open) = (self.graceful.watcher(), self.metrics.connection());
        tokio::spawn(async move {
            match tokio::time::timeout(limit, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => one.run(stream, |connection| watcher.watch(connection)).await,
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
            drop((open, place));
        });
    }

    fn serve_stream(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let (one, watcher) = (self.one(), self.graceful.watcher());
        let open = self.metrics.connection();
        tokio::spawn(async move {
            one.run(stream, |connection| watcher.watch(connection)).await;
            drop((open, place));
        });
    }

    fn one(&self) -> Connection {
        Connection { router: self.router.clone(), settings: self.settings.clone() }
    }
}

/// One connection on its way.
struct Connection {
    router: Router,
    settings: ServerSettings,
}

type Served<S> =
    http1::Connection<TokioIo<crate::connection::Timed<S>>, TowerToHyperService<Router>>;

impl Connection {
    async fn run<S, F>(self, stream: S, watch: impl FnOnce(Served<S>) -> F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Result<(), hyper::Error>>,
    {
        let timed = crate::connection::Timed::new(stream, self.settings.write_time);
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.head_time)
            .max_headers(HEAD_LINES)
            .max_buf_size(HEAD_BYTES);
        let service = TowerToHyperService::new(self.router);
        let connection = builder.serve_connection(TokioIo::new(timed), service);
        if let Err(error) = watch(connection).await {
            tracing::debug!(%error, "a connection ended");
        }
    }
}

/// What the operator asks for.
enum Signal {
    Reload,
    End,
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::End,
            _ = self.terminate.recv() => Signal::End,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

#[cfg(not(unix))]
struct Signals {}

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> Signal {
        // Without a handler for Ctrl-C the system ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::End
    }
}

#[cfg(test)]
mod tests;
