//! A training step allocates nothing once every buffer has been taken for the first time.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longhand_model::{Cpu, Model, Precision, Preset};
use longhand_text::Tokens;
use longhand_train::log::LogError;
use longhand_train::progress::{Event, Progress};
use longhand_train::{Budget, LanguageModelling, Settings, Trainer};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts what any thread allocates.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Steps in a row without any allocation that show that nothing is left to take.
const QUIET: usize = 5;
/// Steps after which every thread has met every piece of work.
const MOST_STEPS: u64 = 300;

/// Counts the allocations from step to step, and ends the run when there are none.
struct Watch<'a> {
    last: usize,
    of_steps: Vec<usize>,
    quiet: &'a AtomicBool,
}

/// Allocations of this process so far.
fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

impl Progress for Watch<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        if let Event::Step(_) = event {
            let now = allocations();
            self.of_steps.push(now - self.last);
            self.last = now;
            if self.of_steps.iter().rev().take_while(|&&count| count == 0).count() == QUIET {
                self.quiet.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[test]
fn a_training_step_allocates_nothing_after_the_first_ones() {
    let tokens: Vec<u32> = (0..40_000u32).map(|i| i.wrapping_mul(2_654_435_761) >> 26).collect();
    let tokens = Arc::new(Tokens::from_ids(tokens, Vec::new(), 64).unwrap());
    for preset in [Preset::LonghandNano, Preset::Lstm] {
        for (threads, precision) in [(1, Precision::F32), (2, Precision::F32), (2, Precision::Bf16)]
        {
            let settings = Settings {
                batch: 4,
                chunk: 16,
                budget: Budget::Steps(MOST_STEPS),
                ..Settings::default()
            };
            let objective = LanguageModelling::new(&settings, tokens.clone(), None).unwrap();
            let model = Model::new(preset.config(64), 1).unwrap();
            let cpu = Arc::new(Cpu::with_precision(threads, precision));
            let trainer = Trainer::new(settings, model, objective, cpu).unwrap();
            let quiet = AtomicBool::new(false);
            let of_steps = Vec::with_capacity(2 * MOST_STEPS as usize);
            let mut watch = Watch { last: allocations(), of_steps, quiet: &quiet };
            trainer.run(&mut watch, &quiet).unwrap();
            let counts = &watch.of_steps;
            assert!(
                quiet.load(Ordering::Relaxed),
                "{preset} on {threads} threads, {precision}: {:?}",
                &counts[counts.len().saturating_sub(20)..]
            );
        }
    }
}
