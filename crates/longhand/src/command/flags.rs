//! The flags that `train` and `finetune` share, in the groups that their help shows.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use longhand::recipe::{BaseModel, Data, ModelSettings, Recipe};
use longhand_model::{Preset, UnknownPreset};
use longhand_run::tuning::{Method, Tuning, Unfreeze};
use longhand_run::{Existing, PretrainingObjective};
use longhand_text::{TableFormat, Tokenizer, TokenizerKind};
use longhand_train::SettingsError;
use longhand_train::{Budget, PrecisionSetting, Settings};

use crate::error::Usage;
use crate::reading::{Threads, absolute, keep_tokenizer};

/// The parts of the data besides what is learnt from, and how all of it is read.
#[derive(Args)]
#[command(next_help_heading = "Data")]
pub(super) struct DataFlags {
    /// A file or folder to validate on, instead of a part of the data; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "valid_fraction")]
    valid: Vec<PathBuf>,
    /// The share of the data to hold out for validation; 0 for none [default: 0.1, of
    /// the built-in sample 0.02]
    #[arg(long, value_name = "X")]
    valid_fraction: Option<f64>,
    /// A file or folder to test on when the run has ended; may be given several times
    #[arg(long, value_name = "FILE")]
    test: Vec<PathBuf>,
    /// The column of tables that holds the text [default: text]
    #[arg(long, value_name = "COLUMN")]
    text_column: Option<String>,
    /// The format of tables whose names do not tell it: jsonl, csv, tsv, parquet, or with a task
    /// labelled (`LABEL text` or `__label__LABEL text` lines) and trees (of the Stanford Sentiment Treebank)
    #[arg(long, value_name = "FORMAT")]
    format: Option<TableFormat>,
    /// Replace invalid UTF-8 instead of stopping
    #[arg(long)]
    lossy: bool,
}

/// The model and its tokeniser.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelFlags {
    #[arg(long, value_name = "NAME", help = preset_help())]
    preset: Option<PresetName>,
    /// How text becomes tokens: byte, char, word, bpe, wordpiece or unigram [default: char, of a
    /// task word where the text has spaces between words]
    #[arg(long, value_name = "KIND")]
    tokenizer: Option<TokenizerKind>,
    #[arg(long, value_name = "N", help = vocabulary_help())]
    vocab: Option<usize>,
    /// Numbers in the vector of a token [default: the preset's]
    #[arg(long, value_name = "D")]
    width: Option<NonZeroUsize>,
}

/// The value of --preset.
#[derive(Clone, Copy, Debug)]
enum PresetName {
    Network(Preset),
    /// An n-gram model, which has no configuration.
    Ngram,
}

impl FromStr for PresetName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == NGRAM {
            return Ok(Self::Ngram);
        }
        let unknown = |error: UnknownPreset| format!("{error}, {NGRAM}");
        name.parse().map(Self::Network).map_err(unknown)
    }
}

/// The preset that is no network.
pub(super) const NGRAM: &str = "ngram";

/// How the body of a task's model is pretrained.
#[derive(Args)]
#[command(next_help_heading = "Pretraining")]
pub(super) struct PretrainingFlags {
    #[arg(long, value_name = "OBJECTIVE", help = pretrain_help())]
    pretrain: Option<PretrainingObjective>,
    /// Passes over the texts in the pretraining [default: 10]
    #[arg(long, value_name = "E", group = "pretraining_budget")]
    pretrain_epochs: Option<f64>,
    /// Minutes of the pretraining, instead of passes
    #[arg(long, value_name = "M", group = "pretraining_budget")]
    pretrain_minutes: Option<f64>,
    /// The highest learning rate of the pretraining [default: 0.01]
    #[arg(long, value_name = "X")]
    pretrain_learning_rate: Option<f64>,
    /// A file or folder of text to pretrain on beside the examples; may be given several times
    #[arg(long, value_name = "FILE")]
    pretrain_text: Vec<PathBuf>,
}

