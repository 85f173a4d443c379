//! What the program does, done on this machine: operations, training, a session through a file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use longhand_engine::{Cpu, Engine, SamplerSettings, Snapshot};
use longhand_kernel::self_test::{Comparison, compare};
use longhand_model::{Model, Preset, Sequence, Targets, split_mix64};
use longhand_text::Tokenizer;
use longhand_train::settings::{AdamWSettings, OptimizerSettings};
use longhand_train::{Learner, Part, Plan};

use super::check::Check;
use crate::error::sentence;

/// Steps that the training takes.
const STEPS: usize = 20;
/// Streams, and tokens of each, in one step.
const BATCH: usize = 4;
const TIME: usize = 32;
/// Tokens that a session reads before it goes through a file: more than an attention's window.
const READ: usize = 600;
/// Tokens that both sessions read on.
const FURTHER: usize = 32;
/// How long decode steps are timed.
const TIMED: Duration = Duration::from_millis(800);
/// What to do about a machine that computes something else.
const FAULTY: &str = "Report it with this output; until then set --threads 1 and trust no result.";

/// Every fast operation against its plain form, on every instruction set of this machine.
pub(crate) fn kernels(threads: usize) -> Check {
    let all = compare(threads);
    let wrong: Vec<String> = all.iter().filter(|it| !it.holds()).map(describe).collect();
    let most = all.iter().map(|it| it.error).fold(0.0, f64::max);
    match wrong.is_empty() {
        true => Check::well(
            "operations",
            format!("{} agree with their references, to {most:.0e}", all.len()),
        ),
        false => Check::wrong("operations", wrong.join("; "), FAULTY),
    }
}

fn describe(it: &Comparison) -> String {
    let (set, precision) = (it.set.name(), it.precision.name());
    format!("{} by {set} in {precision} is off by {:.1e}", it.operation, it.error)
}

/// Some steps of training: the loss must fall.
pub(crate) fn training(cpu: &Arc<Cpu>) -> Check {
    match train(cpu) {
        Ok([first, last]) => Check::well(
            "training",
            format!("the loss falls from {first:.2} to {last:.2} in {STEPS} steps"),
        ),
        Err(error) => Check::wrong("training", sentence(&error), FAULTY),
    }
}

/// The first and the last loss of a small model that learns one batch by heart.
fn train(cpu: &Arc<Cpu>) -> Result<[f64; 2]> {
    let vocabulary = 97;
    let model = Model::new(Preset::LonghandNano.config(vocabulary), 1)?;
    let mut learner =
        Learner::new(model, OptimizerSettings::AdamW(AdamWSettings::default()), cpu.clone())?;
    let ids = ids(vocabulary, BATCH * (TIME + 1));
    let plan = Plan { rate: 3e-3, clip: 1.0, batches: 1, seed: 1 };
    let mut losses = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        let mut state = learner.model().state(BATCH);
        let step = learner.step(plan, |mut pass| {
            let read = &ids[..BATCH * TIME];
            let x = pass.forward(read, &Sequence::new(TIME, BATCH), &mut state)?;
            let total = pass.loss(x, Targets::Tokens(&ids[BATCH..]), 0.0)?;
            Ok(Part::of(total, read.len() as u64))
        })?;
        losses.push(step.part.mean());
    }
    let (first, last) = (losses[0], losses[STEPS - 1]);
    ensure!(last < first - 0.1, "the loss goes from {first:.3} to {last:.3} and does not fall");
    Ok([first, last])
}

/// A session that goes through a file, beside one that does not: both go on with the same bits.
pub(crate) fn snapshot(engine: Option<&Arc<Engine>>, cpu: &Arc<Cpu>) -> Check {
    match resume(engine, cpu) {
        Ok(bytes) => Check::well(
            "snapshot",
            format!("a session of {bytes} bytes goes on bit for bit after {READ} tokens"),
        ),
        Err(error) => Check::wrong("snapshot", sentence(&error), FAULTY),
    }
}

fn resume(engine: Option<&Arc<Engine>>, cpu: &Arc<Cpu>) -> Result<usize> {
    let engine = engine.map_or_else(untrained, |engine| Ok(engine.clone()))?;
    let mut reader = engine.reader(cpu);
    let ids = ids(engine.model().vocab_size(), READ + FURTHER);
    let mut session = engine.session(SamplerSettings::default())?;
    session.read(&mut reader, &ids[..READ])?;
    let file = tempfile::NamedTempFile::new().context("no temporary file can be made")?;
    Snapshot::of(&session).save(file.path())?;
    let bytes = fs_err::metadata(file.path())?.len() as usize;
    let mut resumed = Snapshot::load(file.path())?.session(&engine)?;
    for (place, &id) in ids[READ..].iter().enumerate() {
        session.step(&mut reader, id)?;
        resumed.step(&mut reader, id)?;
        let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(session.logits()) != bits(resumed.logits()) {
            bail!("a session from a file differs {} tokens later", place + 1);
        }
    }
    Ok(bytes)
}

/// How fast one stream is decoded. It is told, and judged by nobody.
pub(crate) fn speed(engine: Option<&Arc<Engine>>, cpu: &Arc<Cpu>) -> Check {
    let told = |(tokens, of)| format!("{tokens:.0} tokens a second in one stream of {of}");
    match decode_speed(engine, cpu) {
        Ok(found) => Check::well("speed", told(found)),
        Err(error) => Check::wrong("speed", sentence(&error), FAULTY),
    }
}

fn decode_speed(engine: Option<&Arc<Engine>>, cpu: &Arc<Cpu>) -> Result<(f64, &'static str)> {
    let of = if engine.is_some() { "this model" } else { "longhand-nano" };
    let engine = engine.map_or_else(untrained, |engine| Ok(engine.clone()))?;
    let mut reader = engine.reader(cpu);
    let mut session = engine.session(SamplerSettings::greedy())?;
    let (began, mut steps) = (Instant::now(), 0);
    while began.elapsed() < TIMED {
        session.step(&mut reader, 0)?;
        steps += 1;
    }
    Ok((f64::from(steps) / began.elapsed().as_secs_f64(), of))
}

/// A small model with random weights, which reads bytes.
fn untrained() -> Result<Arc<Engine>> {
    let tokenizer = Tokenizer::byte()?;
    let model = Model::new(Preset::LonghandNano.config(tokenizer.vocab_size()), 1)?;
    Ok(Engine::new(model, tokenizer)?)
}

/// Ids that look like no text, the same each time.
fn ids(vocabulary: usize, count: usize) -> Vec<u32> {
    let size = vocabulary.max(1) as u64;
    (0..count as u64).map(|i| (split_mix64(i) % size) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn this_machine_is_well() {
        let cpu = Arc::new(Cpu::new(2));
        for check in [kernels(2), training(&cpu), snapshot(None, &cpu), speed(None, &cpu)] {
            assert_eq!(check.verdict, Verdict::Well, "{check:?}");
        }
    }
}
