//! Tokens with a role of their own.

use serde_json::{Value, json};

/// Tokens that plain text never becomes, such as `<mask>`. Their ids follow those
/// of the whole vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    tokens: Vec<(String, u32)>,
}

impl SpecialTokens {
    /// Fills up short texts of a batch.
    pub const PADDING: &str = "<pad>";
    /// Hides a token that is to be predicted.
    pub const MASK: &str = "<mask>";
    /// Begins a sequence that is to be written.
    pub const BEGIN: &str = "<bos>";
    /// Ends a sequence that is written.
    pub const END: &str = "</s>";
    /// Parts two texts that are read together.
    pub const SEPARATOR: &str = "<sep>";
    /// Reads a whole text, for a classifier.
    pub const CLASS: &str = "<cls>";

    /// The number of special tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no special token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The id of a special token.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.tokens.iter().find(|(token, _)| token == name).map(|&(_, id)| id)
    }

    /// The name of a special token.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.tokens.iter().find(|&&(_, token)| token == id).map(|(name, _)| name.as_str())
    }

    /// Names and ids, by rising id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.tokens.iter().map(|(name, id)| (name.as_str(), *id))
    }

    /// The special tokens of a `tokenizer.json`.
    pub(super) fn of_file(file: &Value) -> Self {
        let added = file["added_tokens"].as_array().into_iter().flatten();
        let special = added.filter(|token| token["special"].as_bool() == Some(true));
        let mut tokens: Vec<(String, u32)> = special
            .filter_map(|token| {
                let id = u32::try_from(token["id"].as_u64()?).ok()?;
                Some((token["content"].as_str()?.to_owned(), id))
            })
            .collect();
        tokens.sort_by_key(|&(_, id)| id);
        Self { tokens }
    }

    /// Whether a file's added tokens are special ones as [`Self::entry`] writes them, with the ids
    /// after those of a model of `count` tokens.
    pub(super) fn are_own(file: &Value, count: usize) -> bool {
        let Some(added) = file["added_tokens"].as_array() else {
            return file["added_tokens"].is_null();
        };
        added.iter().zip(count as u64..).all(|(token, id)| {
            let name = token["content"].as_str().unwrap_or_default();
            check_name(name).is_ok() && *token == Self::entry(name, id)
        })
    }

    /// An added token of the file.
    pub(super) fn entry(name: &str, id: u64) -> Value {
        json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    }

    /// Parts a text at the special tokens that it spells: plain stretches, each with the token
    /// that ends it. The leftmost token comes first, and of those at one place the longest.
    pub(crate) fn split<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Stretch<'a>> {
        let mut rest = Some(text);
        std::iter::from_fn(move || {
            let text = rest?;
            let found = self.tokens.iter().filter_map(|(name, id)| {
                Some((text.find(name.as_str())?, std::cmp::Reverse(name.len()), *id))
            });
            let Some((at, std::cmp::Reverse(length), id)) = found.min() else {
                rest = None;
                return Some(Stretch { text, special: None });
            };
            rest = Some(&text[at + length..]);
            Some(Stretch { text: &text[..at], special: Some((id, length)) })
        })
    }
}

/// A stretch of plain text, and the special token after it with its length in bytes.
pub(crate) struct Stretch<'a> {
    pub(crate) text: &'a str,
    pub(crate) special: Option<(u32, usize)>,
}

/// Checks the name of a special token of our own. Decoders treat white space, `▁` and byte pieces
/// as text, and `##` as the middle of a word.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let is_byte = name.starts_with("<0x") && name.ends_with('>');
    match name {
        "" => Err("it is empty"),
        _ if !name.is_ascii() || name.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err("it must have printable ASCII characters and no white space")
        }
        _ if name.starts_with("##") || is_byte => Err("it is written as a piece of text is"),
        _ => Ok(()),
    }
}
