//! `longhand bench lstm-train`: how fast an LSTM language model learns.

use anyhow::Result;
use clap::Args;
use longhand_train::settings::{AdamWSettings, OptimizerSettings};

use super::gemm;
use super::measure::{Line, Measuring};
use super::profile::{Profiling, Work};
use super::work::{Learning, forward_operations, lstm};

/// Measures training of embedding, LSTM layers, linear and softmax on random ids.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand bench lstm-train --vocab 10000 --dim 650 --batch 32 \
                        --seq 64 --precision bf16\n\nA whole step: forward, all gradients, AdamW, \
                        the state carried. The best matrix product is measured in the same run.")]
pub(crate) struct Arguments {
    /// Tokens that the model knows
    #[arg(long, value_name = "V", default_value_t = 10_000)]
    vocab: usize,
    /// Width of the embedding, and units of each layer
    #[arg(long, value_name = "D", default_value_t = 650)]
    dim: usize,
    /// LSTM layers of the model
    #[arg(long, value_name = "L", default_value_t = 2)]
    layers: usize,
    /// Streams side by side
    #[arg(long, value_name = "B", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    batch: u32,
    /// Tokens of each stream in a step
    #[arg(long, value_name = "T", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    seq: u32,
    /// Clip the gradient to this norm; 0 for none
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    clip: f64,
    /// Leave the best matrix product unmeasured
    #[arg(long)]
    no_peak: bool,
    #[command(flatten)]
    measuring: Measuring,
    #[command(flatten)]
    profiling: Profiling,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let config = lstm(self.vocab, self.dim, self.layers)?;
        let cpu = self.measuring.cpu()?;
        let (batch, seq) = (self.batch as usize, self.seq as usize);
        let rule = OptimizerSettings::AdamW(AdamWSettings::default());
        let mut learner = Learning::new(config, rule, cpu.clone(), batch, seq)?;
        learner.clip = self.clip;
        let rates = self.measuring.windows(|| learner.step())?;
        let shares = self.profiling.take(&mut learner)?;
        // Twice as much again for the gradients of inputs and weights.
        let work = 3.0 * forward_operations(learner.model(), seq, seq);
        let mut line = Line::new("lstm-train", &cpu);
        line.add("vocab", self.vocab).add("dim", self.dim).add("layers", self.layers);
        line.add("batch", batch).add("seq", seq);
        line.add("parameters", learner.model().weights.count()).add("last_loss", learner.loss);
        line.rates(&rates, (batch * seq) as u64).peak_memory();
        drop(learner);
        let peak = if self.no_peak { None } else { Some(gemm::peak(&cpu)? / 1e9) };
        line.work(rates.median * work / 1e9, peak);
        self.measuring.finish(line, shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Verb {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn the_model_has_the_size_that_was_asked_for() {
        let words = ["lstm-train", "--vocab", "300", "--dim", "24", "--layers", "3"];
        let Verb { arguments: Arguments { vocab, dim, layers, .. } } =
            Verb::try_parse_from(words).unwrap();
        let config = lstm(vocab, dim, layers).unwrap();
        assert_eq!((config.vocab_size, config.width, config.blocks.len()), (300, 24, 3));
        assert!(config.blocks.iter().all(|block| block.long.unwrap().hidden() == 24));
    }
}
