//! Sentences of CoNLL files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use longhand_text::TextError;
use longhand_text::corpus::LineFault;
use longhand_text::corpus::conll::{Conll, ConllColumn, ConllOptions, Sentence};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::error::TaskError;
use crate::tags::{Entity, Place, Scheme, Tag, entities};
use crate::task::Reading;

/// A sentence of a file, or some lines to tag.
#[derive(Clone, Debug)]
pub struct Example {
    pub(super) file: Arc<Conll>,
    pub(super) sentence: Sentence,
    /// None for lines to tag: the task knows the columns.
    pub(super) columns: Option<Columns>,
}

/// Places of columns, from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Columns {
    pub(super) word: usize,
    /// None where the tags are unknown.
    pub(super) label: Option<usize>,
    pub(super) features: Vec<usize>,
}

impl Example {
    pub(super) fn cells(&self, place: usize) -> Vec<&str> {
        self.file.cells(&self.sentence, place).collect()
    }

    pub(super) fn words(&self) -> Vec<&str> {
        self.columns.as_ref().map_or(Vec::new(), |columns| self.cells(columns.word))
    }

    /// The tags as the file has them; empty where they are unknown.
    pub(super) fn tags(&self) -> Vec<&str> {
        let label = self.columns.as_ref().and_then(|columns| columns.label);
        label.map_or(Vec::new(), |label| self.cells(label))
    }

    /// The entities that its tags mark; none of raw tags.
    pub(super) fn entities(&self) -> Vec<Entity<'_>> {
        let parsed: Option<Vec<Tag<'_>>> = self.tags().into_iter().map(Tag::parse).collect();
        entities(&parsed.unwrap_or_default())
    }
}

/// Reads the sentences of a file.
pub(super) fn read(
    settings: &Settings,
    file: &Path,
    reading: &Reading,
) -> Result<Vec<Example>, TaskError> {
    let column = |name: &String| {
        let Ok(column) = name.parse::<ConllColumn>();
        column
    };
    let (word, label) = (column(&settings.word_column), column(&settings.label_column));
    let features: Vec<ConllColumn> = settings.feature_columns.iter().map(column).collect();
    let mut all = features.iter().chain([&word, &label]);
    let header = all.any(|column| matches!(column, ConllColumn::Name(_)));
    let file = Conll::read(file, ConllOptions { header, lossy: reading.lossy })?;
    let place = |column: &ConllColumn| file.place(column);
    let columns = Columns {
        word: place(&word)?,
        label: if reading.unlabelled { None } else { Some(place(&label)?) },
        features: features.iter().map(place).collect::<Result<_, _>>()?,
    };
    let file = Arc::new(file);
    let example = |sentence: &Sentence| Example {
        file: file.clone(),
        sentence: sentence.clone(),
        columns: Some(columns.clone()),
    };
    let examples: Vec<Example> = file.sentences().iter().map(example).collect();
    for example in &examples {
        if let Some(at) = example.tags().iter().position(|tag| tag.is_empty()) {
            let line = file.line(example.sentence.tokens.start + at);
            let (name, fault) = (file.name().to_owned(), LineFault::NoLabel);
            return Err(TextError::Line { name, line, fault }.into());
        }
    }
    Ok(examples)
}

/// The scheme of the examples' tags.
pub(super) fn scheme_of(examples: &[Example]) -> Scheme {
    let tags: Vec<Vec<&str>> = examples.iter().map(Example::tags).collect();
    Scheme::of(tags.iter().map(Vec::as_slice))
}

/// Tags of the examples that their scheme does not allow after the tag before.
pub(super) fn illegal_tags(examples: &[Example]) -> usize {
    let scheme = scheme_of(examples);
    let violations = |example: &Example| {
        let parsed: Option<Vec<Tag<'_>>> = example.tags().into_iter().map(Tag::parse).collect();
        parsed.map_or(0, |tags| scheme.violations(&tags))
    };
    examples.iter().map(violations).sum()
}

/// The tags of a scheme for every type of entity in the examples, or the raw tags themselves.
pub(super) fn tags_of(examples: &[Example], scheme: Scheme) -> Vec<String> {
    if scheme == Scheme::Raw {
        let tags: BTreeSet<&str> = examples.iter().flat_map(Example::tags).collect();
        return tags.into_iter().map(str::to_owned).collect();
    }
    let places: &[Place] = match scheme {
        Scheme::Bioes => &[Place::Begin, Place::Middle, Place::End, Place::Single],
        _ => &[Place::Begin, Place::Middle],
    };
    let kinds: BTreeSet<&str> =
        examples.iter().flat_map(Example::entities).map(|entity| entity.kind).collect();
    let of_kind = |kind| places.iter().map(move |&place| Tag::Inside(place, kind));
    let tags = [Tag::Outside].into_iter().chain(kinds.into_iter().flat_map(of_kind));
    tags.map(|tag| tag.to_string()).collect()
}
