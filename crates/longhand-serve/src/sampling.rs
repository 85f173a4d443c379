//! How a request wants tokens to be drawn, checked against the model.

use std::collections::BTreeMap;

use longhand_engine::{Engine, GenerateOptions, SamplerSettings};
use longhand_sessions::Write;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;

use crate::error::ApiError;

/// The most tokens that one answer may have.
pub(crate) const MOST_TOKENS: usize = 1 << 20;
/// The most answers to one prompt.
pub(crate) const MOST_CHOICES: usize = 16;
/// The most alternatives of each token.
pub(crate) const MOST_ALTERNATIVES: usize = 20;
/// The most stop texts.
const MOST_STOPS: usize = 16;

/// A text, or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(crate) enum Texts {
    /// A text by itself.
    One(String),
    /// The texts, 1 to 1024.
    Several(#[schemars(length(min = 1, max = 1024))] Vec<String>),
}

/// A text that ends an answer, or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(crate) enum Stops {
    /// A text by itself.
    One(#[schemars(length(min = 1))] String),
    /// The texts, at most 16.
    Several(#[schemars(length(max = 16), inner(length(min = 1)))] Vec<String>),
}

/// The schema of one text, or of 1 to 1024, none of them empty.
pub(crate) fn filled_texts(_: &mut SchemaGenerator) -> Schema {
    let text = json!({"type": "string", "minLength": 1});
    json_schema!({"anyOf": [
        text,
        {"type": "array", "items": text, "minItems": 1, "maxItems": 1024},
    ]})
}

impl Texts {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

/// The settings of a request; where one is none, the model's own holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drawing {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) seed: Option<i64>,
    pub(crate) logit_bias: Option<BTreeMap<String, f64>>,
    pub(crate) stop: Option<Stops>,
    /// The most tokens, behind the name of the field that says it.
    pub(crate) max_tokens: Option<(&'static str, u32)>,
}

impl Drawing {
    /// The work of writing by these settings. Without a seed, one is drawn; where `goes_on`, and nothing
    /// is said of how tokens are drawn, a session's own sampler goes on.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] names the field that is out of its range.
    pub(crate) fn write(self, engine: &Engine, goes_on: bool) -> Result<Write, ApiError> {
        let bias = self.bias(engine)?;
        let penalty = |field, value| within(field, value, -2.0, 2.0).map(Option::unwrap_or_default);
        let presence_penalty = penalty("presence_penalty", self.presence_penalty)?;
        let frequency_penalty = penalty("frequency_penalty", self.frequency_penalty)?;
        let sampler = self.sampler(engine, goes_on)?;
        let stop = stops(self.stop)?;
        let max_tokens = match self.max_tokens {
            None => engine.generation().max_tokens,
            Some((field, count)) => token_count(field, count)?,
        };
        Ok(Write {
            sampler,
            options: GenerateOptions { max_tokens, stop, ..GenerateOptions::default() },
            bias,
            presence_penalty,
            frequency_penalty,
            ..Write::default()
        })
    }

    fn sampler(&self, engine: &Engine, goes_on: bool) -> Result<Option<SamplerSettings>, ApiError> {
        let numbers = [self.temperature, self.top_p, self.min_p, self.repetition_penalty];
        let says_nothing =
            numbers.iter().all(Option::is_none) && self.top_k.is_none() && self.seed.is_none();
        if goes_on && says_nothing {
            return Ok(None);
        }
        let own = engine.generation().sampler;
        // Temperature 0 takes the most probable token, whatever else is said.
        let temperature = within("temperature", self.temperature, 0.0, 2.0)?;
        let top_p = positive("top_p", self.top_p, 1.0)?;
        let min_p = within("min_p", self.min_p, 0.0, 1.0)?;
        let penalty = positive("repetition_penalty", self.repetition_penalty, f64::MAX)?;
        Ok(Some(SamplerSettings {
            temperature: temperature.unwrap_or(own.temperature),
            top_k: self.top_k.map_or(own.top_k, |count| count as usize),
            top_p: top_p.unwrap_or(own.top_p),
            min_p: min_p.unwrap_or(own.min_p),
            repetition_penalty: penalty.unwrap_or(own.repetition_penalty),
            seed: self.seed.map_or_else(rand::random, i64::cast_unsigned),
        }))
    }

    /// The biases of tokens, by their ids.
    fn bias(&self, engine: &Engine) -> Result<Vec<(u32, f32)>, ApiError> {
        let Some(biases) = &self.logit_bias else { return Ok(Vec::new()) };
        let vocab_size = engine.tokenizer().vocab_size();
        let checked = biases.iter().map(|(id, &bias)| {
            let field = || format!("logit_bias.{}", id.chars().take(40).collect::<String>());
            let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
            let known = id.parse().ok().filter(|&id: &u32| is_number && (id as usize) < vocab_size);
            let Some(id) = known else {
                let message = format!(
                    "`logit_bias` names a token that is no number from 0 to {}",
                    vocab_size.saturating_sub(1)
                );
                return Err(ApiError::invalid(field(), message));
            };
            match bias.is_finite() && bias.abs() <= 100.0 {
                true => Ok((id, bias as f32)),
                false => Err(ApiError::invalid(
                    field(),
                    "a bias of `logit_bias` must be from -100 to 100",
                )),
            }
        });
        checked.collect()
    }
}

/// A number of tokens to write at most.
///
/// # Errors
/// [`ApiError::Invalid`] names the field, where it is too large.
pub(crate) fn token_count(field: &'static str, count: u32) -> Result<usize, ApiError> {
    match count as usize {
        count if count <= MOST_TOKENS => Ok(count),
        count => {
            let message = format!("`{field}` is {count}, but may be at most {MOST_TOKENS}");
            Err(ApiError::invalid(field, message))
        }
    }
}

/// A number within bounds. It is compared as it was written, before it is rounded to single precision.
fn within(
    field: &'static str,
    value: Option<f64>,
    least: f64,
    most: f64,
) -> Result<Option<f32>, ApiError> {
    match value.filter(|value| !(least..=most).contains(value)) {
        None => Ok(value.map(|value| value as f32)),
        Some(value) => {
            let message = format!("`{field}` is {value}, but must be from {least} to {most}");
            Err(ApiError::invalid(field, message))
        }
    }
}

/// A number above 0; one that is too small or too large for single precision becomes the nearest one.
fn positive(field: &'static str, value: Option<f64>, most: f64) -> Result<Option<f32>, ApiError> {
    match value.filter(|&value| !(value > 0.0 && value <= most)) {
        None => Ok(value.map(|value| (value as f32).clamp(f32::MIN_POSITIVE, f32::MAX))),
        Some(value) => {
            let at_most =
                if most < f64::MAX { format!(" and at most {most}") } else { String::new() };
            let message = format!("`{field}` is {value}, but must be more than 0{at_most}");
            Err(ApiError::invalid(field, message))
        }
    }
}

/// Stop texts, none of them empty.
fn stops(stop: Option<Stops>) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        None => Vec::new(),
        Some(Stops::One(text)) => vec![text],
        Some(Stops::Several(texts)) => texts,
    };
    check_stops("stop", &stops).map(|()| stops)
}

