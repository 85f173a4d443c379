//! Sentences as positions: an encoder may read a row for each sentence of a source in place of one
//! for each token, so that its memories step from sentence to sentence.
//!
//! The row of a sentence is the sum of its tokens' vectors, each through a gate that belongs to its
//! place in the sentence. It is position encoding with learnt weights (Sukhbaatar et al., "End-to-end
//! memory networks", 2015, section 4.1). Where the last sentence is a question, its row is added to
//! those of all others, as each sentence is read for the question (Seo et al., "Query-reduction
//! networks for question answering", 2017, section 2).

use longhand_kernel::Sequence;
use longhand_kernel::segments::Reduction;

use super::super::Stack;
use crate::config::{self, Config, ENCODER};
use crate::state::State;
use crate::tape::{Pass, Var};
use crate::weights::{Builder, Init, ParameterId, Role, Weights};

/// The layer that makes the rows of sentences.
pub(super) struct SentenceReader {
    ends: Vec<u32>,
    places: usize,
    /// What reads the tokens of each sentence before.
    stack: Option<Stack>,
    /// `[P, D]`, or `[2·P, D]` with those of the question behind the others'.
    gates: ParameterId,
    /// `[D, D]`: what a question's row gives to those of the others.
    question: Option<ParameterId>,
}

/// The sentences of S sources.
#[derive(Debug)]
pub(super) struct Sentences {
    /// `[N·S]`, row n·S + s: the first token of sentence n of source s, and the one behind its last.
    ranges: Vec<(u32, u32)>,
    /// `[S]`: the number of sentences of each source.
    lengths: Vec<u32>,
    /// `[N·S]`: the number of tokens of each sentence.
    tokens: Vec<u32>,
}

impl Sentences {
    /// The sentences as positions of their sources.
    pub(super) fn sequence(&self) -> Sequence<'_> {
        let sources = self.lengths.len();
        let sequence = Sequence::new(self.ranges.len() / sources.max(1), sources);
        Sequence { lengths: Some(&self.lengths), ..sequence }
    }

    /// The tokens as positions of their sentences, each a sequence of its own.
    pub(super) fn of_tokens(&self) -> Sequence<'_> {
        let longest = self.tokens.iter().copied().max().unwrap_or(0) as usize;
        Sequence { lengths: Some(&self.tokens), ..Sequence::new(longest, self.tokens.len()) }
    }

    /// `[L·N·S]`: the tokens in that order, of which padding has id 0.
    pub(super) fn reordered(&self, ids: &[u32]) -> Vec<u32> {
        let (sources, sequence) = (self.lengths.len(), self.of_tokens());
        let mut reordered = vec![0; sequence.rows()];
        for (row, &(start, end)) in self.ranges.iter().enumerate() {
            for (place, t) in (start..end).enumerate() {
                reordered[place * sequence.batch + row] = ids[t as usize * sources + row % sources];
            }
        }
        reordered
    }

    /// `[N·S]`: the last token of each sentence, which stands for it.
    pub(super) fn last_tokens(&self, ids: &[u32]) -> Vec<u32> {
        let sources = self.lengths.len();
        let last = |(row, &(start, end)): (usize, &(u32, u32))| match start < end {
            true => ids[(end as usize - 1) * sources + row % sources],
            false => 0,
        };
        self.ranges.iter().enumerate().map(last).collect()
    }

    /// Whether a row is that of its source's last sentence.
    fn is_last(&self, row: usize) -> bool {
        let sources = self.lengths.len();
        row / sources + 1 == self.lengths[row % sources] as usize
    }
}

impl SentenceReader {
    pub(super) fn new(
        config: &Config,
        sentences: &config::Sentences,
        builder: &mut Builder,
    ) -> Self {
        let config::Sentences { ends, places, question, blocks } = sentences;
        let (width, prefix) = (config.width, format!("{ENCODER}.sentences."));
        let stack = (!blocks.is_empty()).then(|| Stack::new(config, blocks, &prefix, builder));
        let tables = if *question { 2 } else { 1 };
        let name = format!("{prefix}places.weight");
        let gates = builder.add(name, &[tables * places, width], Init::Normal(1.0));
        builder.role(gates, Role::Table);
        let dense = Init::Normal(0.5 / (width as f32).sqrt());
        let question = question
            .then(|| builder.add(format!("{prefix}question.weight"), &[width, width], dense));
        Self { ends: ends.clone(), places: *places, stack, gates, question }
    }

