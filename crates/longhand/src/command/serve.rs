//! `longhand serve`: models over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use longhand_engine::Cpu;
use longhand_model::adapter::AdapterChoice;
use longhand_serve::sessions::{
    CacheSettings, HostSettings, SessionError, Sessions, SessionsSettings, StateCache,
};
use longhand_serve::{
    App, Keys, Limits, ModelSource, Models, Reloaded, Reloads, SealingFile, ServeFile,
    ServerSettings, Shared, Traces, serve, size, traces_endpoint,
};
use longhand_train::settings::MOST_THREADS;

use crate::adapters::choice;
use crate::error::Usage;
use crate::reading::any_model_folder;
use crate::talk::say;

mod new_key;

use new_key::make_key;

/// The file of all sessions in the folder that `--sessions` names.
pub(super) const SESSIONS_FILE: &str = "sessions.redb";
/// The share of the memory for states that the sessions get; the state cache gets the rest.
const SESSIONS_SHARE: f64 = 2.0 / 3.0;
const SECONDS_A_DAY: f64 = 86_400.0;

/// Answers over HTTP in the forms of OpenAI and Anthropic; sessions are remembered.
#[derive(Args, Clone)]
#[command(
    after_help = "Example:\n  longhand serve model\n  longhand serve chat=model tags=tagger \
                  --sessions state\n  longhand serve model --new-key alice --api-key-file keys.toml\n  \
                  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\\n    \
                  -d '{\"model\": \"model\", \"prompt\": \"One day\", \"session_id\": \"diary\"}'\n\n\
                  /openapi.json describes every endpoint. SIGTERM and Ctrl-C end the server in order: \
                  no new work is taken, what runs is answered, sessions are durable. SIGHUP reads keys, \
                  certificate and --config again. A flag goes before --config, the file before the default."
)]
pub(crate) struct Arguments {
    /// Folders of trained models, each under the name in requests [default name: the folder's]
    #[arg(value_name = "[NAME=]DIR")]
    models: Vec<String>,
    /// An adapter of one of the models, served beside it as MODEL:NAME; MODEL may be left out
    /// where there is one
    #[arg(long = "adapter", value_name = "[MODEL:][NAME=]DIR")]
    adapters: Vec<String>,
    /// A file of settings in TOML, whose keys are the names of these flags with _ for -
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1, this machine alone]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// The port to listen on; 0 for any that is free [default: 8080]
    #[arg(long)]
    port: Option<u16>,
    /// A file of hashed API keys; without one anyone may ask who reaches the server
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Make an API key of this name, add its hash to --api-key-file, print the key, and end
    #[arg(long, value_name = "NAME", requires = "api_key_file")]
    new_key: Option<String>,
    /// A certificate in PEM form, for TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A folder to keep sessions in [default: in memory, until the server ends]
    #[arg(long, value_name = "DIR", conflicts_with = "store")]
    sessions: Option<PathBuf>,
    /// A Redis or Valkey server to keep sessions in, which several servers share
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A file with keys that seal the states that clients hold: lines of `ID 64-HEX-DIGITS`, of which
    /// the first one seals and all open
    #[arg(long, value_name = "FILE")]
    sealing_key_file: Option<PathBuf>,
    /// Bytes of states in memory, of all models together, as 512MiB; half of them are for all sessions
    /// where neither --sessions nor --store keeps these [default: 768MiB]
    #[arg(long, value_name = "BYTES")]
    memory: Option<String>,
    /// Threads to compute on; as many as there are processors where not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS as i64))]
    threads: Option<u16>,
    /// Streams of each model that decode together [default: 64]
    #[arg(long, value_name = "N")]
    capacity: Option<usize>,
    /// Requests of each model that wait or run; further ones are refused [default: 256]
    #[arg(long, value_name = "N")]
    queue: Option<usize>,
    /// Connections at one time [default: 1024]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Bytes of a request's body [default: 32MiB]
    #[arg(long, value_name = "BYTES")]
    max_body: Option<String>,
    /// Seconds after which an answer is broken off [default: 600]
    #[arg(long, value_name = "N")]
    request_seconds: Option<u64>,
    /// Seconds that running answers have after the signal to end [default: 30]
    #[arg(long, value_name = "N")]
    drain_seconds: Option<u64>,
    /// Days without use after which a session is forgotten [default: never]
    #[arg(long, value_name = "X")]
    session_days: Option<f64>,
    /// Days without use after which the session of a prompt_cache_key is forgotten [default: 1, or
    /// --session-days where that is less]
    #[arg(long, value_name = "X")]
    cache_key_days: Option<f64>,
    /// Days after which a response is forgotten [default: 30, or --session-days where that is less]
    #[arg(long, value_name = "X")]
    response_days: Option<f64>,
    /// The most sessions of one key [default: 10000]
    #[arg(long, value_name = "N")]
    sessions_per_key: Option<u64>,
    /// The most bytes of the sessions of one key [default: 16GiB]
    #[arg(long, value_name = "BYTES")]
    bytes_per_key: Option<String>,
    /// The share of restored states, of sessions and of the state cache, that is read again and compared,
    /// 0 to 1 [default: 0]
    #[arg(long, value_name = "P")]
    verify_restore: Option<f64>,
    /// How logs are written to stderr; what prompts and answers say is not part of them [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Send traces to a collector of OpenTelemetry, in OTLP over HTTP, as http://HOST:4318; what
    /// prompts and answers say is not part of them [default: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        if let (Some(name), Some(path)) = (&self.new_key, &self.api_key_file) {
            return make_key(name, path);
        }
        let file = self.config.as_deref().map(ServeFile::load).transpose()?.unwrap_or_default();
        let settings = self.clone().over(file)?;
        settings.start_log()?;
        let again = self
            .config
            .clone()
            .map(|path| -> Again { Box::new(move || self.clone().over(ServeFile::load(&path)?)) });
        settings.serve(again)
    }

    /// Lays the flags over the file.
    fn over(self, file: ServeFile) -> Result<ServeFile> {
        let given = |given: Vec<String>, file| if given.is_empty() { file } else { given };
        let log = |format: LogFormat| match format {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        };
        if self.tls_cert.is_none() && file.tls_cert.is_some() != file.tls_key.is_some() {
            let what = "tls_cert and tls_key belong together: give both, or neither";
            return Err(Usage(what.into()).into());
        }
        // What is named on the command line takes the place of the other kind in the file.
        let (sessions, store) = match (self.sessions, self.store) {
            (None, None) => (file.sessions, file.store),
            named => named,
        };
        Ok(ServeFile {
            models: given(self.models, file.models),
            adapters: given(self.adapters, file.adapters),
            host: self.host.map(|host| host.to_string()).or(file.host),
            port: self.port.or(file.port),
            api_key_file: self.api_key_file.or(file.api_key_file),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            sessions,
            store,
            sealing_key_file: self.sealing_key_file.or(file.sealing_key_file),
            memory: self.memory.or(file.memory),
            threads: self.threads.or(file.threads),
            capacity: self.capacity.or(file.capacity),
            queue: self.queue.or(file.queue),
            connections: self.connections.or(file.connections),
            max_body: self.max_body.or(file.max_body),
            request_seconds: self.request_seconds.or(file.request_seconds),
            drain_seconds: self.drain_seconds.or(file.drain_seconds),
            session_days: self.session_days.or(file.session_days),
            cache_key_days: self.cache_key_days.or(file.cache_key_days),
            response_days: self.response_days.or(file.response_days),
            sessions_per_key: self.sessions_per_key.or(file.sessions_per_key),
            bytes_per_key: self.bytes_per_key.or(file.bytes_per_key),
            verify_restore: self.verify_restore.or(file.verify_restore),
            log_format: self.log_format.map(log).or(file.log_format),
            otlp_endpoint: self.otlp_endpoint.or(file.otlp_endpoint),
        })
    }
}

