//! Stories, questions and sentences with their labels.

use serde::{Deserialize, Serialize};

/// A language of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English, with spaces between words.
    English,
    /// Chinese, in simplified characters.
    Chinese,
}

/// How a story feels: how it turns out and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sentiment {
    /// The story ends well.
    Positive,
    /// The story ends badly.
    Negative,
    /// Nothing much came of it.
    Neutral,
}

impl Sentiment {
    /// All of the sentiments.
    pub const ALL: [Self; 3] = [Self::Positive, Self::Negative, Self::Neutral];

    /// The label: one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Neutral => "neutral",
        }
    }
}

/// The subject of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Selling at the market.
    Market,
    /// Travelling to the sea.
    Journey,
    /// A child learns a poem.
    School,
    /// A story of making soup.
    Kitchen,
    /// A story of planting beans.
    Garden,
    /// A story of catching fish.
    Harbour,
}

impl Topic {
    /// All of the topics.
    pub const ALL: [Self; 6] =
        [Self::Market, Self::Journey, Self::School, Self::Kitchen, Self::Garden, Self::Harbour];

    /// The label: one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Market => "market",
            Self::Journey => "journey",
            Self::School => "school",
            Self::Kitchen => "kitchen",
            Self::Garden => "garden",
            Self::Harbour => "harbour",
        }
    }
}

/// A story with its labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The language of the title, text, summary and questions.
    pub language: Language,
    /// A title, which the text does not repeat.
    pub title: String,
    /// Narrative in lines; each question and its answer are on a line of their own.
    pub text: String,
    /// The story in one sentence.
    pub summary: String,
    /// How the story feels.
    pub sentiment: Sentiment,
    /// The subject of the story.
    pub topic: Topic,
    /// The questions in the text, in order.
    pub questions: Vec<StoryQuestion>,
}

/// A who-has-what question inside a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryQuestion {
    /// The question as the text asks it, without the answer: `Who has the lantern?`
    pub question: String,
    /// The answer as the text gives it, without the full stop: `Mira`.
    pub answer: String,
    /// Characters from the end of the supporting fact to the start of the answer.
    pub distance: usize,
}

/// A who-has-what question whose supporting fact is at a chosen distance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecallQuestion {
    /// The story up to where the answer starts: `… Who has the lantern? ` with its last space, or
    /// `…谁拿着灯笼？`, where Chinese has none.
    pub text_before_answer: String,
    /// The answer: a name.
    pub answer: String,
    /// Everyone who could be the answer; guessing is right once in `candidates.len()` times.
    pub candidates: Vec<String>,
    /// Characters from the end of the supporting fact to the start of the answer.
    pub distance: usize,
}

/// The same sentence in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentencePair {
    /// The form in English.
    pub english: String,
    /// The form in Chinese.
    pub chinese: String,
}
