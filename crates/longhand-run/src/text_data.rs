//! A recipe's text as ids: training part, validation part, test files.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use longhand_text::tokenizer::TrainingSettings;
use longhand_text::{
    Corpus, CorpusOptions, EncodeProgress, Spill, TextError, Tokenizer, Tokens, sample,
};
use longhand_train::Budget;

use crate::error::RunError;
use crate::recipe::{self, Data, Recipe, Rehearsal, TokenizerSettings};
use crate::training::{DataFacts, PartFacts, TRAINING_FILE};
use crate::watch::{Preparation, Watch};

/// Tokens that are kept in memory, 256 MiB of them; more go into a shard.
const MOST_IN_MEMORY: usize = 64 << 20;

/// The last part of old text that is measured, not rehearsed, where no other text is measured.
const OLD_HELD_OUT: f64 = 0.1;

/// Bytes of text for each minute of a time budget that every tokeniser prepares in time.
const SURELY_PREPARED: f64 = 10e6;
/// Preparing the text takes at most about this share of a time budget.
const PREPARATION_SHARE: f64 = 0.25;

/// Bytes of a text that are prepared to see how long it takes.
const PROBE: usize = 4 << 20;
/// Readings of a text before training: to count its characters, for the tokeniser, for the ids of
/// the training and the held-out part, and for the two hashes of its files.
const READINGS: u32 = 6;

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

/// The old text of a base model.
pub(crate) struct OldText {
    /// The text that is rehearsed, if any is.
    pub(crate) train: Option<Arc<Tokens>>,
    /// The text that the loss is measured on.
    pub(crate) measured: Arc<Tokens>,
    /// What is known of both together.
    pub(crate) facts: PartFacts,
}

impl Texts {
    /// With a time budget, makes the recipe read of a large text no more than can be prepared in a
    /// part of that time.
    pub(crate) fn fit(
        recipe: &mut Recipe,
        out: &Path,
        watch: &mut dyn Watch,
    ) -> Result<(), RunError> {
        let Budget::Minutes(minutes) = recipe.training.budget else { return Ok(()) };
        let data = &recipe.data;
        // A pipe can be read once, and is then of unknown length.
        let reads_files = data.train.iter().all(|path| path.is_file() || path.is_dir());
        if data.share.is_some() || data.train.is_empty() || !reads_files {
            return Ok(());
        }
        let corpus = open(&recipe.data.train, &options(&recipe.data), out)?;
        let bytes = corpus.stored_bytes();
        if bytes as f64 <= minutes * SURELY_PREPARED {
            return Ok(());
        }
        let Some(rate) = preparation_rate(&corpus, recipe.tokenizer)? else { return Ok(()) };
        let share = PREPARATION_SHARE * 60.0 * minutes / (rate * bytes as f64);
        if share < 1.0 {
            recipe.data.share = Some(share);
            watch.prepare(&Preparation::Sampled { share, bytes });
        }
        Ok(())
    }

    /// Opens and splits a recipe's text, or the share of it that the recipe reads.
    ///
    /// Folders below the named ones that hold runs, and the run's own folder `out`, are left out: a
    /// run that read its own output could not be resumed.
    pub(crate) fn open(recipe: &Recipe, out: &Path) -> Result<Self, RunError> {
        let data = &recipe.data;
        let options = options(data);
        let open = |paths: &[PathBuf]| open(paths, &options, out);
        let sampled = |corpus: Corpus| match data.share {
            Some(share) => corpus.sampled(share, recipe.training.seed),
            None => corpus,
        };
        let whole = if data.train.is_empty() {
            let text = sample::text(data.sample_seed, data.sample_bytes);
            Corpus::from_text("the built-in sample", text)
        } else {
            open(&data.train)?
        };
        let whole = sampled(whole);
        let whole_is_table = whole.holds_table();
        let (train, valid) = if !data.valid.is_empty() {
            (whole, Some(sampled(open(&data.valid)?)))
        } else if data.valid_fraction > 0.0 {
            let (train, valid) = whole.split_valid(data.valid_fraction)?;
            (train, Some(valid))
        } else {
            (whole, None)
        };
        let test = match data.test.is_empty() {
            true => None,
            false => Some(open(&data.test)?),
        };
        let tables = [&valid, &test].into_iter().flatten().any(Corpus::holds_table);
        check_column(data.text_column.as_deref(), whole_is_table || tables)?;
        Ok(Self { train, valid, test })
    }

