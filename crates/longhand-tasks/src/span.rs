//! Extractive question answering: the span of a context that answers a question.
//!
//! A sequence is the question, a mark, and a window of the context, so that attention in both
//! directions compares the two. A span of the mark alone says that the window has no answer.
//! Features of each word tell how it matches the question ([`features`]) and how it is spelt. Spans of
//! the windows of a context are compared by their probability.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use longhand_model::config::HeadKind;
use longhand_model::{Config, Model, Pass, Preset, Targets};
use longhand_text::batch::{LabelledBatch, LabelledIds};
use longhand_text::corpus::questions::Questions;
use longhand_text::{Tokenizer, TokenizerKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::batches::features as features_of;
use crate::error::TaskError;
use crate::matches::Frequent;
use crate::tag::features::{Feature, FeatureTable, Words as Sentence};
use crate::task::{At, Calibrates, Encoded, Explained, Read, Reading, Scored, Task, Unit};

mod example;
pub mod features;
mod margin;
pub mod metric;
mod search;
#[cfg(test)]
mod tests;
pub mod words;

pub use example::Example;
use features::{Matches, TABLES};
use margin::Decision;
pub use search::Answer;
use search::{Token, UNKNOWN, best_span, combined, encoded_words, tokens, tokens_of, windows};
use words::Words;

/// How answers are found. Lengths are in tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The longest window of a context (default: 384).
    pub window: NonZeroUsize,
    /// The distance between the beginnings of neighbouring windows (default: 192). It is at most
    /// the length of a window.
    pub stride: NonZeroUsize,
    /// The number of first tokens of a question that are read (default: 64).
    pub longest_question: NonZeroUsize,
    /// The longest answer that is given (default: 30).
    pub longest_answer: NonZeroUsize,
    /// How much more probable than the best span "no answer" must be for it to be the answer, as the
    /// logarithm of the ratio. It counts where training has questions without answer (default: the
    /// margin with the highest F1 on the held-out part, or 0 where nothing is held out).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_answer_margin: Option<f32>,
    /// Whether the model reads how words match the question (default: true).
    pub matches: bool,
    /// Whether the model reads each word's spelling, or the pairs of characters
    /// in Chinese (default: true).
    pub spelling: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let size = |size| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
        Self {
            window: size(384),
            stride: size(192),
            longest_question: size(64),
            longest_answer: size(30),
            no_answer_margin: None,
            matches: true,
            spelling: true,
        }
    }
}

/// The meaning of the answers, and how a context is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spans {
    window: NonZeroUsize,
    stride: NonZeroUsize,
    longest_question: NonZeroUsize,
    longest_answer: NonZeroUsize,
    /// The margin of "no answer"; none where every question of training has an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_answer_margin: Option<f32>,
    /// The words by which matches are told apart; none where the model reads no matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    frequent: Option<Frequent>,
    /// The features of spelling, in the order of the model's further tables.
    spelling: Vec<FeatureTable>,
}

/// The answer and the features of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its first and its last position in the sequence.
    pub span: (u32, u32),
    /// The bytes in the context of each token behind the mark.
    pub places: Vec<Range<usize>>,
    /// The number of first tokens behind the mark that the window before holds too.
    pub repeated: usize,
    /// `[F, n]`: the rows of each feature, one feature after another.
    pub features: Vec<u32>,
}

