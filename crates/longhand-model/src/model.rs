//! The model: a body (embedding → one stack of blocks or two → norm, beside an encoder or not) and
//! its heads, run on a tape.

use std::ops::Range;
use std::sync::Arc;

use longhand_kernel::low_rank::LowRank;
use longhand_kernel::weights::{Format, Rows};
use longhand_kernel::{Precision, Sequence};

use crate::block::{Block, NormLayer};
use crate::characters::{CharacterLayer, Characters};
use crate::config::{
    BACKWARD, BlockConfig, Config, ConfigError, FinalNorm, MOST_PARAMETERS, MOST_STATE, Positions,
    Stacks, width_behind,
};
use crate::cross::Across;
use crate::error::{HeadError, ModelError};
use crate::head::{Head, Targets};
use crate::pointer::Pointer;
use crate::source::SourceInput;
use crate::state::{State, StateLayout};
use crate::tape::{Embedded, LossOptions, Pass, Tape, Total, Var, reversed_row};
use crate::weights::{Builder, Init, ParameterId, Role, Weights};
use crate::words::Words;

mod encoder;
mod first_vectors;

use encoder::Encoder;

/// A configuration with its weights.
pub struct Model {
    config: Config,
    /// The parameters; an optimiser changes them in place.
    pub weights: Weights,
    state: Arc<StateLayout>,
    embedding: ParameterId,
    /// The tables of further features.
    features: Vec<ParameterId>,
    pub(crate) characters: Option<CharacterLayer>,
    positions: Option<ParameterId>,
    /// The layers that read the source of a decoder.
    encoder: Option<Encoder>,
    /// What copies tokens of the source.
    pointer: Option<Pointer>,
    forward: Stack,
    /// The stack that reads the reversed sequence.
    backward: Option<Stack>,
    heads: Vec<Head>,
}

/// The blocks that read a sequence one after the other.
struct Stack {
    blocks: Vec<Block>,
    /// The norm before the heads; none where the only head has it behind its pooling.
    norm: NormLayer,
}

/// The tokens of a sequence, further features of each, the words that they are parts of, and the
/// source that they are written from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// `[T·B]` token ids, time-major.
    pub ids: &'a [u32],
    /// `[F, T·B]`: the value of each feature at each position, one feature after another; empty for
    /// plain text, to which features add nothing.
    pub features: &'a [u32],
    /// The characters of each token, for a model that reads them.
    pub characters: Option<Characters<'a>>,
    /// The words that are rows of the body's output (default: each token is one).
    pub words: Option<Words<'a>>,
    /// The sources that the cross-attention of a model with an encoder reads.
    pub source: Option<SourceInput<'a>>,
}

impl Clone for Model {
    fn clone(&self) -> Self {
        let mut clone = Self::lay_out(self.config.clone(), Builder::empty());
        clone.weights.clone_from(&self.weights);
        clone
    }
}

