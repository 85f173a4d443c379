//! A task from a recipe: examples → tokeniser → model → training → test.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use longhand_model::config::{HeadConfig, HeadKind};
use longhand_model::{Cpu, Model, Precision};
use longhand_tasks::Network;
use longhand_tasks::examples::Fold;
use longhand_tasks::predictor::Trained;

use longhand_tasks::ensemble::member_folder;
use longhand_tasks::task::Reading;
use longhand_tasks::{
    Data, Examples, Files, Listed, Measured, TASK_FILE, Task, TaskFile, TaskObjective,
    VisitSettings, start,
};
use longhand_text::batch::LabelledIds;
use longhand_text::corpus::vectors::WordVectors;
use longhand_text::tokenizer::{TokenizerChoice, TrainingSettings, Writing};
use longhand_text::{TOKENIZER_FILE, Tokenizer, TokenizerKind};
use longhand_train::End;

use crate::after::{After, Beside, to_set_on};
use crate::base;
use crate::error::RunError;
use crate::execute::{Ended, Place, Prepared, Test};
use crate::finished::Finished;
use crate::members;
use crate::output::{self, Existing, Ready};
use crate::pretrained::{self, Begun, Body, Documents, Part};
use crate::recipe::{self, Recipe};
use crate::rehearsal::{self, Old};
use crate::text_data::OldText;
use crate::training::{DataFacts, PartFacts, Training};
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
        check::<T>(&recipe)?;
        let mut examples = Examples::<T>::read(task, &files(&recipe), recipe.training.seed)?;
        let trained = base::read(&mut recipe)?;
        base::keep(&recipe, place.out)?;
        pretrained::check(&recipe)?;
        let Ready { begun, lock: _lock } = output::prepare(place.out, place.existing)?;
        if begun && Training::load(place.out)?.recipe.members != recipe.members {
            return Err(RunError::Changed { what: "number of networks" });
        }
        let earlier = begun.then_some(place.out);
        let tokenizer = tokenizer(&mut recipe, &examples, (earlier, trained.as_ref()), watch)?;
        begin_task(&recipe, &mut examples, &tokenizer)?;
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
        let size = data_size(&meaning, &data, (&counts, &notes), &facts, &tokenizer);
        let learner = Learner {
            recipe: &recipe,
            task: (&meaning, task),
            trained: trained.as_ref(),
            vectors,
            old_text: old_text.as_ref(),
            tokenizer: &tokenizer,
            facts: &facts,
            size,
            place,
            cpu,
        };
        learner.run(data, beside, (begun, since), watch)
    }
}

/// The size of a run's data, for whoever watches.
fn data_size<'a, T: Task>(
    meaning: &T,
    data: &Data<T>,
    (counts, notes): (&'a [(String, usize)], &'a BTreeMap<String, usize>),
    facts: &DataFacts,
    tokenizer: &Tokenizer,
) -> DataSize<'a> {
    DataSize::Examples {
        train: data.train_examples,
        valid: data.valid.len(),
        test: data.test.len(),
        counts,
        notes,
        unknown: data.unknown as f64 / facts.train.tokens.max(1) as f64,
        vocabulary: tokenizer.vocab_size(),
        cut: data.cut,
        longest: meaning.longest(),
        cut_targets: data.cut_targets(),
        longest_target: meaning.most_written().get(),
    }
}

/// Tells the task of its base model, or of the tokeniser of its sources where they have one.
fn begin_task<T: Task>(
    recipe: &Recipe,
    examples: &mut Examples<T>,
    tokenizer: &Tokenizer,
) -> Result<(), RunError> {
    if let Some(base) = &recipe.model.base {
        return Ok(examples.task.begin_with(&base.path, tokenizer)?);
    }
    // A run that is resumed trains the same one again, from the same texts.
    if let Some(sources) = source_tokenizer(recipe, examples)? {
        examples.task.read_sources_with(sources);
    }
    Ok(())
}

/// Refuses a recipe without examples, and several networks for a task whose answers a search writes.
fn check<T: Task>(recipe: &Recipe) -> Result<(), RunError> {
    if recipe.data.train.is_empty() {
        return Err(RunError::NoExamples);
    }
    match T::WRITES && !members::further(recipe).is_empty() {
        true => Err(RunError::MembersWrite(T::NAME)),
        false => Ok(()),
    }
}

