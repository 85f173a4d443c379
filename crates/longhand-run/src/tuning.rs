//! Ways of tuning a trained model: which parameters are trained, and how they are saved.

use std::collections::BTreeSet;

use longhand_model::adapter::Base;
use longhand_model::config::Stacks;
use longhand_model::{Config, LowRankForm, LowRankSettings, Model, ModelError, Parameter};
use longhand_train::groups::matches;
use longhand_train::schedule::{Schedule, SlantedTriangular};
use longhand_train::{Budget, GroupSettings, RankBudget, RankSettings, Settings, SettingsError};
use serde::{Deserialize, Serialize};

/// Factor between the learning rates of a layer and of the one below it (Howard and
/// Ruder, 2018, section 3.2).
const RATE_OF_LOWER: f32 = 2.6;
/// Matrices with fewer rows or columns get no change of low rank unless a target names them: they
/// steer whole heads, and a change would be as large as the matrix.
const SMALLEST_TARGET: usize = 16;

/// How a trained model is tuned: `[tuning]` in a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// Which parameters are trained (`full`).
    pub method: Method,
    /// When they are trained (`at-once`); `gradual` is for `full`.
    pub unfreeze: Unfreeze,
    /// Rank of the changes of `lora`, and their mean rank at the end with `adalora` (8).
    pub rank: usize,
    /// α of the changes (16): a change is α / rank · B·A, or α / initial rank · B·diag(e)·A.
    pub alpha: f32,
    /// Share of the changes' inputs that is dropped in training (0).
    pub dropout: f32,
    /// Names of the matrices that are changed; `*` matches any characters. Without any, every
    /// attention, recurrent, fusion and feed-forward matrix of at least 16 rows and columns. `lora`
    /// changes an embedding too where one is named.
    pub targets: Vec<String>,
    /// Inner width of the layers of `adapter` (32).
    pub adapter_width: usize,
    /// How `adalora` chooses ranks.
    #[serde(skip_serializing_if = "is_usual")]
    pub adalora: RankSettings,
}

/// Which parameters are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// All of them.
    #[default]
    Full,
    /// The head alone: of a task the new one.
    Frozen,
    /// The new head, and changes of low rank beside the matrices, saved as an adapter (Hu et al.,
    /// "LoRA: Low-rank adaptation of large language models", 2021).
    Lora,
    /// As `lora`, with singular values between the factors, which compete for ranks: what
    /// matters more has higher ones at the end (Zhang et al., "Adaptive budget allocation
    /// for parameter-efficient fine-tuning", 2023).
    #[serde(rename = "adalora")]
    AdaLora,
    /// The new head, the norms, and bottleneck layers in each block, saved as an adapter (Houlsby et
    /// al., "Parameter-efficient transfer learning for NLP", 2019).
    Adapter,
}

/// When parameters are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfreeze {
    /// From the first step on.
    #[default]
    AtOnce,
    /// The head first and one more block with each epoch, lower ones at lower rates, on a
    /// slanted triangular schedule (Howard and Ruder, "Universal language model fine-tuning
    /// for text classification", 2018).
    Gradual,
}

/// Why a model cannot be tuned as asked.
#[derive(Debug, thiserror::Error)]
pub enum TuningError {
    /// A setting is out of its bounds.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A change of low rank does not fit the model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model that begins from nothing.
    #[error("`{0}` tunes a trained model, but the run begins from nothing: name a base model")]
    NoBase(&'static str),
    /// Groups that the method decides.
    #[error("`{0}` decides which parameters are trained: leave out `training.groups`")]
    Groups(&'static str),
    /// A setting of another method, which would change nothing.
    #[error("`{setting}` is for the method {methods}, and the method is {method}: leave it out")]
    Unused {
        /// The setting, as a recipe writes it.
        setting: &'static str,
        /// The methods that have a use for it.
        methods: &'static str,
        /// The method that was chosen.
        method: &'static str,
    },
    /// Gradual unfreezing of what stays frozen.
    #[error("gradual unfreezing trains the whole model: leave it out, or tune with `full`")]
    Unfreeze,
    /// Gradual unfreezing without epochs.
    #[error("gradual unfreezing adds a block with each epoch: give the budget in epochs")]
    Epochs,
    /// Layers in a model that has some.
    #[error(
        "the base model has adapter layers already, of width {0}: train them with `full` and \
         `training.groups`, or begin with the model that they were added to"
    )]
    HasAdapters(usize),
    /// A pattern that names an embedding that is a head too.
    #[error(
        "`{pattern}` names `{name}`, which is the model's head too: a change of the embedding alone \
         is for models whose head is not tied to it"
    )]
    Tied {
        /// The pattern as it was given.
        pattern: String,
        /// Name of the embedding that it matches.
        name: String,
    },
    /// A pattern that names no matrix.
    #[error(
        "`{pattern}` matches no matrix that can have a change of low rank: names look like \
         `{example}`, and `*` matches any characters"
    )]
    NoTarget {
        /// The pattern.
        pattern: String,
        /// A matrix of the model.
        example: String,
    },
}

