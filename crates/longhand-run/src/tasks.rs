//! A task from a recipe: examples → tokeniser → model → training → test.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use longhand_model::{Cpu, Model};
use longhand_tasks::Network;
use longhand_tasks::baseline::Learning;
use longhand_tasks::examples::Fold;
use longhand_tasks::predictor::Trained;

use longhand_tasks::ensemble::Exponents;
use longhand_tasks::task::{Calibrates, Reading};
use longhand_tasks::{
    Baseline, BaselineSettings, Data, Ensemble, Examples, Files, Listed, Measured, TASK_FILE, Task,
    TaskError, TaskFile, TaskObjective, VisitSettings, evaluate, plain, start,
};
use longhand_text::batch::LabelledIds;
use longhand_text::corpus::vectors::WordVectors;
use longhand_text::tokenizer::{TokenizerChoice, TrainingSettings, Writing};
use longhand_text::{TOKENIZER_FILE, Tokenizer, TokenizerKind};
use longhand_train::End;

use crate::base;
use crate::error::RunError;
use crate::execute::{Ended, Place, Prepared, Test};
use crate::finished::Finished;
use crate::output::{self, Ready};
use crate::pretrained::{self, Begun, Body, Documents, Part};
use crate::recipe::{self, Recipe};
use crate::rehearsal::{self, Old};
use crate::training::{DataFacts, LabelCounts, PartFacts, Training};
use crate::vectors;
use crate::watch::{DataSize, Preparation, Watch};

/// A run of a recipe that names a task.
pub(crate) struct TaskRun<'a> {
    pub(crate) recipe: Recipe,
    pub(crate) place: &'a Place<'a>,
    pub(crate) cpu: &'a Arc<Cpu>,
    pub(crate) watch: &'a mut dyn Watch,
}

impl VisitSettings for TaskRun<'_> {
    type Output = Result<Finished, RunError>;

    fn visit<T: Listed>(self, task: &T::Settings) -> Result<Finished, RunError> {
        let since = Instant::now();
        let Self { mut recipe, place, cpu, watch } = self;
        let settings = recipe.training.clone();
        if recipe.data.train.is_empty() {
            return Err(RunError::NoExamples);
        }
        let examples = Examples::<T>::read(task, &files(&recipe), settings.seed)?;
        let trained = base::read(&mut recipe)?;
        base::keep(&recipe, place.out)?;
        pretrained::check(&recipe)?;
        let Ready { begun, lock: _lock } = output::prepare(place.out, place.existing)?;
        let tokenizer = match &trained {
            _ if begun => Tokenizer::of_folder(place.out)?,
            Some((_, tokenizer)) => tokenizer.clone(),
            None => train_tokenizer(&mut recipe, &examples, watch)?,
        };
        let read = Encoded::of(&recipe, examples, &tokenizer)?;
        let vectors = vectors::read(&mut recipe, &tokenizer, begun, watch)?;
        let old_text = rehearsal::read(&recipe, &tokenizer, place.out, watch)?;
        let (vectors, facts) = (vectors.as_ref(), &read.facts);
        let before =
            Before { recipe: &recipe, tokenizer: &tokenizer, facts, vectors, place, begun };
        let texts = || read.documents();
        let (trained, since) = match before.body(trained, texts, cpu, watch)? {
            Start::Given(trained) => (*trained, since),
            Start::Pretrained(model) => (Some((*model, tokenizer.clone())), Instant::now()),
            Start::Stopped(finished) => return Ok(*finished),
        };
        let begun = before.resumes();
        let Encoded { meaning, counts, notes, beside, data, facts } = read;
        let Data { train, train_examples, valid, test, cut, unknown } = data;
        let (mut model, own) =
            model(&recipe, (&meaning, task), (trained.as_ref(), vectors), &tokenizer, watch)?;
        let base_model = trained.as_ref().map(|(model, _)| model);
        let old = Old::new(old_text.as_ref(), &recipe, base_model, &tokenizer)?;
        let base = base::named(&recipe, place.out, trained.as_ref(), own);
        let tuned = recipe.tuning.apply(&mut model, base, &settings)?;
        let size = DataSize::Examples {
            train: train_examples,
            valid: valid.len(),
            test: test.len(),
            counts: &counts,
            notes: &notes,
            unknown: unknown as f64 / facts.train.tokens.max(1) as f64,
            vocabulary: tokenizer.vocab_size(),
            cut,
            longest: meaning.longest(),
        };
        let held_out = to_set_on::<T>(task, beside.is_some(), &valid)?;
        let objective = TaskObjective::new(meaning.clone(), &settings, &tokenizer, train, valid)?;
        let file: TaskFile = meaning.clone().into();
        let prepared = Prepared {
            training: Training::new(recipe, facts),
            tokenizer: &tokenizer,
            tuned,
            old,
            files: vec![(TASK_FILE, file.to_json())],
            data: size,
            write_sample: None,
            place,
            begun,
            since,
        };
        let after = After { meaning, beside, held_out, test: &test, tokenizer: &tokenizer, cpu };
        let mut ensemble = None;
        let after = |model: &Model| {
            let (test, together) = after.run(task, model, place.stop)?;
            ensemble = together;
            Ok(Some(test))
        };
        let Ended { training, model, end } = prepared.train(model, objective, cpu, watch, after)?;
        let (is_whole, prompt) = (true, None);
        let trained = Trained::Network(Box::new(Network { model, tokenizer, ensemble })).into();
        Ok(Finished { training, trained, end, is_whole, prompt, cpu: cpu.clone() })
    }
}

