//! The characters of each token: filters over them, whose largest values tell how a token is spelt
//! (Ma and Hovy, "End-to-end sequence labeling via bi-directional LSTM-CNNs-CRF", 2016, section 2.1).

use longhand_kernel::Sequence;
use longhand_kernel::convolution::Sizes;
use longhand_kernel::segments::Reduction;

use crate::config::{CharacterFilters, Config};
use crate::error::ModelError;
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

/// The parameters of the filters.
pub(crate) struct CharacterLayer {
    sizes: Sizes,
    /// `[C, d]`: a vector for each character.
    table: ParameterId,
    /// `[N, k·d]`: the filters.
    weight: ParameterId,
    bias: ParameterId,
    /// `[D, N]`: what the largest value of each filter adds to the token's embedding.
    output: ParameterId,
}

impl Characters<'_> {
    /// Checks that the characters belong to the tokens of a sequence, if there are any. `read` is what
    /// the model reads, if it reads any: like features, they may be left out, as of a plain text.
    pub(crate) fn check(
        given: Option<Self>,
        read: Option<&CharacterFilters>,
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
        let vocabulary = read.vocabulary;
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
    /// Lays out the filters that a configuration has.
    pub(crate) fn new(config: &Config, builder: &mut Builder) -> Option<Self> {
        let CharacterFilters { vocabulary, width, filters, kernel } =
            *config.characters.as_ref()?;
        let sizes = Sizes { width, kernel, ahead: kernel / 2 };
        let mut add = |name: &str, shape: &[usize], init| {
            builder.add(format!("characters.{name}"), shape, init)
        };
        let table = add("embedding.weight", &[vocabulary, width], Init::Normal(0.5));
        let init = Init::Normal(1.0 / (sizes.window() as f32).sqrt());
        let weight = add("convolution.weight", &[filters, sizes.window()], init);
        let bias = add("convolution.bias", &[filters], Init::Zeros);
        // As the tables of features, it begins at zero: it adds nothing that is not learnt.
        let output = add("output.weight", &[config.width, filters], Init::Zeros);
        builder.role(table, Role::Table);
        Some(Self { sizes, table, weight, bias, output })
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
    ) -> Var {
        let batch = pass.sequence_of_span(tokens).batch;
        let (starts, lengths) = characters.layout(batch);
        let time = characters.ids.len() / batch.max(1);
        // Each token is a document: a filter sees zeros beyond its ends.
        let (resets, lengths) = (Some(&starts[..]), Some(&lengths[..]));
        let span = pass.open_span(&Sequence { resets, lengths, ..Sequence::new(time, batch) });
        let tape: &mut Tape = pass;
        let x = tape.embedding(weights, self.table, characters.ids, span, 0.0);
        let x = tape.dropout(x, dropout, false);
        let windows = tape.windows(self.sizes, x);
        let values = tape.linear(weights, &[windows], self.weight, Some(self.bias));
        let largest = tape.segment(values, characters.ranges, Reduction::Max, tokens);
        tape.linear(weights, &[largest], self.output, None)
    }
}
