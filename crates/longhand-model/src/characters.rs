//! The characters of each token tell how it is spelt: the largest values of filters over them (Ma and
//! Hovy, "End-to-end sequence labeling via bi-directional LSTM-CNNs-CRF", 2016, section 2.1), or the
//! last states of an LSTM in each direction (Lample et al., "Neural architectures for named entity
//! recognition", 2016, section 4.1).

use longhand_kernel::Sequence;
use longhand_kernel::convolution::Sizes;
use longhand_kernel::segments::Reduction;

use crate::config::{CharacterFilters, CharacterLstm, CharacterReader, Config, LongMemory};
use crate::error::ModelError;
use crate::memory::Long;
use crate::state::State;
use crate::tape::{Pass, SpanId, Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Role, Weights};

/// The characters of the tokens that a pass reads, as the numbers of an alphabet.
#[derive(Clone, Copy, Debug)]
pub struct Characters<'a> {
    /// `[C·B]`, row c·B + b: the characters of each sequence, one token's after another's. Rows
    /// behind a sequence's last character have any number.
    pub ids: &'a [u32],
    /// `[T·B]`, row t·B + b: the first character of token t of sequence b, and the one behind its
    /// last. Two tokens have the same characters, such as the parts of a word, or none in common; a
    /// token without characters has an empty range.
    pub ranges: &'a [(u32, u32)],
}

/// What the names of its parameters begin with.
const PREFIX: &str = "characters";

/// The parameters that read characters.
pub(crate) struct CharacterLayer {
    /// `[C, d]`: a vector for each character.
    table: ParameterId,
    reader: Reader,
    /// `[D, N]`, of a recurrence `[D, 2N]`: what a token's N values add to its embedding.
    output: ParameterId,
}

/// What turns the vectors of a token's characters into values of the token.
enum Reader {
    /// `[N, k·d]`: the filters.
    Convolution { sizes: Sizes, weight: ParameterId, bias: ParameterId },
    /// A recurrence of N units in each direction.
    Recurrence(Long),
}

impl Characters<'_> {
    /// Checks that the characters belong to the tokens of a sequence, if there are any. `read` is what
    /// the model reads, if it reads any: like features, they may be left out, as of a plain text.
    pub(crate) fn check(
        given: Option<Self>,
        read: Option<&CharacterReader>,
        sequence: &Sequence<'_>,
    ) -> Result<(), ModelError> {
        let batch = sequence.batch;
        let (Self { ids, ranges }, read) = match (given, read) {
            (None, _) => return Ok(()),
            (Some(given), Some(read)) if given.ranges.len() == sequence.rows() => (given, read),
            (Some(given), read) => {
                let got = given.ranges.len();
                let expected = read.map_or(0, |_| sequence.rows());
                return Err(ModelError::Characters { got, expected });
            }
        };
        let length = ids.len() / batch.max(1);
        if length * batch != ids.len() {
            return Err(ModelError::Length { got: ids.len(), time: length, batch });
        }
        let [vocabulary, _] = read.table();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(ModelError::Character { id, vocabulary });
        }
        let fits = |&(start, end): &(u32, u32)| start <= end && end as usize <= length;
        match ranges.iter().position(|range| !fits(range)) {
            None => Ok(()),
            Some(row) => {
                let ((start, end), token, sequence) = (ranges[row], row / batch, row % batch);
                Err(ModelError::CharacterRange { token, sequence, start, end, length })
            }
        }
    }

    /// Where tokens begin, `[C·B]`, and the number of characters of each sequence, `[B]`.
    fn layout(&self, batch: usize) -> (Vec<bool>, Vec<u32>) {
        let mut starts = vec![false; self.ids.len()];
        let mut lengths = vec![0; batch];
        for (row, &(start, end)) in self.ranges.iter().enumerate().filter(|(_, r)| r.0 < r.1) {
            let b = row % batch;
            starts[start as usize * batch + b] = true;
            lengths[b] = end.max(lengths[b]);
        }
        (starts, lengths)
    }
}