/// The examples of a run as ids, and what is known of them.
struct Encoded<T: Task> {
    meaning: T,
    /// The names of the answers with their numbers among the training examples.
    counts: Vec<(String, usize)>,
    /// Repairs to the training examples, each with the number of times it was made.
    notes: BTreeMap<String, usize>,
    /// What answers beside the network, if anything does.
    beside: Option<Beside<T>>,
    data: Data<T>,
    facts: DataFacts,
}

impl<T: Task> Encoded<T> {
    fn of(recipe: &Recipe, examples: Examples<T>, tokenizer: &Tokenizer) -> Result<Self, RunError> {
        let meaning = examples.task.clone();
        let counts = meaning.counts(&examples.train);
        let notes = examples.notes.clone();
        let beside = Beside::of(recipe, &examples)?;
        let bytes = [
            examples.texts().map(str::len).sum::<usize>() as u64,
            examples.held_out_texts().map(str::len).sum::<usize>() as u64,
        ];
        let data = Data::encode(examples, tokenizer)?;
        let facts = facts::<T>(recipe, &data.train, &data.valid, bytes)?;
        Ok(Self { meaning, counts, notes, beside, data, facts })
    }

    /// The texts that a body can be pretrained on.
    fn documents(&self) -> Documents {
        let bytes = |part: Option<&PartFacts>| part.map_or(0, |part| part.bytes);
        Documents {
            train: Part::of(self.data.train.iter(), self.facts.train.bytes),
            valid: Part::of(self.data.valid.items(), bytes(self.facts.valid.as_ref())),
        }
    }
}

/// A task's run before its model is there.
struct Before<'a> {
    recipe: &'a Recipe,
    tokenizer: &'a Tokenizer,
    facts: &'a DataFacts,
    /// Vectors that the embedding begins with (none).
    vectors: Option<&'a WordVectors>,
    place: &'a Place<'a>,
    /// Whether the folder holds a run to resume.
    begun: bool,
}

/// The weights that a task begins with.
enum Start {
    /// Those of the recipe's base model, if it names one.
    Given(Box<Option<(Model, Tokenizer)>>),
    /// Those of a body that the run pretrained.
    Pretrained(Box<Model>),
    /// The run was stopped while it pretrained the body.
    Stopped(Box<Finished>),
}

