//! N-best lists in a new order, by a language model's score beside the scores that they came with.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use longhand_engine::{Cpu, Engine, Frame, TextScorer};
use longhand_metrics::{Bleu, Tokenizer};
use longhand_nbest::{
    LOG_PROBABILITY, Lists, NbestError, Objective, Statistics, Tuning, Weights, tune,
};

use super::Arguments;
use super::split::WINDOW;
use crate::error::Usage;
use crate::reading::{any_model_folder, writable};
use crate::talk::say;

/// N-best lists, and how they are put into a new order.
#[derive(Args)]
pub(super) struct NbestArguments {
    /// Lists to put into a new order: `id ||| text ||| features ||| score`, or JSON lines
    #[arg(long, value_name = "FILE")]
    nbest: Option<PathBuf>,
    /// A further language model; its feature is lm2, the next one's lm3
    #[arg(long, value_name = "DIR")]
    with_model: Vec<PathBuf>,
    /// A model whose log-probability is subtracted, such as n-grams of low order of the text that the
    /// recogniser learnt (low-order density ratio)
    #[arg(long, value_name = "DIR")]
    subtract: Option<PathBuf>,
    /// How much of it is subtracted [default: 0.3]
    #[arg(long, value_name = "X", requires = "subtract")]
    subtract_weight: Option<f64>,
    /// The weight of a feature: score, logprob, lm, lm2 …, subtract, words, or another one of the
    /// lists; --tune leaves it as it is [default: logprob=1, or score=1 for lists without it; lm=0.5,
    /// words=0]
    #[arg(long, value_name = "NAME=X", value_parser = weight, allow_hyphen_values = true)]
    weight: Vec<(String, f64)>,
    /// Divide log-probabilities (logprob, lm …, subtract) by the number of words of a text and its end,
    /// so that none is better for being short: for lists of a search that does so, such as predict's
    #[arg(long)]
    per_word: bool,
    /// Weights from a file that --save-weights wrote
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Find the weights whose best hypotheses measure best against these references, one a line for
    /// each list; several files are several references
    #[arg(long, value_name = "FILE", num_args = 1..)]
    tune: Vec<PathBuf>,
    /// Keep the weights in a file
    #[arg(long, value_name = "FILE")]
    save_weights: Option<PathBuf>,
    /// Measure the best hypotheses against references, and tune nothing
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "tune")]
    references: Vec<PathBuf>,
    /// What is measured
    #[arg(long, value_name = "METRIC", default_value = "bleu")]
    metric: MetricName,
    /// Print the text of each list's best hypothesis alone
    #[arg(long)]
    best: bool,
}

/// A metric by its name on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum MetricName {
    /// BLEU of words as sacrebleu's 13a parts them
    Bleu,
    /// BLEU with each Chinese character as a word
    BleuZh,
    /// BLEU of characters
    BleuChar,
    /// Word error rate
    Wer,
    /// Character error rate
    Cer,
}

impl From<MetricName> for Objective {
    fn from(name: MetricName) -> Self {
        let bleu = |tokenizer| Self::Bleu(Bleu { tokenizer, ..Bleu::default() });
        match name {
            MetricName::Bleu => bleu(Tokenizer::Mteval13a),
            MetricName::BleuZh => bleu(Tokenizer::Zh),
            MetricName::BleuChar => bleu(Tokenizer::Char),
            MetricName::Wer => Self::WordErrors,
            MetricName::Cer => Self::CharacterErrors,
        }
    }
}

/// The feature of the language model.
const MODEL: &str = "lm";
/// The feature of the model that is subtracted.
const SUBTRACT: &str = "subtract";
/// The feature that counts words.
const WORDS: &str = "words";

/// The weight of each language model where none is given.
const MODEL_WEIGHT: f64 = 0.5;
/// The weight of the subtracted model where none is given.
const SUBTRACT_WEIGHT: f64 = 0.3;
/// Searches that begin at random weights.
const RESTARTS: usize = 8;

impl NbestArguments {
    /// Whether lists are put into a new order.
    pub(super) fn is_asked(&self) -> bool {
        self.nbest.is_some()
    }