/// The tokeniser of the run in a folder that is resumed, that of the base model, or a new one.
fn tokenizer<T: Task>(
    recipe: &mut Recipe,
    examples: &Examples<T>,
    (earlier, base): (Option<&Path>, Option<&(Model, Tokenizer)>),
    watch: &mut dyn Watch,
) -> Result<Tokenizer, RunError> {
    match (earlier, base) {
        (Some(folder), _) => Ok(Tokenizer::of_folder(folder)?),
        (None, Some((_, tokenizer))) => Ok(tokenizer.clone()),
        (None, None) => train_tokenizer(recipe, examples, watch),
    }
}

/// A run that was stopped before the first network of its folder learnt the task.
fn stopped_before(
    training: Training,
    model: Model,
    tokenizer: Tokenizer,
    cpu: &Arc<Cpu>,
) -> Finished {
    let trained = Trained::Network(Box::new(Network { model, tokenizer, ensemble: None })).into();
    let (end, is_whole, prompt) = (End::Stopped, false, None);
    Finished { training, trained, end, is_whole, prompt, cpu: cpu.clone() }
}

/// What each network of a run learns from.
struct Learner<'a, T: Task> {
    recipe: &'a Recipe,
    /// The meaning of the answers, and the task's settings.
    task: (&'a T, &'a T::Settings),
    /// The model that the networks begin with (none).
    trained: Option<&'a (Model, Tokenizer)>,
    /// Vectors that the embedding begins with (none).
    vectors: Option<&'a WordVectors>,
    old_text: Option<&'a OldText>,
    tokenizer: &'a Tokenizer,
    facts: &'a DataFacts,
    size: DataSize<'a>,
    place: &'a Place<'a>,
    cpu: &'a Arc<Cpu>,
}

/// Sequences to learn from, and examples to validate on.
type Parts<T> = (Vec<LabelledIds<<T as Task>::Target>>, Measured<T>);

impl<T: Listed> Learner<'_, T> {
    /// Whether one network answers.
    fn alone(&self) -> bool {
        members::further(self.recipe).is_empty()
    }

    /// Trains the networks of a run, puts together what answers, and tests it.
    fn run(
        &self,
        data: Data<T>,
        beside: Option<Beside<T>>,
        (begun, since): (bool, Instant),
        watch: &mut dyn Watch,
    ) -> Result<Finished, RunError> {
        let Data { train, valid, test, .. } = data;
        let &Self { recipe, task: (meaning, task), tokenizer, place, cpu, .. } = self;
        // What lacks a held-out part is refused before it learns.
        let held_out = to_set_on::<T>(task, beside.is_some(), !self.alone(), &valid)?;
        // A saved model answers in f32. So it is tested, and what follows from its answers is set.
        let exact = match cpu.precision() {
            Precision::F32 => cpu.clone(),
            Precision::Bf16 => Arc::new(Cpu::new(cpu.threads())),
        };
        let after = || After::new(meaning.clone(), &test, tokenizer, &exact);
        let mut further = Vec::new();
        for number in members::further(recipe) {
            let data = (train.clone(), valid.clone());
            let ended = self.further(number, data, after(), watch)?;
            if ended.end == End::Stopped {
                return Ok(stopped_before(ended.training, ended.model, tokenizer.clone(), cpu));
            }
            further.push(ended);
        }
        let after = After { beside, held_out, further, ..after() };
        let mut ensemble = None;
        let after = |model: &Model| {
            let (test, together) = after.run(task, model, place.stop)?;
            ensemble = together;
            Ok(Some(test))
        };
        let since = if self.alone() { since } else { Instant::now() };
        let run = (place, begun, since);
        let ended = self.learn(recipe.clone(), run, (train, valid), watch, after)?;
        let Ended { training, model, end } = ended;
        let is_whole = end != End::Stopped || self.alone();
        let network = Network { model, tokenizer: tokenizer.clone(), ensemble };
        let trained = Trained::Network(Box::new(network)).into();
        Ok(Finished { training, trained, end, is_whole, prompt: None, cpu: cpu.clone() })
    }

    /// Trains a further network, or goes on with it, in its own folder.
    fn further(
        &self,
        number: NonZeroUsize,
        data: Parts<T>,
        after: After<'_, T>,
        watch: &mut dyn Watch,
    ) -> Result<Ended, RunError> {
        let Place { out, stop, .. } = *self.place;
        let folder = member_folder(out, number.get());
        // The folder of another run was cleared: what it holds now is this one's.
        let place = Place { out: &folder, existing: Existing::Resume, stop };
        let Ready { begun, lock: _lock } = output::prepare(place.out, place.existing)?;
        let recipe = members::recipe_of(self.recipe, number);
        let test = |model: &Model| Ok(Some(after.run(self.task.1, model, stop)?.0));
        self.learn(recipe, (&place, begun, Instant::now()), data, watch, test)
    }

    /// Trains one network by the recipe in a folder, or goes on with it.
    fn learn(
        &self,
        recipe: Recipe,
        (place, begun, since): (&Place<'_>, bool, Instant),
        (train, valid): Parts<T>,
        watch: &mut dyn Watch,
        after: impl FnOnce(&Model) -> Result<Option<Test>, RunError>,
    ) -> Result<Ended, RunError> {
        let &Self { task, trained, vectors, tokenizer, facts, size, cpu, .. } = self;
        let settings = members::settings(&recipe);
        let begin = (trained, vectors, settings.seed);
        let (mut model, own) = model(&recipe, task, begin, tokenizer, watch)?;
        let has_crf = matches!(model.config().head(), Some(HeadKind::Tags { crf: true, .. }));
        if has_crf && settings.label_smoothing > 0.0 {
            return Err(RunError::SmoothedCrf);
        }
        let base_model = trained.map(|(model, _)| model);
        let old = Old::new(self.old_text, &recipe, base_model, tokenizer)?;
        let base = base::named(&recipe, self.place.out, trained, own);
        let tuned = recipe.tuning.apply(&mut model, base, &settings)?;
        let (meaning, _) = task;
        let objective = TaskObjective::new(meaning.clone(), &settings, tokenizer, train, valid)?;
        let file: TaskFile = meaning.clone().into();
        let mut files = meaning.files(tokenizer)?;
        files.push((TASK_FILE, file.to_json()));
        let prepared = Prepared {
            training: Training::new(recipe, facts.clone()),
            tokenizer,
            tuned,
            old,
            files,
            data: size,
            write_sample: None,
            place,
            begun,
            since,
        };
        prepared.train(model, objective, cpu, watch, after)
    }
}