    /// The sentences of sources, `[T·S]` ids. A sentence ends behind a token that ends one and those
    /// of its kind that follow at once, or at the end of its source. One of more than P tokens goes
    /// on in further rows, so that a long one does not pad all others.
    pub(super) fn sentences(&self, ids: &[u32], sequence: &Sequence) -> Sentences {
        let sources = sequence.batch;
        let ends = |t: usize, s: usize| self.ends.contains(&ids[t * sources + s]);
        let of_source = |s: usize| {
            let (mut found, mut start) = (Vec::new(), 0_u32);
            let real = sequence.real(s);
            for t in 0..real {
                let is_full = t + 1 - start as usize == self.places;
                if is_full || t + 1 == real || ends(t, s) && !ends(t + 1, s) {
                    found.push((start, t as u32 + 1));
                    start = t as u32 + 1;
                }
            }
            found
        };
        let found: Vec<Vec<(u32, u32)>> = (0..sources).map(of_source).collect();
        let lengths: Vec<u32> = found.iter().map(|found| found.len() as u32).collect();
        let most = lengths.iter().copied().max().unwrap_or(0) as usize;
        let mut ranges = vec![(0, 0); most * sources];
        for (s, found) in found.iter().enumerate() {
            for (n, &range) in found.iter().enumerate() {
                ranges[n * sources + s] = range;
            }
        }
        let tokens = ranges.iter().map(|(start, end)| end - start).collect();
        Sentences { ranges, lengths, tokens }
    }

    /// `[N·S, D]`: the rows of the sentences, from those of their tokens, `[L·N·S, D]`.
    pub(super) fn run(
        &self,
        pass: &mut Pass<'_>,
        weights: &Weights,
        mut x: Var,
        sentences: &Sentences,
        state: &mut State,
    ) -> Var {
        if let Some(stack) = &self.stack {
            x = stack.run(pass, weights, x, None, state);
        }
        let (places, of_tokens) = (self.places(sentences), pass.span(x));
        let gates = pass.embedding(weights, self.gates, &places, of_tokens, 0.0);
        let x = pass.modulate(x, gates);
        let span = pass.open_span(&sentences.sequence());
        let whole: Vec<(u32, u32)> = sentences.tokens.iter().map(|&count| (0, count)).collect();
        let rows = pass.segment(x, &whole, Reduction::Sum, span);
        let Some(weight) = self.question else { return rows };
        // The question is every sentence's, but not its own.
        let asked = |row: usize| {
            let (n, source) = (row / sentences.lengths.len(), row % sentences.lengths.len());
            let count = sentences.lengths[source];
            if n + 1 < count as usize { (count - 1, count) } else { (0, 0) }
        };
        let asked: Vec<(u32, u32)> = (0..whole.len()).map(asked).collect();
        let questions = pass.segment(rows, &asked, Reduction::First, span);
        let questions = pass.linear(weights, &[questions], weight, None);
        pass.add(rows, questions)
    }

