//! Tagging: one tag for each token of a sentence, such as the parts of names.
//!
//! Sentences are read from CoNLL columns. A word is a token of the vocabulary, or several tokens of
//! which one row of the body's output is made ([`WordVector`]). Its features ([`Feature`]) have
//! vectors of their own, which the model adds to those of its tokens, as it does with what it reads
//! in its characters ([`CharacterSettings`](characters::CharacterSettings)).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::iter::repeat;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use longhand_model::config::HeadKind;
use longhand_model::{Config, LegalTags, Model, Pass, Preset, Sequence, Targets, WordVector};
use longhand_text::batch::{LabelledBatch, LabelledIds};
use longhand_text::{Tokenizer, TokenizerKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::batches::{characters as characters_of, features as features_of};
use crate::characters::{self, Alphabet};
use crate::error::TaskError;
use crate::intervals::sums;
use crate::tags::Scheme;
use crate::task::{
    At, Calibrates, CharacterRows, Encoded, Explained, Read, Reading, Report, Scored, Task, Unit,
    WordRows,
};

mod example;
mod explained;
pub mod features;
mod meaning;
mod measures;
mod plain;
mod settings;
#[cfg(test)]
mod tests;
mod tokens;

use example::Columns;
pub use example::Example;
use features::{ABSENT, Feature, FeatureTable, Words};
pub use settings::Settings;
use tokens::{Tokens, numbers_of_words, rows_of_tags, words_of_longest};

/// The meaning of a tagger's answers, and how it reads a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tagging {
    /// The tags, in the order of the model's outputs.
    tags: Vec<String>,
    /// Their scheme.
    scheme: Scheme,
    /// The scheme of the training data, in which tags are written.
    written: Scheme,
    /// The columns of a file to tag.
    columns: Columns,
    /// The features, in the order of the model's tables.
    features: Vec<FeatureTable>,
    /// The characters that the model reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    characters: Option<Alphabet>,
    /// Whether the sentences of a document are read together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    document: bool,
    /// Whether words have spaces between them, for a tokeniser that reads them as a text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    spaced: bool,
    /// The row of a word of several tokens; none for the one that suits the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    words: Option<WordVector>,
    /// Added to the logit of the tag of nothing, see [`Settings::outside_bias`].
    #[serde(default, skip_serializing_if = "is_zero")]
    outside_bias: f32,
    longest: NonZeroUsize,
}

/// The tags, the features and the words of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A tag for each word.
    pub tags: Vec<u32>,
    /// `[F, n]`: the rows of each feature of each token, one feature after another.
    pub features: Vec<u32>,
    /// The characters of the words, and the place of each token's among them.
    pub characters: CharacterRows,
    /// For each word its first token and the one behind its last; empty where each token is a word.
    pub words: Vec<(u32, u32)>,
}

/// The tags of a sentence, and their probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// A tag for each word that was read.
    pub tags: Vec<u32>,
    /// The probability of each of these tags, over all legal paths.
    pub probabilities: Vec<f32>,
}