/// What a running server takes over, read again; an error is a sentence.
type Settings = Box<dyn Fn() -> Result<Reloaded, String> + Send + Sync>;
/// Reads the settings again.
type Again = Box<dyn Fn() -> Result<ServeFile> + Send + Sync>;

/// What is done with the settings, wherever they are from.
trait Serving {
    fn start_log(&self) -> Result<()>;
    fn serve(&self, again: Option<Again>) -> Result<()>;
    fn settings(&self, again: Again) -> Settings;
    fn sources(&self) -> Result<Vec<ModelSource>>;
    fn address(&self) -> Result<SocketAddr>;
    fn limits(&self) -> Result<Limits>;
    fn store(&self, settings: SessionsSettings) -> Result<Arc<Sessions>>;
    fn sessions_settings(&self, memory: u64) -> Result<SessionsSettings>;
    fn host_settings(&self) -> Result<HostSettings>;
}

impl Serving for ServeFile {
    fn start_log(&self) -> Result<()> {
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
        let started = match self.log_format.as_deref() {
            None | Some("text") => log.with_ansi(false).try_init(),
            Some("json") => log.json().flatten_event(true).try_init(),
            Some(other) => {
                let what = format!("log_format is `{other}`, but must be text or json");
                return Err(Usage(what).into());
            }
        };
        started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
    }

