//! A reply of the server, and what two of them must have in common.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Log-probabilities of one state that was read in passes with other borders differ in their last
/// bits; a token that was left out, or read twice, moves them by far more.
const TOLERANCE: f64 = 1e-4;

/// One text of a reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Choice {
    pub(super) text: String,
    finish: String,
    tokens: Vec<String>,
    log_probabilities: Vec<f64>,
}

/// What a completion says, whether it came at once or as a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reply {
    pub(super) choices: Vec<Choice>,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) cache_write_tokens: u64,
    pub(super) session: Option<String>,
    pub(super) state: Option<String>,
}

/// How two replies agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// In every token, and in the log-probabilities as far as passes with other borders allow.
    Tokens,
    /// Up to a token whose draw lay between two so nearly that the last bits decided.
    NearlyDrawn,
}

impl Reply {
    /// Reads the body of an answer.
    pub(super) fn of(body: &str, streams: bool) -> Result<Self> {
        let mut reply = Self::default();
        if !streams {
            reply.add(&serde_json::from_str(body)?)?;
            return Ok(reply);
        }
        let mut is_done = false;
        for event in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
            match event {
                "[DONE]" => is_done = true,
                event => reply.add(&serde_json::from_str(event)?)?,
            }
        }
        ensure!(is_done, "the stream has no end: {body}");
        Ok(reply)
    }

    /// Adds what an answer, or an event of a stream, says.
    fn add(&mut self, value: &Value) -> Result<()> {
        ensure!(value["error"].is_null(), "an error within the answer: {value}");
        let choices = value["choices"].as_array().context("an answer without choices")?;
        for choice in choices {
            let index = choice["index"].as_u64().context("a choice without its place")? as usize;
            ensure!(index < 16, "the place {index} of a choice");
            self.choices.resize(self.choices.len().max(index + 1), Choice::default());
            let to = &mut self.choices[index];
            to.text.push_str(choice["text"].as_str().context("a choice without text")?);
            if let Some(finish) = choice["finish_reason"].as_str() {
                finish.clone_into(&mut to.finish);
            }
            let told = &choice["logprobs"];
            let list = |name: &str| told[name].as_array().map_or(&[][..], Vec::as_slice);
            to.tokens.extend(list("tokens").iter().filter_map(Value::as_str).map(str::to_owned));
            to.log_probabilities.extend(list("token_logprobs").iter().filter_map(Value::as_f64));
        }
        if let Some(usage) = value.get("usage").filter(|usage| !usage.is_null()) {
            let count = |value: &Value| value.as_u64().context("usage without a number");
            let details = &usage["prompt_tokens_details"];
            self.prompt_tokens = count(&usage["prompt_tokens"])?;
            self.completion_tokens = count(&usage["completion_tokens"])?;
            self.cached_tokens = count(&details["cached_tokens"])?;
            self.cache_write_tokens = count(&details["cache_write_tokens"])?;
        }
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        self.session = text("session_id").or(self.session.take());
        self.state = text("state").or(self.state.take());
        Ok(())
    }

    /// The first text, which a session keeps.
    pub(super) fn written(&self) -> &str {
        self.choices.first().map_or("", |choice| &choice.text)
    }

    /// Compares with the reply of a cold reading of the whole text.
    ///
    /// # Errors
    /// Says the first difference.
    pub(super) fn agrees(&self, cold: &Self) -> Result<Agreement> {
        ensure!(self.choices.len() == cold.choices.len(), "other numbers of texts");
        let mut agreement = Agreement::Tokens;
        for (place, (is, must)) in self.choices.iter().zip(&cold.choices).enumerate() {
            let same =
                is.tokens.iter().zip(&must.tokens).take_while(|(is, must)| is == must).count();
            let values = is.log_probabilities.iter().zip(&must.log_probabilities);
            for (at, (is, must)) in values.take(same).enumerate() {
                let near = (is - must).abs() <= TOLERANCE;
                ensure!(near, "text {place}, token {at}: log-probability {is}, cold {must}");
            }
            if is.tokens == must.tokens && (&is.text, &is.finish) == (&must.text, &must.finish) {
                continue;
            }
            // What differs may have been drawn at random between two that border on each other.
            match is.tokens.get(same) {
                Some(_) => agreement = Agreement::NearlyDrawn,
                None if must.tokens.get(same).is_some() => agreement = Agreement::NearlyDrawn,
                None => bail!("text {place} is {is:?}, cold {must:?}"),
            }
        }
        if agreement == Agreement::Tokens {
            let counts = (self.completion_tokens, cold.completion_tokens);
            ensure!(counts.0 == counts.1, "{} tokens written, cold {}", counts.0, counts.1);
        }
        Ok(agreement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"choices": [{"index": 0, "text": "ab", "finish_reason": "length",
        "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-1.5, -0.25]}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4}},
        "session_id": "s"}"#;
    const STREAM: &str = r#"data: {"choices": [{"index": 0, "text": "a", "finish_reason": null, "logprobs": {"tokens": ["a"], "token_logprobs": [-1.5]}}], "usage": null}

data: {"choices": [{"index": 0, "text": "b", "finish_reason": "length", "logprobs": {"tokens": ["b"], "token_logprobs": [-0.25]}}]}

data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4}}, "session_id": "s"}

data: [DONE]
"#;

    #[test]
    fn a_stream_says_what_one_answer_says() {
        let whole = Reply::of(WHOLE, false).unwrap();
        assert_eq!(Reply::of(STREAM, true).unwrap(), whole);
        let cut = STREAM.replace("data: [DONE]", "");
        assert!(Reply::of(&cut, true).unwrap_err().to_string().contains("no end"));
    }

    #[test]
    fn a_difference_is_told() {
        let whole = Reply::of(WHOLE, false).unwrap();
        assert_eq!(whole.agrees(&whole).unwrap(), Agreement::Tokens);
        let mut other = whole.clone();
        other.choices[0].log_probabilities[1] = -0.26;
        assert!(whole.agrees(&other).unwrap_err().to_string().contains("token 1"));
        let mut other = whole.clone();
        other.choices[0].tokens[1] = "c".into();
        assert_eq!(whole.agrees(&other).unwrap(), Agreement::NearlyDrawn);
        let mut other = whole.clone();
        other.choices[0].finish = "stop".into();
        assert!(whole.agrees(&other).is_err());
        let other = Reply { completion_tokens: 3, ..whole.clone() };
        assert!(whole.agrees(&other).is_err());
    }
}
