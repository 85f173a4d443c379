//! One file for each verb: its arguments, and what it does with them.

use anyhow::Result;
use clap::Subcommand;

use crate::error::Product;

mod adapter;
mod baseline;
mod bench;
mod chat;
mod copying;
mod data;
mod doctor;
mod drawing;
mod eval;
mod eval_task;
mod finetune;
mod flags;
mod generate;
mod index;
mod inspect;
mod memory;
mod ngram;
mod predict;
mod quantize;
mod rehearsal;
mod score;
mod self_training;
mod serve;
mod train;
mod writing;

/// The verb, with its arguments.
#[derive(Subcommand)]
pub(crate) enum Command {
    Adapter(adapter::Arguments),
    Bench(bench::Arguments),
    Chat(chat::Arguments),
    Data(data::Arguments),
    Doctor(doctor::Arguments),
    Eval(Box<eval::Arguments>),
    Finetune(Box<finetune::Arguments>),
    Generate(Box<generate::Arguments>),
    Index(Box<index::Arguments>),
    Inspect(inspect::Arguments),
    Memory(memory::Arguments),
    Ngram(ngram::Arguments),
    Predict(Box<predict::Arguments>),
    Quantize(quantize::Arguments),
    Score(Box<score::Arguments>),
    Serve(Box<serve::Arguments>),
    Train(Box<train::Arguments>),
}

impl Command {
    /// Where what the verb is for ends up.
    pub(crate) fn product(&self) -> Product {
        match self {
            Command::Finetune(_) | Command::Index(_) | Command::Train(_) => Product::Saved,
            _ => Product::Printed,
        }
    }

    pub(crate) fn run(self) -> Result<()> {
        match self {
            Command::Adapter(arguments) => arguments.run(),
            Command::Bench(arguments) => arguments.run(),
            Command::Chat(arguments) => arguments.run(),
            Command::Data(arguments) => arguments.run(),
            Command::Doctor(arguments) => arguments.run(),
            Command::Eval(arguments) => arguments.run(),
            Command::Finetune(arguments) => arguments.run(),
            Command::Generate(arguments) => arguments.run(),
            Command::Index(arguments) => arguments.run(),
            Command::Inspect(arguments) => arguments.run(),
            Command::Memory(arguments) => arguments.run(),
            Command::Ngram(arguments) => arguments.run(),
            Command::Predict(arguments) => arguments.run(),
            Command::Quantize(arguments) => arguments.run(),
            Command::Score(arguments) => arguments.run(),
            Command::Serve(arguments) => arguments.run(),
            Command::Train(arguments) => arguments.run(),
        }
    }
}
