//! Names in sentences, each with its place: what a slot of the sentence was filled with.
//!
//! A renderer writes every name in a [`Style`]. [`plain`] gives the text of a story. [`marked`] puts
//! marks around a name, from which [`Named`] has the places, so that no name is searched for.

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entity {
    /// Somebody with a name of their own.
    Person,
    /// Something that goes from hand to hand, with its looks: `old key`.
    Thing,
    /// Where something happens, as a phrase: `under the bridge`.
    Place,
}

/// How a renderer writes a name.
pub(super) type Style = fn(Entity, &str) -> String;

/// The name as a reader sees it.
pub(super) fn plain(_: Entity, name: &str) -> String {
    name.to_owned()
}

/// The name between two marks, the first of which tells what it stands for.
pub(super) fn marked(entity: Entity, name: &str) -> String {
    format!("{}{name}{END}", entity.mark())
}

/// The mark after a name. Marks are of Unicode's private use, so that no phrase has them.
const END: char = '\u{e000}';

/// A sentence and the names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) names: Vec<Name>,
}

/// A name in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) entity: Entity,
    pub(super) text: String,
    /// Characters of the sentence before it.
    pub(super) start: usize,
}

impl Named {
    /// A sentence whose names are [`marked`]; they do not contain one another.
    pub(super) fn of(sentence: &str) -> Self {
        let mut named = Self { text: String::new(), names: Vec::new() };
        let mut start = 0;
        let mut is_open = false;
        for letter in sentence.chars() {
            if let Some(entity) = Entity::ALL.into_iter().find(|entity| entity.mark() == letter) {
                named.names.push(Name { entity, text: String::new(), start });
                is_open = true;
            } else if letter == END {
                is_open = false;
            } else {
                if let Some(name) = named.names.last_mut().filter(|_| is_open) {
                    name.text.push(letter);
                }
                named.text.push(letter);
                start += 1;
            }
        }
        named
    }

    /// The words with their tags in IOB2. A run of letters is a word; a Chinese character or a
    /// mark of punctuation is one alone.
    pub(super) fn tagged(&self) -> Vec<(String, String)> {
        let mut words: Vec<(String, String)> = Vec::new();
        let mut goes_on = false;
        for (place, letter) in self.text.chars().enumerate() {
            let is_letter = letter.is_ascii_alphanumeric();
            match words.last_mut() {
                Some((word, _)) if goes_on && is_letter => word.push(letter),
                _ if letter.is_whitespace() => {}
                _ => words.push((letter.to_string(), self.tag(place))),
            }
            goes_on = is_letter;
        }
        words
    }

    /// The tag of the word that begins at a character.
    fn tag(&self, place: usize) -> String {
        let holds =
            |name: &&Name| (name.start..name.start + name.text.chars().count()).contains(&place);
        match self.names.iter().find(holds) {
            None => "O".to_owned(),
            Some(name) if name.start == place => format!("B-{}", name.entity.tag()),
            Some(name) => format!("I-{}", name.entity.tag()),
        }
    }
}

impl Entity {
    const ALL: [Self; 3] = [Self::Person, Self::Thing, Self::Place];

    /// The mark before a name.
    fn mark(self) -> char {
        match self {
            Self::Person => '\u{e001}',
            Self::Thing => '\u{e002}',
            Self::Place => '\u{e003}',
        }
    }

    /// The type in tags, as corpora of names have it.
    fn tag(self) -> &'static str {
        match self {
            Self::Person => "PER",
            Self::Thing => "THING",
            Self::Place => "LOC",
        }
    }
}
