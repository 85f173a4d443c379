//! Examples as token ids, long texts cut.

use std::num::NonZeroUsize;
use std::ops::Range;

use longhand_text::batch::LabelledIds;
use longhand_text::tokenizer::END;
use longhand_text::{Encoding, Offsets, SpecialTokens, Tokenizer};

use crate::error::TaskError;
use crate::examples::Examples;
use crate::task::{Encoded, Task};

/// The examples of a run as ids.
pub struct Data<T: Task> {
    /// Sequences to learn from.
    pub train: Vec<LabelledIds<T::Target>>,
    /// Number of training examples: fewer than sequences, where a text has several windows.
    pub train_examples: usize,
    /// Examples to validate on; may be empty.
    pub valid: Measured<T>,
    /// Examples to test on; may be empty.
    pub test: Measured<T>,
    /// Number of texts that are longer than the model reads.
    pub cut: usize,
    /// Number of tokens of the training examples that the vocabulary lacks.
    pub unknown: usize,
}

/// Examples that a model is measured on, with their ids.
pub struct Measured<T: Task> {
    /// The examples, in the order of their files.
    pub examples: Vec<Known<T>>,
    /// Number of texts that are longer than the model reads.
    pub cut: usize,
}

/// An example whose right answer is known.
pub struct Known<T: Task> {
    /// The example as its file holds it.
    pub example: T::Example,
    /// Its sequences; none where there is nothing to read.
    pub items: Vec<LabelledIds<T::Target>>,
}

impl<T: Task> Data<T> {
    /// Encodes the examples.
    ///
    /// # Errors
    /// If the tokeniser refuses a text.
    pub fn encode(examples: Examples<T>, tokenizer: &Tokenizer) -> Result<Self, TaskError> {
        let Examples { task, train: examples, valid, test, .. } = examples;
        let (mut train, mut cut) = (Vec::new(), 0);
        for example in &examples {
            let Encoded { items, is_cut } = task.encode(tokenizer, example)?;
            cut += usize::from(is_cut);
            train.extend(items);
        }
        let valid = Measured::encode(&task, valid, tokenizer)?;
        let test = Measured::encode(&task, test, tokenizer)?;
        let unknown = train.iter().map(|item| tokenizer.count_unknown(&item.ids)).sum();
        cut += valid.cut + test.cut;
        Ok(Self { train, train_examples: examples.len(), valid, test, cut, unknown })
    }

    /// The number of right answers that are longer than what is learnt of them.
    pub fn cut_targets(&self) -> usize {
        cut_targets::<T>(&self.train) + self.valid.cut_targets() + self.test.cut_targets()
    }
}

// Derived, they would ask the same of the task.
impl<T: Task> Clone for Measured<T> {
    fn clone(&self) -> Self {
        Self { examples: self.examples.clone(), cut: self.cut }
    }
}

impl<T: Task> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self { example: self.example.clone(), items: self.items.clone() }
    }
}

impl<T: Task> Measured<T> {
    /// Encodes the examples.
    ///
    /// # Errors
    /// If the tokeniser refuses a text.
    pub fn encode(
        task: &T,
        examples: Vec<T::Example>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TaskError> {
        let mut cut = 0;
        let encode = examples.into_iter().map(|example| {
            let Encoded { items, is_cut } = task.encode(tokenizer, &example)?;
            cut += usize::from(is_cut);
            Ok(Known { example, items })
        });
        let examples = encode.collect::<Result<_, TaskError>>()?;
        Ok(Self { examples, cut })
    }

    /// A list without any example.
    pub fn none() -> Self {
        Self { examples: Vec::new(), cut: 0 }
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// The sequences of all examples, in order.
    pub fn items(&self) -> impl Iterator<Item = &LabelledIds<T::Target>> {
        self.examples.iter().flat_map(|known| &known.items)
    }

    /// Each example, and its sequences.
    pub(crate) fn by_examples(
        &self,
    ) -> impl Iterator<Item = (&T::Example, &[LabelledIds<T::Target>])> {
        self.examples.iter().map(|known| (&known.example, &known.items[..]))
    }

    /// The number of right answers that are longer than what is learnt of them.
    pub fn cut_targets(&self) -> usize {
        cut_targets::<T>(self.items())
    }

    /// The number of tokens.
    pub fn tokens(&self) -> u64 {
        self.items().map(|item| (item.ids.len() + T::beside(&item.label)) as u64).sum()
    }
}

/// The number of sequences whose right answer has tokens that are not learnt.
fn cut_targets<'a, T: Task>(items: impl IntoIterator<Item = &'a LabelledIds<T::Target>>) -> usize
where
    T::Target: 'a,
{
    items.into_iter().filter(|item| T::is_target_cut(&item.label)).count()
}

/// The tokens of a text or of two that are read.
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    /// The place of each token; empty where nobody asks for it.
    pub(crate) places: Vec<Place>,
    /// Whether there are more tokens.
    pub(crate) is_cut: bool,
}

