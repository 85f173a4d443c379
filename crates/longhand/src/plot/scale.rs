//! From values to pixels, and the round numbers at an axis.

/// A linear map from values to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) from: (f64, f64),
    pub(super) to: (f32, f32),
}

impl Scale {
    pub(super) fn pixel(&self, value: f64) -> f32 {
        let share = (value - self.from.0) / (self.from.1 - self.from.0);
        self.to.0 + (self.to.1 - self.to.0) * share as f32
    }

    /// Round values within the range, about `wanted` of them, each with its text.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let (least, greatest) = self.from;
        let step = round_step((greatest - least) / wanted.max(1) as f64);
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let first = (least / step).ceil() as i64;
        let last = (greatest / step).floor() as i64;
        let text = |value: f64| match value {
            0.0 => "0".to_owned(),
            _ if step >= 1e6 => format!("{value:e}"),
            _ => format!("{value:.decimals$}"),
        };
        (first..=last).map(|i| i as f64 * step).map(|value| (value, text(value))).collect()
    }
}

/// The least and greatest finite value, widened where they are equal.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (least, greatest) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(value), b.max(value)));
    if least > greatest {
        return None;
    }
    // Wide enough that neighbouring ticks are different numbers.
    let room = 1e-9 * least.abs().max(greatest.abs()).max(1e-3);
    Some(if greatest - least > room {
        (least, greatest)
    } else {
        let half = if least == 0.0 { 0.5 } else { least.abs() * 0.05 };
        (least - half, greatest + half)
    })
}

/// The least of 1, 2, 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}