/// How a base model is tuned.
#[derive(Args)]
#[command(next_help_heading = "Tuning")]
pub(super) struct TuningFlags {
    /// The parameters of MODEL that are trained: full for all, frozen for the head alone, lora
    /// for the head and changes of low rank, adalora for changes whose ranks follow from their
    /// importance, adapter for the head, the norms and small layers in each block; the last three
    /// save an adapter [default: full]
    #[arg(long, value_name = "METHOD", value_parser = method)]
    method: Option<Method>,
    /// gradual: train the head first and one more block with each epoch, lower ones more slowly
    #[arg(long, value_name = "WHEN", value_parser = unfreeze)]
    unfreeze: Option<Unfreeze>,
    /// Rank of the changes of lora, and their mean rank at the end with adalora [default: 8]
    #[arg(long, visible_alias = "rank", value_name = "R")]
    lora_rank: Option<usize>,
    /// The changes of lora and adalora are scaled by ALPHA / first rank [default: 16]
    #[arg(long, value_name = "ALPHA")]
    lora_alpha: Option<f32>,
    /// Share of the changes' inputs that is dropped in training [default: 0]
    #[arg(long, value_name = "X")]
    lora_dropout: Option<f32>,
    /// A matrix that is changed, by its name, with * for any characters; may be given several
    /// times [default: every large matrix between the embedding and the head]; lora changes an
    /// embedding too where it is named, as in embedding.weight
    #[arg(long, value_name = "PATTERN")]
    lora_targets: Vec<String>,
    /// Inner width of the layers that adapter adds [default: 32]
    #[arg(long, value_name = "A")]
    adapter_width: Option<usize>,
}

/// When a run ends.
#[derive(Args)]
#[command(next_help_heading = "Budget")]
pub(super) struct BudgetFlags {
    /// Minutes of training, reading the text and evaluations included [default of train: 10, on
    /// the built-in sample 2]
    #[arg(long, value_name = "M", group = "budget")]
    minutes: Option<f64>,
    /// Steps of training: the same model each time
    #[arg(long, value_name = "N", group = "budget")]
    steps: Option<u64>,
    /// Passes over the data [default of finetune: 10]
    #[arg(long, value_name = "E", group = "budget")]
    epochs: Option<f64>,
    /// Evaluations without a better one after which the run ends [default: none, of finetune 4]
    #[arg(long, value_name = "N")]
    patience: Option<u32>,
}

/// How the weights are learnt.
#[derive(Args)]
#[command(next_help_heading = "Training")]
pub(super) struct TrainingFlags {
    #[arg(long, value_name = "B", help = batch_help())]
    batch: Option<usize>,
    #[arg(long, value_name = "X", help = learning_rate_help())]
    learning_rate: Option<f64>,
    /// The operands of matrix products: f32, bf16, or auto for the faster one; sums
    /// are f32 [default: auto]
    #[arg(long, value_name = "P")]
    precision: Option<PrecisionSetting>,
    /// Seed of the weights, the order of the data, dropout and what a task holds out [default: 1]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    #[command(flatten)]
    threads: Threads,
    /// Steps between evaluations [default: 8 evaluations in the run, of finetune 10]
    #[arg(long, value_name = "N")]
    evaluate_every: Option<u64>,
    /// Steps between checkpoints [default: one at each evaluation]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
}

/// What happens to the output folder, and who is told.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputFlags {
    /// Resume the run in the output folder, as it began except for what flags say; where there is
    /// none, begin with the data that is named
    #[arg(long, conflicts_with = "force")]
    pub(super) resume: bool,
    /// Overwrite the run in the output folder
    #[arg(long)]
    force: bool,
    /// Print one JSON object per line on stdout
    #[arg(long)]
    pub(super) json: bool,
}

impl DataFlags {
    /// Flags win over the recipe.
    pub(super) fn apply(&self, data: &mut Data) -> Result<()> {
        let absolute = |paths: &[PathBuf]| paths.iter().map(absolute).collect::<Result<Vec<_>>>();
        if !self.valid.is_empty() {
            data.valid = absolute(&self.valid)?;
        }
        if !self.test.is_empty() {
            data.test = absolute(&self.test)?;
        }
        if let Some(fraction) = self.valid_fraction {
            if !(0.0..1.0).contains(&fraction) {
                let text = "must be at least 0 and less than 1";
                return Err(Usage(format!("--valid-fraction is {fraction}, but {text}")).into());
            }
            data.valid.clear();
            data.valid_fraction = fraction;
        }
        data.lossy |= self.lossy;
        data.format = self.format.or(data.format);
        data.text_column = self.text_column.clone().or(data.text_column.take());
        Ok(())
    }
}

