//! A block: norm → memories → fusion → residual, then norm → cross-attention → residual and
//! norm → feed-forward → residual where it has them. Adapters stand before the residuals of the
//! memories and of the feed-forward layer.

use crate::bottleneck::Bottleneck;
use crate::config::{BlockConfig, Config, Dropout, Fusion, Norm, Order, width_behind};
use crate::cross::{Across, Cross};
use crate::memory::{Long, Working};
use crate::state::State;
use crate::tape::{Ablation, Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Weights};

/// One block of the stack.
pub(crate) struct Block {
    order: Order,
    residual: bool,
    norm: NormLayer,
    working: Option<Working>,
    long: Option<Long>,
    fusion: FusionLayer,
    /// Behind the fused memories.
    adapter: Option<Bottleneck>,
    /// Cross-attention and the norm before it.
    cross: Option<(NormLayer, Cross)>,
    feed_forward: Option<FeedForward>,
    dropout: Dropout,
}

/// A norm over the rows, or none.
pub(crate) enum NormLayer {
    None,
    Rms(ParameterId),
    Layer(ParameterId, ParameterId),
}

enum FusionLayer {
    Concat(ParameterId),
    Gate(ParameterId, ParameterId),
    Sum,
    None,
}

struct FeedForward {
    norm: NormLayer,
    /// `[2·F, D]`: the gate's rows, then the value's.
    up: ParameterId,
    down: ParameterId,
    adapter: Option<Bottleneck>,
}

impl Block {
    /// Lays out one of the blocks of a stack, whose parameters' names begin with `stack`.
    pub(crate) fn new(
        config: &Config,
        blocks: &[BlockConfig],
        stack: &str,
        index: usize,
        builder: &mut Builder,
    ) -> Self {
        let block = &blocks[index];
        let input = width_behind(&blocks[..index], config.width);
        let prefix = format!("{stack}blocks.{index}");
        let norm = NormLayer::new(config.norm, &format!("{prefix}.norm"), input, builder);
        let (working_input, long_input) = block.inputs(input);
        let working = (block.working.as_ref())
            .map(|working| Working::new(working, config.kv_cache, &prefix, working_input, builder));
        let long = (block.long.as_ref()).map(|long| Long::new(long, &prefix, long_input, builder));
        // Two layers write to the residual stream in each block: their sum keeps its scale.
        let depth = (2.0 * blocks.len() as f32).sqrt();
        let fusion = FusionLayer::new(block, &prefix, input, depth, builder);
        let output = block.output_width(input);
        let adapter = |layer: &str, builder: &mut Builder| {
            config.adapters.map(|inner| Bottleneck::new(layer, output, inner, builder))
        };
        let of_memories = adapter(&prefix, builder);
        let before = blocks[..index].iter().filter(|block| block.cross.is_some()).count();
        let cross = block.cross.as_ref().map(|cross| {
            let name = format!("{prefix}.cross.norm");
            let norm = NormLayer::new(config.norm, &name, output, builder);
            (norm, Cross::new(cross, before, &prefix, output, depth, builder))
        });
        let feed_forward = block.feed_forward.map(|inner| {
            let up = Init::Normal(0.5 / (output as f32).sqrt());
            let down = Init::Normal(0.5 / (inner as f32).sqrt() / depth);
            let name = format!("{prefix}.feed_forward");
            FeedForward {
                norm: NormLayer::new(config.norm, &format!("{name}.norm"), output, builder),
                up: builder.add(format!("{name}.up.weight"), &[2 * inner, output], up),
                down: builder.add(format!("{name}.down.weight"), &[output, inner], down),
                adapter: adapter(&name, builder),
            }
        });
        let (order, residual, dropout) = (block.order, block.residual, config.dropout);
        let adapter = of_memories;
        Self { order, residual, norm, working, long, fusion, adapter, cross, feed_forward, dropout }
    }

    /// Its cross-attention, if it reads a source.
    pub(crate) fn cross(&self) -> Option<&Cross> {
        self.cross.as_ref().map(|(_, cross)| cross)
    }

    pub(crate) fn run(
        &self,
        tape: &mut Tape,
        weights: &Weights,
        x: Var,
        source: Option<Across<'_>>,
        state: &mut State,
    ) -> Var {
        let u = self.norm.run(tape, weights, x);
        let y = self.memories(tape, weights, u, state);
        let y = tape.dropout(y, self.dropout.block, self.dropout.locked);
        let y = adapted(&self.adapter, tape, weights, y);
        let mut x = if self.residual { tape.add(x, y) } else { y };
        if let (Some((norm, cross)), Some(source)) = (&self.cross, source) {
            let u = norm.run(tape, weights, x);
            let y = cross.run(tape, weights, u, source);
            let y = tape.dropout(y, self.dropout.block, self.dropout.locked);
            x = tape.add(x, y);
        }
        let Some(layer) = &self.feed_forward else { return x };
        let u = layer.norm.run(tape, weights, x);
        let up = tape.linear(weights, &[u], layer.up, None);
        let inner = tape.swiglu(up);
        let y = tape.linear(weights, &[inner], layer.down, None);
        let y = tape.dropout(y, self.dropout.block, self.dropout.locked);
        let y = adapted(&layer.adapter, tape, weights, y);
        tape.add(x, y)
    }

