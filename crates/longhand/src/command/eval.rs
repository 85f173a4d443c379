//! `longhand eval`: a language model's loss over a text, or a task's metrics on examples.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use longhand::recipe::sha256;
use longhand_engine::LanguageModel;
use longhand_engine::engine::language_model;
use longhand_model::Tape;
use longhand_run::neighbours::{Hidden, Mixed};
use longhand_run::{Recipe, TRAINING_FILE, Training};
use longhand_tasks::TASK_FILE;
use longhand_text::{Corpus, Tokens};
use longhand_train::Part;
use longhand_train::evaluate::{self, Counted, Evaluated, OnTape};
use serde_json::json;

use super::eval_task::{TaskArguments, TaskEvaluation};
use crate::adapters::AdapterArguments;
use crate::error::Usage;
use crate::neighbours::{Beside, NeighbourArguments};
use crate::reading::{Sources, TextArguments, Threads, any_model_folder, encode, model_folder};
use crate::talk::say;

/// The largest share of unknown tokens with which bits per byte are given. The model predicts an
/// unknown token once, whatever bytes it replaces, so that more of them would make a false number.
const MOST_UNKNOWN: f64 = 0.001;

/// Measure a language model's loss over a text, or a classifier's answers to labelled examples.
#[derive(Args)]
#[command(
    override_usage = "longhand eval [OPTIONS] <DIR> --data <FILE>...",
    after_help = "Example:\n  longhand eval model --data other.txt\n  longhand eval model --data \
                  book.txt --split valid --window 256 --json\n  longhand eval classifier --data test.tsv \
                  --against other"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    sources: Sources,
    /// The part to score: of a text that the model was trained on, the first or the held-out part
    #[arg(long, value_name = "PART", default_value = "all")]
    split: Split,
    /// Score non-overlapping windows of N tokens, each from an empty state
    #[arg(long, value_name = "N", conflicts_with = "exact")]
    window: Option<usize>,
    /// Read the text as one stream: slower, and exactly as a reader would see it
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    adapters: AdapterArguments,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    reading: TextArguments,
    #[command(flatten)]
    task: TaskArguments,
    #[command(flatten, next_help_heading = "Neighbours in a datastore")]
    neighbours: NeighbourArguments,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Split {
    /// The part of this text that training read.
    Train,
    /// The part of this text that training held out, by the same fraction.
    Valid,
    /// The whole of a text kept for testing.
    Test,
    /// The whole of any text.
    All,
}

