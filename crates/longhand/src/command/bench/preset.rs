//! `longhand bench preset`: how fast a preset learns, reads and steps.

use anyhow::Result;
use clap::{Args, ValueEnum};
use longhand_model::config::{
    Cell, Dropout, Fusion, HeadKind, LongMemory, Positions, WorkingMemory,
};
use longhand_model::{Config, Cpu, Format, Model, Precision, Preset, UnknownPreset};
use longhand_run::Tuning;
use longhand_run::tuning::Method;
use longhand_train::settings::{AdamWSettings, OptimizerSettings};
use serde_json::json;

use super::ids;
use super::measure::{Line, Measuring, rounded};
use super::profile::{Profiling, Work};
use super::search::Searching;
use super::streams::{PROMPT, Serving, WRITTEN, Writing, percentile};
use super::work::{Follower, Learning, MOST_LAYERS, Reading, forward_operations};
use crate::error::{Usage, within};

/// Measures the speed of a preset with random weights on random ids.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand bench preset longhand-nano --what train\n  \
                        longhand bench preset transformer --what decode --position 2048\n  longhand \
                        bench preset xlstm --cell mlstm --layers 4 --width 256 --heads 4 \
                        --what train\n\nTraining is a whole step: forward, all gradients, clipping \
                        and AdamW, the state carried. Reading is what a prompt costs, decoding \
                        what each further token does. Serving has a full batch of streams that \
                        come and go: each reads a prompt of 200 tokens and writes 50 to 150 \
                        more. Searching is a beam search over --sentences texts of --seq tokens on \
                        average, each continued or translated by as many tokens.")]
pub(crate) struct Arguments {
    /// The preset; `longhand bench equality --preset all` lists them
    #[arg(value_name = "NAME")]
    name: String,
    /// Work to be timed: training, reading, decoding, serving or searching
    #[arg(long)]
    what: What,
    /// Tokens read before decoding begins
    #[arg(long, value_name = "N", default_value_t = 0)]
    position: usize,
    /// Streams side by side [default: 32 to train, 1 to read and decode]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    batch: Option<u32>,
    /// Tokens of one training step or one reading pass of each stream [default: 64 to
    /// train, 256 to read, 14 to search]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    seq: Option<u32>,
    /// Tokens that the model knows
    #[arg(long, value_name = "N", default_value_t = 65)]
    vocab: usize,
    /// How the weights are held to read and decode: f32, bf16, int8 or int4
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    weights: Format,
    /// Number format of the KV cache: f32 or bf16
    #[arg(long, value_name = "P", default_value = "f32")]
    kv_cache: Precision,
    /// Leave the parameters of this name untrained, `*` for any characters; may be given again
    #[arg(long, value_name = "PATTERN")]
    freeze: Vec<String>,
    /// Train changes of this rank beside the large matrices, as `finetune --method lora`
    /// does, and nothing else
    #[arg(long, value_name = "RANK", conflicts_with = "freeze",
          value_parser = clap::value_parser!(u16).range(1..))]
    lora: Option<u16>,
    /// Streams to serve at a time
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..))]
    streams: u16,
    /// Hypotheses of the beam of a search
    #[arg(long, value_name = "K", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    beam: u16,
    /// Prompts of a search
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    sentences: u32,
    /// The most hypotheses in one pass of a search
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    rows: u32,
    /// Seed of the served streams' lengths
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u16,
    /// Each training step begins with empty memories, as with a peer that carries none
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    measuring: Measuring,
    #[command(flatten)]
    profiling: Profiling,
}

