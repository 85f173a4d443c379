//! `longhand index`: a datastore of what followed each place of a text.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use longhand_engine::datastore::{
    BuildStep, DATASTORE_FILE, DatastoreHeader, DatastoreWriter, MOST_NEIGHBOURS, Owner, Tuned,
    Tuner, Unpublished,
};
use longhand_engine::engine::language_model;
use longhand_engine::{Datastore, DatastoreError, LanguageModel, Neighbours};
use longhand_model::{Cpu, Model, Tape};
use longhand_run::neighbours::{Hidden, Recorded, Tried};
use longhand_text::{Tokenizer, Tokens};
use longhand_train::evaluate::{Evaluated, STREAMS, Stretches, stretches};
use longhand_train::{TrainError, Watch};
use serde_json::json;

use crate::adapters::AdapterArguments;
use crate::error::{Usage, within};
use crate::interrupt::{self, STOP};
use crate::progress::Spinner;
use crate::reading::{TextArguments, Threads, any_model_folder, encode};
use crate::talk::say;

/// Writes a datastore: for each token of a text, the model's hidden state before it. With it beside
/// the model, `generate`, `eval`, `score` and `predict` mix what the model says with what followed the
/// nearest hidden states (kNN-LM).
#[derive(Args)]
#[command(
    override_usage = "longhand index [OPTIONS] <TEXT>... --model <DIR> --out <DIR>",
    after_help = "Examples:\n  longhand index book.txt --model book --out facts --tune other.txt\n  \
                  longhand eval book --data other.txt --knn facts\n  longhand generate book --knn \
                  facts --prompt 'It was'\n  longhand index --model book --out facts --tune \
                  letters.txt\n\nThe last one tunes a datastore that exists on another text. A \
                  datastore takes two bytes for each number of a hidden state and four for each \
                  token, on the disk; memory does not grow with it."
)]
pub(crate) struct Arguments {
    /// Files and folders of text to remember; - for stdin
    #[arg(value_name = "TEXT")]
    text: Vec<PathBuf>,
    /// Folder of the trained model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The folder to write, which must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace a datastore in that folder
    #[arg(long)]
    force: bool,
    /// Held-out text, on which the share λ of the neighbours and their temperature are found
    #[arg(long, visible_alias = "valid", value_name = "FILE", num_args = 1..)]
    tune: Vec<PathBuf>,
    /// How many neighbours vote, unless another number is asked for [default: 256, or as many as there
    /// are entries]
    #[arg(long, value_name = "K")]
    neighbours: Option<usize>,
    /// How many lists of entries are searched for each token: more find more of the neighbours, in
    /// more time; with all of them the search is exact [default: 32]
    #[arg(long, value_name = "N")]
    probes: Option<usize>,
    #[command(flatten)]
    adapters: AdapterArguments,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    reading: TextArguments,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What reads texts for a datastore.
struct Index<'a> {
    arguments: &'a Arguments,
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    owner: Owner,
    cpu: Arc<Cpu>,
    tape: Tape,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        if self.text.is_empty() && self.tune.is_empty() {
            let text =
                "there is no text to index: name it, or text to tune a datastore on with --tune";
            return Err(Usage(text.into()).into());
        }
        if self.text.is_empty() && !self.out.join(DATASTORE_FILE).is_file() {
            let folder = self.out.display();
            let text = format!("there is no datastore {folder} to tune: name the text to index");
            return Err(Usage(text).into());
        }
        self.neighbours.map_or(Ok(0), |k| within("--neighbours", k, 1..=MOST_NEIGHBOURS))?;
        let (model, tokenizer) =
            language_model(any_model_folder(&self.model)?, &self.adapters.chosen)?;
        model.with_hidden_states()?;
        let LanguageModel::Network(mut model) = model else { bail!("the model is no network") };
        // The hash is of the weights, which the changes of adapters become part of.
        model.merge_low_rank();
        let hash = model.hash();
        self.adapters.tell();
        if !self.text.is_empty() {
            DatastoreWriter::check_place(&self.out, self.force)?;
        }
        let tokenizer = self.threads.tokenizer(tokenizer);
        interrupt::listen_saying("stopping; nothing is written", || {})?;
        let cpu = self.threads.cpu();
        let owner = Owner { model: hash, tokenizer: tokenizer.hash().to_owned() };
        let (model, tokenizer, tape) = (&*model, &tokenizer, Tape::new(cpu.clone()));
        Index { arguments: &self, model, tokenizer, owner, cpu, tape }.run()
    }

    /// A part of the work, where a person looks.
    fn spinner(&self, what: &'static str) -> Spinner {
        Spinner::new(what, !self.json)
    }
}