    fn serve(&self, again: Option<Again>) -> Result<()> {
        let sources = self.sources()?;
        let host = self.host_settings()?;
        let memory = bytes("--memory", self.memory.as_deref(), 768 << 20)?;
        let for_sessions = (memory as f64 * SESSIONS_SHARE) as u64;
        let sessions = self.store(self.sessions_settings(for_sessions)?)?;
        let cache = CacheSettings { bytes: memory - for_sessions, ..CacheSettings::default() };
        let cache = StateCache::new(cache, sessions.counters())?;
        let keys = match &self.api_key_file {
            Some(path) => Keys::of_file(path)?,
            None => Keys::none()?,
        };
        let mut settings = ServerSettings::at(self.address()?);
        settings.tls = self.tls_cert.clone().zip(self.tls_key.clone());
        settings.connections = self.connections.unwrap_or(settings.connections);
        if let Some(seconds) = self.drain_seconds {
            settings.drain_time = Duration::from_secs(seconds);
        }
        if !settings.address.ip().is_loopback() && !keys.is_needed() {
            say!(
                "warning: anyone who reaches {} may ask this server: --api-key-file names who may",
                settings.address
            );
        }
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        let cpu = Arc::new(Cpu::new(self.threads.map_or_else(all, usize::from)));
        let sealing = self.sealing_key_file.as_deref().map(SealingFile::open).transpose()?;
        let sealer = sealing.as_ref().map(|file| file.sealer().clone());
        let app = App::new(sessions.clone(), Arc::new(keys), self.limits()?);
        let variable = |name: &str| std::env::var(name).ok();
        if let Some(endpoint) = traces_endpoint(self.otlp_endpoint.as_deref(), variable) {
            app.set_traces(Traces::start(&endpoint)?);
        }
        app.set_reloads(Reloads { sealing, settings: again.map(|again| self.settings(again)) });
        let shared = Shared { cpu, sessions, cache, sealer, settings: host };
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let ready = move |address: SocketAddr| say!("listening at {scheme}://{address}");
        Ok(serve(&settings, app, move || Models::load(&sources, &shared), ready)?)
    }

    /// Reads the settings again, for a server that runs with these.
    fn settings(&self, again: Again) -> Settings {
        let running = self.clone();
        let reloaded = move || -> Result<Reloaded> {
            let new = again()?;
            let (limits, sessions) = (new.limits()?, new.sessions_settings(0)?);
            Ok(Reloaded { limits, sessions, later: running.later(&new) })
        };
        Box::new(move || reloaded().map_err(|error| format!("{error:#}")))
    }