/// Another size than the preset's, for comparisons.
#[derive(Args)]
struct Shape {
    /// Width of the model, and of every memory in proportion
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    /// Blocks: the preset's, repeated or cut off
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Heads of attention, sLSTM and mLSTM
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Positions that attention sees
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Width of the feed-forward layers, 0 for none
    #[arg(long, value_name = "N")]
    feed_forward: Option<usize>,
    /// Units of every long memory
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    /// The recurrence of every long memory
    #[arg(long)]
    cell: Option<CellName>,
    /// What a block's only memory gives goes on without a linear layer
    #[arg(long)]
    no_fusion: bool,
    /// A learned vector for each position, as many as the window sees
    #[arg(long)]
    positions: bool,
    /// The output matrix is the embedding
    #[arg(long)]
    tied: bool,
    /// Drop nothing in training
    #[arg(long)]
    no_dropout: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Train,
    Read,
    Decode,
    Serve,
    Search,
}

#[derive(Clone, Copy, ValueEnum)]
enum CellName {
    Lstm,
    Slstm,
    Mlstm,
    Rnn,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let preset: Preset =
            self.name.parse().map_err(|error: UnknownPreset| Usage(error.to_string()))?;
        let mut config = preset.config(self.vocab);
        if let Some(layers) = self.shape.layers {
            within("--layers", layers, 1..=MOST_LAYERS)?;
        }
        self.shape.apply(&mut config);
        if !matches!(self.what, What::Train) {
            config.weights = self.weights;
        }
        config.kv_cache = self.kv_cache;
        Model::check(&config).map_err(|error| Usage(error.to_string()))?;
        match self.what {
            What::Train => self.train(config),
            What::Read => self.read(config),
            What::Decode if !config.is_language_model() => {
                let (cpu, batch) = (self.measuring.cpu()?, self.batch.unwrap_or(1) as usize);
                let follower = Follower::new(config, cpu.clone(), batch, self.position)?;
                self.decode(&cpu, batch, follower, |follower| Ok(follower.model()))
            }
            What::Decode => {
                let (cpu, batch) = (self.measuring.cpu()?, self.batch.unwrap_or(1) as usize);
                let writing = Writing::new(config, cpu.clone(), batch, self.position)?;
                self.decode(&cpu, batch, writing, Writing::model)
            }
            What::Serve => self.serve(config),
            What::Search => self.search(config),
        }
    }

    fn train(&self, config: Config) -> Result<()> {
        let cpu = self.measuring.cpu()?;
        let (batch, seq) = (self.batch.unwrap_or(32) as usize, self.seq.unwrap_or(64) as usize);
        let rule = OptimizerSettings::AdamW(AdamWSettings::default());
        let mut model = Model::new(config, 1)?;
        let groups = self.lora.map(|rank| {
            let tuning = Tuning { method: Method::Lora, rank: rank.into(), ..Tuning::default() };
            tuning.add_changes(&mut model, &[], 1)
        });
        let mut learner = Learning::of(model, rule, cpu.clone(), batch, seq)?;
        if let Some(groups) = groups.transpose()? {
            learner.regroup(groups)?;
        }
        if self.fresh {
            learner.start_afresh();
        }
        self.freeze.iter().try_for_each(|pattern| learner.freeze(pattern))?;
        let rates = self.measuring.windows(|| learner.step())?;
        let shares = self.profiling.take(&mut learner)?;
        // Twice as much again for the gradients of inputs and weights.
        let before = if self.fresh { 0 } else { seq };
        let work = 3.0 * forward_operations(learner.model(), before, seq);
        let mut line = self.line(&cpu, learner.model().config(), learner.model().weights.count());
        line.add("batch", batch).add("seq", seq).add("fresh", self.fresh);
        line.add("lora", self.lora).add("last_loss", learner.loss);
        line.rates(&rates, (batch * seq) as u64).peak_memory();
        line.work(rates.median * work / 1e9, None);
        self.measuring.finish(line, shares)
    }

    fn read(&self, config: Config) -> Result<()> {
        let cpu = self.measuring.cpu()?;
        let (batch, seq) = (self.batch.unwrap_or(1) as usize, self.seq.unwrap_or(256) as usize);
        let text: Vec<u32> = ids(config.vocab_size).take(batch * seq).collect();
        let follower = Follower::new(config, cpu.clone(), batch, self.position)?;
        let mut reading = Reading { follower, text };
        let rates = self.measuring.windows(|| reading.step())?;
        let shares = self.profiling.take(&mut reading)?;
        let model = reading.follower.model();
        let work = forward_operations(model, seq, seq);
        let mut line = self.line(&cpu, model.config(), model.weights.count());
        line.add("batch", batch).add("seq", seq).add("position", self.position);
        line.rates(&rates, (batch * seq) as u64);
        line.work(rates.median * work / 1e9, None);
        self.measuring.finish(line, shares)
    }

    fn decode<W: Work>(
        &self,
        cpu: &Cpu,
        batch: usize,
        mut work: W,
        model: impl Fn(&W) -> Result<&Model>,
    ) -> Result<()> {
        let rates = self.measuring.windows(|| work.step())?;
        let shares = self.profiling.take(&mut work)?;
        let model = model(&work)?;
        let operations = forward_operations(model, self.position, 1);
        let mut line = self.line(cpu, model.config(), model.weights.count());
        line.add("batch", batch).add("position", self.position);
        line.rates(&rates, batch as u64);
        line.work(rates.median * operations / 1e9, None);
        self.measuring.finish(line, shares)
    }

    fn search(&self, config: Config) -> Result<()> {
        let writes = config.is_language_model() || config.writes_from_source();
        if !writes || !config.is_causal() {
            let name = &self.name;
            return Err(Usage(format!("the preset {name} writes no text: name another")).into());
        }
        let cpu = self.measuring.cpu()?;
        let (sentences, length) = (self.sentences as usize, self.seq.unwrap_or(14) as usize);
        let (beam, rows) = (usize::from(self.beam), self.rows as usize);
        let mut searching = Searching::new(config, cpu.clone(), [sentences, length], [beam, rows])?;
        let mut written = 0;
        let rates = self.measuring.windows(|| {
            written = searching.step()?;
            Ok(written)
        })?;
        let shares = self.profiling.take(&mut searching)?;
        let model = searching.model();
        let mut line = self.line(&cpu, model.config(), model.weights.count());
        line.add("sentences", sentences).add("seq", length).add("beam", beam).add("rows", rows);
        line.rates(&rates, written);
        let each = rates.median / written.max(1) as f64;
        line.add("sentences_per_s", rounded(each * sentences as f64));
        self.measuring.finish(line, shares)
    }

    fn serve(&self, config: Config) -> Result<()> {
        let cpu = self.measuring.cpu()?;
        let streams = usize::from(self.streams);
        let mut serving = Serving::new(config, &cpu, streams, self.seed)?;
        let rates = self.measuring.windows(|| serving.step())?;
        let shares = self.profiling.take(&mut serving)?;
        let model = serving.model()?;
        let mut line = self.line(&cpu, model.config(), model.weights.count());
        line.add("streams", streams).add("seed", self.seed);
        line.add("prompt", PROMPT).add("written", WRITTEN.to_vec());
        line.rates(&rates, streams as u64);
        let mut spread = |name: &str, seconds: &mut [f64]| {
            let [p50, p99] = [0.5, 0.99].map(|share| 1e3 * percentile(seconds, share));
            line.add(name, json!({ "p50": rounded(p50), "p99": rounded(p99) }));
        };
        spread("ms_per_token", &mut serving.between_tokens);
        spread("ms_to_first_token", &mut serving.to_first_token);
        self.measuring.finish(line, shares)
    }

    fn line(&self, cpu: &Cpu, config: &Config, parameters: usize) -> Line {
        let what = match self.what {
            What::Train => "preset train",
            What::Read => "preset read",
            What::Decode => "preset decode",
            What::Serve => "preset serve",
            What::Search => "preset search",
        };
        let mut line = Line::new(what, cpu);
        line.add("preset", self.name.as_str()).add("vocab", config.vocab_size);
        line.add("width", config.width).add("layers", config.blocks.len());
        line.add("parameters", parameters);
        line.add("weights", config.weights.name()).add("kv_cache", config.kv_cache.name());
        line
    }
}