/// The loss of a language model over a text, and what it was measured on.
struct Measured {
    total: Part,
    /// What a datastore changed, if there is one.
    beside: Option<Beside>,
    /// Bytes of the tokens that were scored.
    bytes: u64,
    /// The share of unknown tokens, 0 to 1.
    unknown: f64,
    seconds: f64,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let (folder, data) = self.sources.split()?;
        if data.is_empty() {
            return Err(Usage("there is no text to score: name it with --data".into()).into());
        }
        let folder = any_model_folder(folder)?;
        // An adapter can bring a head of its own, and with it the task.
        let answers = self.adapters.task_folder(folder);
        if answers.join(TASK_FILE).is_file() {
            return self.task(answers, folder, data);
        }
        self.task.refuse_rules()?;
        if let Some(flag) = self.task.given() {
            let name = answers.display();
            let text =
                format!("{flag} is for models of tasks, and {name} holds none: leave it out");
            return Err(Usage(text).into());
        }
        if self.window == Some(0) {
            return Err(Usage("--window must be at least 1".into()).into());
        }
        // The weights as they are stored, so that the loss is training's to the last digit.
        let (mut model, tokenizer) = language_model(folder, &self.adapters.chosen)?;
        self.adapters.tell();
        let tokenizer = self.threads.tokenizer(tokenizer);
        let corpus = self.part(folder, self.reading.open(data)?)?;
        let (tokens, bytes) = encode(&corpus, &tokenizer, !self.json)?;
        // A token without one before it is not scored, nor are its bytes.
        let bytes = tokens.scored_bytes().unwrap_or(bytes);
        let unknown = match tokenizer.unknown_id() {
            Some(id) => tokens.counts()?.get(id as usize).copied().unwrap_or(0),
            None => 0,
        };
        let unknown = unknown as f64 / tokens.len().max(1) as f64;
        let neighbours = self.neighbours.of_model(&mut model, &tokenizer)?;
        let mut tape = Tape::new(self.threads.cpu());
        let began = Instant::now();
        let (total, beside) = match (&model, neighbours) {
            (LanguageModel::Network(model), Some(mut neighbours)) => {
                let hidden = Hidden { model, tape: &mut tape };
                let neighbours = &mut neighbours;
                let mut mixed = Mixed { hidden, neighbours, alone: 0.0 };
                let total = self.measure(&mut mixed, tokens)?;
                let alone = mixed.alone / total.targets.max(1) as f64;
                (total, Some(Beside::new(neighbours, alone)))
            }
            (LanguageModel::Network(model), None) => {
                (self.measure(&mut OnTape { model, tape: &mut tape }, tokens)?, None)
            }
            (LanguageModel::Ngram(model), _) => {
                (self.measure(&mut Counted::new(model), tokens)?, None)
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        self.tell(&Measured { total, beside, bytes, unknown, seconds })
    }

    /// Prints what was measured.
    fn tell(&self, measured: &Measured) -> Result<()> {
        let Measured { total, beside, bytes, unknown, seconds } = measured;
        let loss = total.mean();
        if !loss.is_finite() {
            bail!("the loss is not finite: the model's weights are damaged or have diverged");
        }
        let bits_per_byte = total.nats / std::f64::consts::LN_2 / (*bytes).max(1) as f64;
        let bits_per_byte = (*unknown <= MOST_UNKNOWN).then_some(bits_per_byte);
        let (perplexity, tokens) = (loss.exp(), total.targets);
        let tokens_per_second = tokens as f64 / seconds.max(f64::MIN_POSITIVE);
        if self.json {
            let mut line = json!({
                "loss": loss, "perplexity": perplexity, "bits_per_byte": bits_per_byte,
                "tokens": tokens, "unknown": unknown, "seconds": seconds,
                "tokens_per_second": tokens_per_second,
            });
            if let Some(names) = self.adapters.names() {
                line["adapters"] = names.into();
            }
            if let Some(beside) = beside {
                line["knn"] = json!(beside);
            }
            return Ok(writeln!(std::io::stdout(), "{line}")?);
        }
        let compression = match bits_per_byte {
            Some(bits) => format!("{bits:.4} bits per byte"),
            None => format!("{:.2} % of them unknown", 100.0 * unknown),
        };
        writeln!(
            std::io::stdout(),
            "loss {loss:.4} nats per token, perplexity {perplexity:.3}, {compression} over \
             {tokens} tokens in {seconds:.1} s"
        )?;
        if let Some(beside) = beside {
            writeln!(std::io::stdout(), "{beside}")?;
        }
        Ok(())
    }

    /// The loss of a language model over a text.
    fn measure(&self, model: &mut impl Evaluated, tokens: Tokens) -> Result<Part> {
        let streams = if self.exact { 1 } else { evaluate::STREAMS };
        Ok(match self.window {
            Some(window) => evaluate::windows(model, Arc::new(tokens), window)?,
            None => evaluate::carried(model, &tokens, streams)?,
        })
    }

    /// Measures a model on the task that `folder` holds, the model's own or that of an adapter.
    fn task(&self, folder: &Path, model: &Path, data: &[PathBuf]) -> Result<()> {
        let flags = [
            ("--window", self.window.is_some()),
            ("--exact", self.exact),
            ("--split", matches!(self.split, Split::Train | Split::Valid)),
        ];
        if let Some((flag, _)) = flags.into_iter().find(|(_, given)| *given) {
            let name = folder.display();
            let text =
                format!("{flag} is for language models, and {name} holds none: leave it out");
            return Err(Usage(text).into());
        }
        let (text, threads, json) = (&self.reading, self.threads, self.json);
        let (model, adapters, arguments) = (model_folder(model)?, &self.adapters, &self.task);
        let neighbours = &self.neighbours;
        let what = TaskEvaluation {
            folder,
            model,
            adapters,
            data,
            arguments,
            text,
            threads,
            neighbours,
            json,
        };
        what.run()
    }

    /// The wanted part of a text.
    fn part(&self, folder: &Path, whole: Corpus) -> Result<Corpus> {
        if matches!(self.split, Split::All | Split::Test) {
            return Ok(whole);
        }
        if !folder.join(TRAINING_FILE).is_file() {
            bail!(
                "{} holds no {TRAINING_FILE}, so that it is not known how its text was split: pass \
                 --split all",
                folder.display()
            );
        }
        let Training { recipe, data: facts, .. } = Training::load(folder)?;
        let Recipe { data, training, .. } = recipe;
        if !data.valid.is_empty() || data.valid_fraction == 0.0 {
            bail!(
                "the model's training held out no part of its text: pass --split all and the text \
                 to score"
            );
        }
        if !facts.sha256.is_empty() {
            for file in whole.files() {
                let hash = sha256(file)?;
                if !facts.sha256.values().any(|known| *known == hash) {
                    say!("{} is not a text that the model was trained on", file.display());
                }
            }
        }
        // Of a large text the run may have read and split a sample.
        let read = match data.share {
            Some(share) => whole.sampled(share, training.seed),
            None => whole,
        };
        let (train, valid) = read.split_valid(data.valid_fraction)?;
        Ok(if self.split == Split::Train { train } else { valid })
    }
}
