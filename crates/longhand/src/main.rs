//! The `longhand` command line. stdout is data, stderr is talk. Exit codes: 0 done, 1 failed,
//! 2 wrong usage.
#![deny(clippy::print_stderr)]

mod command;
mod error;
mod hint;
mod interrupt;
mod launch;
mod progress;
mod reading;
mod talk;

use std::process::ExitCode;

use clap::Parser;

/// Trains, runs and examines language models in which every layer fuses two memories.
#[derive(Parser)]
#[command(
    name = "longhand",
    version,
    arg_required_else_help = true,
    after_help = "Example: train a small model on the built-in sample and let it write\n  \
                  longhand train --out model\n  longhand generate model --prompt \"One day\""
)]
struct CommandLine {
    #[command(subcommand)]
    command: command::Command,
}

fn main() -> ExitCode {
    // Ends the process with 2 where the arguments are wrong, with 0 after --help.
    let line = CommandLine::parse();
    let product = line.command.product();
    match line.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error, product),
    }
}
