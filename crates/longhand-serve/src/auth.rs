//! API keys: hashed at rest, compared in constant time, reloaded while the server runs.
//!
//! The file is TOML, one table for each key:
//!
//! ```toml
//! [[key]]
//! name = "alice"
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! requests_per_minute = 60      # optional, as all below
//! tokens_per_minute = 100000
//! sessions = 100               # in place of --sessions-per-key
//! bytes = "1GiB"               # in place of --bytes-per-key
//! ```
//!
//! A key has at least 128 random bits, so that a plain hash of it cannot be turned back. The name of a
//! key is the owner of its sessions: a new key under the same name has them too.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use longhand_sessions::{Owner, Quota};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::size;
use crate::rate::{Allowance, Rate};
use crate::seen::Seen;
use crate::traces::Trace;

/// The owner of all sessions of a server without keys.
const LOCAL: &str = "local";
/// The shortest key that is made or taken; such a key cannot be guessed.
const SHORTEST: usize = 16;

/// The keys that a server takes.
pub struct Keys {
    /// The file; none for a server without keys.
    file: Option<(PathBuf, Seen)>,
    keys: RwLock<Arc<Vec<Key>>>,
    local: Caller,
}

/// Whoever asks: the owner of sessions, what is left of the limits, and the trace of what is asked.
#[derive(Clone)]
pub struct Caller {
    /// The owner of the sessions.
    pub(crate) owner: Owner,
    /// What the key may still ask for.
    pub(crate) rate: Arc<Rate>,
    /// The span of the request, for those of its jobs.
    pub(crate) trace: Trace,
}

struct Key {
    hash: [u8; 32],
    caller: Caller,
    quota: Quota,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u32>,
    sessions: Option<u64>,
    bytes: Option<String>,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file has another form.
    #[error("{}: {what}", path.display())]
    Form {
        /// The file that is refused.
        path: PathBuf,
        /// What is wrong, and what is to be written.
        what: String,
    },
}

impl Caller {
    fn of(owner: Owner, rate: Arc<Rate>) -> Self {
        Self { owner, rate, trace: Trace::default() }
    }
}

impl Keys {
    /// A server that anyone may ask who reaches it.
    ///
    /// # Errors
    /// None in practice: the owner's name is the program's own.
    pub fn none() -> Result<Self, longhand_sessions::SessionError> {
        let local = Caller::of(Owner::new(LOCAL)?, Arc::default());
        Ok(Self { file: None, keys: RwLock::default(), local })
    }

    /// The keys of a file.
    ///
    /// # Errors
    /// [`KeysError::Io`] for a file that cannot be read, [`KeysError::Form`] for one of another form,
    /// or without a key.
    pub fn of_file(path: &Path) -> Result<Self, KeysError> {
        let owner = Owner::new(LOCAL).map_err(|error| fault(path, error))?;
        let local = Caller::of(owner, Arc::default());
        let seen = Seen::now(&[path]);
        let keys = read(path, &[])?;
        let file = Some((path.into(), seen));
        Ok(Self { file, keys: RwLock::new(Arc::new(keys)), local })
    }