/// The settings that a tuned model is trained with.
pub(crate) struct Tuned {
    /// The run's settings, with the method's groups and schedule.
    pub(crate) settings: Settings,
    /// The base model, where an adapter is trained.
    pub(crate) base: Option<Base>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            method: Method::Full,
            unfreeze: Unfreeze::AtOnce,
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: Vec::new(),
            adalora: RankSettings::default(),
            adapter_width: 32,
        }
    }
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 5] = [Self::Full, Self::Frozen, Self::Lora, Self::AdaLora, Self::Adapter];

    /// Whether what is trained is saved as an adapter, without the base model.
    pub fn makes_adapter(self) -> bool {
        matches!(self, Self::Lora | Self::AdaLora | Self::Adapter)
    }

    /// Whether matrices get changes of low rank.
    pub fn changes_matrices(self) -> bool {
        matches!(self, Self::Lora | Self::AdaLora)
    }

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Frozen => "frozen",
            Self::Lora => "lora",
            Self::AdaLora => "adalora",
            Self::Adapter => "adapter",
        }
    }
}

impl Tuning {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first setting that is out of its bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refused = |name, value: String, allowed| Err(SettingsError { name, value, allowed });
        if self.rank == 0 {
            return refused("tuning.rank", "0".into(), "at least 1");
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return refused("tuning.alpha", self.alpha.to_string(), "above 0");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let allowed = "at least 0 and less than 1";
            return refused("tuning.dropout", self.dropout.to_string(), allowed);
        }
        if self.adapter_width == 0 {
            return refused("tuning.adapter_width", "0".into(), "at least 1");
        }
        self.ranks().check()
    }

    /// The first setting that differs from its default and that the method has no use for, as a
    /// recipe writes it, and the methods that it is for.
    fn unused(&self) -> Option<(&'static str, &'static str)> {
        let usual = Self::default();
        let of_changes = !self.method.changes_matrices();
        let of_ranks = self.method != Method::AdaLora;
        let of_layers = self.method != Method::Adapter;
        let (changes, ranks) = ("lora or adalora", "adalora");
        let settings = [
            ("tuning.rank", changes, of_changes && self.rank != usual.rank),
            ("tuning.alpha", changes, of_changes && self.alpha != usual.alpha),
            ("tuning.dropout", changes, of_changes && self.dropout != usual.dropout),
            ("tuning.targets", changes, of_changes && self.targets != usual.targets),
            ("tuning.adalora", ranks, of_ranks && self.adalora != usual.adalora),
            (
                "tuning.adapter_width",
                "adapter",
                of_layers && self.adapter_width != usual.adapter_width,
            ),
        ];
        let found = settings.into_iter().find(|(.., is_unused)| *is_unused);
        found.map(|(name, methods, _)| (name, methods))
    }

    /// Takes another method. Settings of the old one that the new one has no use for are forgotten.
    pub fn choose(&mut self, method: Method) {
        let Self { method: _, unfreeze, rank, alpha, dropout, targets, adapter_width, adalora } =
            std::mem::take(self);
        *self = Self { method, unfreeze, ..Self::default() };
        if method.changes_matrices() {
            (self.rank, self.alpha, self.dropout, self.targets) = (rank, alpha, dropout, targets);
        }
        match method {
            Method::AdaLora => self.adalora = adalora,
            Method::Adapter => self.adapter_width = adapter_width,
            _ => {}
        }
    }

    /// The ranks of `adalora`.
    fn ranks(&self) -> RankBudget {
        RankBudget { mean: self.rank, settings: self.adalora }
    }

    /// Checks the tuning against the rest of a recipe.
    ///
    /// # Errors
    /// A method without a base model, beside groups, or beside a budget that it cannot have.
    pub(crate) fn check_beside(
        &self,
        has_base: bool,
        settings: &Settings,
    ) -> Result<(), TuningError> {
        let gradual = self.unfreeze == Unfreeze::Gradual;
        let name = if gradual { "gradual" } else { self.method.name() };
        if let Some((setting, methods)) = self.unused() {
            let method = self.method.name();
            return Err(TuningError::Unused { setting, methods, method });
        }
        if self.method == Method::Full && !gradual {
            return Ok(());
        }
        if gradual && self.method != Method::Full {
            return Err(TuningError::Unfreeze);
        }
        if !has_base {
            return Err(TuningError::NoBase(name));
        }
        if !settings.groups.is_empty() {
            return Err(TuningError::Groups(name));
        }
        match settings.budget {
            Budget::Epochs(_) => Ok(()),
            _ if gradual => Err(TuningError::Epochs),
            _ => Ok(()),
        }
    }

    /// The configuration of the model that is tuned, whose base model has `config`.
    ///
    /// # Errors
    /// [`TuningError::HasAdapters`] where adapter layers are to be added to some.
    pub(crate) fn config(&self, config: Config) -> Result<Config, TuningError> {
        match (self.method, config.adapters) {
            (Method::Adapter, Some(width)) => Err(TuningError::HasAdapters(width)),
            (Method::Adapter, None) => Ok(Config { adapters: Some(self.adapter_width), ..config }),
            _ => Ok(config),
        }
    }

    /// Prepares a model that was begun with `base`, whose `own` parameters the base model lacks.
    ///
    /// # Errors
    /// A tuning that cannot be, or a change that does not fit a matrix.
    pub(crate) fn apply(
        &self,
        model: &mut Model,
        base: Option<Base>,
        settings: &Settings,
    ) -> Result<Tuned, TuningError> {
        self.check()?;
        self.check_beside(base.is_some(), settings)?;
        let mut settings = settings.clone();
        let Some(base) = base else { return Ok(Tuned { settings, base: None }) };
        match (self.method, self.unfreeze) {
            (Method::Full, Unfreeze::AtOnce) => Ok(Tuned { settings, base: None }),
            (Method::Full, Unfreeze::Gradual) => {
                let epochs = match settings.budget {
                    Budget::Epochs(epochs) => epochs,
                    _ => 1.0,
                };
                settings.groups = layers(model, epochs);
                if settings.schedule == Schedule::default() {
                    settings.schedule = Schedule::SlantedTriangular(SlantedTriangular::default());
                    // The schedule has a rise of its own.
                    settings.warmup = 0;
                }
                Ok(Tuned { settings, base: None })
            }
            (Method::Frozen, _) => {
                settings.groups = only(base.own);
                Ok(Tuned { settings, base: None })
            }
            (Method::Lora | Method::AdaLora, _) => {
                settings.ranks = (self.method == Method::AdaLora).then(|| self.ranks());
                settings.groups = self.add_changes(model, &base.own, settings.seed)?;
                Ok(Tuned { settings, base: Some(base) })
            }
            (Method::Adapter, _) => {
                // The norms are the base's too, with other values.
                let norms = model.weights.iter().filter(|parameter| is_of_norm(&parameter.name));
                let norms = norms.map(|parameter| parameter.name.clone());
                let own: BTreeSet<String> = base.own.iter().cloned().chain(norms).collect();
                let own: Vec<String> = own.into_iter().collect();
                settings.groups = only(own.clone());
                Ok(Tuned { settings, base: Some(Base { own, ..base }) })
            }
        }
    }

    /// Gives a model's matrices changes of low rank; the groups in which those and the `own`
    /// parameters alone are trained. The first values are drawn from `seed`.
    ///
    /// # Errors
    /// A target that names no matrix, or a matrix that is too small for the rank.
    pub fn add_changes(
        &self,
        model: &mut Model,
        own: &[String],
        seed: u64,
    ) -> Result<Vec<GroupSettings>, TuningError> {
        let between = |parameter: &&Parameter| parameter.hidden_matrices() > 0;
        let large =
            |parameter: &&Parameter| parameter.matrix().into_iter().min() >= Some(SMALLEST_TARGET);
        let names = |found: Vec<&Parameter>| -> Vec<String> {
            found.into_iter().map(|parameter| parameter.name.clone()).collect()
        };
        // The library's changes with singular values are of matrices alone.
        let changed = |parameter: &&Parameter| {
            parameter.can_be_changed() && !(parameter.is_table() && self.method == Method::AdaLora)
        };
        let all = names(model.weights.iter().filter(changed).collect());
        let wanted = if self.targets.is_empty() {
            names(model.weights.iter().filter(between).filter(large).collect())
        } else {
            let unmatched = |pattern: &&String| !all.iter().any(|name| matches(pattern, name));
            if let Some(pattern) = self.targets.iter().find(unmatched) {
                let tied = |p: &&Parameter| p.is_tied() && matches(pattern, &p.name);
                if let Some(Parameter { name, .. }) = model.weights.iter().find(tied) {
                    let (pattern, name) = (pattern.clone(), name.clone());
                    return Err(TuningError::Tied { pattern, name });
                }
                let example = all.last().cloned().unwrap_or_default();
                return Err(TuningError::NoTarget { pattern: pattern.clone(), example });
            }
            let named = |name: &String| self.targets.iter().any(|target| matches(target, name));
            all.into_iter().filter(named).collect()
        };
        let Self { alpha, dropout, .. } = *self;
        let (rank, form, factors) = match self.method {
            Method::AdaLora => {
                let rank = self.adalora.initial(self.rank);
                (rank, LowRankForm::Singular, &["*.lora_a", "*.lora_b", "*.lora_e"][..])
            }
            _ => (self.rank, LowRankForm::Product, &["*.lora_a", "*.lora_b"][..]),
        };
        let settings = LowRankSettings { rank, form, alpha, dropout, seed };
        model.add_low_rank(settings, |name| wanted.iter().any(|wanted| wanted == name))?;
        let factors = factors.iter().map(|&pattern| pattern.to_owned());
        Ok(only(factors.chain(own.iter().cloned()).collect()))
    }
}