    /// The models and their adapters, by the names in requests.
    fn sources(&self) -> Result<Vec<ModelSource>> {
        let mut sources = Vec::new();
        for model in &self.models {
            let is_folder = Path::new(model).is_dir();
            let (name, folder) = match model.split_once('=') {
                Some((name, folder)) if !is_folder => (Some(name.to_owned()), folder),
                _ => (None, model.as_str()),
            };
            let folder = any_model_folder(Path::new(folder))?.to_owned();
            let own = || {
                let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
                whole.file_name().map(|name| name.to_string_lossy().into_owned())
            };
            let name = name.or_else(own).unwrap_or_else(|| "model".into());
            sources.push(ModelSource { name, folder, adapters: Vec::new() });
        }
        if sources.is_empty() {
            return Err(Usage("there is no model: name the folder of one".into()).into());
        }
        check_names(&sources)?;
        for adapter in &self.adapters {
            let (source, choice) = adapter_of(&mut sources, adapter)?;
            if source.adapters.iter().any(|other| other.name == choice.name) {
                let (model, name) = (&source.name, &choice.name);
                let what = format!(
                    "two adapters of the model `{model}` are called `{name}`: name them, as NAME=DIR"
                );
                return Err(Usage(what).into());
            }
            source.adapters.push(choice);
        }
        Ok(sources)
    }

    fn address(&self) -> Result<SocketAddr> {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        let host: IpAddr = host.parse().map_err(|_| {
            Usage(format!("host is `{host}`, but must be an address, such as 127.0.0.1"))
        })?;
        Ok(SocketAddr::new(host, self.port.unwrap_or(8080)))
    }

    fn limits(&self) -> Result<Limits> {
        let default = Limits::default();
        let seconds = self.request_seconds.map(Duration::from_secs);
        let ttl = self.session_days.map(days).transpose()?;
        let within = |given: Option<f64>, default: Duration| match given {
            Some(given) => days(given),
            None => Ok(ttl.map_or(default, |ttl| ttl.min(default))),
        };
        Ok(Limits {
            body: bytes("--max-body", self.max_body.as_deref(), default.body as u64)? as usize,
            request_time: seconds.unwrap_or(default.request_time),
            ttl,
            cache_key_ttl: within(self.cache_key_days, default.cache_key_ttl)?,
            response_ttl: within(self.response_days, default.response_ttl)?,
            ..default
        })
    }

    fn sessions_settings(&self, memory: u64) -> Result<SessionsSettings> {
        let default = SessionsSettings::default();
        Ok(SessionsSettings {
            memory,
            sessions_per_owner: self.sessions_per_key.unwrap_or(default.sessions_per_owner),
            bytes_per_owner: bytes(
                "--bytes-per-key",
                self.bytes_per_key.as_deref(),
                default.bytes_per_owner,
            )?,
            ttl: self.session_days.map(days).transpose()?,
            ..default
        })
    }

    fn store(&self, settings: SessionsSettings) -> Result<Arc<Sessions>> {
        if let Some(url) = &self.store {
            let shown = shown(url);
            if !url.contains("://") {
                let what = format!("--store is `{shown}`, but must be redis://HOST:PORT");
                return Err(Usage(what).into());
            }
            return Sessions::shared(url, settings).map_err(|error| match error {
                SessionError::Storage { what } => anyhow!(
                    "the store {shown} cannot be reached ({what}): write redis://HOST:PORT, and see \
                     whether that server runs"
                ),
                error => error.into(),
            });
        }
        let Some(folder) = &self.sessions else {
            say!("sessions are kept until the server ends: --sessions DIR keeps them on disk");
            return Ok(Sessions::in_memory(settings)?);
        };
        if folder.exists() && !folder.is_dir() {
            let name = folder.display();
            bail!(
                "{name} is a file: name the folder with --sessions in which sessions are to be kept"
            );
        }
        fs_err::create_dir_all(folder)?;
        let opened = Sessions::open(&folder.join(SESSIONS_FILE), settings);
        let (sessions, report) = opened.map_err(|error| match error {
            SessionError::Storage { what } => anyhow!(
                "the sessions in {} cannot be opened ({what}): end the server that has them, or name \
                 another folder with --sessions",
                folder.display()
            ),
            error => error.into(),
        })?;
        if let Some((before, after)) = report.compacted {
            let mib = |bytes: u64| bytes >> 20;
            say!("the file of the sessions had {} MiB and now has {} MiB", mib(before), mib(after));
        }
        for damaged in &report.damaged {
            say!("warning: {damaged}");
        }
        Ok(sessions)
    }

