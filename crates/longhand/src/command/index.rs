//! `longhand index`: a datastore of what followed each place of a text, or of the targets of pairs.

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
use longhand_tasks::TaskFile;
use longhand_text::{Tokenizer, Tokens};
use longhand_train::evaluate::{STREAMS, Stretches, stretches};
use longhand_train::{TrainError, Watch};
use serde_json::json;

use crate::adapters::AdapterArguments;
use crate::error::{Usage, within};
use crate::interrupt::{self, STOP};
use crate::progress::Spinner;
use crate::reading::{TextArguments, Threads, any_model_folder, encode};
use crate::talk::say;

mod pairs;

/// Writes a datastore: for each token of a text, the model's hidden state before it. With it beside
/// the model, `generate`, `eval`, `score` and `predict` mix what the model says with what followed the
/// nearest hidden states (kNN-LM). Of a model that translates, summarises or answers, pairs are read
/// as its task reads them, and the tokens are those of the targets (kNN-MT).
#[derive(Args)]
#[command(
    override_usage = "longhand index [OPTIONS] <TEXT>... --model <DIR> --out <DIR>",
    after_help = "Examples:\n  longhand index book.txt --model book --out facts --tune other.txt\n  \
                  longhand eval book --data other.txt --knn facts\n  longhand generate book --knn \
                  facts --prompt 'It was'\n  longhand index --model book --out facts --tune \
                  letters.txt\n  longhand index new.de --targets new.en --model translator --out \
                  terms\n\nThe third one tunes a datastore that exists on another text. A \
                  datastore takes two bytes for each number of a hidden state and four for each \
                  token, on the disk; memory does not grow with it."
)]
pub(crate) struct Arguments {
    /// Files and folders of text to remember; - for stdin. Of a model that translates, summarises or
    /// answers, the files of its task: tables, or sources with --targets
    #[arg(value_name = "TEXT")]
    text: Vec<PathBuf>,
    /// The file of targets of a TEXT of sources; one for each, in the same order
    #[arg(long, value_name = "FILE", num_args = 1..)]
    targets: Vec<PathBuf>,
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
    /// The files of targets of the --tune files
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "tune")]
    tune_targets: Vec<PathBuf>,
    /// How many neighbours vote, unless another number is asked for [default: 256, or as many
    /// as there are entries]
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

/// What reads sources for a datastore.
trait Reads {
    /// What the sources hold.
    type Data;

    /// Reads sources, to remember them or to tune a datastore on them.
    fn open(&self, sources: &[PathBuf], purpose: Purpose) -> Result<Self::Data>;

    /// Writes the hidden state before each token, and the token.
    fn remember(
        &mut self,
        data: &Self::Data,
        writer: &mut DatastoreWriter,
        watch: &mut Watch<'_>,
    ) -> Result<(), TrainError>;

    /// Tries mixtures with a datastore on each token.
    fn try_mixtures(
        &mut self,
        data: &Self::Data,
        neighbours: &mut Neighbours,
        tuner: &mut Tuner,
        watch: &mut Watch<'_>,
    ) -> Result<(), TrainError>;
}

/// What sources are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Remember,
    Tune,
}

/// A datastore that is built, tuned, or both.
struct Index<'a, R: Reads> {
    arguments: &'a Arguments,
    reads: R,
    owner: Owner,
    /// D: numbers in a hidden state.
    width: usize,
    cpu: Arc<Cpu>,
}

/// Texts, as a language model reads them.
struct Texts<'a> {
    arguments: &'a Arguments,
    model: &'a Model,
    tokenizer: &'a Tokenizer,
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
        let folder = any_model_folder(&self.model)?;
        // A stream could read any text, but its task gives it a source and a target together.
        let task = TaskFile::load(self.adapters.task_folder(folder))?;
        if task.is_some_and(|task| task.writes_from_source()) {
            return pairs::run(&self);
        }
        let (model, tokenizer) = language_model(folder, &self.adapters.chosen)?;
        self.texts(model, tokenizer)
    }

    /// Remembers texts.
    fn texts(&self, model: LanguageModel, tokenizer: Tokenizer) -> Result<()> {
        model.with_hidden_states()?;
        let LanguageModel::Network(mut model) = model else { bail!("the model is no network") };
        let flags = [("--targets", &self.targets), ("--tune-targets", &self.tune_targets)];
        if let Some((flag, _)) = flags.into_iter().find(|(_, files)| !files.is_empty()) {
            let model = self.model.display();
            return Err(Usage(format!(
                "{flag} is for models that translate, summarise or answer, and {model} learnt no such \
                 task: leave it out"
            ))
            .into());
        }
        // The hash is of the weights, which the changes of adapters become part of.
        model.merge_low_rank();
        let owner = Owner { model: model.hash(), tokenizer: tokenizer.hash().to_owned() };
        let tokenizer = self.threads.tokenizer(tokenizer);
        let cpu = self.begin()?;
        let (model, tokenizer, tape) = (&*model, &tokenizer, Tape::new(cpu.clone()));
        let width = model.token_head().width();
        let reads = Texts { arguments: self, model, tokenizer, tape };
        Index { arguments: self, reads, owner, width, cpu }.run()
    }

    /// Checks the place of the datastore, and starts the threads.
    fn begin(&self) -> Result<Arc<Cpu>> {
        self.adapters.tell();
        if !self.text.is_empty() {
            DatastoreWriter::check_place(&self.out, self.force)?;
        }
        interrupt::listen_saying("stopping; nothing is written", || {})?;
        Ok(self.threads.cpu())
    }

    /// A part of the work, where a person looks.
    fn spinner(&self, what: &'static str) -> Spinner {
        Spinner::new(what, !self.json)
    }
}

