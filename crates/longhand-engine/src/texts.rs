//! How surprising whole texts are: many lines or documents, read side by side.
//!
//! Each text is put between two marks of the vocabulary, as in the text that the model learnt: a
//! line between line breaks, a document between ends of documents. The first mark is read and not
//! scored, so that every token of the text is predicted; the second one is scored, so that a text
//! that breaks off is surprising.

use longhand_model::{IGNORE, Sequence, State};

use crate::engine::{Engine, LanguageModel, Reader};
use crate::error::EngineError;
use crate::session::{CHUNK, Session};

/// The kind of marks around a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A line of a text: between line breaks.
    Line,
    /// A document: between ends of documents.
    Document,
}

/// The marks around a text, as tokens of one vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// What is read before a text and not scored; without it nothing predicts the first token, unless
    /// the model is of n-grams, which know the start of a document.
    pub before: Option<u32>,
    /// What is scored behind a text, if anything.
    pub after: Option<u32>,
}

/// The surprisal of one text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextScore {
    /// Tokens that were predicted; the mark behind the text is one of them.
    pub tokens: usize,
    /// Σ −ln p of these tokens, in nats.
    pub sum: f64,
    /// The largest −ln p of a token, in nats; 0 where there is none.
    pub max: f32,
    /// The id of that token, the first among equals.
    pub max_token: Option<u32>,
}

impl TextScore {
    /// Σ −ln p / tokens, in nats; none where no token was predicted.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum / self.tokens as f64)
    }

    /// exp of the mean; none where no token was predicted.
    pub fn perplexity(&self) -> Option<f64> {
        self.mean().map(f64::exp)
    }

    /// Takes the next token's surprisal, in nats.
    pub fn add(&mut self, id: u32, surprisal: f32) {
        self.tokens += 1;
        self.sum += f64::from(surprisal);
        if self.max_token.is_none() || surprisal > self.max {
            (self.max, self.max_token) = (surprisal, Some(id));
        }
    }
}

impl Engine {
    /// The marks of a frame. A line of an n-gram model that never saw anything follow a line break is
    /// a document: such a model, as other programs write it, learnt each line by itself.
    ///
    /// # Errors
    /// [`EngineError::Text`] if the tokeniser cannot be run.
    pub fn marks(&self, frame: Frame) -> Result<Marks, EngineError> {
        let tokenizer = self.tokenizer();
        let end =
            tokenizer.document_end_id().or_else(|| tokenizer.id(longhand_text::tokenizer::END));
        let line_break = match tokenizer.encode("\n")?[..] {
            [id] if Some(id) != tokenizer.unknown_id() => Some(id),
            _ => end,
        };
        Ok(match (self.model(), frame) {
            (LanguageModel::Network(_), Frame::Line) => {
                Marks { before: line_break, after: line_break }
            }
            (LanguageModel::Network(_), Frame::Document) => Marks { before: end, after: end },
            (LanguageModel::Ngram(model), Frame::Line)
                if line_break.is_some_and(|id| model.is_followed(id)) =>
            {
                Marks { before: line_break, after: line_break }
            }
            // A document's start is a context of its own.
            (LanguageModel::Ngram(_), Frame::Line) => Marks { before: None, after: line_break },
            (LanguageModel::Ngram(_), Frame::Document) => Marks { before: None, after: end },
        })
    }
}

/// Scores texts that have nothing to do with each other, each from an empty state. It reads many of
/// them in one pass; the others change a score by no more than rounding.
pub struct TextScorer {
    reader: Reader,
    marks: Marks,
    /// States of 1, 2, 4 … streams, made when they are first needed.
    states: Vec<Option<State>>,
}

/// Positions of all texts in one pass; a text of more than [`CHUNK`] takes several passes.
const ROWS: usize = 4096;
/// The most texts of one pass.
const MOST_TEXTS: usize = 64;

impl TextScorer {
    /// Reads texts between the marks of a frame.
    ///
    /// # Errors
    /// The errors of [`Engine::marks`] for its tokeniser.
    pub fn new(reader: Reader, frame: Frame) -> Result<Self, EngineError> {
        let marks = reader.engine().marks(frame)?;
        Ok(Self { reader, marks, states: Vec::new() })
    }

    /// The marks that are put around each text.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// The reader, for what else is read with the model.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// The score of each text, in their order. Texts of one length are read fastest: give as many as
    /// memory allows, so that similar ones can be put together.
    ///
    /// # Errors
    /// [`EngineError::Text`] for a text that the tokeniser cannot express.
    pub fn score(&mut self, texts: &[impl AsRef<str>]) -> Result<Vec<TextScore>, EngineError> {
        let engine = self.reader.engine().clone();
        let ids = texts.iter().map(|text| engine.tokenizer().encode(text.as_ref()));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        self.score_ids(&ids)
    }

