//! Adapter layers: small bottlenecks that are trained in the layers of a frozen body.

use crate::tape::{Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Weights};

/// y = x + W₂·silu(W₁·x + b₁) + b₂ with W₁ `[A, D]` and W₂ `[D, A]` (Houlsby et al.,
/// "Parameter-efficient transfer learning for NLP", 2019, section 2.1). W₂ begins near zero, so
/// that the layer is at first nearly the identity.
pub(crate) struct Bottleneck {
    down: Linear,
    up: Linear,
}

#[derive(Clone, Copy)]
struct Linear {
    weight: ParameterId,
    bias: ParameterId,
}

/// Deviation of W₂'s first values.
const NEAR_ZERO: f32 = 1e-3;

impl Bottleneck {
    /// Lays out an adapter of `inner` units for rows of `width`, in the layer of a name.
    pub(crate) fn new(layer: &str, width: usize, inner: usize, builder: &mut Builder) -> Self {
        let mut linear = |part: &str, [rows, columns]: [usize; 2], init| {
            let name = format!("{layer}.adapter.{part}");
            let weight = builder.add(format!("{name}.weight"), &[rows, columns], init);
            Linear { weight, bias: builder.add(format!("{name}.bias"), &[rows], Init::Zeros) }
        };
        let down = linear("down", [inner, width], Init::Normal(1.0 / (width as f32).sqrt()));
        Self { down, up: linear("up", [width, inner], Init::Normal(NEAR_ZERO)) }
    }

    pub(crate) fn run(&self, tape: &mut Tape, weights: &Weights, x: Var) -> Var {
        let Self { down, up } = self;
        let inner = tape.linear(weights, &[x], down.weight, Some(down.bias));
        let inner = tape.modulate(inner, inner);
        let y = tape.linear(weights, &[inner], up.weight, Some(up.bias));
        tape.add(x, y)
    }
}
