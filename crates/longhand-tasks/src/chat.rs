//! Dialogues: what an assistant says next.
//!
//! A dialogue is one stream, by the chat template: of a base model, its own; else ours, whose special
//! tokens the tokeniser gets. The loss is that of the assistant's turns and of what ends each of them.
//! Perplexity is over those tokens; the last turn of the assistant in each dialogue is written anew, for
//! the share of different n-grams.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use longhand_metrics::{Tokenizer as MetricTokens, distinct};
use longhand_model::config::HeadKind;
use longhand_model::{IGNORE, Model, Pass, Preset, Targets};
use longhand_text::batch::{LabelledBatch, LabelledIds};
use longhand_text::chat::{
    AnswerEnd, ChatFault, ChatTemplate, ConversationIds, ROLE_TOKENS, TOKENIZER_CONFIG_FILE,
    TokenizerConfig,
};
use longhand_text::corpus::dialogues::{Dialogue, Dialogues, Message, Role};
use longhand_text::{TextError, Tokenizer, TokenizerKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::TaskError;
use crate::search::{Hypothesis, Prompt, SearchOptions};
use crate::task::{At, Encoded, Explained, Ranked, Read, Reading, Scored, Task, Unit};
use crate::written::to_give;

#[cfg(test)]
mod tests;

/// What a chat model answers by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chatting {
    /// The number of first tokens of a dialogue that are learnt.
    pub longest: NonZeroUsize,
    /// The most tokens of a turn that is written.
    pub longest_answer: NonZeroUsize,
    /// How turns are searched for.
    #[serde(default = "greedy")]
    pub search: SearchOptions,
    /// The chat template of the base model; none for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The special tokens that the base model's template calls, by their names there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, String>,
    #[serde(skip)]
    compiled: Compiled,
}

/// How dialogues are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The number of first tokens of a dialogue that are learnt (default: 512).
    pub longest: NonZeroUsize,
    /// The most tokens of a turn that is written (default: 128).
    pub longest_answer: NonZeroUsize,
    /// Whether each dialogue of a file to learn from is read a second time with the two speakers in each
    /// other's place, the system's turns left as they are (default: false).
    pub both_sides: bool,
    /// How turns are searched for (default: the most probable token always).
    #[serde(default = "greedy")]
    pub search: SearchOptions,
}

impl Default for Settings {
    fn default() -> Self {
        let size = |size| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
        let (longest, longest_answer) = (size(512), size(128));
        Self { longest, longest_answer, both_sides: false, search: greedy() }
    }
}

/// Takes the most probable token always.
fn greedy() -> SearchOptions {
    SearchOptions { beam: NonZeroUsize::MIN, ..SearchOptions::default() }
}

/// The template for the tokeniser of this hash, compiled once. It follows from the other fields.
#[derive(Clone, Debug, Default)]
struct Compiled(Arc<OnceLock<(String, ChatTemplate)>>);

impl PartialEq for Compiled {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A dialogue of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The turns, the last of them the assistant's unless it is to be answered.
    pub dialogue: Dialogue,
    /// The same with both speakers in each other's place, if that is learnt too.
    pub other: Option<Dialogue>,
}

/// What is learnt from a dialogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The next token of each position, [`IGNORE`] where the assistant does not say it.
    pub next: Vec<u32>,
    /// The number of first tokens behind which the last turn of the assistant begins.
    pub given: usize,
    /// Whether the dialogue has tokens that are not read.
    pub is_cut: bool,
}

/// A turn that was written.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The texts that were found, the best first; at least one.
    pub texts: Vec<Ranked>,
    /// Whether the dialogue has tokens that were not read.
    pub is_cut: bool,
}

impl Chatting {
    /// The template for a tokeniser: the base model's, or ours, or plain lines where the tokeniser
    /// lacks our special tokens.
    ///
    /// # Errors
    /// [`ChatFault`] for a template that cannot be used.
    pub fn template(&self, tokenizer: &Tokenizer) -> Result<ChatTemplate, ChatFault> {
        let make = || match &self.template {
            Some(source) => {
                let tokens = self.tokens.clone();
                let config = TokenizerConfig { tokens, chat_template: None };
                ChatTemplate::new(source, &config, tokenizer)
            }
            None => match ChatTemplate::own(tokenizer) {
                Err(ChatFault::NoToken(_)) => ChatTemplate::plain(tokenizer),
                own => own,
            },
        };
        if let Some((hash, template)) = self.compiled.0.get()
            && hash == tokenizer.hash()
        {
            return Ok(template.clone());
        }
        let template = make()?;
        // Where another tokeniser came first, its template stays.
        let _ = self.compiled.0.set((tokenizer.hash().to_owned(), template.clone()));
        Ok(template)
    }