    /// The score of each text, given as the ids between its marks.
    ///
    /// # Errors
    /// [`EngineError::Model`] for an id out of range.
    pub fn score_ids(&mut self, texts: &[Vec<u32>]) -> Result<Vec<TextScore>, EngineError> {
        let engine = self.reader.engine().clone();
        texts.iter().try_for_each(|ids| engine.check_ids(ids))?;
        match engine.model() {
            LanguageModel::Ngram(model) => {
                let Marks { before, after } = self.marks;
                let mut context = Vec::new();
                let score = |ids: &Vec<u32>| {
                    let mut score = TextScore::default();
                    context.clear();
                    context.push(before.unwrap_or(model.start()));
                    for &id in ids.iter().chain(&after) {
                        score.add(id, -model.log_probability(&context, id));
                        context.push(id);
                    }
                    score
                };
                Ok(texts.iter().map(score).collect())
            }
            LanguageModel::Network(_) => self.read_network(texts),
        }
    }

    /// Reads texts of similar lengths side by side.
    fn read_network(&mut self, texts: &[Vec<u32>]) -> Result<Vec<TextScore>, EngineError> {
        let framed: Vec<Vec<u32>> = texts.iter().map(|ids| self.marks.around(ids)).collect();
        let mut order: Vec<usize> = (0..texts.len()).filter(|&i| framed[i].len() > 1).collect();
        order.sort_by_key(|&i| framed[i].len());
        let mut scores = vec![TextScore::default(); texts.len()];
        // The longest first: what is left at the end are short ones.
        while let Some(&longest) = order.last() {
            let time = (framed[longest].len() - 1).min(CHUNK);
            let most = (ROWS / time).clamp(1, MOST_TEXTS).min(order.len());
            let exponent = most.ilog2() as usize;
            let group = order.split_off(order.len() - (1 << exponent));
            self.read_group(exponent, &group, &framed, &mut scores)?;
        }
        Ok(scores)
    }

    /// Reads 2^`exponent` texts, which begin together.
    fn read_group(
        &mut self,
        exponent: usize,
        group: &[usize],
        framed: &[Vec<u32>],
        scores: &mut [TextScore],
    ) -> Result<(), EngineError> {
        let batch = group.len();
        let missing = (exponent + 1).saturating_sub(self.states.len());
        self.states.extend(std::iter::repeat_with(|| None).take(missing));
        let engine = self.reader.engine().clone();
        let state = self.states[exponent].get_or_insert_with(|| engine.model().state(batch));
        let steps = |text: &usize| framed[*text].len() - 1;
        let longest = group.iter().map(steps).max().unwrap_or(0);
        let (mut ids, mut targets, mut losses) = (Vec::new(), Vec::new(), Vec::new());
        for start in (0..longest).step_by(CHUNK) {
            // A single position would be read in another form, that of a decode step.
            let time = (longest - start).clamp(2, CHUNK);
            ids.clear();
            ids.resize(time * batch, 0);
            targets.clear();
            targets.resize(time * batch, IGNORE);
            let mut lengths = vec![0; batch];
            for (b, text) in group.iter().enumerate() {
                let real = steps(text).saturating_sub(start).min(time);
                lengths[b] = real as u32;
                for t in 0..real {
                    ids[t * batch + b] = framed[*text][start + t];
                    targets[t * batch + b] = framed[*text][start + t + 1];
                }
            }
            // What an earlier group left in the states is forgotten at its first position.
            let mut resets = vec![false; time * batch];
            resets[..batch].fill(start == 0);
            let sequence = Sequence {
                resets: (start == 0).then_some(&resets[..]),
                lengths: Some(&lengths),
                ..Sequence::new(time, batch)
            };
            self.reader.pass(&ids, &sequence, state)?;
            self.reader.losses(&targets, &mut losses)?;
            for (b, text) in group.iter().enumerate() {
                for t in 0..lengths[b] as usize {
                    scores[*text].add(targets[t * batch + b], losses[t * batch + b]);
                }
            }
        }
        Ok(())
    }
}

impl Marks {
    /// The ids of a text and those before and behind it.
    fn around(self, ids: &[u32]) -> Vec<u32> {
        self.before.iter().chain(ids).chain(&self.after).copied().collect()
    }
}

impl Session {
    /// Scores the ids of a text that goes on where the session is, and the mark behind it. An empty
    /// session reads the mark before the text first. Where an n-gram model has read nothing, the
    /// start of a document predicts the first token.
    ///
    /// # Errors
    /// The errors of [`Session::score`].
    pub fn score_text(
        &mut self,
        reader: &mut Reader,
        marks: Marks,
        ids: &[u32],
    ) -> Result<TextScore, EngineError> {
        let mut score = TextScore::default();
        let mut text: Vec<u32> = ids.iter().chain(&marks.after).copied().collect();
        if self.position() == 0 {
            if let Some(before) = marks.before {
                self.read(reader, &[before])?;
            } else if let (LanguageModel::Ngram(model), Some(&first)) =
                (self.engine.clone().model(), text.first())
            {
                self.check(reader, &text)?;
                score.add(first, -model.log_probability(&[model.start()], first));
                self.read(reader, &[first])?;
                text.remove(0);
            }
        }
        Session::score(self, reader, &text, |id, surprisal| {
            if let Some(surprisal) = surprisal {
                score.add(id, surprisal);
            }
        })?;
        Ok(score)
    }
}

#[cfg(test)]
mod tests;
