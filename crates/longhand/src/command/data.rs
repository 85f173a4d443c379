//! `longhand data`: text to ids and back, and the built-in sample.

use std::io::{BufRead, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use longhand_text::{Corpus, CorpusOptions, Tokenizer};

use crate::reading::any_model_folder;

mod sample;

/// Text to token ids and back, and the built-in sample.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand data sample --out sample.txt\n  \
                        longhand data tokenize model < sample.txt")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Tokenize(Tokenize),
    Detokenize(Detokenize),
    Sample(sample::Arguments),
}

/// Prints the ids of a text, separated by spaces.
#[derive(Args)]
#[command(after_help = "Example:\n  echo 'One day' | longhand data tokenize model")]
struct Tokenize {
    /// The model folder whose tokeniser is used
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Replace invalid UTF-8 instead of stopping
    #[arg(long)]
    lossy: bool,
}

/// Prints the text of ids that are separated by white space.
#[derive(Args)]
#[command(after_help = "Example:\n  echo '40 17 5' | longhand data detokenize model")]
struct Detokenize {
    /// The model folder whose tokeniser is used
    #[arg(value_name = "DIR")]
    model: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Tokenize(arguments) => arguments.run(),
            Verb::Detokenize(arguments) => arguments.run(),
            Verb::Sample(arguments) => arguments.run(),
        }
    }
}

impl Tokenize {
    fn run(self) -> Result<()> {
        let tokenizer = Tokenizer::of_folder(any_model_folder(&self.model)?)?;
        let options = CorpusOptions { lossy: self.lossy, ..CorpusOptions::default() };
        let corpus = Corpus::open(&["-".into()], options)?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut separator = "";
        for piece in corpus.pieces() {
            for id in tokenizer.encode(&piece?.text)? {
                write!(out, "{separator}{id}")?;
                separator = " ";
            }
        }
        writeln!(out)?;
        Ok(out.flush()?)
    }
}

impl Detokenize {
    fn run(self) -> Result<()> {
        let tokenizer = Tokenizer::of_folder(any_model_folder(&self.model)?)?;
        let mut decoder = tokenizer.decoder();
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut input = std::io::stdin().lock();
        let mut line = Vec::new();
        // By spaces and not by lines: `tokenize` writes a whole text's ids as one line.
        while input.read_until(b' ', &mut line).context("the standard input cannot be read")? > 0 {
            for word in String::from_utf8_lossy(&line).split_whitespace() {
                let id = word.parse().map_err(|_| {
                    anyhow!("{word:?} is not a token id: give whole numbers and spaces")
                });
                out.write_all(decoder.push(id?)?.as_bytes())?;
            }
            line.clear();
        }
        out.write_all(decoder.finish().as_bytes())?;
        Ok(out.flush()?)
    }
}