impl ModelFlags {
    /// The first flag that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--preset", self.preset.is_some()),
            ("--tokenizer", self.tokenizer.is_some()),
            ("--vocab", self.vocab.is_some()),
            ("--width", self.width.is_some()),
        ])
    }

    /// Whether a preset is named.
    pub(super) fn names_preset(&self) -> bool {
        self.preset.is_some()
    }

    /// Flags win over the recipe.
    pub(super) fn apply(&self, recipe: &mut Recipe) -> Result<(), Usage> {
        match self.preset {
            None => {}
            Some(PresetName::Ngram) => {
                recipe.ngram.get_or_insert_default();
            }
            Some(PresetName::Network(preset)) => {
                let preset = preset.to_string();
                recipe.model = ModelSettings { preset, ..ModelSettings::default() };
                recipe.ngram = None;
            }
        }
        if let Some(width) = self.width {
            recipe.model.overrides.insert("width".into(), width.get().into());
        }
        keep_tokenizer(recipe, self.tokenizer.is_some() || self.vocab.is_some())?;
        let settings = &mut recipe.tokenizer;
        if let Some(kind) = self.tokenizer {
            settings.kind = kind;
            settings.may_change = false;
        }
        settings.vocabulary = self.vocab.or(settings.vocabulary);
        if settings.kind == TokenizerKind::Byte && self.vocab.is_some_and(|size| size != 256) {
            let text = "the byte tokeniser always has 256 tokens: leave out --vocab";
            return Err(Usage(text.into()));
        }
        Ok(())
    }
}

impl PretrainingFlags {
    /// The objective, if a flag names one.
    pub(super) fn objective(&self) -> Option<PretrainingObjective> {
        self.pretrain
    }

    /// Flags win over the recipe.
    pub(super) fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        let Self { pretrain, pretrain_epochs, pretrain_minutes, pretrain_learning_rate, .. } = self;
        if let Some(objective) = *pretrain {
            recipe.pretraining.get_or_insert_default().objective = objective;
        }
        let budget = pretrain_epochs.map(Budget::Epochs);
        let budget = budget.or(pretrain_minutes.map(Budget::Minutes));
        let text = self.pretrain_text.iter().map(absolute).collect::<Result<Vec<_>>>()?;
        let Some(pretraining) = &mut recipe.pretraining else {
            let is_alone = budget.is_none() && pretrain_learning_rate.is_none() && text.is_empty();
            let text = "say what the pretraining learns: pass --pretrain bicausal";
            return if is_alone { Ok(()) } else { Err(Usage(text.into()).into()) };
        };
        set(&mut pretraining.budget, budget);
        pretraining.learning_rate = pretrain_learning_rate.or(pretraining.learning_rate);
        if !text.is_empty() {
            pretraining.text = text;
        }
        pretraining.check().map_err(|SettingsError { name, value, allowed }| {
            let flag = name.replace("budget.", "--pretrain-");
            let flag = flag.replace("optimizer.learning_rate", "--pretrain-learning-rate");
            Usage(format!("{flag} is {value}, but must be {allowed}")).into()
        })
    }
}

impl PretrainingFlags {
    /// The first flag that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--pretrain", self.pretrain.is_some()),
            ("--pretrain-epochs", self.pretrain_epochs.is_some()),
            ("--pretrain-minutes", self.pretrain_minutes.is_some()),
            ("--pretrain-learning-rate", self.pretrain_learning_rate.is_some()),
            ("--pretrain-text", !self.pretrain_text.is_empty()),
        ])
    }
}