    /// Trains the recipe's tokeniser on the training part.
    pub(crate) fn tokenizer(
        &self,
        recipe: &Recipe,
        watch: &mut dyn Watch,
    ) -> Result<Tokenizer, RunError> {
        let settings = TrainingSettings {
            kind: recipe.tokenizer.kind,
            vocabulary: recipe.tokenizer.vocabulary,
            threads: NonZeroUsize::new(recipe.training.threads),
        };
        let mut progress = |progress| watch.prepare(&Preparation::Tokenizer(progress));
        let texts = self.train.texts();
        Ok(Tokenizer::train_with(settings, texts, &mut progress)?)
    }

    /// Encodes every part; large ones into shards under `folder`, where those of the same text
    /// that are there already are used.
    pub(crate) fn encode(
        &self,
        tokenizer: &Tokenizer,
        folder: &Path,
        watch: &mut dyn Watch,
    ) -> Result<Ids, RunError> {
        let mut encode =
            |name: &str, corpus: &Corpus| -> Result<(Arc<Tokens>, PartFacts), RunError> {
                let shard = folder.join(format!("{name}.tokens"));
                let mut progress = |progress| watch.prepare(&Preparation::Encoding(progress));
                let (tokens, bytes) = encode(corpus, tokenizer, &shard, &mut progress)?;
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

/// Seconds that preparing one byte takes, by the text's first bytes; none where they do not tell.
fn preparation_rate(corpus: &Corpus, settings: TokenizerSettings) -> Result<Option<f64>, RunError> {
    let began = Instant::now();
    let mut text = String::new();
    for piece in corpus.texts() {
        text.push_str(&piece?);
        if text.len() >= PROBE {
            break;
        }
    }
    let read = began.elapsed();
    let texts = std::iter::once(Ok(text.clone()));
    let trained = Tokenizer::train(settings.kind, settings.vocabulary, texts, &mut |_| {});
    // They may be too few for a vocabulary that the whole text has.
    let Ok(tokenizer) = trained else { return Ok(None) };
    let ids = tokenizer.encode(&text)?;
    let length = ids.len() as u64;
    hash(&Tokens::from_ids(ids, vec![0], tokenizer.vocab_size())?)?;
    let seconds = (began.elapsed() + (READINGS - 1) * read).as_secs_f64();
    Ok((length > 0).then(|| seconds / text.len() as f64))
}

/// Opens files and folders, without the runs in them and without the folder `out`.
fn open(paths: &[PathBuf], options: &CorpusOptions, out: &Path) -> Result<Corpus, RunError> {
    let out = fs_err::canonicalize(out).ok();
    let named: Vec<PathBuf> =
        paths.iter().filter_map(|path| fs_err::canonicalize(path).ok()).collect();
    let mut runs: HashMap<PathBuf, bool> = HashMap::new();
    let mut is_run = |folder: &Path| {
        let holds_run = || out.as_deref() == Some(folder) || folder.join(TRAINING_FILE).is_file();
        *runs.entry(folder.into()).or_insert_with(holds_run)
    };
    let corpus = Corpus::open(paths, options.clone())?.retain(|path| {
        let Ok(path) = fs_err::canonicalize(path) else { return true };
        // What is named itself is read, whatever it holds.
        let below =
            path.ancestors().take_while(|folder| !named.iter().any(|named| named == folder));
        !below.skip(1).any(&mut is_run)
    });
    if let Some(path) = corpus.files().find(|path| path.to_str().is_none()) {
        return Err(RunError::NotUnicode(path.into()));
    }
    Ok(corpus)
}

/// How a recipe's files are read.
fn options(data: &Data) -> CorpusOptions {
    CorpusOptions { text_column: data.text_column.clone(), format: data.format, lossy: data.lossy }
}

/// Refuses a column's name where no source is a table.
///
/// # Errors
/// [`RunError::NoTable`] names the column.
pub fn check_column(column: Option<&str>, holds_table: bool) -> Result<(), RunError> {
    match column {
        Some(column) if !holds_table => Err(RunError::NoTable { column: column.into() }),
        _ => Ok(()),
    }
}

/// A corpus as ids, in a shard if they are too many for memory, and the bytes of its text.
fn encode(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    shard: &Path,
    told: &mut dyn FnMut(EncodeProgress),
) -> Result<(Tokens, u64), RunError> {
    let mut bytes = 0;
    let mut progress = |progress: EncodeProgress| {
        bytes = progress.bytes;
        told(progress);
    };
    let spill = Spill { shard, most_in_memory: MOST_IN_MEMORY };
    match Tokens::encode_or_spill(corpus, tokenizer, spill, &mut progress) {
        Ok(tokens) => Ok((tokens, bytes)),
        // The other errors name the file themselves.
        Err(short @ TextError::TooShort { .. }) => Err(RunError::from(short).named(corpus.name())),
        Err(error) => Err(error.into()),
    }
}

/// A corpus as ids, and the bytes of its text. Ids that are too many for memory go into a temporary
/// file that is deleted with the tokens.
///
/// # Errors
/// A corpus that cannot be read or encoded, or that has fewer than two tokens.
pub fn encode_in_passing(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    progress: &mut dyn FnMut(EncodeProgress),
) -> Result<(Tokens, u64), RunError> {
    let folder = tempfile::tempdir()?;
    encode(corpus, tokenizer, &folder.path().join("data.tokens"), progress)
}

/// The ids of further text of a task's pretraining, without the runs in its folders, and the
/// bytes of the text.
pub(crate) fn further(
    paths: &[PathBuf],
    lossy: bool,
    tokenizer: &Tokenizer,
    out: &Path,
    watch: &mut dyn Watch,
) -> Result<(Tokens, u64), RunError> {
    let corpus = open(paths, &CorpusOptions { lossy, ..CorpusOptions::default() }, out)?;
    let mut progress = |progress| watch.prepare(&Preparation::Encoding(progress));
    encode_in_passing(&corpus, tokenizer, &mut progress)
}

/// The old text of a base model, as a recipe names it.
pub(crate) fn old(
    rehearsal: &Rehearsal,
    lossy: bool,
    tokenizer: &Tokenizer,
    out: &Path,
    watch: &mut dyn Watch,
) -> Result<OldText, RunError> {
    let Rehearsal { text, forgetting, .. } = rehearsal;
    let options = CorpusOptions { lossy, ..CorpusOptions::default() };
    let corpus = |paths: &[PathBuf]| open(paths, &options, out);
    let (train, measured) = match (text.is_empty(), forgetting.is_empty()) {
        (true, _) => (None, corpus(forgetting)?),
        (false, false) => (Some(corpus(text)?), corpus(forgetting)?),
        (false, true) => {
            let (train, measured) = corpus(text)?.split_valid(OLD_HELD_OUT)?;
            (Some(train), measured)
        }
    };
    let mut facts = PartFacts::default();
    let mut read = |corpus: &Corpus| -> Result<Arc<Tokens>, RunError> {
        let mut progress = |progress| watch.prepare(&Preparation::Encoding(progress));
        let (tokens, bytes) = encode_in_passing(corpus, tokenizer, &mut progress)?;
        facts.tokens += tokens.len();
        facts.bytes += bytes;
        facts.blake3 += &hash(&tokens)?;
        Ok(Arc::new(tokens))
    };
    let train = train.as_ref().map(&mut read).transpose()?;
    let measured = read(&measured)?;
    Ok(OldText { train, measured, facts })
}

/// BLAKE3 of the ids, each as four bytes.
pub(crate) fn hash(tokens: &Tokens) -> Result<String, RunError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes down the share of the text that is read.
    #[derive(Default)]
    struct Shares(Vec<f64>);

    impl longhand_train::Progress for Shares {
        fn event(
            &mut self,
            _: &longhand_train::Event<'_>,
        ) -> Result<(), longhand_train::log::LogError> {
            Ok(())
        }
    }

    impl Watch for Shares {
        fn prepare(&mut self, preparation: &Preparation<'_>) {
            if let Preparation::Sampled { share, .. } = preparation {
                self.0.push(*share);
            }
        }
    }

    /// A text of 300 MB took 477 seconds of a budget of one minute.
    #[test]
    fn a_time_budget_reads_what_it_can_prepare() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        fs_err::write(&path, "a line of some words\n".repeat(700_000)).unwrap();
        let fitted = |budget: Budget| {
            let mut recipe = Recipe::default();
            recipe.data.train = vec![path.clone()];
            recipe.training.budget = budget;
            let mut shares = Shares::default();
            Texts::fit(&mut recipe, Path::new("out"), &mut shares).unwrap();
            assert_eq!(shares.0, Vec::from_iter(recipe.data.share), "what is sampled is told");
            recipe
        };
        // No machine prepares 15 MB in a few microseconds, nor does any need hours for it.
        let mut recipe = fitted(Budget::Minutes(1e-7));
        assert!(recipe.data.share.unwrap() < 0.1);
        assert_eq!(fitted(Budget::Minutes(1e4)).data.share, None);
        assert_eq!(fitted(Budget::Steps(1)).data.share, None);
        let count = |recipe: &Recipe| {
            let texts = Texts::open(recipe, Path::new("out")).unwrap();
            let valid = texts.valid.unwrap().count_characters().unwrap();
            texts.train.count_characters().unwrap() + valid
        };
        // The first stretch is always read.
        recipe.data.share = Some(1e-9);
        let sampled = count(&recipe);
        assert_eq!(sampled, count(&recipe));
        recipe.data.share = None;
        assert!(sampled < count(&recipe));
    }
}