    /// `[L·N·S]`: the place of each token in its sentence, those of a question behind the others.
    fn places(&self, sentences: &Sentences) -> Vec<u32> {
        let sequence = sentences.of_tokens();
        let place = |at: usize| {
            let (place, row) = (at / sequence.batch, at % sequence.batch);
            let is_question = self.question.is_some() && sentences.is_last(row);
            let first = if is_question { self.places } else { 0 };
            (first + place) as u32
        };
        (0..sequence.rows()).map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longhand_kernel::Cpu;

    use super::*;
    use crate::tape::{Mode, Tape};
    use crate::{Model, Preset};

    fn reader(ends: &[u32], places: usize, question: bool) -> SentenceReader {
        let ends = ends.to_vec();
        let sentences = config::Sentences { ends, places, question, blocks: Vec::new() };
        let config = Preset::EncoderDecoderNano.config(9);
        SentenceReader::new(&config, &sentences, &mut Builder::empty())
    }

    /// Two sources side by side, the second one with padding behind it.
    const IDS: [u32; 14] = [5, 2, 1, 3, 1, 1, 2, 1, 4, 9, 3, 9, 0, 9];
    const LENGTHS: [u32; 2] = [7, 4];

    fn sentences(reader: &SentenceReader) -> Sentences {
        let sequence = Sequence { lengths: Some(&LENGTHS), ..Sequence::new(7, 2) };
        reader.sentences(&IDS, &sequence)
    }

    #[test]
    fn sentences_end_behind_their_marks_and_with_the_source() {
        let found = sentences(&reader(&[1, 4], 4, false));
        assert_eq!(found.lengths, [3, 1]);
        assert_eq!(found.ranges, [(0, 3), (0, 4), (3, 5), (0, 0), (5, 7), (0, 0)]);
        assert_eq!(found.last_tokens(&IDS), [1, 1, 4, 0, 0, 0]);
        let whole = sentences(&reader(&[], 7, false));
        assert_eq!((whole.lengths, whole.ranges), (vec![1, 1], vec![(0, 7), (0, 4)]));
    }

    #[test]
    fn a_sentence_of_more_tokens_than_places_goes_on_in_the_next_row() {
        let found = sentences(&reader(&[1, 4], 3, false));
        assert_eq!(found.lengths, [3, 2]);
        assert_eq!(found.ranges, [(0, 3), (0, 3), (3, 5), (3, 4), (5, 7), (0, 0)]);
        let found = sentences(&reader(&[], 3, false));
        assert_eq!(found.ranges, [(0, 3), (0, 3), (3, 6), (3, 4), (6, 7), (0, 0)]);
    }

    #[test]
    fn each_sentence_is_a_sequence_of_its_own() {
        let found = sentences(&reader(&[1, 4], 4, false));
        assert_eq!((found.of_tokens().time, found.of_tokens().batch), (4, 6));
        assert_eq!(found.tokens, [3, 4, 2, 0, 2, 0]);
        let first_three = [5, 2, 2, 0, 3, 0, 1, 3, 4, 0, 0, 0, 1, 1, 0, 0, 0, 0];
        assert_eq!(found.reordered(&IDS)[..18], first_three);
        assert_eq!(found.reordered(&IDS)[18..], [0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn places_count_within_a_sentence_and_apart_in_a_question() {
        let places = |question: bool| {
            let reader = reader(&[1, 4], 4, question);
            reader.places(&sentences(&reader))
        };
        let at = |place: u32| [place; 6];
        assert_eq!(places(false), [at(0), at(1), at(2), at(3)].concat());
        // Sentence 2 of the first source and the only one of the second are questions.
        let asked = |place: u32| [0, 4, 0, 0, 4, 0].map(|first| first + place);
        assert_eq!(places(true), [asked(0), asked(1), asked(2), asked(3)].concat());
    }

    /// The rows, by their definition.
    #[test]
    fn rows_are_gated_sums_and_the_question_is_in_each_other_one() {
        let mut config = Preset::EncoderDecoderNano.config(10);
        config.encoder.as_mut().unwrap().sentences = Some(config::Sentences {
            ends: vec![1, 4],
            places: 3,
            question: true,
            blocks: Vec::new(),
        });
        let model = Model::new(config, 1).unwrap();
        let (encoder, width) = (model.encoder.as_ref().unwrap(), model.config().width);
        let reader = encoder.sentences.as_ref().unwrap();
        let found = sentences(reader);
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut pass = tape.pass(Mode::Read);
        let span = pass.open_span(&found.of_tokens());
        let ids = found.reordered(&IDS);
        let x = pass.embedding(&model.weights, encoder.embedding, &ids, span, 0.0);
        let state = &mut State::new(&encoder.state, found.of_tokens().batch);
        let rows = reader.run(&mut pass, &model.weights, x, &found, state);

        let [vectors, gates, matrix] = [encoder.embedding, reader.gates, reader.question.unwrap()]
            .map(|id| {
                let values = model.weights.values(id).iter();
                values.map(|&value| f64::from(value)).collect::<Vec<f64>>()
            });
        let sum = |tokens: &[usize], first: usize| -> Vec<f64> {
            let value = |(place, &id): (usize, &usize), d: usize| {
                let gate = gates[(first + place) * width + d];
                vectors[id * width + d] / (1.0 + (-gate).exp())
            };
            let of = |d| tokens.iter().enumerate().map(|token| value(token, d)).sum();
            (0..width).map(of).collect()
        };
        let question = sum(&[3, 0], 3);
        let asked = |row: Vec<f64>, question: &[f64]| -> Vec<f64> {
            let product = |d: usize| -> f64 {
                matrix[d * width..][..width].iter().zip(question).map(|(w, q)| w * q).sum()
            };
            row.iter().enumerate().map(|(d, x)| x + product(d)).collect()
        };
        // Of the second source, the question is what its first row had no place for.
        let other = sum(&[1], 3);
        let exact = [
            asked(sum(&[5, 1, 1], 0), &question),
            asked(sum(&[2, 3, 1], 0), &other),
            asked(sum(&[2, 4], 0), &question),
            other,
            question,
            vec![0.0; width],
        ];
        let got = pass.data(rows).chunks(width);
        for (row, (got, exact)) in got.zip(&exact).enumerate() {
            let error = got.iter().zip(exact).map(|(&x, y)| (f64::from(x) - y).abs());
            assert!(error.fold(0.0, f64::max) < 1e-5, "row {row}");
        }
    }
}