impl Model {
    /// A model with weights drawn from a seed.
    ///
    /// # Errors
    /// The errors of [`Model::check`] for this configuration.
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        Self::check(&config)?;
        let format = config.weights;
        let model = Self::lay_out(Config { weights: Format::F32, ..config }, Builder::new(seed));
        Ok(if format == Format::F32 { model } else { model.compress(format) })
    }

    /// Checks a configuration, and the size of its model and of the state of a stream.
    /// Allocates neither of them.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting to change.
    pub fn check(config: &Config) -> Result<(), ConfigError> {
        config.check()?;
        let model = Self::lay_out(config.clone(), Builder::empty());
        let count = |shape: &[usize]| shape.iter().map(|&n| n as u128).product::<u128>();
        let parameters = model.weights.iter().map(|parameter| count(&parameter.shape)).sum();
        if parameters > MOST_PARAMETERS {
            return Err(ConfigError::TooLarge(clamped(parameters)));
        }
        match model.state.count() {
            count if count > MOST_STATE => Err(ConfigError::StateTooLarge(clamped(count))),
            _ => Ok(()),
        }
    }

    /// The same model with weights of another format, packed for reading: it can no longer be
    /// trained. Matrices of fewer than sixteen rows, biases and norms stay in `f32`.
    pub fn compress(&self, format: Format) -> Self {
        if self.weights.has_low_rank() {
            let mut merged = self.clone();
            merged.merge_low_rank();
            return merged.compress(format);
        }
        let mut config = self.config.clone();
        config.weights = format;
        let mut model = Self::lay_out(config, Builder::empty());
        for (to, from) in model.weights.iter_mut().zip(self.weights.iter()) {
            let held = to.format(format);
            to.group.trainable = false;
            if to.role == Role::Vector {
                to.data = from.data.clone();
            } else if let (None, true) = (&from.packed, held != Format::F32) {
                to.pack(Rows::encode(held, from.matrix(), &from.data));
            } else {
                let rows = from.to_rows();
                let same = rows.format() == held;
                to.pack(if same {
                    rows
                } else {
                    Rows::encode(held, from.matrix(), &rows.decode())
                });
            }
        }
        model
    }

    /// The same model with its KV caches in another precision.
    ///
    /// # Errors
    /// [`ConfigError::OddCache`] if a head's width is odd and the precision is bf16.
    pub fn with_kv_cache(self, precision: Precision) -> Result<Self, ConfigError> {
        let config = Config { kv_cache: precision, ..self.config.clone() };
        Self::check(&config)?;
        Ok(Self { weights: self.weights, ..Self::lay_out(config, Builder::empty()) })
    }

    /// Lays the weights out for reading, without changing a value: faster passes, above all over
    /// few rows, and no more training. Does nothing to what is packed already.
    pub fn pack(&mut self) {
        self.merge_low_rank();
        for parameter in self.weights.iter_mut() {
            parameter.group.trainable = false;
            if parameter.packed.is_none() && parameter.role != Role::Vector {
                let rows = parameter.to_rows();
                parameter.pack(rows);
            }
        }
    }

    /// As [`Model::pack`]. A matrix with the values that `base`, which is packed, has under its name is held
    /// once for both models.
    pub fn pack_beside(&mut self, base: &Model) {
        self.merge_low_rank();
        self.weights.share(&base.weights);
        self.pack();
    }

    /// Whether its weights can be trained: they are `f32` and not packed.
    ///
    /// # Errors
    /// [`ModelError::Frozen`] names the format of packed weights.
    pub fn check_trainable(&self) -> Result<(), ModelError> {
        match self.weights.iter().find_map(|parameter| parameter.packed.as_ref()) {
            None => Ok(()),
            Some(_) => Err(ModelError::Frozen(self.config.weights.name())),
        }
    }

    /// Lays out a checked configuration.
    pub(crate) fn lay_out(config: Config, mut builder: Builder) -> Self {
        let tied = config.is_tied();
        // Tied, it is the output matrix as well, and begins small so that logits do.
        let init = Init::Normal(if tied { 0.05 } else { 0.5 });
        let shape = [config.vocab_size, config.width];
        let embedding = builder.add("embedding.weight".into(), &shape, init);
        builder.role(embedding, if tied { Role::TiedTable } else { Role::Table });
        let features = feature_tables(&config, &mut builder);
        let characters = CharacterLayer::new(&config, &mut builder);
        let positions = position_table(&config, "", &mut builder);
        let encoder = Encoder::new(&config, embedding, &mut builder);
        let mut forward = Stack::new(&config, &config.blocks, "", &mut builder);
        let mut behind_pooling = match config.final_norm {
            FinalNorm::BeforeHeads => None,
            FinalNorm::AfterPooling => Some(std::mem::replace(&mut forward.norm, NormLayer::None)),
        };
        let backward = (config.stacks == Stacks::Bicausal)
            .then(|| Stack::new(&config, &config.blocks, &format!("{BACKWARD}."), &mut builder));
        let pointer = Pointer::new(&config, &mut builder);
        let heads = config.heads.iter();
        let heads = heads
            .map(|head| Head::new(&config, head, embedding, behind_pooling.take(), &mut builder))
            .collect();
        let (weights, state) = builder.finish();
        Self {
            config,
            weights,
            state,
            embedding,
            features,
            characters,
            positions,
            encoder,
            pointer,
            forward,
            backward,
            heads,
        }
    }

    /// The configuration that the model was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The hash of its configuration and weights. Models with equal hashes give the same answers;
    /// the same weights in another format are another model.
    pub fn hash(&self) -> String {
        let both = format!("{}\n{}", self.config.hash(), self.weights.hash());
        blake3::hash(both.as_bytes()).to_hex().to_string()
    }

    /// The empty state of `batch` streams.
    pub fn state(&self, batch: usize) -> State {
        State::new(&self.state, batch)
    }

    /// The tensors that each of its states has.
    pub fn state_layout(&self) -> &Arc<StateLayout> {
        &self.state
    }

    /// `[D]`: the mean of the vectors of all tokens; zeros where the weights are packed for reading.
    pub fn mean_embedding(&self) -> Vec<f32> {
        let (table, width) = (self.weights.get(self.embedding), self.config.width);
        let mut sums = vec![0.0_f64; width];
        for row in table.data.chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let count = (table.data.len() / width).max(1) as f64;
        if let Some(LowRank { rank, scale, a, b, .. }) = self.weights.change(self.embedding) {
            let mut shares = vec![0.0_f64; rank];
            for row in b.chunks_exact(rank) {
                shares.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            for (share, row) in shares.iter().zip(a.chunks_exact(width)) {
                let share = f64::from(scale) * share;
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += share * f64::from(value));
            }
        }
        sums.into_iter().map(|sum| (sum / count) as f32).collect()
    }

    /// Numbers in a row of the first head's answer: tokens or classes.
    pub fn outputs(&self) -> usize {
        self.first_head().outputs()
    }

    /// Checks that a tokeniser of this number of tokens belongs to the model.
    ///
    /// # Errors
    /// [`ModelError::Vocabulary`] if the model knows more or fewer.
    pub fn check_vocabulary(&self, tokenizer: usize) -> Result<(), ModelError> {
        let model = self.config.vocab_size;
        if model == tokenizer { Ok(()) } else { Err(ModelError::Vocabulary { model, tokenizer }) }
    }

    /// Takes over the body of a trained model that is not packed, and the heads that `heads` names:
    /// every weight whose name and shape both share. Other heads stay as they are, so that a new head
    /// does not begin with an old one's answers. Returns the names of the weights that stay.
    pub fn take_over(&mut self, trained: &Model, heads: &[&str]) -> Vec<String> {
        let embedding = self.embedding;
        let new = self.heads.iter().filter(|head| !heads.contains(&head.name()));
        let of_heads: Vec<ParameterId> = new.flat_map(Head::parameters).collect();
        let mut kept = Vec::new();
        for (place, parameter) in self.weights.iter_mut().enumerate() {
            let id = ParameterId(place);
            // A tied head is the embedding.
            let own = of_heads.contains(&id) && id != embedding;
            let mut sources = trained.weights.iter();
            let source = sources
                .find(|source| source.name == parameter.name && source.shape == parameter.shape);
            match source.filter(|_| !own) {
                Some(source) => parameter.data.copy_from_slice(&source.data),
                None => kept.push(parameter.name.clone()),
            }
        }
        kept
    }

    /// Reads `ids [T·B]` (time-major) in a pass, which may read other sequences too, of this model
    /// or of others. Returns the body's output `[T·B, D]`, which the heads read; `[T·B, 2·D]` where
    /// two stacks read in both directions. `state` advances over the real positions.
    ///
    /// # Errors
    /// [`ModelError::Token`] if an id is out of range; [`ModelError::Length`],
    /// [`ModelError::State`] or [`ModelError::Layout`] if the sizes do not agree;
    /// [`ModelError::NotEmpty`] if two stacks are to read on. Pass and state are unchanged then.
    pub fn forward(
        &self,
        pass: &mut Pass<'_>,
        ids: &[u32],
        sequence: &Sequence,
        state: &mut State,
    ) -> Result<Var, ModelError> {
        self.forward_input(pass, Input { ids, ..Input::default() }, sequence, state)
    }

    /// As [`Model::forward`], with further features and the characters of each position where the
    /// model reads any, and with the sources of a model with an encoder. Where words are given, each
    /// has a row: `[S·B, D]` in place of `[T·B, D]`.
    ///
    /// # Errors
    /// As [`Model::forward`], and if the features, the characters, the words or the
    /// sources do not fit.
    pub fn forward_input(
        &self,
        pass: &mut Pass<'_>,
        input: Input<'_>,
        sequence: &Sequence,
        state: &mut State,
    ) -> Result<Var, ModelError> {
        self.check_input(pass, input, sequence, state)?;
        let config = &self.config;
        if let Some(mut both) = self.run_both(pass, input, sequence, state) {
            if let Some(words) = input.words {
                both = words.gather(pass, config, both);
            }
            return Ok(pass.join(both[0], both[1]));
        }
        let x = self.run(pass, input, sequence, state);
        Ok(input.words.map_or(x, |words| words.gather(pass, config, [x])[0]))
    }

    /// As [`Model::forward`] for a model of two stacks: the outputs of the one that reads forward
    /// and of the one that reads backward, each `[T·B, D]` in the order of the sequence. The first
    /// one has seen the tokens up to each position, the second one those from there on.
    ///
    /// # Errors
    /// [`ModelError::OneStack`] for a model of one stack, [`ModelError::NotEmpty`] for a state that
    /// is not empty, and the errors of [`Model::forward`].
    pub fn forward_both(
        &self,
        pass: &mut Pass<'_>,
        ids: &[u32],
        sequence: &Sequence,
        state: &mut State,
    ) -> Result<[Var; 2], ModelError> {
        let input = Input { ids, ..Input::default() };
        self.check_input(pass, input, sequence, state)?;
        self.run_both(pass, input, sequence, state).ok_or(ModelError::OneStack)
    }

    /// The forward pass of the only stack over checked input, behind that of the
    /// encoder over the sources.
    fn run(
        &self,
        pass: &mut Pass<'_>,
        input: Input<'_>,
        sequence: &Sequence,
        state: &mut State,
    ) -> Var {
        let source = self.across(pass, input.source);
        let x = self.embed(pass, input, sequence, state, false);
        let x = self.forward.run(pass, &self.weights, x, source, state);
        if let (Some(pointer), Some(across)) = (&self.pointer, source) {
            let tokens = input.source.and_then(SourceInput::tokens);
            pointer.run(pass, &self.weights, x, across, tokens, state);
        }
        state.advance(sequence);
        x
    }

    /// The forward pass of both stacks over checked input; none of a model that has one.
    fn run_both(
        &self,
        pass: &mut Pass<'_>,
        input: Input<'_>,
        sequence: &Sequence,
        state: &mut State,
    ) -> Option<[Var; 2]> {
        let backward = self.backward.as_ref()?;
        let x = self.embed(pass, input, sequence, state, false);
        let ahead = self.forward.run(pass, &self.weights, x, None, state);
        let (ids, features) = (reversed(sequence, input.ids), reversed(sequence, input.features));
        let given = input.characters;
        let ranges = given.map_or(Vec::new(), |own| reversed(sequence, own.ranges));
        let characters = given.map(|own| Characters { ranges: &ranges, ..own });
        let input = Input { ids: &ids, features: &features, characters, words: None, source: None };
        let resets = sequence.resets.map(|resets| reversed_resets(sequence, resets));
        let other = Sequence { resets: resets.as_deref(), ..*sequence };
        let x = self.embed(pass, input, &other, state, true);
        let x = backward.run(pass, &self.weights, x, None, state);
        state.advance(sequence);
        Some([ahead, pass.reverse(x, ahead)])
    }

    /// Opens a span for a sequence; the first block's input. `reversed` says that it is the last
    /// sequence again, in reverse.
    fn embed(
        &self,
        pass: &mut Pass<'_>,
        input: Input<'_>,
        sequence: &Sequence,
        state: &mut State,
        reversed: bool,
    ) -> Var {
        let Input { ids, features, characters, .. } = input;
        let span = pass.open_span(sequence);
        let dropout = &self.config.dropout;
        let tape: &mut Tape = pass;
        let mut x = tape.embedding(&self.weights, self.embedding, ids, span, dropout.token);
        x = tape.perturb(x, reversed, Embedded::Tokens);
        for (&table, values) in self.features.iter().zip(features.chunks(ids.len().max(1))) {
            let vectors = tape.embedding(&self.weights, table, values, span, 0.0);
            x = tape.add(x, vectors);
        }
        if let (Some(layer), Some(characters)) = (&self.characters, characters) {
            let (weights, dropout) = (&self.weights, dropout.input);
            let spelling = layer.run(pass, weights, characters, span, dropout, state);
            x = pass.add(x, spelling);
        }
        let tape: &mut Tape = pass;
        x = tape.perturb(x, reversed, Embedded::Whole);
        self.place(tape, x, self.positions, sequence, state)
    }

    /// The first block's input: what is embedded, with its places in the documents added where the
    /// configuration says so. `table` holds learned positions.
    fn place(
        &self,
        tape: &mut Tape,
        mut x: Var,
        table: Option<ParameterId>,
        sequence: &Sequence,
        state: &State,
    ) -> Var {
        match (self.config.positions, table) {
            (Positions::Learned { count }, Some(weight)) => {
                let places = places(sequence, state.since_reset(), |p| (p % count as u64) as u32);
                let vectors = tape.embedding(&self.weights, weight, &places, tape.span(x), 0.0);
                x = tape.add(x, vectors);
            }
            (Positions::Sinusoidal {}, _) => {
                let places = places(sequence, state.since_reset(), |p| p);
                tape.add_sinusoids(x, &places);
            }
            _ => {}
        }
        let dropout = &self.config.dropout;
        tape.dropout(x, dropout.input, dropout.locked)
    }

    /// The heads, in the order of the configuration.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The head that predicts tokens, whichever place it has; the first head where none does, which
    /// refuses tokens as targets.
    pub fn token_head(&self) -> &Head {
        let found = self.heads.iter().find(|head| head.kind().predicts_tokens());
        found.unwrap_or_else(|| self.first_head())
    }

    /// The names of the heads' parameters, an embedding that a head is tied to among them.
    pub fn head_parameters(&self) -> Vec<String> {
        let own = self.heads.iter().flat_map(Head::parameters);
        own.map(|id| self.weights.get(id).name.clone()).collect()
    }

    /// The head with a name.
    ///
    /// # Errors
    /// [`HeadError::Unknown`] where there is none.
    pub fn head(&self, name: &str) -> Result<&Head, HeadError> {
        self.heads.iter().find(|head| head.name() == name).ok_or_else(|| HeadError::Unknown {
            name: name.into(),
            heads: self.heads.iter().map(|head| head.name().to_owned()).collect(),
        })
    }

    /// Logits of some rows of the first head's answer to the output `x` of [`Model::forward`]:
    /// `[rows, outputs]`, as [`Head::logits`].
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn logits(&self, tape: &mut Tape, x: Var, rows: Range<usize>, out: &mut Vec<f32>) {
        self.first_head().logits(&self.weights, tape, x, rows, out);
    }

    /// Probabilities of every row of the first head's answer, as [`Head::probabilities`].
    pub fn probabilities(&self, tape: &mut Tape, x: Var, out: &mut Vec<f32>) {
        self.first_head().probabilities(&self.weights, tape, x, out);
    }

    /// The summed loss of the first head's answers to the output `x`
    /// of [`Model::forward`], see [`Head::loss`].
    ///
    /// # Errors
    /// [`ModelError::Head`] if the targets do not fit the head.
    pub fn loss(
        &self,
        tape: &mut Tape,
        x: Var,
        targets: Targets<'_>,
        options: LossOptions<'_>,
    ) -> Result<Total, ModelError> {
        self.first_head().loss(&self.weights, tape, x, targets, options)
    }

    /// As [`Model::loss`], of logits that take the place of the first
    /// head's own: see [`Head::loss_of_logits`].
    ///
    /// # Errors
    /// [`ModelError::Head`] if the targets do not fit the head.
    ///
    /// # Panics
    /// If there are too few logits.
    pub fn loss_of_logits(
        &self,
        tape: &Tape,
        x: Var,
        logits: &[f32],
        targets: Targets<'_>,
    ) -> Result<Total, ModelError> {
        self.first_head().loss_of_logits(&self.weights, tape, x, logits, targets)
    }

    /// Sets the scores of tags beside each other, if the first head has them, to the mean of its own
    /// and those of `others`, models of the same configuration. With the mean of the logits of all
    /// they give each path the mean of its scores.
    pub fn average_tag_scores(&mut self, others: &[&Self]) {
        let others: Vec<&Weights> = others.iter().map(|model| &model.weights).collect();
        self.heads[0].average_tag_scores(&mut self.weights, &others);
    }

    /// The head that `generate`, `score` and `predict` use; a checked configuration has one.
    fn first_head(&self) -> &Head {
        &self.heads[0]
    }

    fn check_input(
        &self,
        pass: &Pass<'_>,
        input: Input<'_>,
        sequence: &Sequence,
        state: &State,
    ) -> Result<(), ModelError> {
        let ids = input.ids;
        let Sequence { time, batch, .. } = *sequence;
        if ids.len() != time * batch {
            return Err(ModelError::Length { got: ids.len(), time, batch });
        }
        if state.batch() != batch {
            return Err(ModelError::State { expected: batch, got: state.batch() });
        }
        if !state.has_layout(&self.state) {
            return Err(ModelError::Layout);
        }
        if self.backward.is_some() && state.positions().iter().any(|&read| read > 0) {
            return Err(ModelError::NotEmpty);
        }
        if state.lent().is_some() && (time > 1 || pass.records()) {
            return Err(ModelError::Lent);
        }
        let vocab_size = self.config.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(ModelError::Token { id, vocab_size }),
            None => self.check_features(input),
        }?;
        self.check_source(pass, input.source, sequence)?;
        Characters::check(input.characters, self.config.characters.as_ref(), sequence)?;
        input.words.map_or(Ok(()), |words| words.check(sequence))
    }

    fn check_features(&self, Input { ids, features, .. }: Input<'_>) -> Result<(), ModelError> {
        let sizes = &self.config.features;
        let (expected, positions) = (sizes.len(), ids.len());
        if !features.is_empty() && features.len() != expected * positions {
            return Err(ModelError::Features { got: features.len(), expected, positions });
        }
        let parts = features.chunks(positions.max(1));
        for (feature, (values, &rows)) in parts.zip(sizes).enumerate() {
            if let Some(&value) = values.iter().find(|&&value| value as usize >= rows) {
                return Err(ModelError::Feature { feature, value, rows });
            }
        }
        Ok(())
    }
}