impl Reads for Texts<'_> {
    type Data = Tokens;

    fn open(&self, sources: &[PathBuf], _: Purpose) -> Result<Tokens> {
        let corpus = self.arguments.reading.open(sources)?;
        Ok(encode(&corpus, self.tokenizer, !self.arguments.json)?.0)
    }

    fn remember(
        &mut self,
        tokens: &Tokens,
        writer: &mut DatastoreWriter,
        watch: &mut Watch<'_>,
    ) -> Result<(), TrainError> {
        let hidden = Hidden { model: self.model, tape: &mut self.tape };
        let whole = Stretches::whole(tokens, STREAMS);
        stretches(&mut Recorded { hidden, writer }, tokens, &whole, watch).map(|_| ())
    }

    fn try_mixtures(
        &mut self,
        tokens: &Tokens,
        neighbours: &mut Neighbours,
        tuner: &mut Tuner,
        watch: &mut Watch<'_>,
    ) -> Result<(), TrainError> {
        let hidden = Hidden { model: self.model, tape: &mut self.tape };
        let whole = Stretches::whole(tokens, STREAMS);
        stretches(&mut Tried { hidden, neighbours, tuner }, tokens, &whole, watch).map(|_| ())
    }
}

impl<R: Reads> Index<'_, R> {
    fn run(mut self) -> Result<()> {
        let arguments = self.arguments;
        let began = Instant::now();
        // The held-out text first: what is wrong with it is told before the long work.
        let tune = match arguments.tune.is_empty() {
            true => None,
            false => Some(self.open(&arguments.tune, Purpose::Tune)?),
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

    fn open(&self, sources: &[PathBuf], purpose: Purpose) -> Result<R::Data> {
        let data = self.reads.open(sources, purpose)?;
        match STOP.load(Ordering::Relaxed) {
            true => Err(DatastoreError::Stopped.into()),
            false => Ok(data),
        }
    }

    /// Reads the text and writes its entries.
    fn build(&mut self) -> Result<Unpublished> {
        let Arguments { text, out, force, .. } = self.arguments;
        let data = self.open(text, Purpose::Remember)?;
        let mut writer = DatastoreWriter::new(out, *force, self.owner.clone(), self.width)?;
        let spinner = self.arguments.spinner("reading the text");
        watched(&spinner, |watch| self.reads.remember(&data, &mut writer, watch))?;
        drop(spinner);
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
        tune: Option<&R::Data>,
    ) -> Result<(DatastoreHeader, Option<Tuned>)> {
        let Arguments { neighbours, probes, .. } = *self.arguments;
        let mut mixture = store.header().mixture;
        mixture.neighbours = neighbours.unwrap_or(mixture.neighbours);
        mixture.probes = probes.unwrap_or(mixture.probes);
        mixture.check(store.header().entries).map_err(|error| Usage(error.to_string()))?;
        let Some(data) = tune else {
            let tuned = store.header().tuned;
            return Ok((store.write_mixture(mixture, tuned)?, None));
        };
        let store = Arc::new(store);
        let mut neighbours = Neighbours::with_mixture(store.clone(), mixture)?;
        let mut tuner = Tuner::new(&neighbours);
        let spinner = self.arguments.spinner("tuning");
        watched(&spinner, |watch| {
            self.reads.try_mixtures(data, &mut neighbours, &mut tuner, watch)
        })?;
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

/// Reads with a spinner that says how far it is, until it ends or Ctrl-C is pressed.
fn watched(
    spinner: &Spinner,
    read: impl FnOnce(&mut Watch<'_>) -> Result<(), TrainError>,
) -> Result<()> {
    let mut tell = |share: f64| {
        spinner.say(format!("{:.0} %", 100.0 * share));
        Ok(())
    };
    match read(&mut Watch::new(&STOP, &mut tell)) {
        Err(TrainError::Stopped) => Err(DatastoreError::Stopped.into()),
        other => other.map_err(Into::into),
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