impl Shape {
    fn apply(&self, config: &mut Config) {
        if let Some(layers) = self.layers {
            let blocks = config.blocks.iter().cycle().take(layers).cloned();
            config.blocks = blocks.collect();
        }
        let old = config.width;
        let width = self.width.unwrap_or(old);
        let scaled = |units: usize| (units as f64 * width as f64 / old as f64).round() as usize;
        config.width = width;
        let mut window = 0;
        for block in &mut config.blocks {
            if let Some(WorkingMemory::Attention {
                heads,
                kv_heads,
                head_width,
                window: sees,
                ..
            }) = &mut block.working
            {
                let inner = scaled(*heads * *head_width);
                if let Some(wanted) = self.heads {
                    (*heads, *kv_heads) = (wanted, wanted);
                }
                *head_width = inner / (*heads).max(1);
                *sees = self.window.unwrap_or(*sees);
                window = window.max(*sees);
            }
            if let Some(WorkingMemory::Convolution(filters)) = &mut block.working {
                filters.filters = scaled(filters.filters);
            }
            if let Some(long) = &mut block.long {
                let hidden = self.hidden.unwrap_or_else(|| scaled(long.hidden()));
                let cell = self.cell.map_or(long.cell(), CellName::cell);
                let heads = self.heads.unwrap_or(long.heads());
                let both = long.is_bidirectional();
                *long = LongMemory::new(cell, hidden).with_heads(heads);
                if both {
                    *long = long.in_both_directions();
                }
            }
            if self.no_fusion && !(block.working.is_some() && block.long.is_some()) {
                block.fusion = Fusion::None;
            }
            let inner = |inner: usize| scaled(inner).next_multiple_of(16);
            block.feed_forward = match self.feed_forward {
                Some(0) => None,
                Some(inner) => Some(inner),
                None => block.feed_forward.map(inner),
            };
        }
        if self.positions {
            config.positions = Positions::Learned { count: window.max(1) };
        }
        if let Some(HeadKind::LanguageModel { tied, .. }) =
            config.heads.first_mut().map(|head| &mut head.kind)
        {
            *tied |= self.tied;
        }
        if self.no_dropout {
            config.dropout = Dropout::default();
        }
    }
}