/// Where a token of an example stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) part: Part,
    /// Its bytes in its text; none of a separator.
    pub(crate) bytes: Range<usize>,
}

/// The part of an example that a token is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    First,
    Separator,
    Second,
}

impl Place {
    /// What the token is written as, without white space around it; nothing of a separator.
    pub(crate) fn written<'a>(&self, (first, second): (&'a str, Option<&'a str>)) -> &'a str {
        let text = match self.part {
            Part::First => first,
            Part::Separator => "",
            Part::Second => second.unwrap_or_default(),
        };
        text.get(self.bytes.clone()).unwrap_or_default().trim()
    }
}

impl Tokens {
    /// All tokens of a text, with their places where those are asked for.
    fn of(tokenizer: &Tokenizer, text: &str, part: Part, placed: bool) -> Result<Self, TaskError> {
        if !placed {
            return Ok(Self { ids: tokenizer.encode(text)?, places: Vec::new(), is_cut: false });
        }
        let Encoding { ids, offsets } = tokenizer.encode_with_offsets(text)?;
        let place = |offset: Offsets| Place { part, bytes: offset.bytes };
        Ok(Self { ids, places: offsets.into_iter().map(place).collect(), is_cut: false })
    }

    /// Keeps the first tokens.
    fn truncate(&mut self, count: usize) {
        self.is_cut |= self.ids.len() > count;
        self.ids.truncate(count);
        self.places.truncate(count);
    }
}

/// The first `longest` tokens of an example: of its text, or where the model reads pairs of both of its
/// texts with a separator between them.
///
/// # Errors
/// [`TaskError::NoSecondText`] where a pair has one text alone; no separator, or a text
/// that the tokeniser refuses.
pub(crate) fn encode_example(
    tokenizer: &Tokenizer,
    (text, second): (&str, Option<&str>),
    pair: bool,
    longest: NonZeroUsize,
    placed: bool,
) -> Result<Tokens, TaskError> {
    match (pair, second) {
        (false, _) => encode(tokenizer, text, longest, placed),
        (true, Some(second)) => {
            encode_pair(tokenizer, [text, second], longest, separator(tokenizer)?, placed)
        }
        (true, None) => Err(TaskError::NoSecondText),
    }
}

/// Two texts as one sequence of at most `longest` tokens with `separator` between them. The longer one
/// is cut first, and of texts of one length the second.
pub(crate) fn encode_pair(
    tokenizer: &Tokenizer,
    [first, second]: [&str; 2],
    longest: NonZeroUsize,
    separator: u32,
    placed: bool,
) -> Result<Tokens, TaskError> {
    let mut tokens = Tokens::of(tokenizer, first, Part::First, placed)?;
    let mut second = Tokens::of(tokenizer, second, Part::Second, placed)?;
    let room = longest.get() - 1;
    let half = room / 2;
    let kept = tokens.ids.len().min(room - half.min(second.ids.len()));
    tokens.truncate(kept);
    second.truncate(room - kept);
    tokens.is_cut |= second.is_cut;
    tokens.ids.push(separator);
    tokens.places.extend(placed.then_some(Place { part: Part::Separator, bytes: 0..0 }));
    tokens.ids.extend(second.ids);
    tokens.places.extend(second.places);
    Ok(tokens)
}

/// The token that parts two texts: `<sep>`, `[SEP]`, or the end of a document.
///
/// # Errors
/// [`TaskError::NoSeparator`] for a tokeniser that has none of them.
pub(crate) fn separator(tokenizer: &Tokenizer) -> Result<u32, TaskError> {
    let special = tokenizer.special_tokens();
    let found = special.id(SpecialTokens::SEPARATOR).or_else(|| special.id("[SEP]"));
    let found = found.or_else(|| tokenizer.document_end_id());
    found.or_else(|| tokenizer.id(END)).ok_or(TaskError::NoSeparator(tokenizer.kind()))
}

/// The first `longest` tokens of a text.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    longest: NonZeroUsize,
    placed: bool,
) -> Result<Tokens, TaskError> {
    let mut tokens = Tokens::of(tokenizer, text, Part::First, placed)?;
    tokens.truncate(longest.get());
    Ok(tokens)
}
