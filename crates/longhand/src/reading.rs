//! What the verbs that run a model share: its folder, its threads, its sampler, and text to read.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use longhand::recipe::{DATA_VARIABLE, Recipe};
use longhand_engine::{
    Cpu, Engine, EngineError, Reader, SamplerError, SamplerSettings, Session, Snapshot,
};
use longhand_model::file::CONFIG_FILE;
use longhand_ngram::Ngram;
use longhand_run::text_data::{self, check_column};
use longhand_run::{Training, check_single, output};
use longhand_text::sample::Language;
use longhand_text::{Corpus, CorpusOptions, TableFormat, Tokenizer, Tokens};
use longhand_train::settings::MOST_THREADS;

use crate::adapters::AdapterArguments;
use crate::error::Usage;
use crate::progress::{READING, Spinner, describe_reading};

/// Nobody writes a half-written file any more that is older than this.
const PARTIAL_IN_USE: Duration = Duration::from_secs(3600);

/// A model folder, and how it is run.
#[derive(Args)]
pub(crate) struct ModelArguments {
    /// Folder of the trained model
    #[arg(value_name = "DIR")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) adapters: AdapterArguments,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// A model folder, and texts to measure it on.
#[derive(Args)]
pub(crate) struct Sources {
    /// Folder of the trained model
    #[arg(value_name = "DIR")]
    model: Option<PathBuf>,
    /// Files and folders of text to measure the loss on; - for stdin
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
}

/// How many threads to compute on.
#[derive(Args, Clone, Copy)]
pub(crate) struct Threads {
    /// Threads to compute on; as many as there are processors where not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_THREADS as i64))]
    threads: Option<u16>,
}

impl Threads {
    /// A tokeniser that uses no more threads than were asked for.
    pub(crate) fn tokenizer(&self, tokenizer: Tokenizer) -> Tokenizer {
        tokenizer.with_threads(self.threads.map(usize::from).and_then(NonZeroUsize::new))
    }
}

/// How the next token is drawn. Where a flag is not given, what a memory says counts, then the
/// model's generation_config.json, and then the default.
#[derive(Args)]
pub(crate) struct SamplerArguments {
    /// Seed of the random numbers [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    flags: SamplerFlags,
}

/// How a token is drawn, but for the seed.
#[derive(Args)]
pub(crate) struct SamplerFlags {
    /// Draw tokens from the probabilities of the logits divided by this; 0 takes the most probable token
    /// always [default: 0.8; a task's model searches for the best text unless it is given]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,
    /// Draw from this many of the most probable tokens; 0 for all [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) top_k: Option<usize>,
    /// Draw from the most probable tokens that together have this probability [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,
    /// Leave out tokens less probable than this many times the most probable one [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,
    /// Make the tokens read and written last less probable, if greater than 1 [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) repetition_penalty: Option<f32>,
}

/// How texts are read.
#[derive(Args, Clone)]
pub(crate) struct TextArguments {
    /// The column of tables that holds the text [default: text]
    #[arg(long, value_name = "NAME")]
    pub(crate) text_column: Option<String>,
    /// The tables that the sources are, where their names do not tell: jsonl, csv, tsv or parquet; of a
    /// classifier's texts also labelled (`LABEL text` or `__label__LABEL text` lines) or trees
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<TableFormat>,
    /// Replace invalid UTF-8 instead of stopping
    #[arg(long)]
    pub(crate) lossy: bool,
}

/// A language of the sample, by its name on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LanguageName {
    English,
    Chinese,
}

impl From<LanguageName> for Language {
    fn from(name: LanguageName) -> Self {
        match name {
            LanguageName::English => Self::English,
            LanguageName::Chinese => Self::Chinese,
        }
    }
}

impl ModelArguments {
    /// Reads the model folder and starts the threads.
    pub(crate) fn open(&self) -> Result<(Arc<Engine>, Arc<Cpu>)> {
        let model = any_model_folder(&self.model)?;
        let engine = Engine::load_with(model, &self.adapters.chosen)?;
        self.adapters.tell();
        Ok((engine, self.threads.cpu()))
    }
}

impl Sources {
    /// The folder and the texts. `--data` takes every value up to the next flag, so a folder that
    /// is typed after its texts is the last of them.
    pub(crate) fn split(&self) -> Result<(&Path, &[PathBuf]), Usage> {
        match (&self.model, self.data.as_slice()) {
            (Some(model), data) => Ok((model, data)),
            (None, [data @ .., model]) if !data.is_empty() => Ok((model, data)),
            (None, _) => Err(Usage("there is no model: name its folder first".into())),
        }
    }
}

/// The folder of a network or a baseline whose training has ended.
pub(crate) fn model_folder(path: &Path) -> Result<&Path> {
    let folder = any_model_folder(path)?;
    if Ngram::is_in(folder) {
        bail!(
            "{} holds an n-gram model, which this verb does not take: give a network",
            path.display()
        );
    }
    Ok(folder)
}

/// The folder of a model whose training has ended; it may be an n-gram model.
pub(crate) fn any_model_folder(path: &Path) -> Result<&Path> {
    let name = path.display();
    if path.is_file() {
        bail!("{name} is a file: give the folder that `longhand train` wrote");
    }
    if !path.is_dir() {
        bail!("there is no folder {name}: give the folder that `longhand train` wrote");
    }
    let unfinished = || Training::load(path).is_ok_and(|training| training.results.is_none());
    if !path.join(CONFIG_FILE).is_file() && unfinished() {
        bail!("the run in {name} has not ended: go on with `longhand train --resume --out {name}`");
    }
    check_single(path)?;
    Ok(path)
}

