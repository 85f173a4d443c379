//! `longhand bench`: what is promised, measured.

use clap::{Args, Subcommand};

use anyhow::Result;
use longhand_model::split_mix64;

mod equality;
mod first_token;
mod flat;
mod gemm;
mod lstm_decode;
mod lstm_train;
mod measure;
mod preset;
mod profile;
mod search;
mod serve;
mod streams;
mod work;

/// Measures what is promised of a model.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand bench preset longhand-nano --what train\n  longhand bench \
                  flat model\n  longhand bench equality --preset xlstm\n\nSpeeds are of the median \
                  of several windows of time, one JSON object a line. Above 0.1, \
                  `other_cpus_busy` says that something else ran: measure again."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Equality(equality::Arguments),
    FirstToken(first_token::Arguments),
    Flat(flat::Arguments),
    Gemm(gemm::Arguments),
    LstmDecode(lstm_decode::Arguments),
    LstmTrain(lstm_train::Arguments),
    Preset(preset::Arguments),
    Serve(serve::Arguments),
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Equality(arguments) => arguments.run(),
            Verb::FirstToken(arguments) => arguments.run(),
            Verb::Flat(arguments) => arguments.run(),
            Verb::Gemm(arguments) => arguments.run(),
            Verb::LstmDecode(arguments) => arguments.run(),
            Verb::LstmTrain(arguments) => arguments.run(),
            Verb::Preset(arguments) => arguments.run(),
            Verb::Serve(arguments) => arguments.run(),
        }
    }
}

/// Token ids that look like no text, the same each time.
fn ids(vocab_size: usize) -> impl Iterator<Item = u32> {
    let size = vocab_size.max(1) as u64;
    (0u64..).map(move |i| (split_mix64(i) % size) as u32)
}