impl CharacterLayer {
    /// Lays out what reads the characters in a configuration, if anything does.
    pub(crate) fn new(config: &Config, builder: &mut Builder) -> Option<Self> {
        let characters = config.characters.as_ref()?;
        let shape = characters.table();
        let [_, width] = shape;
        let add = |name: &str, shape: &[usize], init, builder: &mut Builder| {
            builder.add(format!("{PREFIX}.{name}"), shape, init)
        };
        let table = add("embedding.weight", &shape, Init::Normal(0.5), builder);
        builder.role(table, Role::Table);
        let (reader, values) = match *characters {
            CharacterReader::Convolution(CharacterFilters { filters, kernel, .. }) => {
                let sizes = Sizes { width, kernel, ahead: kernel / 2 };
                let init = Init::Normal(1.0 / (sizes.window() as f32).sqrt());
                let shape = [filters, sizes.window()];
                let weight = add("convolution.weight", &shape, init, builder);
                let bias = add("convolution.bias", &[filters], Init::Zeros, builder);
                (Reader::Convolution { sizes, weight, bias }, filters)
            }
            CharacterReader::Lstm(CharacterLstm { hidden, .. }) => {
                let (bidirectional, timescale) = (true, None);
                let lstm = LongMemory::Lstm { hidden, bidirectional, timescale };
                (Reader::Recurrence(Long::new(&lstm, PREFIX, width, builder)), 2 * hidden)
            }
        };
        // As the tables of features, it begins at zero: it adds nothing that is not learnt.
        let shape = [config.width, values];
        let output = add("output.weight", &shape, Init::Zeros, builder);
        Some(Self { table, reader, output })
    }

    /// `[T·B, D]`: what the characters of each token add to its embedding. In training a share of
    /// the characters' vectors is dropped.
    pub(crate) fn run(
        &self,
        pass: &mut Pass<'_>,
        weights: &Weights,
        characters: Characters<'_>,
        tokens: SpanId,
        dropout: f32,
        state: &mut State,
    ) -> Var {
        let batch = pass.sequence_of_span(tokens).batch;
        let (starts, lengths) = characters.layout(batch);
        let time = characters.ids.len() / batch.max(1);
        // Each token is a document: a filter sees zeros beyond its ends, and a recurrence begins empty.
        let (resets, lengths) = (Some(&starts[..]), Some(&lengths[..]));
        let span = pass.open_span(&Sequence { resets, lengths, ..Sequence::new(time, batch) });
        let tape: &mut Tape = pass;
        let x = tape.embedding(weights, self.table, characters.ids, span, 0.0);
        let x = tape.dropout(x, dropout, false);
        let ranges = characters.ranges;
        let values = match &self.reader {
            Reader::Convolution { sizes, weight, bias } => {
                let windows = tape.windows(*sizes, x);
                let values = tape.linear(weights, &[windows], *weight, Some(*bias));
                tape.segment(values, ranges, Reduction::Max, tokens)
            }
            Reader::Recurrence(long) => {
                // Read backward, a token's last state is that of its first character.
                let last = [Reduction::Last, Reduction::First].into_iter();
                let mut states = None;
                for (direction, last) in long.directions().iter().zip(last) {
                    let output = direction.run(tape, weights, x, state, 0.0);
                    let last = tape.segment(output, ranges, last, tokens);
                    states = Some(tape.join_behind(states, last));
                }
                states.unwrap_or(x)
            }
        };
        tape.linear(weights, &[values], self.output, None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longhand_kernel::Cpu;

    use super::*;
    use crate::{Mode, Model};

    /// A model that reads characters by an LSTM of two units in each direction, all
    /// of whose weights count.
    fn model() -> Model {
        let json = r#"{"model_type": "longhand", "format": 2, "vocab_size": 3, "width": 5,
            "characters": {"type": "lstm", "vocabulary": 6, "width": 3, "hidden": 2},
            "blocks": [{"long": {"type": "lstm", "hidden": 4}}],
            "heads": [{"type": "tags", "tags": 2}]}"#;
        let config = Config::from_json(json.as_bytes()).unwrap();
        assert_eq!(Config::from_json(config.to_json().as_bytes()).unwrap(), config);
        let mut model = Model::new(config, 1).unwrap();
        for parameter in model.weights.iter_mut() {
            let of_characters = parameter.name.starts_with(PREFIX);
            for (place, x) in parameter.data.iter_mut().enumerate().filter(|_| of_characters) {
                *x = (1.0 + place as f32 * 0.7 + parameter.shape[0] as f32).sin();
            }
        }
        model
    }

    /// What the characters of words add to their embeddings, `[T·B, 5]`; each sequence is
    /// a list of words.
    fn spelt(model: &Model, sequences: &[&[&[u32]]]) -> Vec<Vec<f32>> {
        let batch = sequences.len();
        let time = sequences.iter().map(|words| words.len()).max().unwrap();
        let most = sequences.iter().map(|words| words.concat().len()).max().unwrap();
        let (mut ids, mut ranges) = (vec![5; most * batch], vec![(0, 0); time * batch]);
        for (b, words) in sequences.iter().enumerate() {
            let mut at = 0;
            for (t, word) in words.iter().enumerate() {
                let start = at as u32;
                for &id in *word {
                    ids[at * batch + b] = id;
                    at += 1;
                }
                ranges[t * batch + b] = (start, at as u32);
            }
        }
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut pass = tape.pass(Mode::Read);
        let tokens = pass.open_span(&Sequence::new(time, batch));
        let characters = Characters { ids: &ids, ranges: &ranges };
        let mut state = model.state(batch);
        let layer = model.characters.as_ref().unwrap();
        let y = layer.run(&mut pass, &model.weights, characters, tokens, 0.0, &mut state);
        pass.data(y).chunks(5).map(<[f32]>::to_vec).collect()
    }

    /// The last state of an LSTM that reads the vectors of `word` in their order, by its equations.
    fn last_state(model: &Model, word: &[u32], suffix: &str) -> [f64; 2] {
        let named = |name: &str| -> Vec<f64> {
            let name = format!("{PREFIX}.{name}");
            let found = model.weights.iter().find(|parameter| parameter.name == name).unwrap();
            found.data.iter().map(|&x| f64::from(x)).collect()
        };
        let of = |what: &str| named(&format!("lstm.{what}{suffix}"));
        let (input, recurrent) = (of("weight_ih_l0"), of("weight_hh_l0"));
        let (first, second) = (of("bias_ih_l0"), of("bias_hh_l0"));
        let table = named("embedding.weight");
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut h, mut c) = ([0.0; 2], [0.0; 2]);
        for &id in word {
            let x = &table[3 * id as usize..3 * (id as usize + 1)];
            let gate = |row: usize| -> f64 {
                let from_input: f64 = x.iter().zip(&input[3 * row..]).map(|(x, w)| x * w).sum();
                let from_state: f64 = h.iter().zip(&recurrent[2 * row..]).map(|(h, w)| h * w).sum();
                from_input + from_state + first[row] + second[row]
            };
            let next = |unit: usize| {
                let [i, f, g, o] = [0, 1, 2, 3].map(|part| gate(2 * part + unit));
                let c = sigmoid(f) * c[unit] + sigmoid(i) * g.tanh();
                (sigmoid(o) * c.tanh(), c)
            };
            let ((h0, c0), (h1, c1)) = (next(0), next(1));
            (h, c) = ([h0, h1], [c0, c1]);
        }
        h
    }