    /// The names of the features that are added to the lists.
    fn added(&self) -> Vec<String> {
        let further = (0..self.with_model.len()).map(further_model);
        let subtract = self.subtract.iter().map(|_| SUBTRACT.to_owned());
        let own = [MODEL, WORDS].map(str::to_owned);
        own.into_iter().chain(further).chain(subtract).collect()
    }

    /// The features whose weights are tuned: all that were added, and those of the lists that count,
    /// but none whose weight was given.
    fn searched(&self, given: &[String], weights: &Weights) -> Result<Vec<String>> {
        let fixed = |name: &str| {
            self.weight.iter().any(|(fixed, _)| fixed == name)
                || (name == SUBTRACT && self.subtract_weight.is_some())
        };
        let counts = |name: &str, weight: f64| weight != 0.0 || !given.iter().any(|it| it == name);
        let features = weights.iter().filter(|(name, it)| counts(name, *it) && !fixed(name));
        let features: Vec<String> = features.map(|(name, _)| name.to_owned()).collect();
        if features.is_empty() {
            let text = "--tune has no weight to find: leave one of --weight out";
            return Err(Usage(text.to_owned()).into());
        }
        Ok(features)
    }

    /// Each flag's name and whether it was given.
    pub(super) fn given(&self) -> [(&'static str, bool); 9] {
        [
            ("--per-word", self.per_word),
            ("--with-model", !self.with_model.is_empty()),
            ("--subtract", self.subtract.is_some()),
            ("--weight", !self.weight.is_empty()),
            ("--weights", self.weights.is_some()),
            ("--tune", !self.tune.is_empty()),
            ("--save-weights", self.save_weights.is_some()),
            ("--references", !self.references.is_empty()),
            ("--best", self.best),
        ]
    }
}

/// The feature of a further language model, counted from 0.
fn further_model(place: usize) -> String {
    format!("{MODEL}{}", place + 2)
}

/// `NAME=X` on the command line.
fn weight(text: &str) -> Result<(String, f64), String> {
    let wrong = || "give a name and a number, such as lm=0.5".to_owned();
    let (name, value) = text.rsplit_once('=').ok_or_else(wrong)?;
    let value: f64 = value.parse().map_err(|_| wrong())?;
    if name.is_empty() || !value.is_finite() {
        return Err(wrong());
    }
    Ok((name.to_owned(), value))
}

impl Arguments {
    /// Scores the hypotheses of n-best lists and prints them in their new order.
    pub(super) fn score_lists(&self) -> Result<()> {
        let arguments = &self.nbest;
        let Some(path) = &arguments.nbest else { return Ok(()) };
        if let Some(path) = &arguments.save_weights {
            writable(path, self.force)?;
        }
        let text = self.text_of(path)?;
        let mut lists = Lists::parse(&text, &path.display().to_string())?;
        let named = || path.display().to_string();
        arguments.added().iter().try_for_each(|name| lists.check_free(name)).with_context(named)?;
        // What is wrong with the references is told before the models read.
        let paths = if arguments.tune.is_empty() { &arguments.references } else { &arguments.tune };
        let references = self.references(paths, &lists)?;
        let given: Vec<String> = lists.features().to_vec();
        let (engine, cpu) = self.model.open()?;
        self.add(&mut lists, MODEL, &engine, &cpu, 1.0)?;
        for (place, folder) in arguments.with_model.iter().enumerate() {
            let engine = Engine::load(any_model_folder(folder)?)?;
            self.add(&mut lists, &further_model(place), &engine, &cpu, 1.0)?;
        }
        if let Some(folder) = &arguments.subtract {
            let engine = Engine::load(any_model_folder(folder)?)?;
            self.add(&mut lists, SUBTRACT, &engine, &cpu, -1.0)?;
        }
        if arguments.per_word {
            lists.per_word(|name| name == LOG_PROBABILITY || name == SUBTRACT || is_model(name));
        }
        let words = lists.texts().map(|text| text.split_whitespace().count() as f64).collect();
        lists.add(WORDS, words)?;
        let before = own_weights(&lists, &given)?;
        let mut weights = self.weights(&lists, &given)?;
        let objective = Objective::from(arguments.metric);
        if !references.is_empty() {
            let statistics = statistics(&lists, objective, &references);
            let measure = |weights: &Weights| measured(&lists, objective, &statistics, weights);
            let came = measure(&before);
            if !arguments.tune.is_empty() {
                let features = arguments.searched(&given, &weights)?;
                let tuning = Tuning { objective, features, restarts: RESTARTS, seed: 0 };
                weights = tune(&lists, &statistics, &weights, &tuning).weights;
            }
            say!(
                "{} {came:.2} as the lists came, {:.2} in their new order",
                objective.name(),
                measure(&weights)
            );
        }
        let told: Vec<String> = weights
            .iter()
            .filter(|(_, w)| *w != 0.0)
            .map(|(name, w)| format!("{name}={w:.4}"))
            .collect();
        say!("weights: {}", told.join(" "));
        if let Some(path) = &arguments.save_weights {
            let weights: BTreeMap<&str, f64> = weights.iter().collect();
            longhand_model::file::write(path, &serde_json::to_vec_pretty(&weights)?)?;
        }
        self.print_lists(&lists, &weights)
    }