impl Task for Tagging {
    const NAME: &'static str = "tag";
    const ABOUT: &'static str = "A tag for each token: names, phrases, parts of speech";
    const UNIT: Unit = Unit::Block;
    const PRESET: Preset = Preset::Tagger;
    const METRICS: &'static [(&'static str, &'static str)] = &[
        ("entity_f1", "entity F1"),
        ("f1", "F1"),
        ("macro_f1", "macro-F1"),
        ("accuracy", "accuracy"),
    ];
    // A tagger goes on to find more entities while its loss rises.
    const CRITERION: &'static [&'static str] = &["entity_f1", "f1"];
    const COLUMNS: &'static [&'static str] = &["tags"];
    const IN_PARTS: bool = true;
    const INPUT: &'static str = "columns.conll";

    type Settings = Settings;
    type Example = Example;
    type Target = Target;
    type Answer = Answer;

    fn read(
        settings: &Settings,
        file: &Path,
        reading: &Reading,
    ) -> Result<Read<Example>, TaskError> {
        let examples = example::read(settings, file, reading)?;
        let mut notes = BTreeMap::new();
        let repaired = example::illegal_tags(&examples);
        if repaired > 0 {
            notes
                .insert("tag(s) that may not follow the one before were repaired".into(), repaired);
        }
        let words = examples.iter().flat_map(Example::words);
        let long = words.filter(|word| settings.characters.is_some() && characters::is_cut(word));
        match long.count() {
            0 => {}
            count => {
                let most = characters::LONGEST;
                let note = format!("word(s) have more than the {most} characters that are read");
                notes.insert(note, count);
            }
        }
        Ok(Read { examples, notes })
    }

    fn learn(settings: &Settings, examples: &[Example], files: &str) -> Result<Self, TaskError> {
        let written = example::scheme_of(examples);
        let scheme = match (written, settings.scheme) {
            (Scheme::Raw, Some(Scheme::Raw) | None) | (_, Some(Scheme::Raw)) => Scheme::Raw,
            (Scheme::Raw, Some(wanted)) => {
                let wanted = wanted.name();
                return Err(TaskError::NoScheme { name: files.into(), wanted });
            }
            (Scheme::Iob1, None) => Scheme::Iob2,
            (written, wanted) => wanted.unwrap_or(written),
        };
        let tags = example::tags_of(examples, scheme);
        if let [only] = &tags[..] {
            return Err(TaskError::OneLabel { name: files.into(), label: only.clone() });
        }
        let mut features = Vec::new();
        if settings.spelling {
            let words = || examples.iter().flat_map(Example::words);
            let characters = words().map(|word| word.chars().count()).sum();
            features = Feature::suited(words().count(), characters);
        }
        let columns = examples.first().and_then(|example| example.columns.clone());
        let columns = columns.unwrap_or_default();
        features.extend((0..columns.features()).map(Feature::Column));
        let read: Vec<(Vec<&str>, Vec<Vec<&str>>)> = examples
            .iter()
            .flat_map(|example| example.predicates(&columns).into_iter().zip(repeat(example)))
            .map(|(predicate, example)| (example.words(), example.features_of(&columns, predicate)))
            .collect();
        let sentences = || read.iter().map(|(words, columns)| Words { words, columns });
        let features =
            features.into_iter().map(|feature| FeatureTable::learn(feature, sentences())).collect();
        let words = || examples.iter().flat_map(Example::words);
        let characters = settings
            .characters
            .map(|reader| Alphabet::learn(reader, words().flat_map(characters::read)));
        let columns = Columns { label: None, ..columns };
        let spaced = tokens::are_spaced(examples.iter().flat_map(Example::words));
        let Settings { document, words, longest, outside_bias, .. } = *settings;
        let outside_bias = outside_bias.unwrap_or_default();
        if !outside_bias.is_finite() {
            let (value, reason) = (outside_bias.to_string(), "it must be finite".into());
            let (task, key) = (Self::NAME, "outside_bias".into());
            return Err(TaskError::Setting { task, key, value, reason });
        }
        Ok(Self {
            tags,
            scheme,
            written,
            columns,
            features,
            characters,
            document,
            spaced,
            words,
            outside_bias,
            longest,
        })
    }

    fn check(&self, example: &Example, at: At<'_>) -> Result<(), TaskError> {
        // Roles are many and some are rare: one that training lacks counts as not found.
        let has_roles = self.columns(example).predicate.is_some();
        match self.numbers(example).iter().position(Option::is_none) {
            None => Ok(()),
            Some(_) if has_roles => Ok(()),
            Some(place) => Err(TaskError::UnknownLabel {
                name: at.name.into(),
                example: at.example,
                label: example.tags().get(place).copied().unwrap_or_default().into(),
                known: self.tags.join(", "),
            }),
        }
    }

    fn texts(example: &Example) -> Vec<&str> {
        example.words()
    }

    fn truth(example: &Example) -> &str {
        example.truth()
    }

    fn running_texts<'a>(&self, example: &'a Example) -> Vec<Cow<'a, str>> {
        let words = example.words();
        example.places().map(|place| tokens::text(&words[place], self.spaced).into()).collect()
    }

    fn vocabulary(&self, kind: TokenizerKind, examples: &[Example]) -> Option<usize> {
        let words = examples.iter().flat_map(Example::words);
        // Those that occur once teach the model what it does not know.
        let frequent = match kind {
            TokenizerKind::Char => frequent(words.flat_map(str::chars)) + usize::from(self.spaced),
            _ => frequent(words),
        };
        Some(frequent + SPECIAL)
    }

    fn counts(&self, examples: &[Example]) -> Vec<(String, usize)> {
        let mut counts = vec![0; self.tags.len()];
        for tag in examples.iter().flat_map(|example| self.numbers(example)).flatten() {
            counts[tag as usize] += 1;
        }
        self.tags.iter().cloned().zip(counts).collect()
    }

    fn longest(&self) -> usize {
        self.longest.get()
    }

    fn head(&self, settings: &Settings, own: Option<&HeadKind>) -> HeadKind {
        let own = own.and_then(|own| match *own {
            HeadKind::Tags { crf, .. } => Some(crf),
            _ => None,
        });
        HeadKind::Tags { tags: self.tags.len(), crf: settings.crf.or(own).unwrap_or(true) }
    }

    fn body(&self, config: Config, _: &Tokenizer) -> Config {
        let characters = self.characters.as_ref().map(Alphabet::reader);
        let features = self.features.iter().map(FeatureTable::rows).collect();
        Config { features, characters, ..config }
    }

    fn misfit(&self, head: &HeadKind) -> Option<String> {
        let names = self.tags.len();
        match *head {
            _ if !self.outside_bias.is_finite() => Some("its `outside_bias` is not finite".into()),
            HeadKind::Tags { tags, .. } if tags == names => None,
            HeadKind::Tags { tags, .. } => {
                Some(format!("it names {names} tags, the model has {tags}"))
            }
            _ => Some("the model gives no tags".into()),
        }
    }

    fn encode(
        &self,
        tokenizer: &Tokenizer,
        example: &Example,
    ) -> Result<Encoded<Target>, TaskError> {
        if example.len() == 0 {
            return Ok(Encoded { items: Vec::new(), is_cut: false });
        }
        let columns = self.columns(example);
        columns.check(&example.file)?;
        let words = example.words_of(columns);
        let read = |place: Range<usize>| {
            let words = &words[place.clone()];
            let tokens = Tokens::of(tokenizer, words, self.spaced)?;
            let alphabet = self.characters.as_ref();
            let characters = alphabet.map(|alphabet| alphabet.rows(words, tokens.owners()));
            Ok((place, tokens, characters.unwrap_or_default()))
        };
        let windows = example.windows(self.longest.get()).into_iter().map(read);
        let windows = windows.collect::<Result<Vec<_>, TaskError>>()?;
        let predicates = example.predicates(columns);
        let tags = self.targets(example);
        let mut items = Vec::with_capacity(predicates.len() * windows.len());
        for (predicate, tags) in predicates.into_iter().zip(tags.chunks(words.len())) {
            let features = self.feature_rows(example, predicate);
            items.extend(windows.iter().map(|(place, tokens, characters)| {
                let owners = tokens.owners();
                let of = |rows: &Vec<u32>, word: &Option<usize>| {
                    word.map_or(ABSENT, |word| rows[place.start + word])
                };
                let features = features.iter();
                let features = features.flat_map(|rows| owners.iter().map(move |w| of(rows, w)));
                let label = Target {
                    tags: self.of_window(&tags[place.clone()]),
                    features: features.collect(),
                    characters: characters.clone(),
                    words: tokens.target_words(),
                };
                LabelledIds { ids: tokens.ids.clone(), label }
            }));
        }
        Ok(Encoded { items, is_cut: false })
    }

    fn features(&self, batch: &LabelledBatch<Target>) -> Vec<u32> {
        features_of(batch, |target| &target.features)
    }

    fn characters(&self, batch: &LabelledBatch<Target>) -> Option<CharacterRows> {
        self.characters.as_ref().map(|_| characters_of(batch, |target| &target.characters))
    }

    fn words(&self, batch: &LabelledBatch<Target>) -> Option<WordRows> {
        if batch.labels.iter().all(|target| target.words.is_empty()) {
            return None;
        }
        let mut ranges = vec![(0, 0); words_of_longest(batch) * batch.batch];
        for (b, target) in batch.labels.iter().enumerate() {
            for (word, &range) in target.ranges().iter().enumerate() {
                ranges[word * batch.batch + b] = range;
            }
        }
        Some(WordRows { ranges, lengths: numbers_of_words(batch), vector: self.words })
    }

    fn with_targets<R>(
        &self,
        batch: &LabelledBatch<Target>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R {
        let [transitions, start, end] = &self.legal();
        let legal = LegalTags { transitions, start, end };
        learn(Targets::Tags(&rows_of_tags(batch), Some(legal)))
    }

    fn target_bytes(target: &Target) -> Vec<u8> {
        let words = target.words.iter().flat_map(|(start, end)| [start, end]);
        let all = target.tags.iter().chain(&target.features).chain(words);
        let all = all.chain(&target.characters.ids);
        all.flat_map(|x| x.to_le_bytes()).collect()
    }

    fn answers(
        &self,
        model: &Model,
        _pass: &mut Pass<'_>,
        logits: &[f32],
        batch: &LabelledBatch<Target>,
    ) -> Vec<Answer> {
        let Some(head) = model.heads().first() else { return Vec::new() };
        let lengths = numbers_of_words(batch);
        let sequence = Sequence {
            lengths: Some(&lengths),
            ..Sequence::new(words_of_longest(batch), batch.batch)
        };
        let [transitions, start, end] = &self.legal();
        let legal = LegalTags { transitions, start, end };
        let mut probabilities = logits.to_vec();
        if let Some(outside) = self.outside() {
            let rows = probabilities.chunks_exact_mut(self.tags.len());
            rows.for_each(|row| row[outside] += self.outside_bias);
        }
        let mut best = Vec::new();
        head.best_tags(&model.weights, &sequence, &probabilities, Some(legal), &mut best);
        head.tag_probabilities(&model.weights, &sequence, Some(legal), &mut probabilities);
        let answer = |b: usize| {
            let rows = || (0..batch.labels[b].tags.len()).map(move |t| t * batch.batch + b);
            let tags: Vec<u32> = rows().map(|row| best[row]).collect();
            let own = rows().zip(&tags);
            let probability =
                |(row, &tag): (usize, &u32)| probabilities[row * self.tags.len() + tag as usize];
            Answer { probabilities: own.map(probability).collect(), tags }
        };
        (0..batch.labels.len()).map(answer).collect()
    }

    fn measure(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        self.measures(&sums(&self.tallies_of(scored)))
    }

    fn tallies(&self, scored: &[Scored<'_, Self>]) -> Option<Vec<Vec<(usize, u64)>>> {
        Some(self.tallies_of(scored))
    }

    fn measure_tallies(&self, sums: &[u64]) -> BTreeMap<String, f64> {
        self.measures(sums)
    }

    fn report(&self, scored: &[Scored<'_, Self>]) -> Report {
        self.report_of(scored)
    }

    fn is_right(&self, scored: &Scored<'_, Self>) -> Option<bool> {
        let Scored { example, answers, .. } = scored;
        example.columns.as_ref()?.label?;
        let found = answers.iter().flat_map(|answer| &answer.tags).copied().map(Some);
        Some(self.numbers(example).into_iter().eq(found))
    }

    fn calibrates(settings: &Settings) -> Calibrates {
        match settings.outside_bias {
            None => Calibrates::IfHeldOut,
            Some(_) => Calibrates::Never,
        }
    }

    fn calibrate(&mut self, _: &Settings, _: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let bias = self.outside().map(|_| ("outside_bias".into(), self.outside_bias.into()));
        bias.into_iter().collect()
    }

    fn alternatives(&self, _: &Settings, step: usize) -> Vec<Self> {
        let changes = OUTSIDE_BIASES.get(step).filter(|_| self.outside().is_some());
        let changes = changes.into_iter().copied().flatten();
        let changed = |change| Self { outside_bias: self.outside_bias + change, ..self.clone() };
        changes.map(changed).collect()
    }

    fn plain_texts<'a>(&self, example: &'a Example) -> Vec<Cow<'a, str>> {
        self.plain_words(example)
    }

    fn plain_chains<'a>(&self, example: &'a Example) -> Vec<Vec<Cow<'a, str>>> {
        self.chains_of_words(example)
    }

    fn plain_target(&self, example: &Example) -> Result<Option<Target>, TaskError> {
        if example.len() == 0 {
            return Ok(None);
        }
        self.columns(example).check(&example.file)?;
        let (features, characters, words) = (Vec::new(), CharacterRows::default(), Vec::new());
        Ok(Some(Target { tags: self.targets(example), features, characters, words }))
    }

    fn plain_answer(&self, logits: &[f32]) -> Option<Answer> {
        Some(self.likeliest(logits))
    }

    fn explained(
        &self,
        example: &Example,
        items: &[LabelledIds<Target>],
        answers: &[Answer],
    ) -> Vec<Explained<Target>> {
        self.explained_parts(example, items, answers)
    }

    fn with_explained<R>(
        &self,
        batch: &LabelledBatch<Target>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R {
        learn(Targets::TagsApart(&rows_of_tags(batch)))
    }

    fn unit(&self) -> Unit {
        if self.document { Unit::Whole } else { Self::UNIT }
    }

    fn parse(&self, text: &str, at: At<'_>) -> Result<Vec<Example>, TaskError> {
        Ok(vec![example::parse(&self.columns, text, at)?])
    }

    fn plain(&self, example: &Example, answers: &[Answer]) -> String {
        let tags = self.written(example, answers);
        if example.columns.is_some() {
            // One example of a whole file: its answer has the form of its truth.
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            return example.line_of(&tags);
        }
        let mut lines = Vec::new();
        // With predicates, a token has a tag for each of them.
        let of_token = |token| {
            let tags = tags.iter().skip(token).step_by(example.len().max(1));
            tags.map(String::as_str).collect::<Vec<_>>().join(example.file.separator())
        };
        let columns: Vec<String> = (0..example.len()).map(of_token).collect();
        let columns = columns.iter().map(|tags| if tags.is_empty() { "_" } else { tags });
        // Writing into memory cannot fail.
        let _ = example.file.write_with("predicted", columns, &mut lines);
        String::from_utf8_lossy(&lines).trim_end_matches('\n').to_owned()
    }

    fn fields(&self, example: &Example, answers: &[Answer]) -> Map<String, Value> {
        let columns = self.columns(example);
        let tags = self.written(example, answers);
        let probabilities: Vec<f32> =
            answers.iter().flat_map(|answer| &answer.probabilities).copied().collect();
        // Tokens whose tags follow one another.
        let predicates: Vec<usize> = example.predicates(columns).into_iter().flatten().collect();
        let entities = self.entities(example, &tags);
        let fields = [
            ("words", json!(example.words_of(columns))),
            ("predicates", json!(predicates)),
            ("tags", json!(tags)),
            ("probabilities", json!(probabilities)),
            ("entities", json!(entities)),
        ];
        let is_told = |key: &str| key != "predicates" || columns.predicate.is_some();
        let fields = fields.into_iter().filter(|(key, _)| is_told(key));
        fields.map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// The number of different values that occur more than once.
fn frequent<T: Eq + Hash>(values: impl Iterator<Item = T>) -> usize {
    let mut counts: HashMap<T, usize> = HashMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.values().filter(|&&count| count > 1).count()
}

fn is_zero(bias: &f32) -> bool {
    *bias == 0.0
}

/// What is added to the bias of the tag of nothing in each step of the search for it. A network that
/// is sure of few names has a bias below 0.
const OUTSIDE_BIASES: [&[f32]; 3] = [&[-2.0, -1.0, 1.0], &[-0.5, 0.5], &[-0.25, 0.25]];

/// `<unk>` and `<eos>`.
const SPECIAL: usize = 2;