impl Before<'_> {
    /// Whether the learning of the task itself was begun.
    fn resumes(&self) -> bool {
        let learns = || self.place.out.join(output::CHECKPOINTS_FOLDER).is_dir();
        self.begun && (self.recipe.pretraining.is_none() || learns())
    }

    /// Pretrains the body where the recipe says so.
    fn body(
        &self,
        trained: Option<(Model, Tokenizer)>,
        texts: impl FnOnce() -> Documents,
        cpu: &Arc<Cpu>,
        watch: &mut dyn Watch,
    ) -> Result<Start, RunError> {
        let &Self { recipe, tokenizer, facts, vectors, place, begun } = self;
        let Some(pretraining) = &recipe.pretraining else {
            return Ok(Start::Given(Box::new(trained)));
        };
        if !begun {
            // From here on the folder holds this run: what stops the pretraining can be resumed.
            output::clear(place.out)?;
            output::clear_pretrained(place.out)?;
            tokenizer.save(&place.out.join(TOKENIZER_FILE))?;
            Training::new(recipe.clone(), facts.clone()).save(place.out)?;
        }
        let base = trained.as_ref().map(|(model, _)| model);
        let begun = Begun { recipe, pretraining, tokenizer, base, vectors, place, begun };
        let Body { model, stopped } = pretrained::body(&begun, texts(), cpu, watch)?;
        let Some(training) = stopped else { return Ok(Start::Pretrained(Box::new(model))) };
        let network = Network { model, tokenizer: tokenizer.clone(), ensemble: None };
        let trained = Trained::Network(Box::new(network)).into();
        let (end, is_whole, prompt) = (End::Stopped, false, None);
        let finished = Finished { training, trained, end, is_whole, prompt, cpu: cpu.clone() };
        Ok(Start::Stopped(Box::new(finished)))
    }
}

/// The work behind training: a baseline is trained to answer beside the network, the answers are
/// calibrated on the held-out examples, and the model is measured on the test files.
struct After<'a, T: Task> {
    meaning: T,
    /// What answers beside the network, if anything does.
    beside: Option<Beside<T>>,
    /// The examples that exponents and thresholds are set on; none where nothing is set.
    held_out: Option<Measured<T>>,
    test: &'a Measured<T>,
    tokenizer: &'a Tokenizer,
    cpu: &'a Arc<Cpu>,
}

impl<T: Listed> After<'_, T> {
    fn run(
        self,
        task: &T::Settings,
        model: &Model,
        stop: &AtomicBool,
    ) -> Result<(Test, Option<Ensemble>), RunError> {
        let Self { mut meaning, beside, held_out, test: examples, tokenizer, cpu } = self;
        let mut unheard = |_| Ok(());
        let mut watch = longhand_train::Watch::new(stop, &mut unheard);
        let mut test = Test::default();
        let mut ensemble = None;
        if let (Some(beside), Some(held_out)) = (&beside, &held_out) {
            let network = (model, tokenizer);
            let together = beside.fit(&meaning, network, held_out, cpu, &mut watch)?;
            let Exponents { network, baseline } = together.exponents();
            let figures = [("network_exponent", network), ("baseline_exponent", baseline)];
            test.calibration.extend(figures.map(|(name, value)| (name.to_owned(), value)));
            test.files.extend(together.files());
            ensemble = Some(together);
        }
        let network = (model, tokenizer, ensemble.as_ref());
        if let Some(held_out) = held_out.filter(|_| T::calibrates(task) != Calibrates::Never) {
            let first = meaning.clone();
            let answers = evaluate(&first, network, &held_out, cpu, &mut watch)?;
            test.calibration.extend(meaning.calibrate(task, &answers.scored()));
            let file: TaskFile = meaning.clone().into();
            test.files.push((TASK_FILE, file.to_json()));
        }
        if !examples.is_empty() {
            let result = evaluate(&meaning, network, examples, cpu, &mut watch)?;
            let counts = result.report().confusion;
            test.labels = counts.map(|(labels, counts)| LabelCounts { labels, counts });
            test.score = Some(result.score());
        }
        Ok((test, ensemble))
    }
}

