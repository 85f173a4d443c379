//! Writes a folder of event files with every kind of value, for `scripts/check_tensorboard.py`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::Path;

use longhand_train::log::EventWriter;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: tensorboard_sample FOLDER")?;
    let folder = Path::new(&folder);
    // Two files, as a run that was killed after step 99 and resumed from step 50 leaves them.
    for (first, last) in [(0, 99), (50, 199)] {
        let mut events = EventWriter::create(folder)?;
        if first > 0 {
            events.restart(first)?;
        }
        for step in first..=last {
            let time = 1_700_000_000.0 + step as f64;
            let loss = 4.0 / (1.0 + step as f32 / 20.0);
            events.scalar("train/loss", step, time, loss)?;
            if step % 25 == 0 {
                events.scalar("valid/loss", step, time, loss + 0.1)?;
                let gates: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0 * loss).collect();
                events.histogram("gates/forget", step, &gates)?;
                events.text(
                    "sample",
                    step,
                    "Ann carries the lamp to the harbour. 安把灯带到港口。",
                )?;
            }
        }
    }
    Ok(())
}
