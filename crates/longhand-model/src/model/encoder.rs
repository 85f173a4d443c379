//! The encoder: reads sources whole, for the cross-attention of the decoder's blocks.

use std::sync::Arc;

use longhand_kernel::Sequence;

use super::{Model, Stack, position_table};
use crate::config::{Config, ENCODER};
use crate::cross::Across;
use crate::error::ModelError;
use crate::source::{Source, SourceInput};
use crate::state::{State, StateLayout};
use crate::tape::{Embedded, Mode, Pass, Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Role};
use sentences::{SentenceReader, Sentences};

/// The layers that read a source.
pub(super) struct Encoder {
    vocab_size: usize,
    /// The model's embedding, or one of its own.
    embedding: ParameterId,
    /// What makes rows of sentences, in place of those of tokens.
    sentences: Option<SentenceReader>,
    positions: Option<ParameterId>,
    stack: Stack,
    /// What its memories carry: nothing, as they read each source whole.
    state: Arc<StateLayout>,
}

impl Encoder {
    /// Lays out the encoder, if the model has one. `embedding` is the model's.
    pub(super) fn new(
        config: &Config,
        embedding: ParameterId,
        builder: &mut Builder,
    ) -> Option<Self> {
        let encoder = config.encoder.as_ref()?;
        let embedding = match encoder.vocab_size {
            None => embedding,
            Some(count) => {
                let name = format!("{ENCODER}.embedding.weight");
                let table = builder.add(name, &[count, config.width], Init::Normal(0.5));
                builder.role(table, Role::Table);
                table
            }
        };
        let sentences = encoder.sentences.as_ref();
        Some(Self {
            sentences: sentences.map(|sentences| SentenceReader::new(config, sentences, builder)),
            vocab_size: encoder.vocab_size.unwrap_or(config.vocab_size),
            embedding,
            positions: position_table(config, &format!("{ENCODER}."), builder),
            stack: Stack::new(config, &encoder.blocks, &format!("{ENCODER}."), builder),
            state: Arc::default(),
        })
    }
}

impl Model {
    /// Reads S sources, `ids [T·S]` time-major, and keeps what cross-attention needs of them, for
    /// passes that read them as [`SourceInput::Kept`]. Begins a pass of its own.
    ///
    /// # Errors
    /// [`ModelError::NoEncoder`] for a model without one, [`ModelError::Length`] if the sizes do not
    /// agree, [`ModelError::Token`] if an id is out of range.
    pub fn read_source(
        &self,
        tape: &mut Tape,
        ids: &[u32],
        sequence: &Sequence,
    ) -> Result<Source, ModelError> {
        let encoder = self.encoder.as_ref().ok_or(ModelError::NoEncoder)?;
        self.check_text(encoder, ids, sequence)?;
        let mut pass = tape.pass(Mode::Read);
        let (rows, sentences) = self.encode(encoder, &mut pass, ids, sequence);
        let standing = sentences.as_ref().map(|sentences| sentences.last_tokens(ids));
        let sequence = &sentences.as_ref().map_or(*sequence, Sentences::sequence);
        let ids = standing.as_deref().unwrap_or(ids);
        let mut source = Source::new(self.weights.version(), ids, sequence);
        for cross in self.forward.blocks.iter().filter_map(|block| block.cross()) {
            let keys_values = cross.keys_values(&mut pass, &self.weights, rows);
            source.keep(sequence, pass.data(keys_values), pass.width(keys_values));
        }
        if let Some(pointer) = &self.pointer {
            let keys = pointer.keys(&mut pass, &self.weights, rows);
            source.keep(sequence, pass.data(keys), pass.width(keys));
        }
        Ok(source)
    }

    /// Writes how much each row of the last pass of `tape` read of each position of its source:
    /// `[R, T]` for R = K·S rows and T positions of the longest of the kept sources. It is the mean
    /// over the heads of the last cross-attention, which sums to 1 over a source's positions.
    ///
    /// # Errors
    /// [`ModelError::NoSource`] if the pass read no kept source; [`ModelError::SourceOfOther`] or
    /// [`ModelError::Sources`] if it read others.
    pub fn source_weights(
        &self,
        tape: &Tape,
        source: &Source,
        out: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        source.check(self.weights.version(), tape.asked_rows())?;
        if tape.kept_weights(source, out) { Ok(()) } else { Err(ModelError::NoSource) }
    }

