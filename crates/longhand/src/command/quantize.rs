//! `longhand quantize`: a model with smaller weights, and what that costs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_engine::GENERATION_FILE;
use longhand_model::file::{self, CONFIG_FILE, WEIGHTS_FILE};
use longhand_model::{Cpu, Format, Model, Precision, Tape};
use longhand_run::{CARD_FILE, FolderLock, TRAINING_FILE, output};
use longhand_text::{TOKENIZER_FILE, Tokenizer, Tokens};
use longhand_train::evaluate;
use serde_json::json;

use crate::error::Usage;
use crate::reading::{TextArguments, Threads, encode};
use crate::talk::say;

/// Write a model with weights of fewer bits: smaller, and faster to run.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand quantize model --weights int8 --out model-int8 --data \
                        valid.txt\n\nint8 has a scale for each row of a matrix, int4 for each 32 \
                        columns of a row. The result is a model folder that every verb but those \
                        that train reads."
)]
pub(crate) struct Arguments {
    /// The model folder, with f32 weights
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// How to hold the weights: bf16, int8 or int4
    #[arg(long, value_name = "FORMAT")]
    weights: Format,
    /// How to hold the keys and values that attention carries: bf16, in half the memory, or f32
    #[arg(long, value_name = "P", default_value = "bf16")]
    kv_cache: Precision,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Text to measure the loss on, before and after; files and folders, - for stdin
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    text: TextArguments,
    /// Write into a folder that holds something
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    threads: Threads,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// One of the two models.
struct Measured {
    name: &'static str,
    file_bytes: u64,
    memory_bytes: usize,
    /// What the memory of one stream takes, and how it holds keys and values.
    session_bytes: usize,
    kv_cache: Precision,
    /// Nats per token, and seconds.
    loss: Option<(f64, f64)>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let format = self.weights;
        if format == Format::F32 {
            return Err(
                Usage("--weights is bf16, int8 or int4: f32 is what models have".into()).into()
            );
        }
        let model = Model::load(crate::reading::folder(&self.model)?)?;
        if model.check_trainable().is_err() {
            bail!(
                "the weights of {} are {} already: quantize the f32 model that they were made from",
                self.model.display(),
                model.config().weights.name()
            );
        }
        let (tokens, bytes) = self.tokens(&model)?.unzip();
        let _lock = self.prepare()?;
        let began = Instant::now();
        let small = model.compress(format).with_kv_cache(self.kv_cache)?;
        let seconds = began.elapsed().as_secs_f64();
        small.save(&self.out)?;
        self.copy_the_rest()?;
        let mut tape = Tape::new(Arc::new(Cpu::new(self.threads.count())));
        let mut measure = |name, folder: &Path, model: &Model| -> Result<Measured> {
            let file_bytes = fs_err::metadata(folder.join(WEIGHTS_FILE))?.len();
            let mut loss = None;
            if let Some(tokens) = &tokens {
                let began = Instant::now();
                let total = evaluate::carried(model, &mut tape, tokens, evaluate::STREAMS)?;
                loss = Some((total.mean(), began.elapsed().as_secs_f64()));
            }
            Ok(Measured {
                name,
                file_bytes,
                memory_bytes: model.weights.bytes(),
                session_bytes: model.state(1).bytes(),
                kv_cache: model.config().kv_cache,
                loss,
            })
        };
        let before = measure("f32", &self.model, &model)?;
        // What a reader of the folder gets.
        let after = measure(format.name(), &self.out, &Model::load(&self.out)?)?;
        let tokens = tokens.as_ref().map(Tokens::len).zip(bytes);
        self.report(&before, &after, seconds, tokens)
    }

    /// The text as ids, and its bytes.
    fn tokens(&self, model: &Model) -> Result<Option<(Tokens, u64)>> {
        if self.data.is_empty() {
            return Ok(None);
        }
        if !model.config().is_language_model() {
            bail!("--data measures language models, and this one has another head: leave it out");
        }
        let tokenizer = self.threads.tokenizer(Tokenizer::of_folder(&self.model)?);
        model.check_vocabulary(tokenizer.vocab_size())?;
        let corpus = self.text.open(&self.data)?;
        Ok(Some(encode(&corpus, &tokenizer, !self.json)?))
    }

