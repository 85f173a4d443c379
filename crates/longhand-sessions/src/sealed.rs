//! A session's state that the client keeps: encrypted, so that nobody reads or alters it.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a random nonce. The bytes are
//! `LHS1`, the length of the key's id and the id, 24 bytes of nonce, the time of expiry in
//! milliseconds since 1970 (0: never), 16 bytes of a hash of model and tokeniser, and the encrypted
//! state. All that comes before it, the owner and the whole hashes are authenticated with it. Any
//! server that has the key and the model goes on from it, without a store.
//!
//! A sealed state can be given back more than once: each time the text goes on from the same place.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use longhand_engine::{Engine, Session, Snapshot};

use crate::chain::Chain;
use crate::clock::milliseconds;
use crate::error::SealError;
use crate::name::{Owner, random};

/// The first bytes of a sealed state, with the version of its form.
const MAGIC: &[u8; 4] = b"LHS1";
/// The most bytes of a key's id.
const LONGEST_ID: usize = 32;
const NONCE: usize = 24;
/// Bytes of the hash that tells models apart before anything is decrypted.
const MODEL: usize = 16;

/// A key and the name by which sealed states refer to it.
#[derive(Clone)]
pub struct SealingKey {
    /// 1 to 32 letters and digits of ASCII, or any of `_-`.
    pub id: String,
    /// The secret: 32 random bytes.
    pub key: [u8; 32],
}

/// Seals states with one key, and opens what that one or an older one sealed.
pub struct Sealer {
    keys: RwLock<Vec<SealingKey>>,
}

/// The header before the encrypted bytes.
struct Header<'a> {
    /// All bytes before the encrypted ones.
    bytes: &'a [u8],
    id: &'a str,
    nonce: [u8; NONCE],
    expires: u64,
    model: [u8; MODEL],
    /// The encrypted bytes behind it.
    rest: &'a [u8],
}

impl Sealer {
    /// Seals with the active key, and opens with any.
    ///
    /// # Errors
    /// [`SealError::Keys`] for an id that is none, or that two keys have.
    pub fn new(active: SealingKey, older: Vec<SealingKey>) -> Result<Arc<Self>, SealError> {
        let keys = RwLock::new(checked(active, older)?);
        Ok(Arc::new(Self { keys }))
    }

    /// Changes the keys from now on. States sealed with a key that is not among them are refused.
    ///
    /// # Errors
    /// The errors of [`Sealer::new`]. The keys stay as they were then.
    pub fn rotate(&self, active: SealingKey, older: Vec<SealingKey>) -> Result<(), SealError> {
        let keys = checked(active, older)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// A session's state in sealed form.
    pub(crate) fn seal(
        &self,
        owner: &Owner,
        session: &Session,
        chain: Option<Chain>,
        ttl: Option<Duration>,
        now: u64,
    ) -> Result<Vec<u8>, SealError> {
        let key = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.first().cloned().ok_or(SealError::NoKeys)?
        };
        let keys = |e: crate::SessionError| SealError::Keys(e.to_string());
        let nonce: [u8; NONCE] = random().map_err(keys)?;
        let expires = ttl.map_or(0, |ttl| now.saturating_add(milliseconds(ttl)).max(1));
        let engine = session.engine();
        let mut sealed = MAGIC.to_vec();
        // Checked to be short.
        sealed.push(key.id.len() as u8);
        sealed.extend(key.id.as_bytes());
        sealed.extend(nonce);
        sealed.extend(expires.to_le_bytes());
        sealed.extend(model(engine));
        let chain = chain.and_then(|chain| serde_json::to_vec(&chain).ok()).unwrap_or_default();
        let mut plain = (chain.len() as u32).to_le_bytes().to_vec();
        plain.extend(chain);
        plain.extend(Snapshot::of(session).to_bytes());
        let aad = authenticated(&sealed, owner, engine);
        let payload = Payload { msg: &plain, aad: &aad };
        let encrypted = cipher(&key).encrypt(&XNonce::from(nonce), payload);
        sealed.extend(encrypted.map_err(|_| SealError::Keys("the state is too large".into()))?);
        Ok(sealed)
    }

    /// The state in sealed bytes.
    pub(crate) fn open(
        &self,
        owner: &Owner,
        engine: &Arc<Engine>,
        bytes: &[u8],
        now: u64,
    ) -> Result<(Session, Option<Chain>), SealError> {
        let header = Header::read(bytes)?;
        let key = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.iter().find(|key| key.id == header.id).cloned()
        };
        let key = key.ok_or_else(|| SealError::UnknownKey { id: header.id.to_owned() })?;
        if header.model != model(engine) {
            return Err(SealError::OtherModel);
        }
        let aad = authenticated(header.bytes, owner, engine);
        let payload = Payload { msg: header.rest, aad: &aad };
        let plain = cipher(&key)
            .decrypt(&XNonce::from(header.nonce), payload)
            .map_err(|_| SealError::Authentication)?;
        // Only now is the time known to be the one that was sealed.
        if header.expires != 0 && header.expires <= now {
            return Err(SealError::Expired);
        }
        let form = || SealError::Form("its contents are of another form");
        let (length, plain) = plain.split_first_chunk::<4>().ok_or_else(form)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (chain, snapshot) = plain.split_at_checked(length).ok_or_else(form)?;
        let chain = match chain {
            [] => None,
            chain => Some(serde_json::from_slice(chain).map_err(|_| form())?),
        };
        let snapshot = Snapshot::from_bytes(snapshot).map_err(SealError::Snapshot)?;
        Ok((snapshot.session(engine).map_err(SealError::Snapshot)?, chain))
    }
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, SealError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(SealError::Form("they begin otherwise"))?;
        let short = || SealError::Form("they are too few");
        let (&length, rest) = rest.split_first().ok_or_else(short)?;
        let (id, rest) = rest.split_at_checked(usize::from(length)).ok_or_else(short)?;
        let id = std::str::from_utf8(id).ok().filter(|id| is_id(id));
        let id = id.ok_or(SealError::Form("their key has no name"))?;
        let (&nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or_else(short)?;
        let (&expires, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (&model, rest) = rest.split_first_chunk::<MODEL>().ok_or_else(short)?;
        let (expires, bytes) = (u64::from_le_bytes(expires), &bytes[..bytes.len() - rest.len()]);
        Ok(Self { bytes, id, nonce, expires, model, rest })
    }
}

