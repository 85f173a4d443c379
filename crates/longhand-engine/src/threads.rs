//! How many threads decode a single stream fastest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longhand_model::Cpu;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::sampler::SamplerSettings;

/// With more weights than this, in bytes, all threads are taken and nothing is measured: a step
/// takes so long there that a second thread pays for its waiting, and measuring would be felt.
const LARGEST: usize = 4 << 20;
/// Decode steps of one timing.
const STEPS: usize = 16;
/// How often each processor is timed. The least time counts.
const ROUNDS: usize = 4;

/// The processor that decodes one stream of this engine faster: `all`, or one thread alone. Small
/// models lose more by waiting for a second thread than they gain by it. The difference depends on
/// the machine, so a few milliseconds of decode steps are timed. Both choices give the same tokens.
///
/// # Errors
/// None that a checked engine has.
pub fn faster_to_decode(engine: &Arc<Engine>, all: &Arc<Cpu>) -> Result<Arc<Cpu>, EngineError> {
    // An n-gram model looks its few numbers up in one thread.
    let large = engine.model().network().is_ok_and(|model| model.weights.bytes() > LARGEST);
    if all.threads() == 1 || large {
        return Ok(all.clone());
    }
    let one = Arc::new(Cpu::with(1, all.level(), all.precision()));
    let mut readers = [engine.reader(all), engine.reader(&one)];
    let mut least = [Duration::MAX; 2];
    let mut session = engine.session(SamplerSettings::greedy())?;
    for _ in 0..ROUNDS {
        for (reader, least) in readers.iter_mut().zip(&mut least) {
            let began = Instant::now();
            for _ in 0..STEPS {
                session.step(reader, 0)?;
            }
            *least = began.elapsed().min(*least);
        }
    }
    Ok(if least[1] < least[0] { one } else { all.clone() })
}

#[cfg(test)]
mod tests {
    use longhand_model::Preset;

    use super::*;
    use crate::testing::{cpu, engine};

    #[test]
    fn either_processor_writes_the_same() {
        let (engine, cpu) = (engine(Preset::LonghandNano, 1), cpu());
        let faster = faster_to_decode(&engine, &cpu).unwrap();
        assert!([1, cpu.threads()].contains(&faster.threads()));
        let write = |cpu: &Arc<Cpu>| {
            let mut reader = engine.reader(cpu);
            let mut session = engine.session(SamplerSettings::default()).unwrap();
            session.read(&mut reader, &[1]).unwrap();
            for _ in 0..50 {
                let id = session.sample().unwrap();
                session.step(&mut reader, id).unwrap();
            }
            session.logits().to_vec()
        };
        assert_eq!(write(&Arc::new(Cpu::new(1))), write(&cpu));
    }
}