    /// Makes the folder, and keeps other processes out of it.
    fn prepare(&self) -> Result<FolderLock> {
        let out = &self.out;
        if out.exists() && !out.is_dir() {
            bail!("{} is a file: name a folder with --out", out.display());
        }
        if output::is_same(out, &self.model) {
            bail!("--out is the model's own folder: name another one, so that the f32 model stays");
        }
        if output::is_occupied(out)? && !self.force {
            bail!("the folder {} is not empty: pass --force, or another --out", out.display());
        }
        if out.join(TRAINING_FILE).is_file() {
            bail!("{} holds a trained run: name another folder with --out", out.display());
        }
        fs_err::create_dir_all(out)?;
        Ok(FolderLock::take(out)?)
    }

    /// The tokeniser, the labels, and how text is drawn stay what they are.
    fn copy_the_rest(&self) -> Result<()> {
        for name in [TOKENIZER_FILE, GENERATION_FILE, longhand_tasks::TASK_FILE] {
            let (from, to) = (self.model.join(name), self.out.join(name));
            if from.is_file() {
                fs_err::copy(from, to)?;
            } else if to.is_file() {
                // Of the model that was there before.
                fs_err::remove_file(to)?;
            }
        }
        let card = self.model.join(CARD_FILE);
        if card.is_file() {
            let name = self.weights.name();
            let note = format!(
                "\n## Weights\n\nThis copy holds its matrices as {name} (`longhand quantize \
                 --weights {name}`); the results above are those of the f32 model.\n"
            );
            let text = fs_err::read_to_string(&card)? + &note;
            file::write(&self.out.join(CARD_FILE), text.as_bytes())
                .context("the model card is not written")?;
        }
        Ok(())
    }

    fn report(
        &self,
        before: &Measured,
        after: &Measured,
        seconds: f64,
        tokens: Option<(u64, u64)>,
    ) -> Result<()> {
        let perplexity = |of: &Measured| of.loss.map(|(loss, _)| loss.exp());
        let lost = perplexity(before).zip(perplexity(after)).map(|(a, b)| 100.0 * (b / a - 1.0));
        let mut out = std::io::stdout().lock();
        if self.json {
            let of = |measured: &Measured| {
                json!({
                    "weights": measured.name,
                    "file_bytes": measured.file_bytes,
                    "memory_bytes": measured.memory_bytes,
                    "session_bytes": measured.session_bytes,
                    "kv_cache": measured.kv_cache.name(),
                    "loss": measured.loss.map(|(loss, _)| loss),
                    "perplexity": perplexity(measured),
                    "seconds": measured.loss.map(|(_, seconds)| seconds),
                })
            };
            let line = json!({
                "before": of(before), "after": of(after), "perplexity_lost_percent": lost,
                "tokens": tokens.map(|(tokens, _)| tokens), "seconds": seconds,
            });
            return Ok(writeln!(out, "{line}")?);
        }
        writeln!(
            out,
            "{:<8} {:>12} {:>12} {:>12} {:>10} {:>12} {:>9}",
            "weights", "file MB", "memory MB", "session kB", "loss", "perplexity", "seconds"
        )?;
        for measured in [before, after] {
            let number = |value: Option<f64>, digits: usize| {
                value.map_or("-".into(), |value| format!("{value:.digits$}"))
            };
            writeln!(
                out,
                "{:<8} {:>12.2} {:>12.2} {:>12.1} {:>10} {:>12} {:>9}",
                measured.name,
                measured.file_bytes as f64 / 1e6,
                measured.memory_bytes as f64 / 1e6,
                measured.session_bytes as f64 / 1e3,
                number(measured.loss.map(|(loss, _)| loss), 4),
                number(perplexity(measured), 3),
                number(measured.loss.map(|(_, seconds)| seconds), 2),
            )?;
        }
        drop(out);
        if let (Some(lost), Some((tokens, _))) = (lost, tokens) {
            say!("{lost:+.3} % perplexity over {tokens} tokens");
        }
        say!(
            "the model lies in {} ({}, {WEIGHTS_FILE}); quantized in {seconds:.1} s",
            self.out.display(),
            CONFIG_FILE
        );
        Ok(())
    }
}