fn cipher(key: &SealingKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(key.key))
}

/// What is authenticated beside the encrypted bytes. Each part has its length before it.
fn authenticated(header: &[u8], owner: &Owner, engine: &Engine) -> Vec<u8> {
    let parts = [
        header,
        owner.as_str().as_bytes(),
        engine.model_hash().as_bytes(),
        engine.tokenizer().hash().as_bytes(),
    ];
    let with_length = |part: &[u8]| [&(part.len() as u64).to_le_bytes()[..], part].concat();
    parts.into_iter().flat_map(with_length).collect()
}

/// The beginning of a hash of model and tokeniser.
fn model(engine: &Engine) -> [u8; MODEL] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(engine.model_hash().as_bytes());
    hasher.update(engine.tokenizer().hash().as_bytes());
    let mut short = [0; MODEL];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..MODEL]);
    short
}

fn is_id(id: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(known)
}

/// The active key, then the others.
fn checked(active: SealingKey, older: Vec<SealingKey>) -> Result<Vec<SealingKey>, SealError> {
    let keys: Vec<SealingKey> = std::iter::once(active).chain(older).collect();
    for (place, key) in keys.iter().enumerate() {
        if !is_id(&key.id) {
            let what = "an id is 1 to 32 letters and digits of ASCII, or any of _-";
            return Err(SealError::Keys(what.into()));
        }
        if keys[..place].iter().any(|other| other.id == key.id) {
            return Err(SealError::Keys(format!("two keys have the id `{}`", key.id)));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ids, nano, reader};

    fn key(id: &str, byte: u8) -> SealingKey {
        SealingKey { id: id.into(), key: [byte; 32] }
    }

    #[test]
    fn a_state_is_opened_by_its_owner_alone_with_its_key_before_it_expires() {
        let engine = nano(1);
        let (owner, other) = (Owner::new("a").unwrap(), Owner::new("b").unwrap());
        let mut session = engine.session(Default::default()).unwrap();
        session.read(&mut reader(&engine), &ids(9, 1)).unwrap();
        let chain = Some(Chain::new(&engine).extend(&ids(9, 1)));
        let sealer = Sealer::new(key("new", 1), vec![key("old", 2)]).unwrap();
        let ttl = Some(Duration::from_secs(10));
        let sealed = sealer.seal(&owner, &session, chain, ttl, 1_000).unwrap();
        let (opened, same) = sealer.open(&owner, &engine, &sealed, 10_999).unwrap();
        assert_eq!((opened.logits(), same), (session.logits(), chain));
        assert!(matches!(sealer.open(&owner, &engine, &sealed, 11_000), Err(SealError::Expired)));
        let refused = sealer.open(&other, &engine, &sealed, 0);
        assert!(matches!(refused, Err(SealError::Authentication)));
        assert!(matches!(sealer.open(&owner, &nano(2), &sealed, 0), Err(SealError::OtherModel)));
        // After a rotation both are opened, and after another one neither.
        sealer.rotate(key("newer", 3), vec![key("new", 1)]).unwrap();
        assert!(sealer.open(&owner, &engine, &sealed, 0).is_ok());
        let fresh = sealer.seal(&owner, &session, None, None, 0).unwrap();
        assert!(sealer.open(&owner, &engine, &fresh, u64::MAX).unwrap().1.is_none());
        sealer.rotate(key("new", 9), Vec::new()).unwrap();
        let unknown = sealer.open(&owner, &engine, &fresh, 0);
        assert!(matches!(unknown, Err(SealError::UnknownKey { id }) if id == "newer"));
        // The id again, with another secret.
        let refused = sealer.open(&owner, &engine, &sealed, 0);
        assert!(matches!(refused, Err(SealError::Authentication)));
    }

    #[test]
    fn a_state_altered_in_any_byte_is_refused() {
        let engine = nano(1);
        let owner = Owner::new("a").unwrap();
        let mut session = engine.session(Default::default()).unwrap();
        session.read(&mut reader(&engine), &ids(3, 1)).unwrap();
        let sealer = Sealer::new(key("k", 1), Vec::new()).unwrap();
        let sealed = sealer.seal(&owner, &session, None, Some(Duration::from_secs(9)), 0).unwrap();
        let step = sealed.len() / 199;
        for at in (0..70).chain((70..sealed.len()).step_by(step)).chain([sealed.len() - 1]) {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(sealer.open(&owner, &engine, &altered, 0).is_err(), "byte {at}");
        }
        for len in [0, 3, 4, 5, 20, 60, sealed.len() - 1] {
            assert!(sealer.open(&owner, &engine, &sealed[..len], 0).is_err(), "length {len}");
        }
    }

    #[test]
    fn keys_have_different_names() {
        for (active, older) in [("", "a"), ("a b", "a"), ("a", "a"), (&*"x".repeat(33), "a")] {
            assert!(Sealer::new(key(active, 1), vec![key(older, 2)]).is_err(), "{active}");
        }
    }
}