/// A baseline that is to answer beside a network, and the examples that it learns from.
struct Beside<T: Task> {
    settings: BaselineSettings,
    train: Vec<T::Example>,
    seed: u64,
}

impl<T: Task> Beside<T> {
    /// What the recipe names; refused where no baseline does the task.
    fn of(recipe: &Recipe, examples: &Examples<T>) -> Result<Option<Self>, RunError> {
        let Some(settings) = recipe.ensemble.clone() else { return Ok(None) };
        plain::labelled(&examples.task, &examples.train)?;
        Ok(Some(Self { settings, train: examples.train.clone(), seed: recipe.training.seed }))
    }

    fn fit(
        &self,
        meaning: &T,
        network: (&Model, &Tokenizer),
        held_out: &Measured<T>,
        cpu: &Arc<Cpu>,
        watch: &mut longhand_train::Watch<'_>,
    ) -> Result<Ensemble, RunError> {
        let known = held_out.examples.iter().map(|known| known.example.clone());
        let valid: Vec<T::Example> = known.collect();
        let learning = Learning {
            classes: meaning.counts(&[]).len(),
            train: &plain::labelled(meaning, &self.train)?,
            valid: &plain::labelled(meaning, &valid)?,
            seed: self.seed,
            cpu,
        };
        let baseline = Baseline::fit(&self.settings, &learning, watch)?;
        Ok(Ensemble::fit(meaning, baseline, network, held_out, cpu)?)
    }
}

/// The examples to set exponents and thresholds on, if anything is set.
fn to_set_on<T: Task>(
    task: &T::Settings,
    ensemble: bool,
    valid: &Measured<T>,
) -> Result<Option<Measured<T>>, RunError> {
    let calibrates = if ensemble { Calibrates::Always } else { T::calibrates(task) };
    match calibrates {
        Calibrates::Always if valid.is_empty() => Err(TaskError::NothingHeldOut.into()),
        Calibrates::Always | Calibrates::IfHeldOut if !valid.is_empty() => Ok(Some(valid.clone())),
        _ => Ok(None),
    }
}

/// The untrained model, drawn at random, begun with word vectors or begun with a trained model, and
/// the names of the parameters that a trained model lacks.
fn model<T: Task>(
    recipe: &Recipe,
    (meaning, task): (&T, &T::Settings),
    (trained, vectors): (Option<&(Model, Tokenizer)>, Option<&WordVectors>),
    tokenizer: &Tokenizer,
    watch: &mut dyn Watch,
) -> Result<(Model, Vec<String>), RunError> {
    let config = recipe.model.config(tokenizer.vocab_size())?;
    let head = meaning.head(task, config.head());
    let kept = trained.map(|(trained, _)| rehearsal::kept(recipe, trained)).unwrap_or_default();
    let names: Vec<&str> = kept.iter().map(|head| head.name.as_str()).collect();
    let config = start::with_head(config, head);
    let config = meaning.body(start::with_further_heads(config, T::NAME, &kept));
    let seed = recipe.training.seed;
    let Some((trained, _)) = trained else {
        let mut model = start::fresh(config, tokenizer, seed)?;
        if let Some(vectors) = vectors {
            model.begin_with_vectors(vectors.iter());
        }
        return Ok((model, Vec::new()));
    };
    let config = recipe.tuning.config(config)?;
    let (model, drawn) = start::from_trained(config, trained, &names, seed)?;
    base::tell_drawn(&model, &drawn, watch)?;
    Ok((model, drawn))
}

