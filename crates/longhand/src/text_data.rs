//! A recipe's text as ids: training part, validation part, test files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use longhand::recipe::{self, Data, Recipe};
use longhand_text::{
    Corpus, CorpusOptions, EncodeProgress, Spill, TextError, Tokenizer, Tokens, sample,
};

use crate::error::Usage;
use crate::progress::Spinner;
use crate::training::{DataFacts, PartFacts};

/// Tokens that are kept in memory, 256 MiB of them; more go into a shard.
const MOST_IN_MEMORY: usize = 64 << 20;

/// The text of a run before it is ids.
pub(crate) struct Texts {
    train: Corpus,
    valid: Option<Corpus>,
    test: Option<Corpus>,
}

/// The text of a run as ids.
pub(crate) struct Ids {
    pub(crate) train: Arc<Tokens>,
    pub(crate) valid: Option<Arc<Tokens>>,
    pub(crate) test: Option<Arc<Tokens>>,
    pub(crate) facts: DataFacts,
}

impl Texts {
    /// Opens and splits a recipe's text.
    pub(crate) fn open(data: &Data) -> Result<Self> {
        let options = options(data);
        let whole = if data.train.is_empty() {
            let text = sample::text(data.sample_seed, data.sample_bytes);
            Corpus::from_text("the built-in sample", text)
        } else {
            Corpus::open(&data.train, options.clone())?
        };
        let whole_is_table = whole.holds_table();
        let (train, valid) = if !data.valid.is_empty() {
            (whole, Some(Corpus::open(&data.valid, options.clone())?))
        } else if data.valid_fraction > 0.0 {
            let (train, valid) = whole.split_valid(data.valid_fraction)?;
            (train, Some(valid))
        } else {
            (whole, None)
        };
        let test = match data.test.is_empty() {
            true => None,
            false => Some(Corpus::open(&data.test, options)?),
        };
        let tables = [&valid, &test].into_iter().flatten().any(Corpus::holds_table);
        check_column(data.text_column.as_deref(), whole_is_table || tables)?;
        Ok(Self { train, valid, test })
    }

    /// Trains the recipe's tokeniser on the training part.
    pub(crate) fn tokenizer(&self, recipe: &Recipe, talk: bool) -> Result<Tokenizer> {
        let settings = recipe.tokenizer;
        let spinner = Spinner::new("training the tokeniser", talk);
        let mut progress = |progress: longhand_text::tokenizer::TrainingProgress| {
            let megabytes = progress.bytes as f64 / 1e6;
            spinner.say(format!("{megabytes:.0} MB, {} units", progress.units));
        };
        let texts = self.train.texts();
        Ok(Tokenizer::train(settings.kind, settings.vocabulary, texts, &mut progress)?)
    }

    /// Encodes every part; large ones into shards under `folder`, where those of the same text
    /// that are there already are used.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, folder: &Path, talk: bool) -> Result<Ids> {
        let encode = |name: &str, corpus: &Corpus| -> Result<(Arc<Tokens>, PartFacts)> {
            let shard = folder.join(format!("{name}.tokens"));
            let (tokens, bytes) = encode(corpus, tokenizer, &shard, talk)?;
            if tokens.shard().is_none() && shard.is_file() {
                // Of another text, and of no use to this one.
                fs_err::remove_file(&shard)?;
            }
            let facts = PartFacts { tokens: tokens.len(), bytes, blake3: hash(&tokens)? };
            Ok((Arc::new(tokens), facts))
        };
        let (train, train_facts) = encode("train", &self.train)?;
        let valid = self.valid.as_ref().map(|corpus| encode("valid", corpus)).transpose()?;
        let test = self.test.as_ref().map(|corpus| encode("test", corpus)).transpose()?;
        let mut facts = DataFacts { train: train_facts, ..DataFacts::default() };
        let parts = [Some(&self.train), self.valid.as_ref(), self.test.as_ref()];
        for path in parts.into_iter().flatten().flat_map(Corpus::files) {
            facts.sha256.insert(path.into(), recipe::sha256(path)?);
        }
        let (valid, valid_facts) = valid.unzip();
        facts.valid = valid_facts;
        Ok(Ids { train, valid, test: test.map(|(tokens, _)| tokens), facts })
    }
}

/// A path that holds wherever the program is run from; - stays what it is.
pub(crate) fn absolute(path: &PathBuf) -> Result<PathBuf> {
    if path.as_os_str() == "-" {
        return Ok(path.clone());
    }
    std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))
}

/// The folder of recipes' data.
pub(crate) fn recipe_folder() -> Result<PathBuf> {
    let folder = std::env::var_os(recipe::DATA_VARIABLE).map(PathBuf::from);
    let folder = folder.map_or_else(|| std::env::current_dir().context("no current folder"), Ok)?;
    absolute(&folder)
}

/// How a recipe's files are read.
pub(crate) fn options(data: &Data) -> CorpusOptions {
    CorpusOptions { text_column: data.text_column.clone(), format: data.format, lossy: data.lossy }
}

/// Refuses the column of a table where there is none.
pub(crate) fn check_column(column: Option<&str>, holds_table: bool) -> Result<(), Usage> {
    match column {
        Some(column) if !holds_table => Err(Usage(format!(
            "there is no table to take the column {column:?} from: say with --format which one \
             the text is, or leave out --text-column"
        ))),
        _ => Ok(()),
    }
}

/// A corpus as ids, in a shard if they are too many for memory, and the bytes of its text.
pub(crate) fn encode(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    shard: &Path,
    talk: bool,
) -> Result<(Tokens, u64)> {
    let spinner = Spinner::new("reading the text", talk);
    let mut bytes = 0;
    let mut progress = |progress: EncodeProgress| {
        bytes = progress.bytes;
        let (megabytes, millions) = (progress.bytes as f64 / 1e6, progress.tokens as f64 / 1e6);
        spinner.say(format!("{megabytes:.0} MB, {millions:.1} million tokens"));
    };
    let spill = Spill { shard, most_in_memory: MOST_IN_MEMORY };
    match Tokens::encode_or_spill(corpus, tokenizer, spill, &mut progress) {
        Ok(tokens) => Ok((tokens, bytes)),
        // The other errors name the file themselves.
        Err(short @ TextError::TooShort { .. }) => Err(short).context(corpus.name()),
        Err(error) => Err(error.into()),
    }
}

/// As [`encode`], for this process alone: a text too large for memory lies in the system's folder
/// for temporary files until it is read, and is gone with its tokens.
pub(crate) fn encode_in_passing(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    talk: bool,
) -> Result<(Tokens, u64)> {
    let folder = tempfile::tempdir()?;
    encode(corpus, tokenizer, &folder.path().join("data.tokens"), talk)
}

/// BLAKE3 of the ids, each as four bytes.
fn hash(tokens: &Tokens) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut ids = vec![0; 1 << 16];
    let mut at = 0;
    while at < tokens.len() {
        let count = (tokens.len() - at).min(ids.len() as u64) as usize;
        tokens.copy(at, &mut ids[..count])?;
        let bytes: Vec<u8> = ids[..count].iter().flat_map(|id| id.to_le_bytes()).collect();
        hasher.update(&bytes);
        at += count as u64;
    }
    Ok(hasher.finalize().to_hex().to_string())
}
