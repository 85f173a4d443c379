//! What tasks whose answers are written have in common: a source and a target become ids, a model
//! learns the target's tokens, and a search writes an answer.
//!
//! - [`Form::Stream`]: one sequence is the source, a separator, the target and an end. The loss is
//!   that of the target and the end alone.
//! - [`Form::EncoderDecoder`]: an encoder reads the source, and a decoder the separator and the target.
//!
//! Where one model writes in both directions, a token such as `<2en>` begins the source and says
//! the language of the target (Johnson et al. 2017, "Google's multilingual neural machine
//! translation system", section 3).
//!
//! A [`Kind`] is what differs from task to task: the columns, the lengths and the metrics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use longhand_model::config::HeadKind;
use longhand_model::{Config, IGNORE, Model, Pass, Preset, Targets};
use longhand_text::batch::{LabelledBatch, LabelledIds};
use longhand_text::corpus::table::TableOptions;
use longhand_text::tokenizer::Writing as Script;
use longhand_text::{SpecialTokens, Tokenizer, TokenizerKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::TaskError;
use crate::search::{Hypothesis, Prompt, SearchOptions};
use crate::task::{
    At, Encoded, Explained, Ranked, Read, Reading, Report, Scored, SourceRows, Task, Unit,
};
use crate::written::to_give;

mod example;
mod further;
mod groups;
mod ids;
pub mod kind;
pub mod measures;
mod read;
mod settings;
pub mod symbols;
#[cfg(test)]
mod tests;
mod unknown;
pub(crate) mod vocabulary;
mod within;

use groups::{Group, Groups};
use ids::{language_token, sentence_ends};
use vocabulary::SourceVocabulary;

pub use example::Example;
pub use kind::{Compared, Fields, Kind};
pub use measures::{BleuTokens, Measures};
pub use settings::{Directions, Form, QuestionPlace, Settings};

/// A task of a kind whose answers are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound = "")]
pub struct Writing<K: Kind> {
    /// How the source is read.
    pub form: Form,
    /// The number of first tokens of a source that are read.
    pub longest_source: NonZeroUsize,
    /// The number of first tokens of a target that are learnt.
    pub longest_target: NonZeroUsize,
    /// Whether texts are put into lower case before they are read (default: false).
    #[serde(default, skip_serializing_if = "is_false")]
    pub lowercase: bool,
    /// Whether each character of a source is read as a word of its own (default: false).
    #[serde(default, skip_serializing_if = "is_false")]
    pub spelled: bool,
    /// Where a question about a text is read (default: behind the text).
    #[serde(default, skip_serializing_if = "QuestionPlace::is_behind")]
    pub question: QuestionPlace,
    /// The languages of the source and of the target; empty where nobody named them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Whether sources have a tokeniser of their own (default: false).
    #[serde(default, skip_serializing_if = "is_false")]
    pub separate_vocabularies: bool,
    /// How answers are measured: of the direction that the files have, and of the other one where the
    /// model writes in both.
    pub measures: Vec<Measures>,
    /// How answers are searched for.
    #[serde(default)]
    pub search: SearchOptions,
    /// The only direction that is read, where the model has two and one was chosen.
    #[serde(skip)]
    chosen: Option<usize>,
    /// What answers to unknown examples begin with, where an example does not say it.
    #[serde(skip)]
    beginning: Option<String>,
    #[serde(skip)]
    source_vocabulary: SourceVocabulary,
    #[serde(skip)]
    kind: PhantomData<K>,
}

/// What is learnt from a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The tokens that an encoder reads; empty where one stream has source and target.
    pub source: Vec<u32>,
    /// The number of first tokens of the sequence that are given, the separator included: a
    /// search begins behind them.
    pub given: usize,
    /// The next token of each position, [`IGNORE`] where it is not learnt.
    pub next: Vec<u32>,
    /// The number of the direction: 0 for the files' own, 1 for the other one.
    pub direction: usize,
    /// Whether the source has tokens that are not read.
    pub is_cut: bool,
    /// Whether the right text has tokens that are not learnt.
    pub is_target_cut: bool,
    /// The tokens that an answer must begin with.
    pub forced: Vec<u32>,
    /// What each token of `source` is written as; empty unless unknown words are replaced.
    pub words: Vec<String>,
}