/// Trains the recipe's tokeniser, or one of the kind that suits the text better, and adds the special
/// tokens of the task and of its pretraining.
fn train_tokenizer<T: Task>(
    recipe: &mut Recipe,
    examples: &Examples<T>,
    watch: &mut dyn Watch,
) -> Result<Tokenizer, RunError> {
    let wanted = &mut recipe.tokenizer;
    if std::mem::take(&mut wanted.may_change) {
        let choice = TokenizerChoice::new(wanted.kind, Writing::of(examples.texts()));
        if choice.kind != wanted.kind {
            watch.prepare(&Preparation::Chosen(choice));
        }
        wanted.kind = choice.kind;
    }
    let settings = TrainingSettings {
        kind: wanted.kind,
        vocabulary: wanted.vocabulary.or_else(|| match wanted.kind {
            kind @ (TokenizerKind::Word | TokenizerKind::Char) => {
                examples.task.vocabulary(kind, &examples.train)
            }
            _ => None,
        }),
        threads: NonZeroUsize::new(recipe.training.threads),
    };
    // Each text is a line of its own, so that no token reaches from one into the next.
    let line = |text: &str| Ok(format!("{text}\n"));
    let tokenizer = match settings.kind {
        TokenizerKind::Word => {
            Tokenizer::train_with(settings, examples.texts().map(line), &mut |_| {})?
        }
        _ => {
            let texts = examples.running_texts().map(|text| line(&text));
            Tokenizer::train_with(settings, texts, &mut |_| {})?
        }
    };
    let tokenizer = tokenizer.with_special_tokens(examples.task.special_tokens())?;
    Ok(match &recipe.pretraining {
        Some(pretraining) => pretraining.objective.prepare(tokenizer)?,
        None => tokenizer,
    })
}

/// The files of a recipe, and how they are read.
pub(crate) fn files(recipe: &Recipe) -> Files {
    let data = &recipe.data;
    let reading = Reading {
        text_column: data.text_column.clone(),
        format: data.format,
        header: data.header,
        lossy: data.lossy,
        ..Reading::default()
    };
    Files {
        train: data.train.clone(),
        valid: data.valid.clone(),
        test: data.test.clone(),
        valid_fraction: data.valid_fraction,
        fold: data.folds.zip(data.fold).map(|(of, number)| Fold { number, of }),
        shots: data.shots,
        further: recipe.self_training.as_ref().and_then(|settings| settings.labelled.clone()),
        distinct: data.distinct,
        reading,
    }
}

fn facts<T: Task>(
    recipe: &Recipe,
    train: &[LabelledIds<T::Target>],
    valid: &Measured<T>,
    [train_bytes, valid_bytes]: [u64; 2],
) -> Result<DataFacts, RunError> {
    let train = part::<T>(train.iter(), train_bytes);
    let valid = (!valid.is_empty()).then(|| part::<T>(valid.items(), valid_bytes));
    let mut facts = DataFacts { train, valid, ..DataFacts::default() };
    facts.sha256 = hashes(recipe)?;
    Ok(facts)
}

/// SHA-256 of each file of a recipe.
pub(crate) fn hashes(recipe: &Recipe) -> Result<BTreeMap<PathBuf, String>, RunError> {
    let files = [&recipe.data.train, &recipe.data.valid, &recipe.data.test];
    let unlabelled = recipe.self_training.iter().flat_map(|settings| &settings.unlabelled);
    // A pipe has been read, and its hash cannot be had again.
    let files = files.into_iter().flatten().chain(unlabelled).filter(|file| file.is_file());
    files.map(|file| Ok((file.clone(), recipe::sha256(file)?))).collect()
}

fn part<'a, T: Task>(
    items: impl Iterator<Item = &'a LabelledIds<T::Target>>,
    bytes: u64,
) -> PartFacts
where
    T::Target: 'a,
{
    let (mut hasher, mut tokens) = (blake3::Hasher::new(), 0);
    for item in items {
        tokens += item.ids.len() as u64;
        hasher.update(&(item.ids.len() as u64).to_le_bytes());
        for id in &item.ids {
            hasher.update(&id.to_le_bytes());
        }
        hasher.update(&T::target_bytes(&item.label));
    }
    PartFacts { tokens, bytes, blake3: hasher.finalize().to_hex().to_string() }
}