    /// A dialogue as ids, and which of them the assistant says; with `answering` up to where it
    /// is to go on.
    fn ids(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        answering: bool,
    ) -> Result<ConversationIds, TaskError> {
        let template = self.template(tokenizer).map_err(refused)?;
        let rendered = template.render(messages, answering).map_err(refused)?;
        Ok(rendered.encode(tokenizer)?)
    }

    /// A dialogue as a sequence, and whether it has more tokens than are read. None where the first
    /// answer begins behind them.
    fn item(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
    ) -> Result<(Option<LabelledIds<Target>>, bool), TaskError> {
        let is_open = messages.last().is_none_or(|last| last.role != Role::Assistant);
        let ConversationIds { mut ids, spoken } = self.ids(tokenizer, messages, is_open)?;
        if is_open {
            // The next turn is to be written, and all before it is read.
            let (given, next) = (ids.len(), vec![IGNORE; ids.len()]);
            let label = Target { next, given, is_cut: false };
            return Ok((Some(LabelledIds { ids, label }), false));
        }
        let is_cut = ids.len() > self.longest.get();
        ids.truncate(self.longest.get());
        let next: Vec<u32> = (1..=ids.len())
            .map(|at| match (ids.get(at), spoken[at.min(spoken.len() - 1)]) {
                (Some(&id), true) => id,
                _ => IGNORE,
            })
            .collect();
        let begins = |&at: &usize| next[at] != IGNORE && (at == 0 || next[at - 1] == IGNORE);
        let last = (0..next.len()).rev().find(begins);
        let item = last.map(|at| {
            let label = Target { next, given: at + 1, is_cut };
            LabelledIds { ids, label }
        });
        Ok((item, is_cut))
    }
}

/// A fault of the template.
fn refused(fault: ChatFault) -> TaskError {
    TextError::Chat { name: "a dialogue".into(), fault }.into()
}

