//! `serve.toml`: the settings of a server in a file. A flag goes before the file, the file before the
//! default; unknown keys are refused.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::plain_words::plain;

/// The file. Every key may be missing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeFile {
    /// Model folders, as the command line names them: `[NAME=]DIR`.
    pub models: Vec<String>,
    /// Adapters, as the command line names them: `MODEL:[NAME=]DIR`.
    pub adapters: Vec<String>,
    /// The address to listen on.
    pub host: Option<String>,
    /// The port to listen on.
    pub port: Option<u16>,
    /// The file of the API keys.
    pub api_key_file: Option<PathBuf>,
    /// The certificate in PEM form.
    pub tls_cert: Option<PathBuf>,
    /// Its key in PEM form.
    pub tls_key: Option<PathBuf>,
    /// The folder that sessions are kept in.
    pub sessions: Option<PathBuf>,
    /// The address of a store that several servers share.
    pub store: Option<String>,
    /// The key that seals the states that clients hold.
    pub sealing_key_file: Option<PathBuf>,
    /// Bytes of states in memory, of all models together, as `512MiB`.
    pub memory: Option<String>,
    /// Threads to compute on.
    pub threads: Option<u16>,
    /// Streams of each model that decode together.
    pub capacity: Option<usize>,
    /// Requests of each model that wait or run.
    pub queue: Option<usize>,
    /// Connections at one time.
    pub connections: Option<usize>,
    /// Bytes of a body, as `32MiB`.
    pub max_body: Option<String>,
    /// Seconds after which an answer is broken off.
    pub request_seconds: Option<u64>,
    /// Seconds that running answers have after the signal to end.
    pub drain_seconds: Option<u64>,
    /// Days without use after which a session is forgotten.
    pub session_days: Option<f64>,
    /// Days without use after which the session of a `prompt_cache_key` is forgotten.
    pub cache_key_days: Option<f64>,
    /// Days after which a response is forgotten.
    pub response_days: Option<f64>,
    /// The most sessions of one key.
    pub sessions_per_key: Option<u64>,
    /// The most bytes of the sessions of one key, as `16GiB`.
    pub bytes_per_key: Option<String>,
    /// The share of restored states that is read again and compared, 0 to 1.
    pub verify_restore: Option<f64>,
    /// The form of the log: `text` or `json`.
    pub log_format: Option<String>,
    /// The address of a collector that traces are sent to, in OTLP over HTTP.
    pub otlp_endpoint: Option<String>,
}

/// Settings that a server takes over while it runs.
const LIVE: [&str; 7] = [
    "max_body",
    "request_seconds",
    "session_days",
    "cache_key_days",
    "response_days",
    "sessions_per_key",
    "bytes_per_key",
];

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file has another form.
    #[error("{}: line {line}: {what}", path.display())]
    Form {
        /// The file that is refused.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// A size that is no number of bytes.
    #[error("`{0}` is no number of bytes: write it as 1048576, 512MiB or 16GiB")]
    Size(String),
}

impl ServeFile {
    /// Reads the file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError::Io`] for a file that cannot be read, [`ConfigError::Form`] for one of another
    /// form.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = String::from_utf8(fs_err::read(path)?).map_err(|_| {
            let what = "it is no text in UTF-8: name a file of settings in TOML".into();
            ConfigError::Form { path: path.into(), line: 1, what }
        })?;
        let mut file: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            ConfigError::Form { path: path.into(), line, what: plain(&one_line(error.message())) }
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = [
            &mut file.api_key_file,
            &mut file.tls_cert,
            &mut file.tls_key,
            &mut file.sessions,
            &mut file.sealing_key_file,
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&path);
        }
        for model in file.models.iter_mut().chain(&mut file.adapters) {
            let (before, given) = match model.rsplit_once('=') {
                Some((name, given)) => (format!("{name}="), given),
                None => (String::new(), model.as_str()),
            };
            *model = format!("{before}{}", folder.join(given).display());
        }
        Ok(file)
    }
}

impl ServeFile {
    /// The names of settings that are others in `new` and that a running server does not take over.
    pub fn later(&self, new: &Self) -> Vec<String> {
        // Plain data: serialising it cannot fail.
        let fields = |file: &Self| match serde_json::to_value(file) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (old, new) = (fields(self), fields(new));
        let changed = new.iter().filter(|&(name, value)| old.get(name) != Some(value));
        let names = changed.map(|(name, _)| name.as_str());
        names.filter(|name| !LIVE.contains(name)).map(str::to_owned).collect()
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A number of bytes: `1048576`, `512MiB`, `16GiB`.
///
/// # Errors
/// [`ConfigError::Size`] for any other text.
pub fn size(text: &str) -> Result<u64, ConfigError> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = units.iter().find_map(|(name, bits)| Some((text.strip_suffix(name)?, *bits)));
    let (number, bits) = unit.unwrap_or((text, 0));
    let number: Option<u64> = number.trim_end().parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << bits));
    bytes.ok_or_else(|| ConfigError::Size(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_of_bytes() {
        for (text, bytes) in
            [("0", 0), ("1048576", 1 << 20), ("512MiB", 512 << 20), ("2 GiB", 2 << 30)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "1MB", "99999999999999TiB"] {
            assert!(size(text).unwrap_err().to_string().contains("no number of bytes"), "{text}");
        }
    }

    #[test]
    fn what_a_running_server_does_not_take_over_is_named() {
        let old = ServeFile { port: Some(1), max_body: Some("1MiB".into()), ..Default::default() };
        let mut new = old.clone();
        assert!(old.later(&new).is_empty());
        // A name that is misspelt there would be told of as one for the next start.
        for live in LIVE {
            assert!(serde_json::to_value(&old).unwrap().get(live).is_some(), "{live}");
        }
        (new.port, new.max_body, new.session_days) = (Some(2), None, Some(1.0));
        new.models.push("m".into());
        assert_eq!(old.later(&new), ["models", "port"]);
    }

    #[test]
    fn a_file_is_read_and_a_key_that_is_not_known_is_named_with_its_line() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("serve.toml");
        let text = "models = [\"nano=model\"]\nport = 9\napi_key_file = \"keys.toml\"\n";
        fs_err::write(&path, text).unwrap();
        let file = ServeFile::load(&path).unwrap();
        assert_eq!(file.port, Some(9));
        assert_eq!(file.api_key_file, Some(place.path().join("keys.toml")));
        assert_eq!(file.models, [format!("nano={}", place.path().join("model").display())]);
        for (text, line, word) in
            [("\ncolour = 1\n", "line 2", "colour"), ("port = \"a\"", "line 1", "65535")]
        {
            fs_err::write(&path, text).unwrap();
            let error = ServeFile::load(&path).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(word), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
        fs_err::write(&path, [0xff, 0xfe, 0]).unwrap();
        let error = ServeFile::load(&path).unwrap_err().to_string();
        assert!(error.contains("serve.toml") && error.contains("TOML"), "{error}");
    }
}
