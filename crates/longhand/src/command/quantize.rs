//! `longhand quantize`: a model with smaller weights, and what that costs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand_model::adapter::is_adapter;
use longhand_model::file::{self, CONFIG_FILE, WEIGHTS_FILE};
use longhand_model::{Cpu, Format, Model, Precision, Tape};
use longhand_run::{CARD_FILE, FolderLock, ORIGIN_FILE, TRAINING_FILE, Training, output};
use longhand_tasks::ensemble::member_folder;
use longhand_tasks::{Ensemble, TASK_FILES};
use longhand_text::{Tokenizer, Tokens};
use longhand_train::evaluate::{self, OnTape};
use serde_json::json;

use crate::error::Usage;
use crate::reading::{Sources, TextArguments, Threads, encode, model_folder};
use crate::talk::say;

/// Write a model with weights of fewer bits: smaller, and faster to run.
#[derive(Args)]
#[command(
    override_usage = "longhand quantize [OPTIONS] --weights <FORMAT> --out <DIR> <DIR>",
    after_help = "Example:\n  longhand quantize model --weights int8 --out model-int8 --data \
                        valid.txt\n\nint8 has a scale for each row of a matrix, int4 for each 32 \
                        columns of a row. The result is a model folder that every verb but those \
                        that train reads."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    sources: Sources,
    /// How to hold the weights: bf16, int8 or int4
    #[arg(long, value_name = "FORMAT")]
    weights: Format,
    /// How to hold the keys and values that attention carries: bf16, in half the memory, or f32
    #[arg(long, value_name = "P", default_value = "bf16")]
    kv_cache: Precision,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
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

/// The folder in the output folder where the files are written before they are renamed.
const BESIDE: &str = ".longhand-quantized.partial";

/// One of the two models, or the networks of it that answer together.
struct Measured {
    name: &'static str,
    file_bytes: u64,
    memory_bytes: usize,
    /// Size of one stream's state, and the precision of its KV cache.
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
        let (folder, data) = self.sources.split()?;
        let members = Ensemble::count(model_folder(folder)?)?;
        if is_adapter(folder) {
            let name = folder.display();
            bail!(
                "{name} holds an adapter and no whole model: merge it first, by `longhand adapter merge \
                 BASE {name} --out merged`, and quantize that"
            );
        }
        let model = Model::load(folder)?;
        if model.check_trainable().is_err() {
            bail!(
                "the weights of {} are {} already: quantize the f32 model that they were made from",
                folder.display(),
                model.config().weights.name()
            );
        }
        let (tokens, bytes) = self.tokens(folder, data, &model)?.unzip();
        let _lock = self.prepare(folder)?;
        let folders = |folder: &Path| -> Vec<PathBuf> {
            let further = (2..=members).map(|number| member_folder(folder, number));
            [folder.to_owned()].into_iter().chain(further).collect()
        };
        let began = Instant::now();
        // The first network comes last, and with it the configuration that makes a model folder.
        for (from, to) in folders(folder).iter().zip(folders(&self.out)).rev() {
            let small = Model::load(from)?.compress(format).with_kv_cache(self.kv_cache)?;
            fs_err::create_dir_all(&to)?;
            self.write(from, &small, &to)?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let mut tape = Tape::new(Arc::new(Cpu::new(self.threads.count())));
        let mut measure = |name, folder: &Path, model: &Model| -> Result<Measured> {
            let (mut file_bytes, mut memory_bytes) = (0, model.weights.bytes());
            for (place, folder) in folders(folder).iter().enumerate() {
                file_bytes += fs_err::metadata(folder.join(WEIGHTS_FILE))?.len();
                if place > 0 {
                    memory_bytes += Model::load(folder)?.weights.bytes();
                }
            }
            let mut loss = None;
            if let Some(tokens) = &tokens {
                let began = Instant::now();
                let mut network = OnTape { model, tape: &mut tape };
                let total = evaluate::carried(&mut network, tokens, evaluate::STREAMS)?;
                loss = Some((total.mean(), began.elapsed().as_secs_f64()));
            }
            Ok(Measured {
                name,
                file_bytes,
                memory_bytes,
                session_bytes: model.state(1).bytes(),
                kv_cache: model.config().kv_cache,
                loss,
            })
        };
        let before = measure("f32", folder, &model)?;
        // What a reader of the folder gets.
        let after = measure(format.name(), &self.out, &Model::load(&self.out)?)?;
        let tokens = tokens.as_ref().map(Tokens::len).zip(bytes);
        self.report(&before, &after, seconds, tokens)
    }