impl Task for Spans {
    const NAME: &'static str = "span";
    const INPUT: &'static str = "questions.json";
    const ABOUT: &'static str = "The span of a text that answers a question";
    const UNIT: Unit = Unit::Whole;
    const PRESET: Preset = Preset::Reader;
    const METRICS: &'static [(&'static str, &'static str)] = &[
        ("f1", "F1"),
        ("exact_match", "exact match"),
        ("baseline_f1", "F1 of the sentence that shares most words"),
    ];
    const CRITERION: &'static [&'static str] = &["f1"];
    const COLUMNS: &'static [&'static str] =
        &["id", "question", "answer", "start", "end", "probability", "no_answer"];
    const FRAME: Option<[&'static str; 3]> = Some(["{", ",", "}"]);

    type Settings = Settings;
    type Example = Example;
    type Target = Target;
    type Answer = Answer;

    fn read(_: &Settings, file: &Path, reading: &Reading) -> Result<Read<Example>, TaskError> {
        example::read(file, reading)
    }

    fn learn(settings: &Settings, examples: &[Example], _: &str) -> Result<Self, TaskError> {
        let Settings { window, stride, longest_question, longest_answer, .. } = *settings;
        if stride > window {
            return Err(TaskError::Setting {
                task: Self::NAME,
                key: "stride".into(),
                value: stride.to_string(),
                reason: format!("windows of {window} tokens would leave some out"),
            });
        }
        let mut contexts = HashSet::new();
        let texts: Vec<&str> = examples
            .iter()
            .flat_map(|example| {
                let context = contexts.insert(&*example.context).then_some(&*example.context);
                context.into_iter().chain([example.question.text.as_str()])
            })
            .collect();
        let frequent = settings.matches.then(|| Frequent::of(texts.iter().map(|text| [*text]), 1));
        let mut spelling = Vec::new();
        if settings.spelling {
            let read: Vec<Vec<&str>> = texts.iter().map(|text| Words::of(text).words()).collect();
            let words = || read.iter().flatten();
            let characters = words().map(|word| word.chars().count()).sum();
            for feature in Feature::suited(words().count(), characters) {
                let sentences = read.iter().map(|words| Sentence { words, columns: &[] });
                spelling.push(FeatureTable::learn(feature, sentences));
            }
        }
        let may_lack = examples.iter().any(|example| !example.has_answer());
        let no_answer_margin = may_lack.then_some(settings.no_answer_margin.unwrap_or(0.0));
        Ok(Self {
            window,
            stride,
            longest_question,
            longest_answer,
            no_answer_margin,
            frequent,
            spelling,
        })
    }

    fn check(&self, _: &Example, _: At<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn stratum(example: &Example) -> &str {
        if example.has_answer() { "answer" } else { "no answer" }
    }

    /// The context: whoever has learnt the other questions on it knows where its answers are.
    fn key(example: &Example) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&*example.context))
    }

    fn texts(example: &Example) -> Vec<&str> {
        encoded_words(&example.question.text).chain(encoded_words(&example.context)).collect()
    }

    fn vocabulary(&self, _kind: TokenizerKind, examples: &[Example]) -> Option<usize> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut contexts = HashSet::new();
        for example in examples {
            let context = contexts.insert(&*example.context).then_some(&*example.context);
            for text in context.into_iter().chain([example.question.text.as_str()]) {
                for word in encoded_words(text) {
                    *counts.entry(word.trim_start()).or_default() += 1;
                }
            }
        }
        // Words that occur once teach the model what it does not know.
        let frequent = counts.values().filter(|&&count| count > 1).count();
        Some(frequent + SPECIAL)
    }

    fn longest(&self) -> usize {
        self.longest_question.get()
    }

    fn head(&self, _: &Settings, _: Option<&HeadKind>) -> HeadKind {
        HeadKind::Span {}
    }

    fn body(&self, config: Config, _: &Tokenizer) -> Config {
        let matches: &[usize] = if self.frequent.is_some() { &TABLES } else { &TABLES[..1] };
        let spelling = self.spelling.iter().map(FeatureTable::rows);
        Config { features: matches.iter().copied().chain(spelling).collect(), ..config }
    }

    fn misfit(&self, head: &HeadKind) -> Option<String> {
        match head {
            HeadKind::Span {} => None,
            _ => Some("the model gives no spans".into()),
        }
    }

    fn encode(
        &self,
        tokenizer: &Tokenizer,
        example: &Example,
    ) -> Result<Encoded<Target>, TaskError> {
        let [question, context] = [&*example.question.text, &*example.context].map(Words::of);
        let mut asked = tokens(tokenizer, &question)?;
        let read = tokens(tokenizer, &context)?;
        if read.is_empty() {
            return Ok(Encoded { items: Vec::new(), is_cut: false });
        }
        let is_cut = asked.len() > self.longest_question.get();
        asked.truncate(self.longest_question.get());
        let [of_question, none, of_context] = self.rows(&question, &context);
        // Any id will do: the features of the mark are its own.
        let mark = tokenizer.padding_id().unwrap_or(0);
        let span = known_span(example, &read);
        let windows = windows(read.len(), self.window.get(), self.stride.get());
        let mut before = 0_usize;
        let items = windows.into_iter().map(|window| {
            let repeated = before.saturating_sub(window.start);
            before = window.end;
            let read = &read[window.clone()];
            let ids = asked.iter().map(|token| token.id).chain([mark]);
            let rows = (asked.iter().map(|token| &of_question[token.word]))
                .chain(&none)
                .chain(read.iter().map(|token| &of_context[token.word]));
            let rows: Vec<&Vec<u32>> = rows.collect();
            let features = (0..none[0].len()).flat_map(|table| rows.iter().map(move |r| r[table]));
            let label = Target {
                span: placed(span, &window, asked.len()),
                places: read.iter().map(|token| token.bytes.clone()).collect(),
                repeated,
                features: features.collect(),
            };
            LabelledIds { ids: ids.chain(read.iter().map(|token| token.id)).collect(), label }
        });
        Ok(Encoded { items: items.collect(), is_cut })
    }

    fn documents(item: &LabelledIds<Target>) -> Vec<&[u32]> {
        let LabelledIds { ids, label } = item;
        let context = ids.len() - label.places.len();
        // The mark between the two is no text.
        vec![&ids[..context.saturating_sub(1)], &ids[context + label.repeated..]]
    }

    fn features(&self, batch: &LabelledBatch<Target>) -> Vec<u32> {
        features_of(batch, |target| &target.features)
    }

    fn with_targets<R>(
        &self,
        batch: &LabelledBatch<Target>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R {
        let spans: Vec<(u32, u32)> = batch.labels.iter().map(|target| target.span).collect();
        learn(Targets::Spans(&spans))
    }

    fn target_bytes(target: &Target) -> Vec<u8> {
        let ends = [target.span.0, target.span.1];
        ends.iter().chain(&target.features).flat_map(|x| x.to_le_bytes()).collect()
    }

    fn answers(
        &self,
        _: &Model,
        _: &mut Pass<'_>,
        logits: &[f32],
        batch: &LabelledBatch<Target>,
    ) -> Vec<Answer> {
        let answer = |b: usize| {
            let (length, places) = (batch.lengths[b], &batch.labels[b].places);
            let context = length.saturating_sub(places.len());
            let row = |t: usize| 2 * (t * batch.batch + b);
            let scores = |t: usize| [logits[row(t)], logits[row(t) + 1]];
            match best_span(length, context, self.longest_answer.get(), scores) {
                None => Answer { bytes: None, score: f32::NEG_INFINITY, none: 0.0 },
                Some((span, score, none)) => {
                    let first = &places[span.start - context];
                    let last = &places[span.end - 1 - context];
                    Answer { bytes: Some(first.start..last.end), score, none }
                }
            }
        };
        (0..batch.labels.len()).map(answer).collect()
    }

    fn measure(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
        let mut add = |name: &'static str, value: f64| {
            let (sum, count) = sums.entry(name).or_default();
            *sum += value;
            *count += 1;
        };
        let may_lack = scored.iter().any(|scored| !scored.example.has_answer());
        for Scored { example, answers, .. } in scored {
            let measures = example.right.measure(self.text(example, answers));
            add("exact_match", measures.exact);
            add("f1", measures.f1);
            add("baseline_f1", example.baseline().f1);
            match (may_lack, example.has_answer()) {
                (true, true) => {
                    add("has_answer_exact_match", measures.exact);
                    add("has_answer_f1", measures.f1);
                }
                (true, false) => add("no_answer_accuracy", measures.exact),
                (false, _) => {}
            }
        }
        let mean =
            |(name, (sum, count)): (&str, (f64, usize))| (name.to_owned(), sum / count as f64);
        sums.into_iter().map(mean).collect()
    }

    fn calibrates(settings: &Settings) -> Calibrates {
        match settings.no_answer_margin {
            None => Calibrates::IfHeldOut,
            Some(_) => Calibrates::Never,
        }
    }

    fn calibrate(&mut self, _: &Settings, held_out: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let Some(margin) = &mut self.no_answer_margin else { return BTreeMap::new() };
        let decision = |scored: &Scored<'_, Self>| {
            let Answer { bytes, score, none } = combined(scored.answers)?;
            let f1 = |text: &str| scored.example.right.measure(text).f1;
            let span = scored.example.context.get(bytes?)?;
            Some(Decision { log_ratio: none - score, with_span: f1(span), without: f1("") })
        };
        let decisions: Vec<Decision> = held_out.iter().filter_map(decision).collect();
        *margin = margin::best(&decisions, *margin);
        BTreeMap::from([("no_answer_margin".to_owned(), f64::from(*margin))])
    }

    fn is_right(&self, scored: &Scored<'_, Self>) -> Option<bool> {
        let text = self.text(scored.example, scored.answers);
        Some(scored.example.right.measure(text).exact == 1.0)
    }

    fn explained(
        &self,
        _: &Example,
        items: &[LabelledIds<Target>],
        answers: &[Answer],
    ) -> Vec<Explained<Target>> {
        let Some(best) = combined(answers) else { return Vec::new() };
        let is_decisive = |answer: &Answer| match self.bytes(&best) {
            Some(_) => answer.score == best.score && answer.bytes == best.bytes,
            None => answer.none == best.none,
        };
        let Some(item) = answers.iter().position(is_decisive) else { return Vec::new() };
        let LabelledIds { ids, label } = &items[item];
        let context = ids.len() - label.places.len();
        let mark = context.saturating_sub(1);
        let ends = self.bytes(&best).and_then(|bytes| {
            let first = label.places.iter().position(|place| place.start == bytes.start)?;
            let last = label.places.iter().rposition(|place| place.end == bytes.end)?;
            Some((context + first, context + last))
        });
        let (first, last) = ends.unwrap_or((mark, mark));
        let target = Target { span: (first as u32, last as u32), ..label.clone() };
        vec![Explained { item, target, part: None }]
    }

    fn parse(&self, text: &str, at: At<'_>) -> Result<Vec<Example>, TaskError> {
        let file = Questions::parse(at.name, text.as_bytes().to_vec(), false)?;
        Ok(example::examples(&file))
    }

    fn plain(&self, example: &Example, answers: &[Answer]) -> String {
        let [id, answer] =
            [&example.question.id, self.text(example, answers)].map(|text| json!(text));
        format!("{id}: {answer}")
    }

    fn fields(&self, example: &Example, answers: &[Answer]) -> Map<String, Value> {
        let answer = combined(answers);
        let probability = |log: f32| f64::from(log).exp();
        let bytes = answer.as_ref().and_then(|answer| self.bytes(answer));
        let character = |at: usize| example.context[..at].chars().count();
        let fields = [
            ("id", json!(example.question.id)),
            ("question", json!(example.question.text)),
            ("answer", json!(self.text(example, answers))),
            ("start", json!(bytes.as_ref().map(|bytes| character(bytes.start)))),
            ("end", json!(bytes.as_ref().map(|bytes| character(bytes.end)))),
            ("probability", json!(answer.as_ref().map(|answer| probability(answer.score)))),
            ("no_answer", json!(answer.as_ref().map(|answer| probability(answer.none)))),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl Spans {
    /// The rows of the features of each word of a question, of the mark, and of each
    /// word of the context.
    fn rows(&self, question: &Words<'_>, context: &Words<'_>) -> [Vec<Vec<u32>>; 3] {
        let spelt = |words: &Words<'_>| -> Vec<Vec<u32>> {
            let own = words.words();
            let sentence = Sentence { words: &own, columns: &[] };
            self.spelling.iter().map(|table| table.encode(sentence).collect()).collect()
        };
        let with = |matches: Vec<Vec<u32>>, words: &Words<'_>| -> Vec<Vec<u32>> {
            let spelt = spelt(words);
            let row = |(at, mut row): (usize, Vec<u32>)| {
                row.extend(spelt.iter().map(|table| table[at]));
                row
            };
            matches.into_iter().enumerate().map(row).collect()
        };
        let [of_question, mut none, of_context] = match &self.frequent {
            None => {
                let parts = [(0, question.len()), (1, 1), (2, context.len())];
                parts.map(|(part, count)| vec![vec![part]; count])
            }
            Some(frequent) => {
                let Matches { question, none, context } = Matches::of(frequent, question, context);
                [question, vec![none], context]
                    .map(|rows| rows.into_iter().map(|row| row.to_vec()).collect())
            }
        };
        // No word is spelt as the mark is.
        none.iter_mut().for_each(|row| row.resize(row.len() + self.spelling.len(), 0));
        [with(of_question, question), none, with(of_context, context)]
    }

    /// The bytes of an answer; none where "no answer" is more probable by the margin.
    fn bytes(&self, answer: &Answer) -> Option<Range<usize>> {
        let lacks = self.no_answer_margin.is_some_and(|margin| answer.none - answer.score > margin);
        answer.bytes.clone().filter(|_| !lacks)
    }

    /// The answer to a question, from those of its windows; empty for none.
    fn text<'a>(&self, example: &'a Example, answers: &[Answer]) -> &'a str {
        let bytes = combined(answers).and_then(|answer| self.bytes(&answer));
        bytes.and_then(|bytes| example.context.get(bytes)).unwrap_or_default()
    }
}