    fn host_settings(&self) -> Result<HostSettings> {
        let default = HostSettings::default();
        let verify = self.verify_restore.unwrap_or(default.verify);
        if !(0.0..=1.0).contains(&verify) {
            let what = format!("--verify-restore is {verify}, but must be from 0 to 1");
            return Err(Usage(what).into());
        }
        for (flag, value) in [("--capacity", self.capacity), ("--queue", self.queue)] {
            if value == Some(0) {
                return Err(Usage(format!("{flag} is 0, but must be at least 1")).into());
            }
        }
        Ok(HostSettings {
            streams: self.capacity.unwrap_or(default.streams),
            queue: self.queue.unwrap_or(default.queue),
            verify,
            ..default
        })
    }
}

/// The model that an adapter is for, and the adapter.
fn adapter_of<'a>(
    sources: &'a mut [ModelSource],
    text: &str,
) -> Result<(&'a mut ModelSource, AdapterChoice)> {
    let named = text.split_once(':');
    let place = named.and_then(|(model, _)| sources.iter().position(|it| it.name == model));
    let (place, rest) = match (place, named) {
        (Some(place), Some((_, rest))) => (place, rest),
        _ if sources.len() == 1 => (0, text),
        _ => {
            let what = format!("--adapter {text} names none of the models: write MODEL:[NAME=]DIR");
            return Err(Usage(what).into());
        }
    };
    let choice = choice(rest).map_err(Usage)?;
    match sources.get_mut(place) {
        Some(source) => Ok((source, choice)),
        None => bail!("there is no model"),
    }
}

fn bytes(flag: &str, given: Option<&str>, default: u64) -> Result<u64> {
    let Some(text) = given else { return Ok(default) };
    size(text).map_err(|error| Usage(format!("{flag}: {error}")).into())
}

/// The address of a store without the password that it may hold.
fn shown(url: &str) -> String {
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((_, host)))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

/// Refuses two models of one name.
fn check_names(sources: &[ModelSource]) -> Result<(), Usage> {
    for (place, source) in sources.iter().enumerate() {
        if sources[..place].iter().any(|other| other.name == source.name) {
            let what = format!("two models are called `{}`: name them, as NAME=DIR", source.name);
            return Err(Usage(what));
        }
    }
    Ok(())
}

