//! What a classifier reads, of one label or of several: a text or two, the characters of their tokens,
//! and how the words of two texts match.

use std::num::NonZeroUsize;

use longhand_model::Config;
use longhand_text::Tokenizer;
use longhand_text::batch::{LabelledBatch, LabelledIds};

use crate::batches::characters;
use crate::characters::{Alphabet, CharacterSettings};
use crate::error::TaskError;
use crate::ids::{Tokens, encode_example};
use crate::matches::{Frequent, PAIR_TABLES, of_pair};
use crate::task::{At, CharacterRows, Encoded};

/// The right answer for a text, and what is read beside its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<L = u32> {
    /// The label's id, or the ids of several labels, rising.
    pub label: L,
    /// The characters of each token; none where the model reads none.
    pub characters: CharacterRows,
    /// `[F, n]`: how the words of a pair match; none where the model reads no matches.
    pub features: Vec<u32>,
}

/// How an example is read.
pub(crate) struct Reader<'a> {
    /// The number of first tokens that are read.
    pub(crate) longest: NonZeroUsize,
    /// Whether it is two texts.
    pub(crate) pair: bool,
    /// The characters that the model reads, if it reads any.
    pub(crate) characters: Option<&'a Alphabet>,
    /// The words by which the matches of a pair are told apart, if the model reads matches.
    pub(crate) frequent: Option<&'a Frequent>,
}

impl<L> Target<L> {
    /// An answer for tokens that nothing is read beside.
    pub(crate) fn of(label: L) -> Self {
        Self { label, characters: CharacterRows::default(), features: Vec::new() }
    }
}

impl Reader<'_> {
    /// A body that reads the characters and the matches too.
    pub(crate) fn body(&self, config: Config) -> Config {
        let features = match self.frequent {
            Some(_) => PAIR_TABLES.to_vec(),
            None => config.features,
        };
        Config { features, characters: self.characters.map(Alphabet::reader), ..config }
    }

    /// The tokens of a text or of two, with their characters and their matches beside the answer.
    pub(crate) fn encode<L>(
        &self,
        tokenizer: &Tokenizer,
        texts: (&str, Option<&str>),
        mut label: Target<L>,
    ) -> Result<Encoded<Target<L>>, TaskError> {
        let placed = self.characters.is_some() || self.frequent.is_some();
        let Tokens { ids, places, is_cut } =
            encode_example(tokenizer, texts, self.pair, self.longest, placed)?;
        if let Some(alphabet) = self.characters {
            let written: Vec<&str> = places.iter().map(|place| place.written(texts)).collect();
            label.characters = alphabet.rows(&written, (0..written.len()).map(Some));
        }
        if let (Some(frequent), (first, Some(second))) = (self.frequent, texts) {
            label.features = of_pair(frequent, [first, second], &places);
        }
        Ok(Encoded { items: vec![LabelledIds { ids, label }], is_cut })
    }

    /// The characters of a batch's tokens; none where the model reads none.
    pub(crate) fn characters<L>(&self, batch: &LabelledBatch<Target<L>>) -> Option<CharacterRows> {
        self.characters.map(|_| characters(batch, |target| &target.characters))
    }
}

/// The alphabet of texts; none where no characters are read.
pub(crate) fn alphabet<'a>(
    reader: Option<CharacterSettings>,
    texts: impl Iterator<Item = &'a str>,
) -> Option<Alphabet> {
    let characters = texts.flat_map(str::chars).filter(|c| !c.is_whitespace());
    reader.map(|reader| Alphabet::learn(reader, characters))
}

/// The words by which the matches of pairs are told apart, from the texts of each example; none where no
/// matches are read. They are read of pairs unless the setting `matches` says otherwise.
///
/// # Errors
/// [`TaskError::Setting`] where matches of single texts are wanted.
pub(crate) fn frequent<'a, G>(
    task: &'static str,
    (matches, pair): (Option<bool>, bool),
    examples: impl IntoIterator<Item = G>,
) -> Result<Option<Frequent>, TaskError>
where
    G: IntoIterator<Item = &'a str>,
{
    if matches == Some(true) && !pair {
        let (key, value) = ("matches".into(), "true".into());
        let reason = "a single text matches nothing, so name the column of a second one".into();
        return Err(TaskError::Setting { task, key, value, reason });
    }
    // A word of one training pair alone counts as unknown, as the rare words of new pairs are.
    Ok((pair && matches.unwrap_or(true)).then(|| Frequent::of(examples, 2)))
}

/// The text of a line, or where the model reads pairs both texts, with a tab between them.
///
/// # Errors
/// [`TaskError::NotAPair`] for a line of one text, or of more than two, where two are read.
pub(crate) fn texts_of_line<'a>(
    line: &'a str,
    pair: bool,
    at: At<'_>,
) -> Result<(&'a str, Option<&'a str>), TaskError> {
    match line.split_once('\t') {
        _ if !pair => Ok((line, None)),
        Some((text, second)) if !second.contains('\t') => Ok((text, Some(second))),
        // A blank line is answered by one.
        _ if is_blank(line) => Ok((line, Some(""))),
        _ => {
            let (name, line, tabs) = (at.name.into(), at.example, line.matches('\t').count());
            Err(TaskError::NotAPair { name, line, tabs })
        }
    }
}

/// Whether a text has no character to read.
pub(crate) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}