/// Whether and where a question is answered.
#[derive(Clone, Copy)]
enum Known {
    /// The first and the last token of the context.
    Span(usize, usize),
    /// The context has no answer.
    Nowhere,
    /// The context lacks the text of the answer, or nobody says what it is.
    Unknown,
}

/// The span of an example's first answer that has a place.
fn known_span(example: &Example, tokens: &[Token]) -> Known {
    let mut places = example.question.answers.iter().filter_map(|answer| answer.place.as_ref());
    let span = places.find_map(|place| tokens_of(&place.bytes, tokens));
    match span {
        Some((first, last)) => Known::Span(first, last),
        None if example.has_answer() => Known::Unknown,
        None => Known::Nowhere,
    }
}

/// The target of a window behind `asked` tokens and the mark. A window that lacks a part of
/// the answer has none.
fn placed(span: Known, window: &Range<usize>, asked: usize) -> (u32, u32) {
    match span {
        Known::Unknown => UNKNOWN,
        Known::Span(first, last) if window.start <= first && last < window.end => {
            let at = |token: usize| (token - window.start + asked + 1) as u32;
            (at(first), at(last))
        }
        Known::Span(..) | Known::Nowhere => (asked as u32, asked as u32),
    }
}

/// `<unk>` and `<eos>`.
const SPECIAL: usize = 2;