/// A written answer.
#[derive(Clone, Debug)]
pub struct Answer<K: Kind> {
    /// The texts that were found, the best first; at least one.
    pub texts: Vec<Ranked>,
    /// The number of the direction.
    pub direction: usize,
    /// Whether the source has tokens that were not read.
    pub is_cut: bool,
    /// What it contributes to the metrics, counted once.
    counts: Arc<OnceLock<K::Counts>>,
}

impl<K: Kind> Answer<K> {
    /// The best text.
    pub fn text(&self) -> &str {
        self.texts.first().map_or("", |best| &best.text)
    }
}

impl<K: Kind> Task for Writing<K> {
    const NAME: &'static str = K::NAME;
    const ABOUT: &'static str = K::ABOUT;
    const UNIT: Unit = Unit::Line;
    const PRESET: Preset = Preset::LonghandSmall;
    const TOKENIZER: TokenizerKind = TokenizerKind::Bpe;
    const METRICS: &'static [(&'static str, &'static str)] = K::METRICS;
    const NUMBERS: &'static [(&'static str, &'static str)] = K::NUMBERS;
    const COLUMNS: &'static [&'static str] = K::COLUMNS;
    const WRITES: bool = true;

    type Settings = Settings;
    type Example = Example;
    type Target = Target;
    type Answer = Answer<K>;

    fn preset(settings: &Settings) -> Preset {
        match settings.form {
            Form::Stream => Self::PRESET,
            Form::EncoderDecoder => Preset::EncoderDecoderSmall,
        }
    }

    fn read(
        settings: &Settings,
        file: &Path,
        reading: &Reading,
    ) -> Result<Read<Example>, TaskError> {
        read::read::<K>(settings, file, reading)
    }

    fn has_no_rows(settings: &Settings, file: &Path, reading: &Reading) -> bool {
        !example::is_table::<K>(settings, file, reading)
    }

    fn learn(settings: &Settings, examples: &[Example], _: &str) -> Result<Self, TaskError> {
        settings.check::<K>()?;
        let longest = |own: Option<NonZeroUsize>, place: usize| {
            own.or(NonZeroUsize::new(K::LONGEST[place])).unwrap_or(NonZeroUsize::MIN)
        };
        let measures = |texts: fn(&Example) -> String| {
            let texts: Vec<String> = examples.iter().map(texts).collect();
            let own = Measures::learn(settings.bleu_tokenizer, settings.lowercase, &texts);
            Measures { symbols: settings.symbols, ..own }
        };
        let mut both =
            vec![measures(|example| example.targets.first().cloned().unwrap_or_default())];
        if settings.directions == Directions::Both {
            both.push(measures(|example| example.source.join(" ")));
        }
        Ok(Self {
            form: settings.form,
            longest_source: longest(settings.longest_source, 0),
            longest_target: longest(settings.longest_target, 1),
            lowercase: settings.lowercase,
            spelled: settings.spelled,
            question: settings.question,
            separate_vocabularies: settings.separate_vocabularies,
            languages: settings.languages.clone(),
            measures: both,
            search: settings.search.clone(),
            chosen: None,
            beginning: None,
            source_vocabulary: SourceVocabulary::default(),
            kind: PhantomData,
        })
    }

    fn apart<'a>(&self, example: &'a Example) -> Option<[Vec<&'a str>; 2]> {
        self.separate_vocabularies.then(|| <[_; 2]>::from(self.sides(example, 0)))
    }

    fn read_sources_with(&mut self, tokenizer: Tokenizer) {
        self.source_vocabulary = SourceVocabulary::new(tokenizer);
    }

    fn open(&mut self, folder: &Path) -> Result<(), TaskError> {
        if self.separate_vocabularies {
            self.source_vocabulary = SourceVocabulary::load(folder)?;
        }
        Ok(())
    }

    fn begin_with(&mut self, folder: &Path, _: &Tokenizer) -> Result<(), TaskError> {
        // The encoder's embedding is of the tokens that the base model read, whatever is asked for.
        let is_separate = SourceVocabulary::is_in(folder);
        if self.separate_vocabularies && !is_separate {
            return Err(TaskError::Setting {
                task: K::NAME,
                key: "separate_vocabularies".into(),
                value: "true".into(),
                reason: format!(
                    "one tokeniser reads and writes in {}, which the run begins with: leave it out, \
                     or begin from nothing",
                    folder.display()
                ),
            });
        }
        self.separate_vocabularies = is_separate;
        self.open(folder)
    }

    fn files(&self, _: &Tokenizer) -> Result<Vec<(&'static str, Vec<u8>)>, TaskError> {
        Ok(self.source_vocabulary.file()?.into_iter().collect())
    }

    fn body(&self, mut config: Config, tokenizer: &Tokenizer) -> Config {
        if let Some(encoder) = &mut config.encoder {
            encoder.vocab_size = self.source_vocabulary.size().or(encoder.vocab_size);
            if let Some(sentences) = &mut encoder.sentences {
                sentences.ends = sentence_ends(self.source_vocabulary.or(tokenizer));
            }
        }
        config
    }

    fn check(&self, _: &Example, _: At<'_>) -> Result<(), TaskError> {
        Ok(())
    }

    fn key(example: &Example) -> Option<Cow<'_, str>> {
        Some(example.source.join("\n").into())
    }

    fn texts(example: &Example) -> Vec<&str> {
        example
            .source
            .iter()
            .map(|text| &**text)
            .chain(example.targets.iter().map(String::as_str))
            .collect()
    }

    fn running_texts<'a>(&self, example: &'a Example) -> Vec<Cow<'a, str>> {
        // A word has the same token at the beginning of a text as within it.
        Self::texts(example).into_iter().map(|text| format!(" {text}").into()).collect()
    }

    fn longest(&self) -> usize {
        self.longest_source.get()
    }

    fn special_tokens(&self) -> Vec<String> {
        let own = [SpecialTokens::SEPARATOR, SpecialTokens::END].map(str::to_owned);
        let directions = (self.measures.len() > 1)
            .then(|| self.languages.iter().map(|name| language_token(name)));
        own.into_iter().chain(directions.into_iter().flatten()).collect()
    }

    fn head(&self, _: &Settings, own: Option<&HeadKind>) -> HeadKind {
        match own {
            Some(own @ HeadKind::LanguageModel { .. }) => *own,
            _ => HeadKind::LanguageModel { tied: true, bias: false },
        }
    }

    fn reads_sources(&self) -> bool {
        self.form == Form::EncoderDecoder
    }

    fn table(settings: &Settings, reading: &Reading) -> TableOptions {
        example::table_of_sources::<K>(settings, reading)
    }

    fn misfit(&self, head: &HeadKind) -> Option<String> {
        let has_measures = match self.measures.len() {
            1 => true,
            directions => directions == 2 && self.languages.len() == 2,
        };
        match head {
            _ if !has_measures => Some("it has no measures of one direction or two".into()),
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
        for direction in 0..self.measures.len() {
            if self.chosen.is_none_or(|chosen| chosen == direction) {
                let Some(item) = self.item(tokenizer, example, direction)? else { continue };
                encoded.is_cut |= item.label.is_cut;
                encoded.items.push(item);
            }
        }
        Ok(encoded)
    }

    fn is_target_cut(target: &Target) -> bool {
        target.is_target_cut
    }

    fn beside(target: &Target) -> usize {
        target.source.len()
    }

    fn source(&self, batch: &LabelledBatch<Target>) -> Option<SourceRows> {
        let own = || batch.labels.iter().map(|target| target.source.as_slice());
        (self.form == Form::EncoderDecoder).then(|| SourceRows::of(own()))
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
        target.source.iter().chain(&target.next).flat_map(|id| id.to_le_bytes()).collect()
    }

    fn answers(
        &self,
        _: &Model,
        _: &mut Pass<'_>,
        _: &[f32],
        _: &LabelledBatch<Target>,
    ) -> Vec<Answer<K>> {
        // They are written by a search.
        Vec::new()
    }

    fn search(&self) -> Option<&SearchOptions> {
        Some(&self.search)
    }

    fn search_mut(&mut self) -> Option<&mut SearchOptions> {
        Some(&mut self.search)
    }

    fn directions(&self) -> Vec<String> {
        let [from, to] = &self.languages[..] else { return Vec::new() };
        let both = [format!("{from}-{to}"), format!("{to}-{from}")];
        both.into_iter().take(self.measures.len()).collect()
    }

    fn begin_answers(&mut self, text: &str) -> bool {
        let text = if self.lowercase { text.to_lowercase() } else { text.to_owned() };
        self.beginning = Some(text);
        true
    }

    fn choose_direction(&mut self, direction: usize) {
        self.chosen = Some(direction);
    }

    fn prompt<'a>(&self, item: &'a LabelledIds<Target>) -> Prompt<'a> {
        let source = (self.form == Form::EncoderDecoder).then_some(item.label.source.as_slice());
        Prompt { source, prefix: &item.ids[..item.label.given], forced: &item.label.forced }
    }

    fn most_written(&self) -> NonZeroUsize {
        self.longest_target
    }

    fn written(
        &self,
        tokenizer: &Tokenizer,
        item: &LabelledIds<Target>,
        hypotheses: &[Hypothesis],
    ) -> Result<Answer<K>, TaskError> {
        let text = |hypothesis: &Hypothesis| -> Result<Ranked, TaskError> {
            Ok(Ranked {
                text: match self.search.replace_unknown {
                    true => unknown::replaced(tokenizer, hypothesis, &item.label.words)?,
                    false => self.search.text(tokenizer, hypothesis)?,
                },
                score: hypothesis.score,
                log_probability: hypothesis.log_probability,
                tokens: hypothesis.log_probabilities.len(),
                is_finished: hypothesis.is_finished(),
                matches: hypothesis.matches,
            })
        };
        let texts = hypotheses.iter().map(text).collect::<Result<_, _>>()?;
        Ok(Answer {
            texts: to_give(texts, &self.search),
            direction: item.label.direction,
            is_cut: item.label.is_cut,
            counts: Arc::default(),
        })
    }

    fn measure(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let mut counts = vec![Vec::new(); self.measures.len()];
        for Scored { example, answers, .. } in scored {
            for answer in *answers {
                counts[answer.direction].push(self.counts(example, answer));
            }
        }
        let mut metrics = BTreeMap::new();
        for (direction, suffix) in self.measured(scored) {
            let found = K::score(&self.measures[direction], &counts[direction]).into_iter();
            metrics.extend(found.map(|(key, value)| (format!("{key}{suffix}"), value)));
        }
        metrics
    }

    fn measure_once(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let mut metrics = self.groups(scored).map_or_else(BTreeMap::new, |groups| groups.metrics());
        for (direction, suffix) in self.measured(scored) {
            let answers = scored.iter().flat_map(|scored| scored.answers);
            let texts: Vec<&str> =
                answers.filter(|answer| answer.direction == direction).map(Answer::text).collect();
            let value = self.measures[direction].distinct2(&texts);
            metrics.extend(value.map(|value| (format!("distinct2{suffix}"), value)));
        }
        metrics
    }

    fn report(&self, scored: &[Scored<'_, Self>]) -> Report {
        let answered = |direction: usize| {
            let of = |scored: &&Scored<'_, Self>| {
                scored.answers.iter().any(|answer| answer.direction == direction)
            };
            let found =
                scored.iter().filter(of).map(|scored| self.sides(scored.example, direction).1);
            found.collect::<Vec<Vec<&str>>>()
        };
        let mut signatures = Map::new();
        for (direction, suffix) in self.measured(scored) {
            let measures = &self.measures[direction];
            for (name, signature) in K::signatures(measures, &answered(direction)) {
                signatures.insert(format!("{name}{suffix}"), signature.into());
            }
        }
        let line = |(name, text): (&String, &Value)| {
            format!("{name}: {}", text.as_str().unwrap_or_default())
        };
        let mut lines: Vec<String> = signatures.iter().map(line).collect();
        let mut json = Map::new();
        if !signatures.is_empty() {
            json.insert("signatures".to_owned(), Value::Object(signatures));
        }
        if let Some(groups) = self.groups(scored) {
            lines.push(groups.text());
            json.insert(groups::KEY.to_owned(), groups.json());
        }
        Report { json, text: lines.join("\n"), ..Report::default() }
    }

    fn is_right(&self, scored: &Scored<'_, Self>) -> Option<bool> {
        let [answer] = scored.answers else { return None };
        K::is_right(self.counts(scored.example, answer))
    }

    fn plain_target(&self, example: &Example) -> Result<Option<Target>, TaskError> {
        let has_text = example.source.iter().any(|text| !text.trim().is_empty());
        Ok((K::HAS_LEAD && has_text).then(Target::default))
    }

    fn plain_text(&self, text: &str) -> Option<Answer<K>> {
        let tokens = text.split_whitespace().count();
        let text = text.to_owned();
        // A baseline is sure of what it writes.
        let (score, log_probability, is_finished) = (0.0, 0.0, true);
        let ranked = Ranked { text, score, log_probability, tokens, is_finished, matches: None };
        K::HAS_LEAD.then(|| Answer {
            texts: vec![ranked],
            direction: 0,
            is_cut: false,
            counts: Arc::default(),
        })
    }

    fn truth(example: &Example) -> &str {
        example.targets.first().map_or("", String::as_str)
    }

    fn explained(
        &self,
        _: &Example,
        _: &[LabelledIds<Target>],
        _: &[Answer<K>],
    ) -> Vec<Explained<Target>> {
        Vec::new()
    }

    fn parse(&self, text: &str, _: At<'_>) -> Result<Vec<Example>, TaskError> {
        Ok(vec![Example::of_line::<K>(text).prepared(self.lowercase, self.spelled)])
    }

    fn plain(&self, _: &Example, answers: &[Answer<K>]) -> String {
        // Line breaks would make more lines than examples.
        answers.first().map(|answer| answer.text().replace(['\n', '\r'], " ")).unwrap_or_default()
    }

    fn fields(&self, example: &Example, answers: &[Answer<K>]) -> Map<String, Value> {
        let answer = answers.first();
        let best = answer.and_then(|answer| answer.texts.first());
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
        let hypotheses = answer.map(|answer| answer.texts.iter().map(one).collect::<Vec<_>>());
        let fields = [
            ("source", json!(example.source.join("\t"))),
            (K::COLUMNS[0], json!(answer.map(Answer::text))),
            ("score", best.map_or(Value::Null, |best| finite(best.score))),
            ("log_probability", best.map_or(Value::Null, |best| finite(best.log_probability))),
            ("is_cut", json!(answer.is_some_and(|answer| answer.is_cut))),
            ("hypotheses", json!(hypotheses)),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn is_cut(&self, answers: &[Answer<K>]) -> bool {
        answers.iter().any(|answer| answer.is_cut)
    }

    fn ranked<'a>(&self, answers: &'a [Answer<K>]) -> &'a [Ranked] {
        answers.first().map_or(&[], |answer| &answer.texts)
    }
}