impl Stack {
    /// Lays out a stack of these blocks, whose parameters' names begin with `name`.
    fn new(config: &Config, blocks: &[BlockConfig], name: &str, builder: &mut Builder) -> Self {
        let width = width_behind(blocks, config.width);
        let block = |index| Block::new(config, blocks, name, index, builder);
        let blocks = (0..blocks.len()).map(block).collect();
        Self { blocks, norm: NormLayer::new(config.norm, &format!("{name}norm"), width, builder) }
    }

    /// The output of the last block, normed.
    fn run(
        &self,
        tape: &mut Tape,
        weights: &Weights,
        mut x: Var,
        source: Option<Across<'_>>,
        state: &mut State,
    ) -> Var {
        for block in &self.blocks {
            let first = tape.values();
            x = block.run(tape, weights, x, source, state);
            tape.settle(first, x);
        }
        self.norm.run(tape, weights, x)
    }
}

/// Values of positions, one list `[T·B]` of them after another, with each sequence reversed.
fn reversed<T: Copy>(sequence: &Sequence, values: &[T]) -> Vec<T> {
    let lists = values.chunks(sequence.rows().max(1));
    let rows = 0..sequence.rows();
    lists.flat_map(|list| rows.clone().map(|row| list[reversed_row(sequence, row)])).collect()
}