impl Task for Chatting {
    const NAME: &'static str = "chat";
    const ABOUT: &'static str = "What an assistant says next in a dialogue";
    const UNIT: Unit = Unit::Line;
    const PRESET: Preset = Preset::LonghandSmall;
    const TOKENIZER: TokenizerKind = TokenizerKind::Bpe;
    const METRICS: &'static [(&'static str, &'static str)] = &[];
    const NUMBERS: &'static [(&'static str, &'static str)] =
        &[("perplexity", "perplexity"), ("distinct2", "distinct-2"), ("distinct1", "distinct-1")];
    const COLUMNS: &'static [&'static str] = &["answer"];
    const INPUT: &'static str = "dialogues.jsonl";
    const WRITES: bool = true;

    type Settings = Settings;
    type Example = Example;
    type Target = Target;
    type Answer = Answer;

    fn read(
        settings: &Settings,
        file: &Path,
        reading: &Reading,
    ) -> Result<Read<Example>, TaskError> {
        let Dialogues { name, dialogues } = Dialogues::read(file, reading.lossy)?;
        let mut examples = Vec::with_capacity(dialogues.len());
        for (line, dialogue) in dialogues {
            let both_sides = settings.both_sides && reading.to_learn;
            let other = if both_sides { dialogue.swapped() } else { None };
            let dialogue = if reading.unlabelled {
                dialogue.before_last_answer()
            } else {
                let named = |fault| TextError::Dialogue { name: name.clone(), line, fault };
                dialogue.up_to_last_answer().map_err(named)?
            };
            examples.push(Example { dialogue, other });
        }
        Ok(Read { examples, notes: BTreeMap::new() })
    }

    fn has_no_rows(_: &Settings, _: &Path, _: &Reading) -> bool {
        true
    }

    fn learn(settings: &Settings, _: &[Example], _: &str) -> Result<Self, TaskError> {
        settings.search.check().map_err(|(key, value, reason)| TaskError::Setting {
            task: Self::NAME,
            key: key.into(),
            value,
            reason: reason.into(),
        })?;
        Ok(Self {
            longest: settings.longest,
            longest_answer: settings.longest_answer,
            search: settings.search.clone(),
            template: None,
            tokens: BTreeMap::new(),
            compiled: Compiled::default(),
        })
    }

    fn begin_with(&mut self, folder: &Path, tokenizer: &Tokenizer) -> Result<(), TaskError> {
        let Some(template) = ChatTemplate::of_folder(folder, tokenizer)? else { return Ok(()) };
        self.template = Some(template.source().to_owned());
        self.tokens = template.tokens().clone();
        self.compiled = Compiled::default();
        Ok(())
    }

    fn files(&self, tokenizer: &Tokenizer) -> Result<Vec<(&'static str, Vec<u8>)>, TaskError> {
        let template = self.template(tokenizer).map_err(refused)?;
        let config = TokenizerConfig {
            tokens: template.tokens().clone(),
            chat_template: Some(template.source().to_owned()),
        };
        Ok(vec![(TOKENIZER_CONFIG_FILE, config.to_json())])
    }

    fn check(&self, _: &Example, _: At<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn key(example: &Example) -> Option<Cow<'_, str>> {
        // A file may hold a dialogue twice, or each of its beginnings as a further one: what is measured
        // on one of them is not learnt from another.
        let messages = example.dialogue.messages();
        let first = messages.iter().find(|message| message.role == Role::User);
        first.or(messages.first()).map(|first| first.content.as_str().into())
    }

    fn texts(example: &Example) -> Vec<&str> {
        example.dialogue.messages().iter().map(|message| message.content.as_str()).collect()
    }

    fn longest(&self) -> usize {
        self.longest.get()
    }

    fn special_tokens(&self) -> Vec<String> {
        ROLE_TOKENS.map(str::to_owned).into()
    }

    fn head(&self, _: &Settings, own: Option<&HeadKind>) -> HeadKind {
        match own {
            Some(own @ HeadKind::LanguageModel { .. }) => *own,
            _ => HeadKind::LanguageModel { tied: true, bias: false },
        }
    }

    fn misfit(&self, head: &HeadKind) -> Option<String> {
        match head {
            HeadKind::LanguageModel { .. } => None,
            _ => Some("the model writes no text".into()),
        }
    }

    fn encode(
        &self,
        tokenizer: &Tokenizer,
        example: &Example,
    ) -> Result<Encoded<Target>, TaskError> {
        let mut encoded = Encoded { items: Vec::new(), is_cut: false };
        for dialogue in [&example.dialogue].into_iter().chain(&example.other) {
            let (item, is_cut) = self.item(tokenizer, dialogue.messages())?;
            encoded.items.extend(item);
            encoded.is_cut |= is_cut;
        }
        Ok(encoded)
    }

    fn with_targets<R>(
        &self,
        batch: &LabelledBatch<Target>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R {
        let mut next = vec![IGNORE; batch.time * batch.batch];
        for (b, target) in batch.labels.iter().enumerate() {
            for (t, &id) in target.next.iter().enumerate() {
                next[t * batch.batch + b] = id;
            }
        }
        learn(Targets::Tokens(&next))
    }

    fn target_bytes(target: &Target) -> Vec<u8> {
        target.next.iter().flat_map(|id| id.to_le_bytes()).collect()
    }

    fn answers(
        &self,
        _: &Model,
        _: &mut Pass<'_>,
        _: &[f32],
        _: &LabelledBatch<Target>,
    ) -> Vec<Answer> {
        // They are written by a search.
        Vec::new()
    }

    fn search(&self) -> Option<&SearchOptions> {
        Some(&self.search)
    }

    fn search_mut(&mut self) -> Option<&mut SearchOptions> {
        Some(&mut self.search)
    }

    fn ends(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, TaskError> {
        let template = self.template(tokenizer).map_err(refused)?;
        let special = tokenizer.special_tokens();
        match template.answer_end().map_err(refused)? {
            AnswerEnd::SpecialToken => Ok(special.iter().map(|(_, id)| id).collect()),
            AnswerEnd::Text(text) => {
                Ok(tokenizer.encode(&text)?.last().copied().into_iter().collect())
            }
        }
    }

    fn prompt<'a>(&self, item: &'a LabelledIds<Target>) -> Prompt<'a> {
        Prompt { source: None, prefix: &item.ids[..item.label.given], forced: &[] }
    }

    fn most_written(&self) -> NonZeroUsize {
        self.longest_answer
    }

    fn written(
        &self,
        tokenizer: &Tokenizer,
        item: &LabelledIds<Target>,
        hypotheses: &[Hypothesis],
    ) -> Result<Answer, TaskError> {
        let text = |hypothesis: &Hypothesis| -> Result<Ranked, TaskError> {
            Ok(Ranked {
                text: self.search.text(tokenizer, hypothesis)?,
                score: hypothesis.score,
                log_probability: hypothesis.log_probability,
                tokens: hypothesis.log_probabilities.len(),
                is_finished: hypothesis.is_finished(),
                matches: hypothesis.matches,
            })
        };
        let texts = hypotheses.iter().map(text).collect::<Result<_, _>>()?;
        let texts = to_give(texts, &self.search);
        Ok(Answer { texts, is_cut: item.label.is_cut })
    }

    fn measure(&self, _: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn measure_once(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let answers = scored.iter().flat_map(|scored| scored.answers);
        let texts: Vec<&str> =
            answers.filter_map(|answer| Some(answer.texts.first()?.text.as_str())).collect();
        // Dialogues of any language are parted alike: at white space, and each Chinese character alone.
        match distinct(&texts, MetricTokens::Zh) {
            Ok(counts) => {
                let [one, two, ..] = counts.per_ngram();
                BTreeMap::from([("distinct1".into(), one), ("distinct2".into(), two)])
            }
            Err(_) => BTreeMap::new(),
        }
    }

    fn truth(example: &Example) -> &str {
        let mut answers =
            example.dialogue.messages().iter().rev().filter(|it| it.role == Role::Assistant);
        answers.next().map_or("", |answer| &answer.content)
    }

    fn explained(
        &self,
        _: &Example,
        _: &[LabelledIds<Target>],
        _: &[Answer],
    ) -> Vec<Explained<Target>> {
        Vec::new()
    }

    fn parse(&self, text: &str, at: At<'_>) -> Result<Vec<Example>, TaskError> {
        let (name, line) = (at.name.to_owned(), at.example as u64);
        let named = |fault| TextError::Dialogue { name, line, fault };
        let dialogue = Dialogue::of_line(text).map_err(named)?;
        // What is asked for is the assistant's next turn.
        Ok(vec![Example { dialogue: dialogue.before_last_answer(), other: None }])
    }

    fn plain(&self, _: &Example, answers: &[Answer]) -> String {
        let best = answers.first().and_then(|answer| answer.texts.first());
        // Line breaks would make more lines than examples.
        best.map(|best| best.text.replace(['\n', '\r'], " ")).unwrap_or_default()
    }

    fn fields(&self, example: &Example, answers: &[Answer]) -> Map<String, Value> {
        let answer = answers.first();
        let finite = |value: f64| if value.is_finite() { json!(value) } else { Value::Null };
        let one = |ranked: &Ranked| {
            let mut told = json!({
                "text": ranked.text,
                "score": finite(ranked.score),
                "log_probability": finite(ranked.log_probability),
                "tokens": ranked.tokens,
                "is_finished": ranked.is_finished,
            });
            if let Some(matches) = ranked.matches {
                told["matches"] = matches.into();
            }
            told
        };
        let texts = answer.map(|answer| answer.texts.iter().map(one).collect::<Vec<_>>());
        let best = answer.and_then(|answer| answer.texts.first());
        let fields = [
            ("messages", json!(example.dialogue.messages())),
            ("answer", json!(best.map(|best| &best.text))),
            ("is_cut", json!(answer.is_some_and(|answer| answer.is_cut))),
            ("hypotheses", json!(texts)),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn is_cut(&self, answers: &[Answer]) -> bool {
        answers.iter().any(|answer| answer.is_cut)
    }

    fn ranked<'a>(&self, answers: &'a [Answer]) -> &'a [Ranked] {
        answers.first().map_or(&[], |answer| &answer.texts)
    }
}
