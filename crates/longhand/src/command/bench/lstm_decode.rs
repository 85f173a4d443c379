//! `longhand bench lstm-decode`: how fast a classical LSTM language model writes.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use longhand_model::Format;

use super::measure::{Line, Measuring};
use super::profile::{Profiling, Work};
use super::streams::Writing;
use super::work::{forward_operations, lstm};

/// Measures greedy decoding of an LSTM language model with random weights.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand bench lstm-decode --vocab 10000 --dim 650 --layers 2 \
                        --batch 1 --weights int8\n\nEach step reads a token in every stream, makes \
                        the logits of the whole vocabulary, and takes the most probable token as \
                        the next. Tokens of all streams count."
)]
pub(crate) struct Arguments {
    /// Tokens that the model knows
    #[arg(long, value_name = "N")]
    vocab: usize,
    /// Width of the embedding, and units of each layer
    #[arg(long, value_name = "N")]
    dim: usize,
    /// LSTM layers of the model
    #[arg(long, value_name = "N", default_value_t = 2)]
    layers: usize,
    /// Streams side by side
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// How the weights are held
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    weights: Format,
    /// Also write the model into a folder, for `longhand bench first-token`
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    #[command(flatten)]
    measuring: Measuring,
    #[command(flatten)]
    profiling: Profiling,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let mut config = lstm(self.vocab, self.dim, self.layers)?;
        config.weights = self.weights;
        let (cpu, batch) = (self.measuring.cpu()?, usize::from(self.batch));
        let mut writing = Writing::new(config, cpu.clone(), batch, 0)?;
        let model = writing.model()?;
        let (work, bytes) = (forward_operations(model, 1, 1), model.weights.bytes());
        if let Some(folder) = &self.save {
            fs_err::create_dir_all(folder)?;
            model.save(folder)?;
        }
        let rates = self.measuring.windows(|| writing.step())?;
        let shares = self.profiling.take(&mut writing)?;
        let mut line = Line::new("lstm decode", &cpu);
        line.add("vocab", self.vocab).add("dim", self.dim).add("layers", self.layers);
        line.add("batch", batch).add("weights", self.weights.name());
        line.add("weight_mib", (bytes as f64 / (1 << 20) as f64 * 100.0).round() / 100.0);
        line.rates(&rates, batch as u64);
        line.work(rates.median * work / 1e9, None);
        self.measuring.finish(line, shares)
    }
}