/// Whether ranks are chosen as they are without being told.
fn is_usual(settings: &RankSettings) -> bool {
    *settings == RankSettings::default()
}

/// Whether a parameter belongs to a norm.
fn is_of_norm(name: &str) -> bool {
    name.rsplit('.').nth(1).is_some_and(|layer| layer.ends_with("norm"))
}

/// Whether a parameter belongs to an adapter layer.
pub(crate) fn is_of_adapter(name: &str) -> bool {
    name.rsplit('.').nth(2) == Some("adapter")
}

/// Everything frozen but some parameters.
fn only(parameters: Vec<String>) -> Vec<GroupSettings> {
    let mut groups = vec![GroupSettings::frozen("*")];
    if !parameters.is_empty() {
        groups.push(GroupSettings { parameters, ..GroupSettings::default() });
    }
    groups
}

/// A group for each block from the last to the first, and one for the embedding and an encoder: each
/// begins an epoch later and learns more slowly than the one above it. The head and the last norm
/// are in no group: they are trained from the first step on. In fewer epochs than there are groups,
/// the groups begin evenly over the run, so that each is trained.
fn layers(model: &Model, epochs: f64) -> Vec<GroupSettings> {
    let blocks = model.config().blocks.len();
    let step = (1.0 / epochs).min(1.0 / (blocks + 2) as f64);
    let group = |depth: usize, parameters: Vec<String>| GroupSettings {
        parameters,
        rate: RATE_OF_LOWER.powi(-(depth as i32)),
        from: depth as f64 * step,
        ..GroupSettings::default()
    };
    let stacks: &[&str] = match model.config().stacks {
        Stacks::Forward => &[""],
        Stacks::Bicausal => &["", "backward."],
    };
    let names = |index: usize| stacks.iter().map(move |stack| format!("{stack}blocks.{index}.*"));
    let block = |depth: usize| group(depth, names(blocks - depth).collect());
    let tables = ["embedding.weight", "positions.weight"].map(str::to_owned).into_iter();
    let has = |name: &String| model.weights.iter().any(|parameter| parameter.name == *name);
    let encoder = model.config().encoder.as_ref().map(|_| "encoder.*".to_owned());
    let mut groups: Vec<GroupSettings> = (1..=blocks).map(block).collect();
    groups.push(group(blocks + 1, tables.filter(has).chain(encoder).collect()));
    groups
}

#[cfg(test)]
mod tests;
