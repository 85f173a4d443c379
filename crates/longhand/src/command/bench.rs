//! `longhand bench`: what is promised, measured.

use clap::{Args, Subcommand};

use anyhow::Result;

mod equality;
mod flat;

/// Measures what is promised of a model.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand bench flat model\n  longhand bench equality --preset \
                        xlstm"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Flat(flat::Arguments),
    Equality(equality::Arguments),
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Flat(arguments) => arguments.run(),
            Verb::Equality(arguments) => arguments.run(),
        }
    }
}

/// Token ids that look like no text, the same each time: multiples of a large odd number.
fn ids(vocab_size: usize) -> impl Iterator<Item = u32> {
    let size = vocab_size.max(1) as u64;
    (1u64..).map(move |i| ((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % size) as u32)
}