/// Refuses too many stop texts, and empty ones.
///
/// # Errors
/// [`ApiError::Invalid`] names the field.
pub(crate) fn check_stops(field: &'static str, stops: &[String]) -> Result<(), ApiError> {
    if stops.len() > MOST_STOPS {
        let message = format!("`{field}` has {} texts, but may have {MOST_STOPS}", stops.len());
        return Err(ApiError::invalid(field, message));
    }
    match stops.iter().any(String::is_empty) {
        true => {
            Err(ApiError::invalid(field, format!("a text of `{field}` is empty: leave it out")))
        }
        false => Ok(()),
    }
}

/// The number of answers.
///
/// # Errors
/// [`ApiError::Invalid`] for none or too many.
pub(crate) fn choices(field: &'static str, count: Option<u32>) -> Result<usize, ApiError> {
    let count = count.unwrap_or(1) as usize;
    match (1..=MOST_CHOICES).contains(&count) {
        true => Ok(count),
        false => {
            let message = format!("`{field}` is {count}, but must be from 1 to {MOST_CHOICES}");
            Err(ApiError::invalid(field, message))
        }
    }
}

/// The number of alternatives of each token.
///
/// # Errors
/// [`ApiError::Invalid`] for too many.
pub(crate) fn alternatives(field: &'static str, count: u32) -> Result<usize, ApiError> {
    match count as usize {
        count if count <= MOST_ALTERNATIVES => Ok(count),
        count => {
            let message = format!("`{field}` is {count}, but may be at most {MOST_ALTERNATIVES}");
            Err(ApiError::invalid(field, message))
        }
    }
}