impl Index<'_> {
    fn run(mut self) -> Result<()> {
        let arguments = self.arguments;
        let began = Instant::now();
        // The held-out text first: what is wrong with it is told before the long work.
        let tune = match arguments.tune.is_empty() {
            true => None,
            false => Some(self.encode(&arguments.tune)?),
        };
        if arguments.text.is_empty() {
            let store = Datastore::open(&arguments.out, &self.owner)?;
            let (header, tuned) = self.settle(store, tune.as_ref())?;
            return self.tell(&header, tuned, began);
        }
        let built = self.build()?;
        let (header, tuned) = self.settle(built.open()?, tune.as_ref())?;
        built.publish()?;
        self.tell(&header, tuned, began)
    }

    /// The ids of texts.
    fn encode(&self, sources: &[PathBuf]) -> Result<Tokens> {
        let corpus = self.arguments.reading.open(sources)?;
        let (tokens, _) = encode(&corpus, self.tokenizer, !self.arguments.json)?;
        if STOP.load(Ordering::Relaxed) {
            return Err(DatastoreError::Stopped.into());
        }
        Ok(tokens)
    }

    /// Reads the text and writes its entries.
    fn build(&mut self) -> Result<Unpublished> {
        let Arguments { text, out, force, .. } = self.arguments;
        let tokens = self.encode(text)?;
        let width = self.model.token_head().width();
        let mut writer = DatastoreWriter::new(out, *force, self.owner.clone(), width)?;
        let hidden = Hidden { model: self.model, tape: &mut self.tape };
        let mut recorded = Recorded { hidden, writer: &mut writer };
        read(&mut recorded, &tokens, &self.arguments.spinner("reading the text"))?;
        let mut shown = None;
        let built = writer.finish(&self.cpu, &mut |step, done| {
            if shown.as_ref().is_none_or(|(last, _)| *last != step) {
                // The old one leaves the line before the new one takes it.
                shown = None;
                shown = Some((step, self.arguments.spinner(name(step))));
            }
            if let Some((_, spinner)) = &shown {
                spinner.say(format!("{:.0} %", 100.0 * done));
            }
            !STOP.load(Ordering::Relaxed)
        });
        Ok(built?)
    }

    /// Finds and stores how votes are mixed.
    fn settle(
        &mut self,
        store: Datastore,
        tune: Option<&Tokens>,
    ) -> Result<(DatastoreHeader, Option<Tuned>)> {
        let Arguments { neighbours, probes, .. } = *self.arguments;
        let mut mixture = store.header().mixture;
        mixture.neighbours = neighbours.unwrap_or(mixture.neighbours);
        mixture.probes = probes.unwrap_or(mixture.probes);
        mixture.check(store.header().entries).map_err(|error| Usage(error.to_string()))?;
        let Some(tokens) = tune else {
            let tuned = store.header().tuned;
            return Ok((store.write_mixture(mixture, tuned)?, None));
        };
        let store = Arc::new(store);
        let mut neighbours = Neighbours::with_mixture(store.clone(), mixture)?;
        let mut tuner = Tuner::new(&neighbours);
        let hidden = Hidden { model: self.model, tape: &mut self.tape };
        let mut tried = Tried { hidden, neighbours: &mut neighbours, tuner: &mut tuner };
        read(&mut tried, tokens, &self.arguments.spinner("tuning"))?;
        let tuned = tuner.best(mixture);
        Ok((store.write_mixture(tuned.mixture, true)?, Some(tuned)))
    }

    /// Tells what the datastore is.
    fn tell(&self, header: &DatastoreHeader, tuned: Option<Tuned>, began: Instant) -> Result<()> {
        let DatastoreHeader { entries, lists, width, mixture, .. } = header;
        let seconds = began.elapsed().as_secs_f64();
        let bytes: u64 = header.files.values().map(|facts| facts.bytes).sum();
        let out = self.arguments.out.display();
        if self.arguments.json {
            let mut line = json!({
                "entries": entries, "lists": lists, "width": width, "bytes": bytes,
                "lambda": mixture.lambda, "temperature": mixture.temperature,
                "neighbours": mixture.neighbours, "probes": mixture.probes,
                "seconds": seconds,
            });
            if let Some(Tuned { loss, alone, tokens, .. }) = tuned {
                line["tuned"] = json!({
                    "tokens": tokens, "loss": loss, "perplexity": loss.exp(),
                    "loss_without": alone, "perplexity_without": alone.exp(),
                });
            }
            return Ok(writeln!(std::io::stdout(), "{line}")?);
        }
        if let Some(Tuned { mixture, loss, alone, tokens }) = tuned {
            say!(
                "λ {}, temperature {:.4}: perplexity {:.3} on {tokens} held-out tokens, {:.3} without \
                 the datastore",
                mixture.lambda,
                mixture.temperature,
                loss.exp(),
                alone.exp()
            );
        }
        let size = bytes as f64 / 1e6;
        say!("{entries} entries of width {width} are in {out}, {size:.1} MB, in {seconds:.1} s");
        Ok(())
    }
}

/// Reads a whole text, many pieces of it side by side.
fn read(reading: &mut impl Evaluated, tokens: &Tokens, spinner: &Spinner) -> Result<()> {
    let mut tell = |share: f64| {
        spinner.say(format!("{:.0} %", 100.0 * share));
        Ok(())
    };
    let watch = &mut Watch::new(&STOP, &mut tell);
    match stretches(reading, tokens, &Stretches::whole(tokens, STREAMS), watch) {
        Err(TrainError::Stopped) => Err(DatastoreError::Stopped.into()),
        other => Ok(other.map(|_| ())?),
    }
}

/// What a step does, as a person reads it.
fn name(step: BuildStep) -> &'static str {
    match step {
        BuildStep::Centroids => "finding centroids",
        BuildStep::Lists => "finding lists",
        BuildStep::Sorting => "writing lists",
        BuildStep::Hashing => "hashing",
    }
}
