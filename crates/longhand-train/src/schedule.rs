//! How the learning rate moves over a run.

use serde::{Deserialize, Serialize};

use crate::bounds::{SettingsError, bound, positive, share};

/// The learning rate, as a share of its highest value, by how much of the budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Schedule {
    /// The highest rate throughout the run.
    Constant(Constant),
    /// Half a cosine from 1 down (Loshchilov and Hutter, "SGDR", 2017).
    Cosine(Cosine),
    /// Up, then down to almost nothing (Smith and Topin, "Super-convergence", 2018).
    OneCycle(OneCycle),
    /// A short straight rise, then a long straight fall (Howard and Ruder, "Universal language
    /// model fine-tuning for text classification", 2018, equation 3).
    SlantedTriangular(SlantedTriangular),
    /// Lowered each time the validation loss has stopped to fall.
    Plateau(Plateau),
}

/// The highest rate throughout the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Constant {}

/// Half a cosine from 1 to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// The last share (0.03).
    pub end: f64,
}

/// Half a cosine from `start` up to 1, another one down to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// The first share (0.04).
    pub start: f64,
    /// How much of the budget the rise takes (0.3).
    pub rise: f64,
    /// The last share (0.0001).
    pub end: f64,
}

/// Multiplied by `factor` after `patience` evaluations without a better score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// Factor of the rate at each plateau (0.25).
    pub factor: f64,
    /// Evaluations without a better score before that (1).
    pub patience: u32,
    /// The least share (0.0001).
    pub end: f64,
}

/// From `1 / ratio` straight up to 1, and straight down again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlantedTriangular {
    /// Share of the budget that the rise takes (0.1).
    pub cut: f64,
    /// The highest rate divided by the lowest, at least 1 (32).
    pub ratio: f64,
}

impl Default for SlantedTriangular {
    fn default() -> Self {
        Self { cut: 0.1, ratio: 32.0 }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Cosine(Cosine::default())
    }
}

impl Default for Cosine {
    fn default() -> Self {
        Self { end: 0.03 }
    }
}

impl Default for OneCycle {
    fn default() -> Self {
        Self { start: 0.04, rise: 0.3, end: 1e-4 }
    }
}

impl Default for Plateau {
    fn default() -> Self {
        Self { factor: 0.25, patience: 1, end: 1e-4 }
    }
}

impl Schedule {
    /// The share of the highest rate when `spent` (0 to 1) of the budget is spent and the
    /// validation loss has stopped to fall `plateaus` times.
    pub fn share(&self, spent: f64, plateaus: u32) -> f64 {
        let spent = spent.clamp(0.0, 1.0);
        match *self {
            Schedule::Constant(_) => 1.0,
            Schedule::Cosine(Cosine { end }) => half_cosine(1.0, end, spent),
            Schedule::OneCycle(OneCycle { start, rise, end }) => {
                if spent < rise {
                    half_cosine(start, 1.0, spent / rise)
                } else {
                    half_cosine(1.0, end, (spent - rise) / (1.0 - rise))
                }
            }
            Schedule::SlantedTriangular(SlantedTriangular { cut, ratio }) => {
                let height =
                    if spent < cut { spent / cut } else { 1.0 - (spent - cut) / (1.0 - cut) };
                (1.0 + height * (ratio - 1.0)) / ratio
            }
            Schedule::Plateau(Plateau { factor, end, .. }) => {
                factor.powf(f64::from(plateaus)).max(end)
            }
        }
    }

    /// How much of the rate `step` (from 0) has when it first rises from zero over `warmup` steps,
    /// or over a tenth of the budget if that is shorter.
    pub fn warmup(step: u64, warmup: u64, spent: f64) -> f64 {
        let risen = (step + 1) as f64 / warmup.max(1) as f64;
        risen.max(10.0 * spent).min(1.0)
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        match *self {
            Schedule::Constant(_) => Ok(()),
            Schedule::Cosine(Cosine { end }) => share("schedule.end", end),
            Schedule::OneCycle(OneCycle { start, rise, end }) => {
                share("schedule.start", start)?;
                share("schedule.rise", rise)?;
                share("schedule.end", end)
            }
            Schedule::SlantedTriangular(SlantedTriangular { cut, ratio }) => {
                share("schedule.cut", cut)?;
                bound("schedule.ratio", ratio, ratio >= 1.0, "at least 1")
            }
            Schedule::Plateau(Plateau { factor, patience, end }) => {
                positive("schedule.factor", factor)?;
                share("schedule.factor", factor)?;
                positive("schedule.patience", f64::from(patience))?;
                share("schedule.end", end)
            }
        }
    }
}

fn half_cosine(from: f64, to: f64, at: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * at).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_schedule_goes_through_its_ends() {
        let check = |schedule: Schedule, at: f64, plateaus, expected: f64| {
            let got = schedule.share(at, plateaus);
            assert!((got - expected).abs() < 1e-12, "{schedule:?} at {at}: {got}");
        };
        let cosine = Schedule::default();
        check(cosine, 0.0, 0, 1.0);
        check(cosine, 0.5, 0, 0.515);
        check(cosine, 1.0, 0, 0.03);
        check(cosine, 2.0, 0, 0.03);
        let cycle = Schedule::OneCycle(OneCycle::default());
        check(cycle, 0.0, 0, 0.04);
        check(cycle, 0.3, 0, 1.0);
        check(cycle, 1.0, 0, 1e-4);
        let slanted = Schedule::SlantedTriangular(SlantedTriangular::default());
        check(slanted, 0.0, 0, 1.0 / 32.0);
        check(slanted, 0.05, 0, (1.0 + 0.5 * 31.0) / 32.0);
        check(slanted, 0.1, 0, 1.0);
        check(slanted, 0.55, 0, (1.0 + 0.5 * 31.0) / 32.0);
        check(slanted, 1.0, 0, 1.0 / 32.0);
        let plateau = Schedule::Plateau(Plateau::default());
        check(plateau, 0.7, 0, 1.0);
        check(plateau, 0.7, 2, 0.0625);
        check(plateau, 0.7, 50, 1e-4);
        check(Schedule::Constant(Constant {}), 0.9, 3, 1.0);
    }

    #[test]
    fn warm_up_ends_after_its_steps_or_a_tenth_of_the_budget() {
        assert_eq!(Schedule::warmup(0, 100, 0.0), 0.01);
        assert_eq!(Schedule::warmup(99, 100, 0.0), 1.0);
        assert_eq!(Schedule::warmup(1, 100, 0.05), 0.5);
        assert_eq!(Schedule::warmup(1, 100, 0.1), 1.0);
        assert_eq!(Schedule::warmup(0, 0, 0.0), 1.0);
    }
}