impl TuningFlags {
    /// The first flag that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--method", self.method.is_some()),
            ("--unfreeze", self.unfreeze.is_some()),
            ("--lora-rank", self.lora_rank.is_some()),
            ("--lora-alpha", self.lora_alpha.is_some()),
            ("--lora-dropout", self.lora_dropout.is_some()),
            ("--lora-targets", !self.lora_targets.is_empty()),
            ("--adapter-width", self.adapter_width.is_some()),
        ])
    }

    /// Flags win over the recipe.
    pub(super) fn apply(&self, tuning: &mut Tuning) -> Result<(), Usage> {
        if let Some(method) = self.method.filter(|&method| method != tuning.method) {
            tuning.choose(method);
        }
        set(&mut tuning.unfreeze, self.unfreeze);
        set(&mut tuning.rank, self.lora_rank);
        set(&mut tuning.alpha, self.lora_alpha);
        set(&mut tuning.dropout, self.lora_dropout);
        set(&mut tuning.adapter_width, self.adapter_width);
        if !self.lora_targets.is_empty() {
            tuning.targets.clone_from(&self.lora_targets);
        }
        self.check_method(tuning.method)?;
        tuning.check().map_err(|SettingsError { name, value, allowed }| {
            let flag = match name {
                "tuning.adapter_width" => "--adapter-width".into(),
                name => name.replace("tuning.", "--lora-"),
            };
            Usage(format!("{flag} is {value}, but must be {allowed}"))
        })
    }
}

impl TuningFlags {
    /// Refuses a flag of another method, which would change nothing.
    fn check_method(&self, method: Method) -> Result<(), Usage> {
        let of_ranks = first(&[
            ("--lora-rank", self.lora_rank.is_some()),
            ("--lora-alpha", self.lora_alpha.is_some()),
            ("--lora-dropout", self.lora_dropout.is_some()),
            ("--lora-targets", !self.lora_targets.is_empty()),
        ]);
        let of_ranks = of_ranks.filter(|_| !method.changes_matrices());
        let of_layers = self.adapter_width.filter(|_| method != Method::Adapter);
        let (flag, wanted) = match (of_ranks, of_layers) {
            (Some(flag), _) => (flag, "lora or adalora"),
            (None, Some(_)) => ("--adapter-width", "adapter"),
            (None, None) => return Ok(()),
        };
        let name = method.name();
        Err(Usage(format!("{flag} is for --method {wanted}, and the method is {name}")))
    }
}

fn method(name: &str) -> Result<Method, String> {
    let known = Method::ALL.into_iter().find(|method| method.name() == name);
    let names = Method::ALL.map(Method::name).join(", ");
    known.ok_or_else(|| format!("the methods are {names}"))
}

fn unfreeze(name: &str) -> Result<Unfreeze, String> {
    match name {
        "gradual" => Ok(Unfreeze::Gradual),
        "at-once" => Ok(Unfreeze::AtOnce),
        _ => Err("the ways are gradual and at-once".into()),
    }
}

impl BudgetFlags {
    /// The first flag besides `--epochs` that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--minutes", self.minutes.is_some()),
            ("--steps", self.steps.is_some()),
            ("--patience", self.patience.is_some()),
        ])
    }

    /// Passes over the data.
    pub(super) fn epochs(&self) -> Option<f64> {
        self.epochs
    }

    /// Flags win over the recipe.
    pub(super) fn apply(&self, settings: &mut Settings) {
        set(&mut settings.budget, self.minutes.map(Budget::Minutes));
        set(&mut settings.budget, self.steps.map(Budget::Steps));
        set(&mut settings.budget, self.epochs.map(Budget::Epochs));
        settings.patience = self.patience.or(settings.patience);
    }
}

impl TrainingFlags {
    /// The first flag of a network alone that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--batch", self.batch.is_some()),
            ("--precision", self.precision.is_some()),
            ("--evaluate-every", self.evaluate_every.is_some()),
            ("--checkpoint-every", self.checkpoint_every.is_some()),
        ])
    }

    /// The highest learning rate.
    pub(super) fn learning_rate(&self) -> Option<f64> {
        self.learning_rate
    }

    /// Takes over the seed and the number of threads alone.
    pub(super) fn apply_plain(&self, settings: &mut Settings) {
        set(&mut settings.seed, self.seed);
        set(&mut settings.threads, self.threads.given());
    }

    /// Flags win over the recipe.
    pub(super) fn apply(&self, settings: &mut Settings) {
        set(&mut settings.batch, self.batch);
        if let Some(rate) = self.learning_rate {
            settings.optimizer.set_learning_rate(rate);
        }
        set(&mut settings.precision, self.precision);
        self.apply_plain(settings);
        settings.evaluate_every = self.evaluate_every.or(settings.evaluate_every);
        settings.checkpoint_every = self.checkpoint_every.or(settings.checkpoint_every);
    }
}