    fn print_lists(&self, lists: &Lists, weights: &Weights) -> Result<()> {
        let order = lists.order(weights);
        let mut out = BufWriter::new(std::io::stdout().lock());
        if self.nbest.best {
            for (list, order) in lists.lists().iter().zip(&order) {
                let best = order.first().and_then(|&place| list.hypotheses().get(place));
                writeln!(out, "{}", best.map_or("", |best| best.text()))?;
            }
        } else {
            lists.write(&mut out, weights, &order)?;
        }
        Ok(out.flush()?)
    }

    /// A file as text.
    fn text_of(&self, path: &Path) -> Result<String> {
        let mut bytes = Vec::new();
        let mut file = longhand_text::corpus::open_bytes(path)?;
        let named = || format!("{} cannot be read", path.display());
        std::io::Read::read_to_end(&mut file, &mut bytes).with_context(named)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) if self.lossy => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
            Err(error) => bail!(
                "{} is not valid UTF-8 at byte offset {}: convert it, or pass --lossy to replace \
                 invalid bytes",
                path.display(),
                error.utf8_error().valid_up_to()
            ),
        }
    }

    /// The references of each list, one of each file: the line of the number that is the list's id, as a
    /// search skips blank sources, and where ids are no such numbers the line in the list's place.
    fn references(&self, paths: &[PathBuf], lists: &Lists) -> Result<Vec<Vec<String>>> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Option<Vec<usize>> =
            lists.lists().iter().map(|list| list.id().parse().ok()).collect();
        // Two lists of one number would share a reference.
        let numbers = numbers
            .filter(|numbers| numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len());
        let lists = lists.lists().len();
        let mut all = vec![Vec::new(); lists];
        for path in paths {
            let text = self.text_of(path)?;
            let lines: Vec<&str> = text.lines().collect();
            let within = |numbers: &&Vec<usize>| numbers.iter().all(|&it| it < lines.len());
            if let Some(numbers) = numbers.as_ref().filter(within) {
                for (references, &number) in all.iter_mut().zip(numbers) {
                    references.push(lines[number].to_owned());
                }
                continue;
            }
            if lines.len() != lists {
                let (references, got) = (path.display().to_string(), lines.len());
                return Err(NbestError::References { references, got, lists }.into());
            }
            for (references, line) in all.iter_mut().zip(lines) {
                references.push(line.to_owned());
            }
        }
        Ok(all)
    }

    /// Adds the log-probability of each hypothesis, in nats, times `sign`, as a feature.
    fn add(
        &self,
        lists: &mut Lists,
        name: &str,
        engine: &Arc<Engine>,
        cpu: &Arc<Cpu>,
        sign: f64,
    ) -> Result<()> {
        let begun = Instant::now();
        let mut scorer = TextScorer::new(engine.reader(cpu), self.frame(Frame::Line))?;
        let texts: Vec<&str> = lists.texts().collect();
        let (mut values, mut tokens) = (Vec::with_capacity(texts.len()), 0);
        for texts in texts.chunks(WINDOW) {
            for score in scorer.score(texts)? {
                tokens += score.tokens;
                values.push(-sign * score.sum);
            }
        }
        let seconds = begun.elapsed().as_secs_f64().max(1e-9);
        let (count, speed) = (values.len(), tokens as f64 / seconds);
        say!("{name}: {count} hypotheses of {tokens} tokens, {speed:.0} tokens/s");
        Ok(lists.add(name, values)?)
    }

    /// The weights that were given, beside the default ones.
    fn weights(&self, lists: &Lists, given: &[String]) -> Result<Weights> {
        let mut weights = default_weights(lists, given)?;
        if let Some(path) = &self.nbest.weights {
            let read: Result<BTreeMap<String, f64>, _> = serde_json::from_str(&self.text_of(path)?);
            let read = read.with_context(|| {
                format!("{} holds no weights: --save-weights writes some", path.display())
            })?;
            for (name, value) in &read {
                let set = weights.set(name, *value);
                set.with_context(|| format!("{} is of other lists or models", path.display()))?;
            }
        }
        if let Some(value) = self.nbest.subtract_weight {
            weights.set(SUBTRACT, value).map_err(|error| Usage(error.to_string()))?;
        }
        for (name, value) in &self.nbest.weight {
            weights.set(name, *value).map_err(|error| Usage(error.to_string()))?;
        }
        Ok(weights)
    }
}

