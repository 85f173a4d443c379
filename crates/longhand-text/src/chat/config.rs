//! `tokenizer_config.json`: the names of special tokens, and the chat template.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::fault::ChatFault;
use super::{END_OF_TURN, OWN_TEMPLATE};
use crate::error::TextError;
use crate::file;
use crate::tokenizer::{SpecialTokens, Tokenizer};

/// The file's name in a model folder.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
/// The file that holds a template alone, which goes before the one in [`TOKENIZER_CONFIG_FILE`].
pub const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";

/// What is read of the file. Models from elsewhere have many more keys, which are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// The special tokens by the names that templates call, such as `eos_token`.
    pub tokens: BTreeMap<String, String>,
    /// The Jinja source of the chat template.
    pub chat_template: Option<String>,
}

impl TokenizerConfig {
    /// The file beside a tokeniser with [`super::ROLE_TOKENS`], with our own template.
    pub fn own(tokenizer: &Tokenizer) -> Self {
        let special = tokenizer.special_tokens();
        let named = [
            ("bos_token", SpecialTokens::BEGIN),
            ("eos_token", END_OF_TURN),
            ("pad_token", SpecialTokens::PADDING),
        ];
        let named = named.into_iter().filter(|(_, token)| special.id(token).is_some());
        Self {
            tokens: named.map(|(key, token)| (key.into(), token.into())).collect(),
            chat_template: Some(OWN_TEMPLATE.into()),
        }
    }

    /// Reads such a file by its path.
    ///
    /// # Errors
    /// [`TextError::Io`] if it cannot be read, [`TextError::Chat`] if it has another form.
    pub fn load(path: &Path) -> Result<Self, TextError> {
        let name = || path.display().to_string();
        let named = |fault| TextError::Chat { name: name(), fault };
        Self::from_json(&fs_err::read(path)?).map_err(named)
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// [`ChatFault::Form`] for JSON of another form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ChatFault> {
        let file: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| ChatFault::Form(error.to_string()))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        // A token is a text, or an object with the text beside how it is matched.
        let token = |value: &Value| text(value).or_else(|| text(value.get("content")?));
        let tokens = file
            .iter()
            .filter(|(key, _)| key.ends_with("_token"))
            .filter_map(|(key, value)| Some((key.clone(), token(value)?)))
            .collect();
        let named = |entry: &Value, name: &str| entry.get("name").is_some_and(|it| it == name);
        let chat_template = match file.get("chat_template") {
            None | Some(Value::Null) => None,
            Some(Value::String(template)) => Some(template.clone()),
            Some(Value::Array(several)) => {
                let found = several.iter().find(|entry| named(entry, "default"));
                let template = found.and_then(|entry| text(entry.get("template")?));
                let none =
                    || ChatFault::Form("it has several templates, none called default".into());
                Some(template.ok_or_else(none)?)
            }
            Some(_) => return Err(ChatFault::Form("its chat_template is not a text".into())),
        };
        Ok(Self { tokens, chat_template })
    }

    /// The content of the file, as `transformers` reads it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut file = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
        });
        for (key, token) in &self.tokens {
            file[key] = token.as_str().into();
        }
        if let Some(template) = &self.chat_template {
            file["chat_template"] = template.as_str().into();
        }
        // Plain data with string keys: serialising it cannot fail.
        let mut json = serde_json::to_vec_pretty(&file).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Writes the file, beside and renamed.
    ///
    /// # Errors
    /// [`TextError::Io`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TextError> {
        file::write(path, &self.to_json())
    }
}