    /// The memories and their fusion.
    fn memories(&self, tape: &mut Tape, weights: &Weights, u: Var, state: &mut State) -> Var {
        let (working, long) = match self.order {
            Order::Parallel => {
                let working = self.working(tape, weights, u, state);
                match self.long(tape, weights, u, state) {
                    None => (working, None),
                    // A sequence whose working memory is dropped has its long memory alone.
                    long => {
                        let drop = |y| tape.drop_sequences(y, self.dropout.working);
                        (working.map(drop), long)
                    }
                }
            }
            Order::WorkingFirst => {
                let working = self.working(tape, weights, u, state);
                (None, self.long(tape, weights, working.unwrap_or(u), state))
            }
            Order::LongFirst => {
                let long = self.long(tape, weights, u, state);
                (self.working(tape, weights, long.unwrap_or(u), state), None)
            }
        };
        match (&self.fusion, working, long) {
            (FusionLayer::Concat(weight), Some(working), Some(long)) => {
                tape.linear(weights, &[working, long], *weight, None)
            }
            (FusionLayer::Concat(weight), working, long) => {
                tape.linear(weights, &[working.or(long).unwrap_or(u)], *weight, None)
            }
            (FusionLayer::Gate(weight, bias), Some(working), Some(long)) => {
                let gate = tape.linear(weights, &[working, long], *weight, Some(*bias));
                tape.gate(gate, working, long)
            }
            (FusionLayer::Sum, Some(working), Some(long)) => tape.add(working, long),
            (_, working, long) => working.or(long).unwrap_or(u),
        }
    }

    /// The working memory's output, if there is one.
    fn working(
        &self,
        tape: &mut Tape,
        weights: &Weights,
        u: Var,
        state: &mut State,
    ) -> Option<Var> {
        let y = self.working.as_ref()?.run(tape, weights, u, state);
        Some(self.finish(tape, y, Ablation::Working))
    }

    /// The long memory's output, if there is one.
    fn long(&self, tape: &mut Tape, weights: &Weights, u: Var, state: &mut State) -> Option<Var> {
        let y = self.long.as_ref()?.run(tape, weights, u, state, self.dropout.recurrent);
        Some(self.finish(tape, y, Ablation::Long))
    }

    /// Zeros where the memory is ablated, then dropout.
    fn finish(&self, tape: &mut Tape, y: Var, memory: Ablation) -> Var {
        tape.silence_if(y, memory);
        tape.dropout(y, self.dropout.memory, self.dropout.locked)
    }
}

/// What an adapter makes of a layer's output, where there is one.
fn adapted(adapter: &Option<Bottleneck>, tape: &mut Tape, weights: &Weights, y: Var) -> Var {
    adapter.as_ref().map_or(y, |adapter| adapter.run(tape, weights, y))
}

impl BlockConfig {
    /// Widths of the inputs of the working and the long memory.
    fn inputs(&self, input: usize) -> (usize, usize) {
        match (self.order, &self.working, &self.long) {
            (Order::WorkingFirst, Some(working), _) => (input, working.output_width(input)),
            (Order::LongFirst, _, Some(long)) => (long.output_width(), input),
            _ => (input, input),
        }
    }
}

impl NormLayer {
    pub(crate) fn new(norm: Norm, name: &str, width: usize, builder: &mut Builder) -> Self {
        match norm {
            Norm::None => NormLayer::None,
            Norm::Rms => {
                NormLayer::Rms(builder.add(format!("{name}.weight"), &[width], Init::Ones))
            }
            Norm::Layer => NormLayer::Layer(
                builder.add(format!("{name}.weight"), &[width], Init::Ones),
                builder.add(format!("{name}.bias"), &[width], Init::Zeros),
            ),
        }
    }

    pub(crate) fn run(&self, tape: &mut Tape, weights: &Weights, x: Var) -> Var {
        match *self {
            NormLayer::None => x,
            NormLayer::Rms(weight) => tape.rms_norm(weights, x, weight),
            NormLayer::Layer(weight, bias) => tape.layer_norm(weights, x, weight, bias),
        }
    }
}

impl FusionLayer {
    fn new(
        block: &BlockConfig,
        prefix: &str,
        input: usize,
        depth: f32,
        builder: &mut Builder,
    ) -> Self {
        let (working_input, _) = block.inputs(input);
        let working = block.working.map_or(0, |w| w.output_width(working_input));
        let long = block.long.map_or(0, |long| long.output_width());
        let parts = match block.order {
            Order::Parallel => working + long,
            Order::WorkingFirst => long,
            Order::LongFirst => working,
        };
        let scale = 0.5 / (parts as f32).sqrt();
        match block.fusion {
            Fusion::Concat => FusionLayer::Concat(builder.add(
                format!("{prefix}.fusion.weight"),
                &[input, parts],
                Init::Normal(if block.residual { scale / depth } else { 2.0 * scale }),
            )),
            Fusion::Gate => FusionLayer::Gate(
                builder.add(
                    format!("{prefix}.fusion.gate.weight"),
                    &[working, parts],
                    Init::Normal(scale),
                ),
                builder.add(format!("{prefix}.fusion.gate.bias"), &[working], Init::Zeros),
            ),
            Fusion::Sum => FusionLayer::Sum,
            Fusion::None => FusionLayer::None,
        }
    }
}