fn days(days: f64) -> Result<Duration> {
    let seconds = Duration::try_from_secs_f64(days * SECONDS_A_DAY);
    let seconds = seconds.ok().filter(|seconds| !seconds.is_zero());
    seconds.ok_or_else(|| Usage(format!("{days} is no number of days: give more than 0")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_the_file() {
        let file =
            ServeFile { port: Some(1), store: Some("redis://a".into()), ..ServeFile::default() };
        let arguments = arguments(&["m", "--port", "2", "--sessions", "s"]);
        let settings = arguments.over(file).unwrap();
        assert_eq!(settings.port, Some(2));
        assert_eq!((settings.store, settings.sessions), (None, Some("s".into())));
        assert_eq!(settings.models, ["m"]);
    }

    #[test]
    fn settings_are_read_again_with_the_flags_before_them() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("serve.toml");
        let running = ServeFile { port: Some(1), ..ServeFile::default() };
        let arguments = arguments(&["m", "--port", "1", "--sessions-per-key", "5"]);
        let file = path.clone();
        let again =
            running.settings(Box::new(move || arguments.clone().over(ServeFile::load(&file)?)));
        let text = "port = 2\nqueue = 7\nmax_body = \"1MiB\"\nsessions_per_key = 9\n";
        fs_err::write(&path, text).unwrap();
        let reloaded = again().unwrap();
        assert_eq!((reloaded.limits.body, reloaded.sessions.sessions_per_owner), (1 << 20, 5));
        assert_eq!(reloaded.later, ["models", "queue"]);
        fs_err::write(&path, "max_body = \"large\"\n").unwrap();
        assert!(again().err().unwrap().contains("large"));
        fs_err::write(&path, "colour = 1\n").unwrap();
        assert!(again().err().unwrap().contains("serve.toml: line 1"));
    }

    #[test]
    fn hints_and_responses_live_no_longer_than_sessions_unless_it_is_said() {
        let ttls = |session_days, response_days| {
            let file = ServeFile { session_days, response_days, ..ServeFile::default() };
            let limits = file.limits().unwrap();
            [limits.cache_key_ttl, limits.response_ttl].map(|ttl| ttl.as_secs() / 3600)
        };
        assert_eq!(ttls(None, None), [24, 30 * 24]);
        assert_eq!(ttls(Some(0.5), None), [12, 12]);
        assert_eq!(ttls(Some(400.0), None), [24, 30 * 24]);
        assert_eq!(ttls(Some(7.0), Some(90.0)), [24, 90 * 24]);
        let file = ServeFile { cache_key_days: Some(0.0), ..ServeFile::default() };
        assert!(file.limits().is_err());
    }

    #[test]
    fn an_adapter_finds_its_model() {
        let source = |name: &str| ModelSource {
            name: name.into(),
            folder: "m".into(),
            adapters: Vec::new(),
        };
        let mut two = [source("a"), source("b")];
        let (found, choice) = adapter_of(&mut two, "b:tone=dir").unwrap();
        assert_eq!((found.name.as_str(), choice.name.as_str()), ("b", "tone"));
        assert!(adapter_of(&mut two, "tone=dir").is_err());
        let mut one = [source("a")];
        let (_, choice) = adapter_of(&mut one, "dir/tone").unwrap();
        assert_eq!(choice.name, "tone");
    }

    #[test]
    fn a_value_out_of_its_range_is_wrong_usage() {
        let of = |file: ServeFile| file.host_settings().unwrap_err();
        let none = ServeFile::default;
        for (error, flag) in [
            (of(ServeFile { capacity: Some(0), ..none() }), "--capacity"),
            (of(ServeFile { queue: Some(0), ..none() }), "--queue"),
            (of(ServeFile { verify_restore: Some(2.0), ..none() }), "--verify-restore"),
            (bytes("--memory", Some("5x"), 1).unwrap_err(), "--memory"),
        ] {
            assert!(error.is::<Usage>() && error.to_string().contains(flag), "{error}");
        }
        let source = |name: &str| ModelSource {
            name: name.into(),
            folder: "m".into(),
            adapters: Vec::new(),
        };
        assert!(check_names(&[source("a"), source("b")]).is_ok());
        assert!(check_names(&[source("a"), source("b"), source("a")]).is_err());
    }

    #[test]
    fn a_password_of_a_store_is_not_shown() {
        assert_eq!(shown("redis://:secret@host:1"), "redis://…@host:1");
        assert_eq!(shown("redis://host:1"), "redis://host:1");
    }

    fn arguments(words: &[&str]) -> Arguments {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let words = ["serve"].iter().chain(words);
        <Line as clap::Parser>::parse_from(words).arguments
    }
}
