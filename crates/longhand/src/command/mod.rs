//! One file for each verb: its arguments, and what it does with them.

use anyhow::Result;
use clap::Subcommand;

mod data;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    Data(data::Arguments),
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Command::Data(arguments) => arguments.run(),
        }
    }
}