    /// Checks the sources of a pass over `sequence`.
    pub(super) fn check_source(
        &self,
        pass: &Pass<'_>,
        source: Option<SourceInput<'_>>,
        sequence: &Sequence,
    ) -> Result<(), ModelError> {
        let (encoder, source) = match (&self.encoder, source) {
            (None, None) => return Ok(()),
            (None, Some(_)) => return Err(ModelError::NoEncoder),
            (Some(_), None) => return Err(ModelError::NoSource),
            (Some(encoder), Some(source)) => (encoder, source),
        };
        match source {
            SourceInput::Text { ids, sequence: of_source } => {
                self.check_text(encoder, ids, &of_source)?;
                let (sources, sequences) = (of_source.batch, sequence.batch);
                match sources == sequences {
                    true => Ok(()),
                    false => Err(ModelError::Sources { sources, sequences }),
                }
            }
            SourceInput::Kept(_) if pass.records() => Err(ModelError::Kept),
            SourceInput::Kept(source) => source.check(self.weights.version(), sequence.batch),
        }
    }

    /// What the blocks read of the sources, which were checked.
    pub(super) fn across<'a>(
        &self,
        pass: &mut Pass<'_>,
        source: Option<SourceInput<'a>>,
    ) -> Option<Across<'a>> {
        match source? {
            SourceInput::Text { ids, sequence } => {
                let encoder = self.encoder.as_ref()?;
                Some(Across::Rows(self.encode(encoder, pass, ids, &sequence).0))
            }
            SourceInput::Kept(source) => Some(Across::Kept(source)),
        }
    }

    /// `[T·B, D]`: the encoder's output over checked sources, a row for each token or sentence; with
    /// the sentences, if those are what it reads.
    fn encode(
        &self,
        encoder: &Encoder,
        pass: &mut Pass<'_>,
        ids: &[u32],
        sequence: &Sequence,
    ) -> (Var, Option<Sentences>) {
        let reader = encoder.sentences.as_ref();
        let sentences = reader.map(|reader| reader.sentences(ids, sequence));
        let (mut sequence, mut of_tokens, mut reordered) = (*sequence, *sequence, Vec::new());
        if let Some(sentences) = &sentences {
            (sequence, of_tokens) = (sentences.sequence(), sentences.of_tokens());
            reordered = sentences.reordered(ids);
        }
        let ids = if sentences.is_some() { &reordered } else { ids };
        let (span, token) = (pass.open_span(&of_tokens), self.config.dropout.token);
        let mut x = pass.embedding(&self.weights, encoder.embedding, ids, span, token);
        for embedded in [Embedded::Tokens, Embedded::Whole] {
            x = pass.perturb(x, false, embedded);
        }
        let state = |sequence: &Sequence| State::new(&encoder.state, sequence.batch);
        if let (Some(reader), Some(sentences)) = (reader, &sentences) {
            x = reader.run(pass, &self.weights, x, sentences, &mut state(&of_tokens));
        }
        let mut state = state(&sequence);
        let x = self.place(pass, x, encoder.positions, &sequence, &state);
        let rows = encoder.stack.run(pass, &self.weights, x, None, &mut state);
        (rows, sentences)
    }

    fn check_text(
        &self,
        encoder: &Encoder,
        ids: &[u32],
        sequence: &Sequence,
    ) -> Result<(), ModelError> {
        let Sequence { time, batch, .. } = *sequence;
        let lengths = sequence.lengths.map_or(batch, <[u32]>::len);
        if ids.len() != time * batch || lengths != batch {
            return Err(ModelError::Length { got: ids.len(), time, batch });
        }
        let vocab_size = encoder.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(ModelError::Token { id, vocab_size }),
            None => Ok(()),
        }
    }
}

mod sentences;
#[cfg(test)]
mod tests;