    /// The text as ids, and its bytes.
    fn tokens(
        &self,
        folder: &Path,
        data: &[PathBuf],
        model: &Model,
    ) -> Result<Option<(Tokens, u64)>> {
        if data.is_empty() {
            return Ok(None);
        }
        if !model.config().is_language_model() {
            bail!("--data measures language models, and this one has another head: leave it out");
        }
        let tokenizer = self.threads.tokenizer(Tokenizer::of_folder(folder)?);
        model.check_vocabulary(tokenizer.vocab_size())?;
        let corpus = self.text.open(data)?;
        Ok(Some(encode(&corpus, &tokenizer, !self.json)?))
    }

    /// Makes the folder, and keeps other processes out of it.
    fn prepare(&self, folder: &Path) -> Result<FolderLock> {
        let out = &self.out;
        if out.exists() && !out.is_dir() {
            bail!("{} is a file: name a folder with --out", out.display());
        }
        if output::is_same(out, folder) {
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

    /// Writes every file beside, and then renames them into the folder `out`. The configuration goes
    /// first and comes last: a process that is killed in between leaves no mixture of two models.
    fn write(&self, folder: &Path, small: &Model, out: &Path) -> Result<()> {
        let beside = out.join(BESIDE);
        if beside.is_dir() {
            fs_err::remove_dir_all(&beside)?;
        }
        fs_err::create_dir(&beside)?;
        small.save(&beside)?;
        self.copy_the_rest(folder, &beside)?;
        let config = out.join(CONFIG_FILE);
        if config.is_file() {
            fs_err::remove_file(&config)?;
        }
        let files = [WEIGHTS_FILE, CARD_FILE].into_iter().chain(output::TEXT_FILES);
        for name in files.chain(TASK_FILES).chain([ORIGIN_FILE, CONFIG_FILE]) {
            let (from, to) = (beside.join(name), out.join(name));
            if from.is_file() {
                fs_err::rename(from, to)?;
            } else if to.is_file() && name != CARD_FILE {
                // Of the model that was there before.
                fs_err::remove_file(to)?;
            }
        }
        Ok(fs_err::remove_dir(&beside)?)
    }

    /// Copies what quantizing leaves as it is: the tokeniser, the labels, the sampler's settings,
    /// how examples are read.
    fn copy_the_rest(&self, folder: &Path, to: &Path) -> Result<()> {
        for name in output::TEXT_FILES.into_iter().chain(TASK_FILES) {
            let from = folder.join(name);
            if from.is_file() {
                fs_err::copy(from, to.join(name))?;
            }
        }
        Training::copy_origin(folder, to)?;
        let card = folder.join(CARD_FILE);
        if card.is_file() {
            let name = self.weights.name();
            let note = format!(
                "\n## Weights\n\nThis copy holds its matrices as {name} (`longhand quantize \
                 --weights {name}`); the results above are those of the f32 model.\n"
            );
            let text = fs_err::read_to_string(&card)? + &note;
            file::write(&to.join(CARD_FILE), text.as_bytes())
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
            "the model is in {} ({}, {WEIGHTS_FILE}); quantized in {seconds:.1} s",
            self.out.display(),
            CONFIG_FILE
        );
        Ok(())
    }
}