/// The examples of a run as ids, and what is known of them.
struct Encoded<T: Task> {
    meaning: T,
    /// The names of the answers with their numbers among the training examples.
    counts: Vec<(String, usize)>,
    /// Repairs to the examples, each with the number of times it was made.
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
        let train = self.data.train.iter().flat_map(T::documents);
        let valid = self.data.valid.items().flat_map(T::documents);
        Documents {
            train: Part::of(train, self.facts.train.bytes),
            valid: Part::of(valid, bytes(self.facts.valid.as_ref())),
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
    /// Whether the first network of the folder has begun to learn the task.
    fn resumes(&self) -> bool {
        let learns = || self.place.out.join(output::CHECKPOINTS_FOLDER).is_dir();
        let comes_first = self.recipe.pretraining.is_none();
        self.begun && (comes_first && members::further(self.recipe).is_empty() || learns())
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
        let is_more = recipe.pretraining.is_some() || !members::further(recipe).is_empty();
        if !begun && is_more {
            // From here on the folder holds this run: what comes before the learning of its own
            // network can be resumed.
            output::clear(place.out)?;
            output::clear_inner(place.out)?;
            tokenizer.save(&place.out.join(TOKENIZER_FILE))?;
            Training::new(recipe.clone(), facts.clone()).save(place.out)?;
        }
        let Some(pretraining) = &recipe.pretraining else {
            return Ok(Start::Given(Box::new(trained)));
        };
        let base = trained.as_ref().map(|(model, _)| model);
        let begun = Begun { recipe, pretraining, tokenizer, base, vectors, place, begun };
        let Body { model, stopped } = pretrained::body(&begun, texts(), cpu, watch)?;
        let Some(training) = stopped else { return Ok(Start::Pretrained(Box::new(model))) };
        Ok(Start::Stopped(Box::new(stopped_before(training, model, tokenizer.clone(), cpu))))
    }
}

/// The untrained model, drawn at random, begun with word vectors or begun with a trained model,
/// and the names of the parameters that are the task's own: a trained model lacks them, or they
/// are of the head.
fn model<T: Task>(
    recipe: &Recipe,
    (meaning, task): (&T, &T::Settings),
    (trained, vectors, seed): (Option<&(Model, Tokenizer)>, Option<&WordVectors>, u64),
    tokenizer: &Tokenizer,
    watch: &mut dyn Watch,
) -> Result<(Model, Vec<String>), RunError> {
    let config = recipe.model.config(tokenizer.vocab_size())?;
    let head = meaning.head(task, config.head());
    let kept = trained.map(|(trained, _)| rehearsal::kept(recipe, trained)).unwrap_or_default();
    let config = start::with_head(config, head);
    let config = meaning.body(start::with_further_heads(config, T::NAME, &kept), tokenizer);
    match (meaning.reads_sources(), config.encoder.is_some()) {
        (true, false) => return Err(RunError::NoEncoder),
        (false, true) => return Err(RunError::Encoder),
        _ => {}
    }
    let Some((trained, _)) = trained else {
        let mut model = start::fresh(config, tokenizer, seed)?;
        if let Some(vectors) = vectors {
            model.begin_with_vectors(vectors.iter());
        }
        return Ok((model, Vec::new()));
    };
    let config = recipe.tuning.config(config)?;
    // The answers of a language model are tokens, which stay what they are from task to task.
    let writes = |head: &&HeadConfig| matches!(head.kind, HeadKind::LanguageModel { .. });
    let own = config.heads.first().filter(writes).map(|head| head.name.clone());
    let further = kept.iter().map(|head| head.name.as_str());
    let names: Vec<&str> = further.chain(own.as_deref()).collect();
    let (model, mut tasks_own) = start::from_trained(config, trained, &names, seed)?;
    base::tell_drawn(&model, &tasks_own, watch)?;
    if let (Some(_), Some(head)) = (own, model.heads().first()) {
        let names = model.weights.iter().map(|parameter| &parameter.name);
        let of_head = names.filter(|name| head.owns(name));
        let taken_over: Vec<String> =
            of_head.filter(|name| !tasks_own.contains(name)).cloned().collect();
        tasks_own.extend(taken_over);
    }
    Ok((model, tasks_own))
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
    let settings = tokenizer_settings(recipe, examples);
    if let Some(targets) = apart(settings, examples, 1)? {
        return Ok(targets);
    }
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
    let tokenizer = tokenizer.with_special_tokens(&examples.task.special_tokens())?;
    Ok(match &recipe.pretraining {
        Some(pretraining) => pretraining.objective.prepare(tokenizer)?,
        None => tokenizer,
    })
}

/// How a recipe's tokeniser is trained.
fn tokenizer_settings<T: Task>(recipe: &Recipe, examples: &Examples<T>) -> TrainingSettings {
    let wanted = &recipe.tokenizer;
    TrainingSettings {
        kind: wanted.kind,
        vocabulary: wanted.vocabulary.or_else(|| match wanted.kind {
            kind @ (TokenizerKind::Word | TokenizerKind::Char) => {
                examples.task.vocabulary(kind, &examples.train)
            }
            _ => None,
        }),
        threads: NonZeroUsize::new(recipe.training.threads),
    }
}

/// The tokeniser of the sources, where they have one of their own.
fn source_tokenizer<T: Task>(
    recipe: &Recipe,
    examples: &Examples<T>,
) -> Result<Option<Tokenizer>, RunError> {
    apart(tokenizer_settings(recipe, examples), examples, 0)
}

/// The tokeniser of one side of the examples, 0 for the sources; none where one tokeniser reads both.
fn apart<T: Task>(
    settings: TrainingSettings,
    examples: &Examples<T>,
    side: usize,
) -> Result<Option<Tokenizer>, RunError> {
    let Examples { task, train, .. } = examples;
    if train.first().is_none_or(|first| task.apart(first).is_none()) {
        return Ok(None);
    }
    // A word has the same token at the beginning of a text as within it.
    let before = if settings.kind == TokenizerKind::Word { "" } else { " " };
    let sides = train.iter().filter_map(|example| task.apart(example));
    let texts = sides.flat_map(|sides| sides.into_iter().nth(side).unwrap_or_default());
    let lines = texts.map(|text| Ok(format!("{before}{text}\n")));
    let tokenizer = Tokenizer::train_with(settings, lines, &mut |_| {})?;
    Ok(Some(tokenizer.with_special_tokens(&task.special_tokens())?))
}

/// The files of a recipe, and how they are read.
pub(crate) fn files(recipe: &Recipe) -> Files {
    let data = &recipe.data;
    let reading = Reading {
        text_column: data.text_column.clone(),
        format: data.format,
        header: data.header,
        lossy: data.lossy,
        targets: data.targets.clone(),
        ..Reading::default()
    };
    Files {
        train: data.train.clone(),
        valid: data.valid.clone(),
        test: data.test.clone(),
        valid_fraction: data.valid_fraction,
        test_fraction: data.test_fraction,
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
    let files = recipe.data.files();
    let unlabelled = recipe.self_training.iter().flat_map(|settings| &settings.unlabelled);
    // A pipe has been read, and its hash cannot be had again.
    let files = files.chain(unlabelled).filter(|file| file.is_file());
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