    /// Reads the file again. Keys that are no longer there are refused from now on; limits of the
    /// others go on where they are. On an error the old keys stay.
    ///
    /// # Errors
    /// The errors of [`Keys::of_file`] for the file.
    pub fn reload(&self) -> Result<(), KeysError> {
        let Some((path, seen)) = &self.file else { return Ok(()) };
        let (now, old) = (seen.look(), self.current());
        let keys = Arc::new(read(path, &old)?);
        seen.note(now);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Whether the file is another than the one that was read.
    pub(crate) fn has_changed(&self) -> bool {
        self.file.as_ref().is_some_and(|(_, seen)| seen.has_changed())
    }

    /// The limits that keys have of their own on what they may keep. Of two keys of one name, as in a
    /// rotation, the higher limit counts.
    pub(crate) fn quotas(&self) -> HashMap<Owner, Quota> {
        let mut quotas: HashMap<Owner, Quota> = HashMap::new();
        for key in self.current().iter() {
            let quota = quotas.entry(key.caller.owner.clone()).or_default();
            quota.sessions = quota.sessions.max(key.quota.sessions);
            quota.bytes = quota.bytes.max(key.quota.bytes);
        }
        quotas
    }

    /// Whether there is a key of this name.
    pub fn has(&self, name: &str) -> bool {
        self.current().iter().any(|key| key.caller.owner.as_str() == name)
    }

    /// Whether a key is needed.
    pub fn is_needed(&self) -> bool {
        self.file.is_some()
    }

    /// Whose key it is; none for an unknown key, or for none where one is needed.
    pub(crate) fn caller(&self, key: Option<&str>) -> Option<Caller> {
        if !self.is_needed() {
            return Some(self.local.clone());
        }
        let hash = hash(key?);
        let keys = self.current();
        // Every key is compared, so that the time tells nothing of the place.
        let mut found = (Choice::from(0), 0_u64);
        for (place, key) in keys.iter().enumerate() {
            let is_equal = key.hash.ct_eq(&hash);
            found.1.conditional_assign(&(place as u64), is_equal);
            found.0 |= is_equal;
        }
        bool::from(found.0).then(|| keys.get(found.1 as usize).map(|key| key.caller.clone()))?
    }

    fn current(&self) -> Arc<Vec<Key>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A new key, and the lines of the file for it.
pub fn new_key(name: &str) -> (String, String) {
    let key = format!("lh-{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let hash: String = hash(&key).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = toml::Value::String(name.to_owned());
    let lines = format!("[[key]]\nname = {name}\nsha256 = \"{hash}\"\n");
    (key, lines)
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn fault(path: &Path, what: impl std::fmt::Display) -> KeysError {
    KeysError::Form { path: path.into(), what: what.to_string() }
}

/// Reads the file; `old` keys with the same owner and limits keep what is left of these.
fn read(path: &Path, old: &[Key]) -> Result<Vec<Key>, KeysError> {
    let text = String::from_utf8(fs_err::read(path)?).map_err(|_| {
        fault(path, "it is no text in UTF-8: `longhand serve --new-key NAME` makes such a file")
    })?;
    let file: File = toml::from_str(&text).map_err(|error| {
        // The message would quote the line, which may hold a key that was pasted there.
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        fault(path, format!("line {line} is not usable: {}", error.message()))
    })?;
    if file.key.is_empty() {
        let what = "it has no key, so that nobody could ask: add a table [[key]]";
        return Err(fault(path, what));
    }
    let mut keys = Vec::with_capacity(file.key.len());
    for entry in file.key {
        let hash = hex(&entry.sha256).ok_or_else(|| {
            let what = "sha256 must be the 64 hexadecimal digits of the key's hash";
            fault(path, format!("the key `{}`: {what}", entry.name))
        })?;
        let bytes = entry.bytes.as_deref().map(size).transpose();
        let bytes = bytes
            .map_err(|error| fault(path, format!("the key `{}`: bytes: {error}", entry.name)))?;
        let quota = Quota { sessions: entry.sessions, bytes };
        let owner = Owner::new(entry.name).map_err(|error| fault(path, error))?;
        let allowance = Allowance {
            requests_per_minute: entry.requests_per_minute,
            tokens_per_minute: entry.tokens_per_minute,
        };
        // Two keys of one name, as in a rotation, share their limits.
        let known = keys.iter().chain(old).find(|key: &&Key| {
            key.caller.owner == owner && key.caller.rate.allowance() == allowance
        });
        let rate = known.map(|key| key.caller.rate.clone());
        let rate = rate.unwrap_or_else(|| Arc::new(Rate::new(allowance)));
        keys.push(Key { hash, caller: Caller::of(owner, rate), quota });
    }
    Ok(keys)
}

/// 32 bytes as 64 hexadecimal digits.
pub(crate) fn hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, place) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[place..place + 2], 16).ok()?;
    }
    Some(bytes)
}

/// The key of a request: `Authorization: Bearer`, or `x-api-key` as Anthropic's clients send it.
pub(crate) fn key_of(headers: &axum::http::HeaderMap) -> Option<&str> {
    let bearer = headers.get(axum::http::header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let key = bearer.or_else(|| headers.get("x-api-key")?.to_str().ok());
    key.filter(|key| key.len() >= SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_their_hash_and_change_while_the_server_runs() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys.toml");
        let (alice, lines) = new_key("alice");
        fs_err::write(&path, &lines).unwrap();
        assert!(!lines.contains(&alice));
        let keys = Keys::of_file(&path).unwrap();
        assert_eq!(keys.caller(Some(&alice)).unwrap().owner.as_str(), "alice");
        for wrong in [None, Some(""), Some("lh-"), Some(&alice[1..])] {
            assert!(keys.caller(wrong).is_none(), "{wrong:?}");
        }
        let (bob, other) = new_key("bob");
        fs_err::write(&path, format!("{other}requests_per_minute = 1\n")).unwrap();
        assert!(keys.caller(Some(&bob)).is_none());
        keys.reload().unwrap();
        assert!(keys.caller(Some(&alice)).is_none());
        assert_eq!(keys.caller(Some(&bob)).unwrap().owner.as_str(), "bob");
        // A file that is not usable changes nothing, and is looked at again.
        for broken in ["", "key = 1", "[[key]]\nname = \"x\"\nsha256 = \"12\"", "[[key]]\nkey = 1"]
        {
            fs_err::write(&path, broken).unwrap();
            let error = keys.reload().unwrap_err().to_string();
            assert!(error.contains("keys.toml") && error.lines().count() == 1, "{error}");
            assert!(keys.caller(Some(&bob)).is_some() && keys.has_changed());
        }
        fs_err::write(&path, &lines).unwrap();
        keys.reload().unwrap();
        assert!(keys.caller(Some(&alice)).is_some() && !keys.has_changed());
    }

    #[test]
    fn a_key_may_have_limits_of_its_own_on_what_it_keeps() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys.toml");
        let lines = |name: &str, more: &str| format!("{}{more}\n", new_key(name).1);
        let all = [
            lines("alice", "sessions = 2"),
            lines("alice", "sessions = 3\nbytes = \"2MiB\""),
            lines("bob", ""),
        ];
        fs_err::write(&path, all.concat()).unwrap();
        let quotas = Keys::of_file(&path).unwrap().quotas();
        let of = |name: &str| quotas[&Owner::new(name).unwrap()];
        assert_eq!(of("alice"), Quota { sessions: Some(3), bytes: Some(2 << 20) });
        assert_eq!(of("bob"), Quota::default());
        fs_err::write(&path, lines("carol", "bytes = \"much\"")).unwrap();
        let error = Keys::of_file(&path).err().unwrap().to_string();
        assert!(error.contains("`carol`") && error.contains("`much`"), "{error}");
    }
}