impl CellName {
    fn cell(self) -> Cell {
        match self {
            CellName::Lstm => Cell::Lstm,
            CellName::Slstm => Cell::Slstm,
            CellName::Mlstm => Cell::Mlstm,
            CellName::Rnn => Cell::Rnn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            width: None,
            layers: None,
            heads: None,
            window: None,
            feed_forward: None,
            hidden: None,
            cell: None,
            no_fusion: false,
            positions: false,
            tied: false,
            no_dropout: false,
        }
    }

    #[test]
    fn nothing_asked_for_leaves_every_preset_as_it_is() {
        for preset in Preset::ALL {
            let mut config = preset.config(50);
            shape().apply(&mut config);
            assert_eq!(config, preset.config(50));
        }
    }

    #[test]
    fn another_size_is_a_model_that_can_be() {
        let mut config = Preset::Transformer.config(65);
        let sizes = Shape {
            width: Some(384),
            layers: Some(6),
            heads: Some(6),
            window: Some(256),
            positions: true,
            tied: true,
            ..shape()
        };
        sizes.apply(&mut config);
        config.check().unwrap();
        assert_eq!((config.width, config.blocks.len()), (384, 6));
        assert_eq!(config.blocks[5].feed_forward, Some(1152));
        let mut config = Preset::Xlstm.config(65);
        let cell = Some(CellName::Slstm);
        let sizes = Shape { width: Some(256), layers: Some(4), cell, no_fusion: true, ..shape() };
        sizes.apply(&mut config);
        config.check().unwrap();
        assert!(config.blocks.iter().all(|block| block.fusion == Fusion::None));
        let longs = config.blocks.iter().map(|block| block.long.unwrap());
        assert!(longs.into_iter().all(|long| long.cell() == Cell::Slstm && long.hidden() == 256));
    }
}
