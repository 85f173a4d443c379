//! An example as ids: what is read, what is learnt, and what an answer must begin with.

use longhand_model::IGNORE;
use longhand_text::batch::LabelledIds;
use longhand_text::{SpecialTokens, Tokenizer};

use super::example::Example;
use super::kind::Kind;
use super::settings::{Form, QuestionPlace};
use super::within::encode;
use super::{Target, Writing, unknown};
use crate::error::TaskError;
use crate::ids::separator;
use crate::search::end;

impl<K: Kind> Writing<K> {
    /// An example in a direction as ids; none where there is nothing to read.
    pub(super) fn item(
        &self,
        tokenizer: &Tokenizer,
        example: &Example,
        direction: usize,
    ) -> Result<Option<LabelledIds<Target>>, TaskError> {
        let (sources, targets) = match (direction, example.is_unanswered()) {
            // What is to be written from is the source, whatever the direction.
            (_, true) => (self.sides(example, 0).0, Vec::new()),
            (direction, false) => self.sides(example, direction),
        };
        let of_source = self.source_vocabulary.or(tokenizer);
        let [between, separator] = [separator(of_source)?, separator(tokenizer)?];
        let end = end(tokenizer)?;
        let mut texts: Vec<&str> =
            sources.into_iter().filter(|text| !text.trim().is_empty()).collect();
        let parts = texts.iter().map(|text| encode(of_source, text));
        let mut parts: Vec<Vec<u32>> = parts.collect::<Result<_, _>>()?;
        if parts.is_empty() {
            return Ok(None);
        }
        let language = self.language_id(of_source, direction)?;
        let repeated = match (self.question, &parts[..]) {
            (QuestionPlace::Both, [_, question]) => Some(question.clone()),
            _ => None,
        };
        let before = repeated.as_ref().map_or(0, |question| question.len() + 1);
        let fixed = before + parts.len() - 1 + usize::from(language.is_some());
        let room = self.longest_source.get().saturating_sub(fixed).max(1);
        let is_cut = cut(&mut parts, room);
        if let Some(question) = repeated {
            parts.insert(0, question);
            texts.rotate_right(1);
            texts.push(texts[0]);
        }
        let mut source: Vec<u32> = language.into_iter().collect();
        source.extend(parts.join(&between));
        let words = match self.search.replace_unknown && self.form == Form::EncoderDecoder {
            true => {
                let parts = texts.iter().zip(&parts).map(|(text, ids)| (*text, ids.len()));
                let before = usize::from(language.is_some());
                unknown::words(of_source, &parts.collect::<Vec<_>>(), before)?
            }
            false => Vec::new(),
        };
        let forced = match example.is_unanswered() {
            true => self.forced(tokenizer, example)?,
            false => Vec::new(),
        };
        let mut written = match targets.first() {
            Some(text) => encode(tokenizer, text)?,
            None => Vec::new(),
        };
        let is_known = !targets.is_empty();
        let longest = self.longest_target.get();
        let (ends, is_target_cut) = (written.len() < longest, written.len() > longest);
        written.truncate(longest);
        let mut ids = if self.form == Form::Stream { source.clone() } else { Vec::new() };
        ids.push(separator);
        let given = ids.len();
        let mut next = vec![IGNORE; given - 1];
        next.extend(&written);
        match is_known && ends {
            true => next.push(end),
            // The last token is learnt, but nothing behind it is known.
            false => drop(written.pop()),
        }
        ids.extend(&written);
        next.resize(ids.len(), IGNORE);
        let source = if self.form == Form::Stream { Vec::new() } else { source };
        let label = Target { source, given, next, direction, is_cut, is_target_cut, forced, words };
        Ok(Some(LabelledIds { ids, label }))
    }

    /// The tokens that the answer to an unknown example must begin with.
    fn forced(&self, tokenizer: &Tokenizer, example: &Example) -> Result<Vec<u32>, TaskError> {
        let own = example.beginning.as_deref().or(self.beginning.as_deref());
        let Some(text) = own.filter(|text| !text.trim().is_empty()) else { return Ok(Vec::new()) };
        let ids = encode(tokenizer, text.trim())?;
        if tokenizer.count_unknown(&ids) > 0 {
            return Err(TaskError::UnknownPrefix(text.trim().to_owned()));
        }
        if let Some(mut constraint) = self.search.constraint.clone()
            && (ids.iter().any(|&id| constraint.accept(id).is_err()) || constraint.mask().is_err())
        {
            return Err(TaskError::PrefixAgainstRules(text.trim().to_owned()));
        }
        let maximum = self.search.maximum.unwrap_or(self.longest_target).get();
        match ids.len() < maximum {
            true => Ok(ids),
            false => Err(TaskError::LongPrefix { tokens: ids.len(), maximum }),
        }
    }

    /// The token that names the language to write, where the model writes two.
    fn language_id(
        &self,
        tokenizer: &Tokenizer,
        direction: usize,
    ) -> Result<Option<u32>, TaskError> {
        if self.measures.len() < 2 {
            return Ok(None);
        }
        let language =
            self.languages.get(1 - direction).map(|name| language_token(name)).unwrap_or_default();
        let id = tokenizer.special_tokens().id(&language);
        id.map(Some).ok_or(TaskError::NoLanguageToken { token: language, kind: tokenizer.kind() })
    }
}

/// The token that says which language is to be written.
pub(super) fn language_token(language: &str) -> String {
    format!("<2{language}>")
}

/// The tokens behind which a sentence of a source ends: those that end with a full stop, a question
/// mark or an exclamation mark, and the separator.
pub(super) fn sentence_ends(tokenizer: &Tokenizer) -> Vec<u32> {
    let separator = tokenizer.special_tokens().id(SpecialTokens::SEPARATOR);
    let ends = |id: u32| {
        let text = tokenizer.decode(&[id]).unwrap_or_default();
        Some(id) == separator || text.trim_end().ends_with(['.', '?', '!', '。', '？', '！'])
    };
    (0..tokenizer.vocab_size() as u32).filter(|&id| ends(id)).collect()
}

/// Cuts texts to `room` tokens in all, and says whether they have more: the first one, a context,
/// gives way to the question behind it.
fn cut(parts: &mut [Vec<u32>], room: usize) -> bool {
    let all: usize = parts.iter().map(Vec::len).sum();
    let mut excess = all.saturating_sub(room);
    for part in parts.iter_mut() {
        let kept = part.len().saturating_sub(excess);
        excess -= part.len() - kept;
        part.truncate(kept);
    }
    all > room
}
