//! `longhand ngram`: n-gram models to and from ARPA files, which other programs read and write.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use longhand_engine::{GENERATION_FILE, GenerationConfig};
use longhand_model::file;
use longhand_ngram::{ArpaWords, Ngram, arpa_vocabulary};
use longhand_run::output;
use longhand_text::{TOKENIZER_FILE, Tokenizer, TokenizerKind};

use crate::reading::{any_model_folder, writable};
use crate::talk::say;
use crate::whole_file::write_whole;

/// Writes an n-gram model as an ARPA file, or reads one.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand train book.txt --tokenizer word --preset ngram --out \
                        counts\n  longhand ngram export counts --out counts.arpa\n  longhand ngram \
                        import pruned.arpa --tokenizer counts --out pruned"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Export(Export),
    Import(Import),
}

/// Write a model as an ARPA file, whose words are the tokens of its vocabulary.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand ngram export counts --out counts.arpa\n\nWhite space \
    within a token is written as <U+0020>; the start of a document is <s>, and the token \
    at the end of a document, or with --tokenizer word of a line, is </s>."
)]
struct Export {
    /// The folder of an n-gram model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite that file if it exists
    #[arg(long)]
    force: bool,
}

/// Make a model folder of an ARPA file, whose words are the tokens of a vocabulary, or of which a
/// vocabulary of words is made.
#[derive(Args)]
#[command(after_help = "Examples:\n  longhand ngram import pruned.arpa --tokenizer counts --out \
                        pruned\n  longhand ngram import kenlm.arpa --out kenlm")]
struct Import {
    /// The ARPA file
    #[arg(value_name = "FILE")]
    arpa: PathBuf,
    /// The folder of a model with the vocabulary; without it the words of the file are one
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// The folder to write, which must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Export(export) => export.run(),
            Verb::Import(import) => import.run(),
        }
    }
}

impl Export {
    fn run(self) -> Result<()> {
        let folder = any_model_folder(&self.model)?;
        if !Ngram::is_in(folder) {
            bail!("{} holds no n-gram model: train one with --preset ngram", folder.display());
        }
        let path = writable(&self.out, self.force)?;
        let (model, words) = (Ngram::load(folder)?, words(folder)?);
        write_whole(path, |out| {
            let named = || format!("{} cannot be written", path.display());
            model.write_arpa(&words, out).with_context(named)
        })?;
        say!("{} n-grams are in {}", model.counts().sum::<usize>(), path.display());
        Ok(())
    }
}

impl Import {
    fn run(self) -> Result<()> {
        let Self { arpa, tokenizer, out } = &self;
        if output::is_occupied(out)? {
            bail!("the folder {} is not empty: name another one with --out", out.display());
        }
        let open = || {
            Ok::<_, std::io::Error>(BufReader::with_capacity(1 << 16, fs_err::File::open(arpa)?))
        };
        let named = || arpa.display().to_string();
        let tokenizer = match tokenizer {
            Some(folder) => Tokenizer::of_folder(any_model_folder(folder)?)?,
            None => of_words(&arpa_vocabulary(open()?).with_context(named)?)?,
        };
        let words = ArpaWords::new(&tokenizer)?;
        let model = Ngram::read_arpa(&words, open()?).with_context(named)?;
        fs_err::create_dir_all(out)?;
        tokenizer.save(&out.join(TOKENIZER_FILE))?;
        file::write(&out.join(GENERATION_FILE), &GenerationConfig::default().to_json())?;
        model.save(out)?;
        let (count, order) = (model.counts().sum::<usize>(), model.order());
        say!("a model of order {order} with {count} n-grams is in {}", out.display());
        Ok(())
    }
}

/// A tokeniser of kind `word` with these words and a token for the end of a line.
fn of_words(words: &[String]) -> Result<Tokenizer> {
    let text = words.join(" ") + "\n";
    Ok(Tokenizer::train(TokenizerKind::Word, None, std::iter::once(Ok(text)), &mut |_| {})?)
}

/// The words of a model folder's vocabulary in ARPA files.
fn words(folder: &Path) -> Result<ArpaWords> {
    Ok(ArpaWords::new(&Tokenizer::of_folder(folder)?)?)
}