/// What is put behind the key of a metric where both directions are measured.
const SUFFIXES: [&str; 2] = ["_forward", "_backward"];

impl<K: Kind> Writing<K> {
    /// The texts of the source, and those of the target, in a direction.
    fn sides<'a>(&self, example: &'a Example, direction: usize) -> (Vec<&'a str>, Vec<&'a str>) {
        let source = example.source.iter().map(|text| &**text).collect();
        let targets = example.targets.iter().map(String::as_str);
        match direction {
            0 => (source, targets.collect()),
            // Further right texts are other ways to say it, and no part of what is translated.
            _ => (targets.take(1).collect(), source),
        }
    }

    /// The directions that have answers, each with what is put behind the keys of its results.
    fn measured(&self, scored: &[Scored<'_, Self>]) -> Vec<(usize, &'static str)> {
        let answers = || scored.iter().flat_map(|scored| scored.answers);
        let is_found = |direction: &usize| answers().any(|answer| answer.direction == *direction);
        let found: Vec<usize> = (0..self.measures.len()).filter(is_found).collect();
        let both = found.len() > 1;
        let suffix = |direction: usize| if both { SUFFIXES[direction] } else { "" };
        found.into_iter().map(|direction| (direction, suffix(direction))).collect()
    }

    /// The metrics of each group of examples; none where no example is in a group, or none has a
    /// written answer.
    fn groups(&self, scored: &[Scored<'_, Self>]) -> Option<Groups> {
        let mut counts: Vec<(&str, Vec<&K::Counts>)> = Vec::new();
        for Scored { example, answers, .. } in scored {
            let (Some(group), [answer, ..]) = (&example.group, answers) else { continue };
            let place = counts.iter().position(|(name, _)| *name == &**group);
            let place = place.unwrap_or_else(|| {
                counts.push((group, Vec::new()));
                counts.len() - 1
            });
            counts[place].1.push(self.counts(example, answer));
        }
        let group = |(name, counts): &(&str, Vec<&K::Counts>)| Group {
            name: (*name).to_owned(),
            examples: counts.len(),
            metrics: K::score(&self.measures[0], counts),
        };
        let (key, words) = *K::METRICS.first()?;
        Groups::new(key, words, counts.iter().map(group).collect())
    }

    /// What an answer contributes to the metrics.
    fn counts<'a>(&self, example: &Example, answer: &'a Answer<K>) -> &'a K::Counts {
        answer.counts.get_or_init(|| {
            let (source, references) = self.sides(example, answer.direction);
            let compared =
                Compared { source: &source, output: answer.text(), references: &references };
            K::count(&self.measures[answer.direction], compared)
        })
    }
}

/// Whether a language is written without spaces between words.
fn is_unspaced<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    !Script::of(texts).has_spaces()
}

fn is_false(value: &bool) -> bool {
    !value
}
