//! Owners of sessions, and the names that they give them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::SessionError;

/// The most bytes of an owner's id.
pub const LONGEST_OWNER: usize = 64;
/// The most characters of a session's name.
pub const LONGEST_NAME: usize = 128;

/// Who owns sessions: the id of an API key, never the key itself. The sessions of one owner are
/// unknown to every other one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// A session's name among those of its owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Owner {
    /// An owner's id: 1 to [`LONGEST_OWNER`] letters and digits of ASCII, and any of `_.-`.
    ///
    /// # Errors
    /// [`SessionError::Name`] for any other text.
    pub fn new(id: impl Into<String>) -> Result<Self, SessionError> {
        let id = id.into();
        let known = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if (1..=LONGEST_OWNER).contains(&id.len()) && id.bytes().all(known) {
            return Ok(Self(id));
        }
        let allowed = "1 to 64 letters and digits of ASCII, or any of _.-";
        Err(SessionError::Name { what: "the owner", value: shortened(&id), allowed })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Name {
    /// A session's name: 1 to [`LONGEST_NAME`] letters and digits of any script, and any of `_.:-`.
    ///
    /// # Errors
    /// [`SessionError::Name`] for any other text.
    pub fn new(name: impl Into<String>) -> Result<Self, SessionError> {
        let name = name.into();
        let known = |c: char| c.is_alphanumeric() || "_.:-".contains(c);
        if (1..=LONGEST_NAME).contains(&name.chars().count()) && name.chars().all(known) {
            return Ok(Self(name));
        }
        let allowed = "1 to 128 letters and digits, or any of _.:-";
        Err(SessionError::Name { what: "the session's name", value: shortened(&name), allowed })
    }

    /// `prefix` and 128 random bits in hexadecimal digits: a name that nobody guesses.
    ///
    /// # Errors
    /// [`SessionError::Name`] for a prefix that no name has, [`SessionError::Storage`] if the system
    /// gives no random numbers.
    pub fn random(prefix: &str) -> Result<Self, SessionError> {
        let bits = u128::from_le_bytes(random()?);
        Self::new(format!("{prefix}{bits:032x}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SessionError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| SessionError::Storage { what: format!("the system's random numbers: {e}") })?;
    Ok(bytes)
}

/// What an error shows of a text from outside.
fn shortened(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = SessionError;

            fn try_from(text: String) -> Result<Self, SessionError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

text!(Owner);
text!(Name);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_have_no_signs() {
        for name in ["a", "resp_01", "Tagebuch-für:2026.1", "日记", &"日".repeat(128)] {
            assert_eq!(Name::new(name).unwrap().as_str(), name);
        }
        for name in ["", "a b", "a/b", "a\0b", "\n", &"x".repeat(129), "a\u{200b}b"] {
            let error = Name::new(name).unwrap_err().to_string();
            assert!(error.contains("the session's name") && error.lines().count() == 1, "{error}");
        }
        for owner in ["", "é", "a:b", &"x".repeat(65)] {
            assert!(Owner::new(owner).is_err(), "{owner}");
        }
        assert!(Owner::new("key_1.a-b").is_ok());
        assert_ne!(Name::random("s-").unwrap(), Name::random("s-").unwrap());
        assert!(Name::random("a b").is_err());
    }
}