/// The weights of the program that made the lists: 1 for its total, or where there is none for each of
/// its features.
fn own_weights(lists: &Lists, given: &[String]) -> Result<Weights, NbestError> {
    let total = given.iter().any(|name| name == "score");
    let own = given.iter().filter(|name| !total || *name == "score");
    Weights::of(lists.features(), own.map(|name| (name.as_str(), 1.0)))
}

/// Those weights and the ones of the language models, whose features are sums over the tokens. So is a
/// log-probability, which counts in place of the total: that may be a mean, beside which the sums of
/// the language models would decide alone.
fn default_weights(lists: &Lists, given: &[String]) -> Result<Weights, NbestError> {
    let mut weights = match given.iter().any(|name| name == LOG_PROBABILITY) {
        true => Weights::of(lists.features(), [(LOG_PROBABILITY, 1.0)])?,
        false => own_weights(lists, given)?,
    };
    let added = lists.features().iter().filter(|name| !given.contains(name));
    for name in added {
        match name.as_str() {
            SUBTRACT => weights.set(name, SUBTRACT_WEIGHT)?,
            name if is_model(name) => weights.set(name, MODEL_WEIGHT)?,
            _ => {}
        }
    }
    Ok(weights)
}

/// Whether a feature is the log-probability of a language model of ours.
fn is_model(name: &str) -> bool {
    name.strip_prefix(MODEL).is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
}

/// The counts of each hypothesis.
fn statistics(
    lists: &Lists,
    objective: Objective,
    references: &[Vec<String>],
) -> Vec<Vec<Statistics>> {
    let statistics = lists.lists().iter().zip(references).map(|(list, references)| {
        let references: Vec<&str> = references.iter().map(String::as_str).collect();
        let hypotheses = list.hypotheses().iter();
        hypotheses.map(|one| objective.count(one.text(), &references)).collect()
    });
    statistics.collect()
}

/// The metric of the best hypotheses.
fn measured(
    lists: &Lists,
    objective: Objective,
    statistics: &[Vec<Statistics>],
    weights: &Weights,
) -> f64 {
    let best = lists.order(weights).into_iter().map(|order| order.first().copied().unwrap_or(0));
    let sum = best.zip(statistics).filter_map(|(place, counts)| counts.get(place));
    objective.measure(&sum.fold(Statistics::default(), |sum, one| sum.plus(one)))
}
