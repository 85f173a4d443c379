//! Answers that are written: searched for, or drawn, behind each sequence's prompt, many sequences at a
//! time.

use std::time::Instant;

use longhand_engine::search::{LengthPenalty, MostTokens, SearchSettings, search_beside};
use longhand_engine::{EngineError, Neighbours, SearchError};
use longhand_model::{Model, Tape};
use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;

use crate::error::TaskError;
use crate::search::{Pace, Prompt, SearchOptions};
use crate::task::{Ranked, Task};

/// Sequences that are searched for between two looks at whether to stop.
const SENTENCES: usize = 128;

/// The network that writes.
pub(crate) struct Writer<'a> {
    pub(crate) model: &'a Model,
    pub(crate) tape: &'a mut Tape,
    pub(crate) tokenizer: &'a Tokenizer,
    /// What its probabilities are mixed with.
    pub(crate) neighbours: Option<&'a mut Neighbours>,
}

/// Writes an answer to each sequence. Sequences of similar prompts are searched together. `told`
/// hears the share that is done, 0 to 1.
pub(crate) fn write<T: Task, E: From<TaskError>>(
    task: &T,
    writer: Writer<'_>,
    items: &[&LabelledIds<T::Target>],
    mut told: impl FnMut(f64) -> Result<(), E>,
) -> Result<(Vec<T::Answer>, Pace), E> {
    let Some(options) = task.search() else { return Ok((Vec::new(), Pace::default())) };
    let Writer { model, tape, tokenizer, mut neighbours } = writer;
    let settings = settings(task, options, model, tokenizer)?;
    let packed = options.sampler.map(|_| packed(model));
    let model = packed.as_ref().unwrap_or(model);
    let began = Instant::now();
    let mut order: Vec<usize> = (0..items.len()).collect();
    let size = |item: &LabelledIds<T::Target>| {
        let Prompt { source, prefix, .. } = task.prompt(item);
        source.map_or(0, <[u32]>::len) + prefix.len()
    };
    order.sort_by_key(|&place| size(items[place]));
    let mut answers: Vec<Option<T::Answer>> = vec![None; items.len()];
    let mut pace = Pace::default();
    let mut done = 0;
    for places in order.chunks(SENTENCES) {
        let prompts: Vec<Prompt<'_>> =
            places.iter().map(|&place| task.prompt(items[place])).collect();
        let found = search_beside(model, tape, neighbours.as_deref_mut(), &prompts, &settings)
            .map_err(|error| match error {
                // A search counts the prompts that it was given.
                EngineError::Search(SearchError::Rules { prompt, fault }) => {
                    let (name, example) = ("the examples".into(), places[prompt] + 1);
                    TaskError::NoAnswer { name, example, fault }
                }
                error => error.into(),
            })?;
        for (&place, hypotheses) in places.iter().zip(&found) {
            pace.tokens += hypotheses.first().map_or(0, |best| best.log_probabilities.len());
            answers[place] = Some(task.written(tokenizer, items[place], hypotheses)?);
        }
        done += places.len();
        told(done as f64 / items.len() as f64)?;
    }
    pace.seconds = began.elapsed().as_secs_f64();
    Ok((answers.into_iter().flatten().collect(), pace))
}

/// A copy that is laid out for reading: its logits of a row have the same bits whatever is read beside it,
/// so that what is drawn does not depend on the other examples.
fn packed(model: &Model) -> Model {
    let mut packed = model.clone();
    packed.pack();
    packed
}

/// The texts to give of those that were written. A search gives each once: groups of a beam find the same
/// text more than once. How often a text is drawn says how probable it is, so that all of them are given.
pub(crate) fn to_give(texts: Vec<Ranked>, options: &SearchOptions) -> Vec<Ranked> {
    if options.sampler.is_some() {
        return texts;
    }
    let most = options.hypotheses.get();
    let mut kept: Vec<Ranked> = Vec::with_capacity(texts.len());
    for ranked in texts {
        if kept.len() < most && kept.iter().all(|other| other.text != ranked.text) {
            kept.push(ranked);
        }
    }
    kept
}

/// The settings of the engine's search.
fn settings<T: Task>(
    task: &T,
    options: &SearchOptions,
    model: &Model,
    tokenizer: &Tokenizer,
) -> Result<SearchSettings, TaskError> {
    let ends = task.ends(tokenizer)?;
    if options.replace_unknown && !task.reads_sources() {
        return Err(TaskError::NoAlignment);
    }
    let encoder = model.config().encoder.as_ref();
    if options.replace_unknown && encoder.is_some_and(|encoder| encoder.sentences.is_some()) {
        return Err(TaskError::SentencesAligned);
    }
    if options.replace_unknown && tokenizer.unknown_id().is_none() {
        return Err(TaskError::NoUnknown(tokenizer.kind()));
    }
    let unknown = tokenizer.unknown_id();
    let special = tokenizer.special_tokens().iter().map(|(_, id)| id);
    let never = special.filter(|id| Some(*id) != unknown).chain(tokenizer.document_end_id());
    let never = never.chain(unknown.filter(|_| !options.replace_unknown));
    let maximum = options.maximum.unwrap_or_else(|| task.most_written()).get();
    if options.minimum > maximum {
        return Err(TaskError::Setting {
            task: T::NAME,
            key: "minimum".into(),
            value: options.minimum.to_string(),
            reason: format!("an answer has at most {maximum} tokens"),
        });
    }
    let length_penalty = match options.length_penalty {
        0.0 => LengthPenalty::None,
        alpha => LengthPenalty::Power(alpha),
    };
    Ok(SearchSettings {
        beam: options.beam.get(),
        // Texts that several groups found are left out of the list, and others take their places.
        hypotheses: match options.groups.get() > 1 && options.hypotheses.get() > 1 {
            true if options.sampler.is_none() => options.beam.get(),
            _ => options.hypotheses.get(),
        },
        length_penalty,
        coverage_penalty: options.coverage_penalty,
        align: options.replace_unknown,
        groups: options.groups.get(),
        diversity: options.diversity,
        patience: options.patience,
        no_repeat: options.no_repeat,
        // The end counts among the most tokens, and comes behind the fewest.
        minimum: options.minimum.min(maximum - 1),
        maximum: MostTokens { tokens: maximum, per_token: 0.0 },
        forbidden: never.filter(|id| !ends.contains(id)).collect(),
        ends,
        constraint: options.constraint.clone(),
        sampler: options.sampler,
        ..SearchSettings::default()
    })
}