/// Where documents start when each sequence is reversed: a document is entered at its last
/// position, the one before another document's start.
fn reversed_resets(sequence: &Sequence, resets: &[bool]) -> Vec<bool> {
    let batch = sequence.batch;
    let starts = |row: usize| {
        let at = reversed_row(sequence, row) + batch;
        let is_next_real = sequence.is_real(at / batch, at % batch);
        sequence.is_real(row / batch, row % batch) && is_next_real && resets[at]
    };
    (0..sequence.rows()).map(starts).collect()
}

/// Lays out the table of learned positions, if the model learns them.
fn position_table(config: &Config, stack: &str, builder: &mut Builder) -> Option<ParameterId> {
    let Positions::Learned { count } = config.positions else { return None };
    let name = format!("{stack}positions.weight");
    let table = builder.add(name, &[count, config.width], Init::Normal(0.02));
    builder.role(table, Role::Table);
    Some(table)
}

/// Lays out the tables of further features. They begin at zero, so that an
/// unknown feature adds nothing.
fn feature_tables(config: &Config, builder: &mut Builder) -> Vec<ParameterId> {
    let table = |(index, &rows): (usize, &usize)| {
        let shape = [rows, config.width];
        let table = builder.add(format!("features.{index}.weight"), &shape, Init::Zeros);
        builder.role(table, Role::Table);
        table
    };
    config.features.iter().enumerate().map(table).collect()
}

/// The count, or the largest number that fits.
fn clamped(count: u128) -> u64 {
    count.try_into().unwrap_or(u64::MAX)
}

/// Each row's place in its document.
fn places<T>(sequence: &Sequence, since_reset: &[u64], map: impl Fn(u64) -> T) -> Vec<T> {
    let mut at = since_reset.to_vec();
    let mut places = Vec::with_capacity(sequence.rows());
    for t in 0..sequence.time {
        for (b, at) in at.iter_mut().enumerate() {
            if sequence.starts_empty(t, b) {
                *at = 0;
            }
            places.push(map(*at));
            *at += 1;
        }
    }
    places
}