impl OutputFlags {
    /// How to deal with what the folder holds.
    pub(super) fn existing(&self) -> Existing {
        match (self.resume, self.force) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        }
    }
}

/// Why a run is not resumed that nothing says how to begin: the folder's name may be mistyped.
pub(super) fn nothing_to_resume(out: &Path) -> Usage {
    Usage(format!(
        "there is no run to resume in {}: name the folder of one with --out, or leave out --resume",
        out.display()
    ))
}

/// Begins a run with the model of a folder.
pub(super) fn begin_with(folder: &PathBuf, recipe: &mut Recipe) -> Result<()> {
    let base = BaseModel { path: absolute(folder)?, hash: String::new() };
    recipe.model = ModelSettings { base: Some(base), ..ModelSettings::default() };
    Ok(())
}

/// Checks the settings of a run, and names a flag that is out of its bounds as it is typed.
pub(super) fn check(settings: &Settings) -> Result<(), Usage> {
    settings.check().map_err(|SettingsError { name, value, allowed }| {
        let flag = match name {
            "budget.minutes" => "--minutes",
            "budget.steps" => "--steps",
            "budget.epochs" => "--epochs",
            "optimizer.learning_rate" => "--learning-rate",
            "evaluate_every" => "--evaluate-every",
            "checkpoint_every" => "--checkpoint-every",
            "batch" => "--batch",
            "chunk" => "--chunk",
            "patience" => "--patience",
            "label_smoothing" => "--label-smoothing",
            "adversarial.epsilon" => "--adversarial",
            "average" => "--average",
            // Only a recipe can set the others.
            _ => return Usage(format!("`{name}` is {value}, but must be {allowed}")),
        };
        Usage(format!("{flag} is {value}, but must be {allowed}"))
    })
}

/// The first flag that is given.
pub(super) fn first(flags: &[(&'static str, bool)]) -> Option<&'static str> {
    flags.iter().find_map(|&(flag, given)| given.then_some(flag))
}

/// Replaces a setting where a flag is given.
pub(super) fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn preset_help() -> String {
    let names = Preset::ALL.map(Preset::name).join(", ");
    format!(
        "The model's configuration: {names}; or {NGRAM}, which counts n-grams with Kneser-Ney \
         smoothing [default: {}, of texts with labels {}, of tags {}, of \
         spans {}]",
        ModelSettings::default().preset,
        Preset::StackedLstmClassifier,
        Preset::Tagger,
        Preset::Reader
    )
}

fn vocabulary_help() -> String {
    format!(
        "The most tokens; rarer ones become <unk> or are cut into pieces [default: {} for bpe, \
         wordpiece and unigram, all for char and word]",
        Tokenizer::DEFAULT_VOCABULARY
    )
}

fn batch_help() -> String {
    let (train, finetune) = (Settings::default().batch, Settings::for_examples().batch);
    format!("Streams or examples in a batch [default: {train}, of finetune {finetune}]")
}

fn learning_rate_help() -> String {
    let rate = Settings::default().optimizer.learning_rate();
    format!("The highest learning rate [default: {rate}, of finetune 0.002, with MODEL 0.0005]")
}

/// The help of `--objective`.
pub(super) fn objective_help() -> String {
    let list = PretrainingObjective::ALL.map(|it| format!("{it}: {}", it.about())).join(". ");
    format!("What the model learns [default: {}]. {list}", PretrainingObjective::default())
}

fn pretrain_help() -> String {
    let names = PretrainingObjective::ALL.map(PretrainingObjective::name).join(" or ");
    format!(
        "First pretrain the model on the texts of the examples: {names}. The preset must fit \
         [default preset then: {}]",
        PretrainingObjective::Bicausal.preset()
    )
}

/// The help of `--chunk`.
pub(super) fn chunk_help() -> String {
    format!(
        "Tokens that gradients flow through, or most tokens of a passage [default: {}]",
        Settings::default().chunk
    )
}