impl Threads {
    /// How many were asked for.
    pub(crate) fn given(self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// Number of threads to start; all cores by default.
    pub(crate) fn count(self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.given().unwrap_or_else(all)
    }

    /// Starts the threads of a processor.
    pub(crate) fn cpu(self) -> Arc<Cpu> {
        Arc::new(Cpu::new(self.count()))
    }
}

impl SamplerArguments {
    /// Lays the flags over a session's settings.
    pub(crate) fn apply(&self, session: &mut Session) -> Result<()> {
        let old = session.sampler().settings;
        let settings =
            self.flags.over(SamplerSettings { seed: self.seed.unwrap_or(old.seed), ..old });
        let usage = |error: SamplerError| Usage(error.to_string());
        Ok(session.set_sampler(settings).map_err(usage)?)
    }
}

impl SamplerFlags {
    /// Lays the flags over settings.
    pub(crate) fn over(&self, old: SamplerSettings) -> SamplerSettings {
        SamplerSettings {
            temperature: self.temperature.unwrap_or(old.temperature),
            top_k: self.top_k.unwrap_or(old.top_k),
            top_p: self.top_p.unwrap_or(old.top_p),
            min_p: self.min_p.unwrap_or(old.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(old.repetition_penalty),
            ..old
        }
    }
}

impl TextArguments {
    /// Options of a plain text.
    pub(crate) fn plain(lossy: bool) -> Self {
        Self { text_column: None, format: None, lossy }
    }

    /// Opens files and folders as one corpus.
    pub(crate) fn open(&self, sources: &[PathBuf]) -> Result<Corpus> {
        let (text_column, lossy) = (self.text_column.clone(), self.lossy);
        let options = CorpusOptions { text_column, format: self.format, lossy };
        let corpus = Corpus::open(sources, options)?;
        check_column(self.text_column.as_deref(), corpus.holds_table())?;
        Ok(corpus)
    }

    /// Reads sources piece by piece, in order, as one text.
    pub(crate) fn read(
        &self,
        sources: &[PathBuf],
        reader: &mut Reader,
        session: &mut Session,
    ) -> Result<()> {
        let engine = reader.engine().clone();
        self.each_piece(sources, &engine, |ids| session.read(reader, ids))
    }

    /// The ids of sources, as one text.
    pub(crate) fn ids(&self, sources: &[PathBuf], engine: &Engine) -> Result<Vec<u32>> {
        let mut all = Vec::new();
        self.each_piece(sources, engine, |ids| {
            all.extend_from_slice(ids);
            Ok(())
        })?;
        Ok(all)
    }

    fn each_piece(
        &self,
        sources: &[PathBuf],
        engine: &Engine,
        mut each: impl FnMut(&[u32]) -> Result<(), EngineError>,
    ) -> Result<()> {
        for piece in self.open(sources)?.pieces() {
            each(&engine.tokenizer().encode(&piece?.text)?)?;
        }
        Ok(())
    }
}

/// A corpus as ids and the bytes of its text, with a spinner where `talk` and a terminal allow it.
pub(crate) fn encode(corpus: &Corpus, tokenizer: &Tokenizer, talk: bool) -> Result<(Tokens, u64)> {
    let spinner = Spinner::new(READING, talk);
    let mut progress = |progress| spinner.say(describe_reading(&progress));
    Ok(text_data::encode_in_passing(corpus, tokenizer, &mut progress)?)
}

/// A path that holds wherever the program is run from; - stays what it is.
pub(crate) fn absolute(path: &PathBuf) -> Result<PathBuf> {
    if path.as_os_str() == "-" {
        return Ok(path.clone());
    }
    if path.to_str().is_none() {
        bail!("the name of {} is not UTF-8: rename the file or folder", path.display());
    }
    std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))
}

/// The folder of recipes' data.
pub(crate) fn recipe_folder() -> Result<PathBuf> {
    let folder = std::env::var_os(DATA_VARIABLE).map(PathBuf::from);
    let folder = folder.map_or_else(|| std::env::current_dir().context("no current folder"), Ok)?;
    absolute(&folder)
}

/// Refuses another tokeniser for a model that was trained with its own.
pub(crate) fn keep_tokenizer(recipe: &Recipe, another: bool) -> Result<(), Usage> {
    match &recipe.model.base {
        Some(base) if another => Err(Usage(format!(
            "the run begins with {}, whose tokeniser it keeps: leave out --tokenizer and --vocab",
            base.path.display()
        ))),
        _ => Ok(()),
    }
}

/// A session from a snapshot's file, or an empty one.
pub(crate) fn session(engine: &Arc<Engine>, memory: Option<&Path>) -> Result<Session> {
    match memory {
        None => Ok(engine.session(engine.generation().sampler)?),
        Some(path) if !path.exists() => {
            bail!("there is no memory {}: `longhand memory save` writes one", path.display())
        }
        Some(path) => {
            let named = || path.display().to_string();
            Snapshot::load(path).with_context(named)?.session(engine).with_context(named)
        }
    }
}

/// Writes a session to a file that does not exist yet, unless it may be overwritten.
pub(crate) fn save(session: &Session, path: &Path, force: bool) -> Result<()> {
    Snapshot::of(session).save(writable(path, force)?).context("the memory is not saved")
}

/// A path that may be written to. What would fail at the end of the work fails before it.
pub(crate) fn writable(path: &Path, force: bool) -> Result<&Path> {
    if path.is_dir() {
        bail!("{} is a folder: name a file", path.display());
    }
    if path.exists() && !force {
        bail!("{} exists: pass --force to overwrite it", path.display());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("there is no folder {} to write {} into", folder.display(), path.display());
    }
    // A file that cannot be removed is in nobody's way.
    let _ = output::remove_partial(folder, PARTIAL_IN_USE);
    tempfile::tempfile_in(folder)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}