    #[test]
    fn a_word_is_spelt_by_the_last_states_of_both_directions() {
        let model = model();
        let words: [&[u32]; 4] = [&[0, 1, 2], &[], &[3], &[2, 1, 0, 4]];
        let output = model.weights.iter().find(|p| p.name == "characters.output.weight").unwrap();
        for (word, row) in words.iter().zip(spelt(&model, &[&words])) {
            let back: Vec<u32> = word.iter().rev().copied().collect();
            let states = [last_state(&model, word, ""), last_state(&model, &back, "_reverse")];
            for (x, weights) in row.iter().zip(output.data.chunks(4)) {
                let states = states.as_flattened().iter();
                let expected: f64 = states.zip(weights).map(|(h, &w)| h * f64::from(w)).sum();
                let expected = if word.is_empty() { 0.0 } else { expected };
                assert!((f64::from(*x) - expected).abs() < 1e-5, "{x} {expected}");
            }
        }
    }

    #[test]
    fn a_word_is_spelt_alike_alone_beside_others_and_in_a_batch() {
        let model = model();
        let (first, second): ([&[u32]; 3], [&[u32]; 2]) =
            ([&[0, 1, 2], &[4, 4], &[3]], [&[2], &[1, 0, 5, 5, 3]]);
        let both = spelt(&model, &[&first, &second]);
        for (b, words) in [&first[..], &second].into_iter().enumerate() {
            for (t, word) in words.iter().enumerate() {
                // A product of few rows may sum in another order.
                let alone = spelt(&model, &[&[word]])[0].clone();
                for (x, y) in alone.iter().zip(&both[2 * t + b]) {
                    assert!((x - y).abs() < 1e-6, "{word:?}: {x} {y}");
                }
            }
        }
        // Padding has no characters.
        assert_eq!(both[5], [0.0; 5]);
    }
}
