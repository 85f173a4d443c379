//! How often a fact is recalled, by its distance: the built-in sample's questions of who has
//! what, asked of the model as it is and with either memory silenced.
//!
//! A question is answered twice, from the same memory of its story:
//! - *recalled* is the strict measure: at each of the answer's tokens, the full stop after it
//!   included, the answer's token is the most probable of all tokens, so that greedy writing
//!   gives exactly the answer;
//! - *chosen* compares the probabilities of all the names that could stand there, each with its
//!   full stop, and counts where the answer's is the highest. Guessing is right once in as many
//!   times as there are names: that is its chance level.

use std::ops::AddAssign;
use std::sync::Arc;

use longhand_model::{Ablation, Cpu, Sequence, State};
use longhand_text::sample::{LONGEST_DISTANCE, Language, RecallQuestion, recall_question};
use serde::Serialize;

use crate::engine::{Engine, Reader};
use crate::error::EngineError;
use crate::score::surprisal;

/// Stories read side by side.
const BATCH: usize = 16;
/// Positions read in one pass.
const CHUNK: usize = 64;

/// The most questions at one distance: all their stories are in memory at once.
pub const MOST_QUESTIONS: usize = 100_000;

/// Which questions to ask.
#[derive(Clone, Debug)]
pub struct RecallOptions {
    /// The language of stories and questions.
    pub language: Language,
    /// Distances, in characters from the fact to the answer.
    pub distances: Vec<usize>,
    /// Questions at each distance.
    pub questions: usize,
    /// Seed of the stories.
    pub seed: u64,
}

/// How many facts were recalled at one distance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecallAtDistance {
    /// The distance asked for, in characters.
    pub distance: usize,
    /// Mean distance of the questions, in characters.
    pub mean_distance: f64,
    /// Mean distance of the questions, in tokens.
    pub mean_tokens: f64,
    /// Number of questions asked.
    pub questions: usize,
    /// How often guessing among the names is right.
    pub chance: f64,
    /// By the model as it is.
    pub whole: Recalled,
    /// With every working memory silenced.
    pub without_working: Recalled,
    /// With every long memory silenced.
    pub without_long: Recalled,
}

/// Counts of right answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recalled {
    /// Greedy writing gives exactly the answer.
    pub recalled: usize,
    /// The answer is the most probable of the names.
    pub chosen: usize,
}

/// A question in tokens.
struct Asked {
    /// The story up to the last token before any two answers differ; never empty.
    context: Vec<u32>,
    /// For each candidate, the last common token and the answer's tokens.
    answers: Vec<Vec<u32>>,
    /// Which candidate is right.
    right: usize,
    distance: usize,
    tokens: usize,
}

/// The largest attention window of a model; 64 for one without attention, to have a measure.
pub fn window(engine: &Engine) -> usize {
    let network = engine.model().network().ok();
    network.and_then(|model| model.config().largest_window()).unwrap_or(64)
}

/// Asks the questions at one distance after the other; `each` receives the results as they come.
///
/// # Errors
/// [`EngineError::Option`] for a number or a distance of questions out of range,
/// [`EngineError::NotNetwork`] for an n-gram model, which has no memory to silence,
/// [`EngineError::Text`] for a text that the tokeniser cannot express.
pub fn recall(
    engine: &Arc<Engine>,
    cpu: &Arc<Cpu>,
    options: &RecallOptions,
    mut each: impl FnMut(&RecallAtDistance),
) -> Result<Vec<RecallAtDistance>, EngineError> {
    if !(1..=MOST_QUESTIONS).contains(&options.questions) {
        let (name, value) = ("the number of questions", options.questions.to_string());
        return Err(EngineError::Option { name, value, allowed: "from 1 to 100000" });
    }
    if let Some(distance) = options.distances.iter().find(|&&distance| distance > LONGEST_DISTANCE)
    {
        let (name, value) = ("the distance of a question", distance.to_string());
        return Err(EngineError::Option { name, value, allowed: "at most 100000 characters" });
    }
    engine.model().network()?;
    let mut readers = [None, Some(Ablation::Working), Some(Ablation::Long)].map(|ablation| {
        let mut reader = engine.reader(cpu);
        reader.ablate(ablation);
        reader
    });
    let mut results = Vec::with_capacity(options.distances.len());
    for &distance in &options.distances {
        let result = at_distance(engine, &mut readers, options, distance)?;
        each(&result);
        results.push(result);
    }
    Ok(results)
}

fn at_distance(
    engine: &Engine,
    readers: &mut [Reader; 3],
    options: &RecallOptions,
    distance: usize,
) -> Result<RecallAtDistance, EngineError> {
    let questions: Vec<RecallQuestion> = (0..options.questions as u64)
        .map(|i| recall_question(options.seed.wrapping_add(i), distance, options.language))
        .collect();
    let asked: Vec<Asked> = questions
        .iter()
        .map(|question| Asked::new(engine, question, options.language))
        .collect::<Result<_, _>>()?;
    let mut counts = [Recalled::default(); 3];
    for batch in asked.chunks(BATCH) {
        for (reader, count) in readers.iter_mut().zip(&mut counts) {
            let state = read_contexts(reader, batch)?;
            for (stream, asked) in batch.iter().enumerate() {
                *count += answer(reader, &state, stream, asked)?;
            }
        }
    }
    let mean = |of: fn(&Asked) -> usize| {
        asked.iter().map(|asked| of(asked) as f64).sum::<f64>() / asked.len() as f64
    };
    let [whole, without_working, without_long] = counts;
    Ok(RecallAtDistance {
        distance,
        mean_distance: mean(|asked| asked.distance),
        mean_tokens: mean(|asked| asked.tokens),
        questions: asked.len(),
        chance: 1.0 / mean(|asked| asked.answers.len()),
        whole,
        without_working,
        without_long,
    })
}

/// Reads stories side by side and gives their memories.
fn read_contexts(reader: &mut Reader, batch: &[Asked]) -> Result<State, EngineError> {
    let streams = batch.len();
    let longest = batch.iter().map(|asked| asked.context.len()).max().unwrap_or(0);
    let mut state = reader.engine().model().state(streams);
    for start in (0..longest).step_by(CHUNK) {
        let time = CHUNK.min(longest - start);
        let mut ids = vec![0; time * streams];
        let mut lengths = vec![0; streams];
        for (b, asked) in batch.iter().enumerate() {
            let context = &asked.context[start.min(asked.context.len())..];
            let real = &context[..time.min(context.len())];
            lengths[b] = real.len() as u32;
            real.iter().enumerate().for_each(|(t, &id)| ids[t * streams + b] = id);
        }
        let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(time, streams) };
        reader.pass(&ids, &sequence, &mut state)?;
    }
    Ok(state)
}

/// Weighs every candidate's answer after one story.
fn answer(
    reader: &mut Reader,
    states: &State,
    stream: usize,
    asked: &Asked,
) -> Result<Recalled, EngineError> {
    let count = asked.answers.len();
    // The last token of an answer is predicted, not read.
    let lengths: Vec<u32> = asked.answers.iter().map(|ids| ids.len() as u32 - 1).collect();
    let time = lengths.iter().copied().max().unwrap_or(0) as usize;
    let mut ids = vec![0; time * count];
    for (b, answer) in asked.answers.iter().enumerate() {
        let read = &answer[..answer.len() - 1];
        read.iter().enumerate().for_each(|(t, &id)| ids[t * count + b] = id);
    }
    let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(time, count) };
    let mut state = states.select(&vec![stream; count])?;
    reader.pass(&ids, &sequence, &mut state)?;
    let mut logits = Vec::new();
    let (mut best, mut least, mut exact) = (0, f64::INFINITY, true);
    for (b, answer) in asked.answers.iter().enumerate() {
        let mut total = 0.0;
        for (t, &target) in answer[1..].iter().enumerate() {
            let row = t * count + b;
            reader.logits(row..row + 1, &mut logits)?;
            total += f64::from(surprisal(&logits, target));
            if b == asked.right {
                let own = logits[target as usize];
                exact &= (0..).zip(&logits).all(|(id, &x)| x < own || id == target);
            }
        }
        if total < least {
            (best, least) = (b, total);
        }
    }
    Ok(Recalled { recalled: usize::from(exact), chosen: usize::from(best == asked.right) })
}

impl Asked {
    fn new(
        engine: &Engine,
        question: &RecallQuestion,
        language: Language,
    ) -> Result<Self, EngineError> {
        let before = &question.text_before_answer;
        let stop = match language {
            Language::English => ".",
            Language::Chinese => "。",
        };
        let encode = |text: &str| engine.tokenizer().encode(text);
        let mut answers = Vec::with_capacity(question.candidates.len());
        for candidate in &question.candidates {
            answers.push(encode(&format!("{before}{candidate}{stop}"))?);
        }
        // Tokens may join the story's end and a name, so the answers begin where they first
        // differ, and each keeps at least one token to be predicted.
        let first = answers.first().cloned().unwrap_or_default();
        let common = answers.iter().fold(first.len(), |common, ids| {
            let shared = ids.iter().zip(&first).take_while(|(a, b)| a == b).count();
            common.min(shared).min(ids.len().saturating_sub(1))
        });
        let right = question.candidates.iter().position(|name| *name == question.answer);
        let (Some(right), 2..) = (right, common) else {
            return Err(EngineError::Option {
                name: "the story before a question",
                value: format!("{common} tokens"),
                allowed: "at least 2: use a tokeniser that knows its words",
            });
        };
        let answers = answers.iter().map(|ids| ids[common - 1..].to_vec()).collect();
        let characters = before.chars().count().saturating_sub(question.distance);
        let tail: String = before.chars().skip(characters).collect();
        Ok(Self {
            context: first[..common - 1].to_vec(),
            answers,
            right,
            distance: question.distance,
            tokens: encode(&tail)?.len(),
        })
    }
}

impl AddAssign for Recalled {
    fn add_assign(&mut self, other: Self) {
        self.recalled += other.recalled;
        self.chosen += other.chosen;
    }
}

#[cfg(test)]
mod tests;
