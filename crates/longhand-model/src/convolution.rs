//! The convolution of a working memory, as a layer.

use longhand_kernel::Precision;
use longhand_kernel::convolution::Sizes;

use crate::config::Filters;
use crate::state::{State, StateId};
use crate::tape::{Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Weights};

/// Filters of several widths over the inputs around each position, and ReLU (Kim, 2014, section 2):
/// the outputs of all of them side by side.
pub(crate) struct Convolution {
    widths: Vec<OneWidth>,
}

/// The filters of one width.
struct OneWidth {
    sizes: Sizes,
    /// `[N, k·D]`: PyTorch's `[N, D, k]` with its last two axes exchanged.
    weight: ParameterId,
    bias: ParameterId,
    /// The last k−1 inputs; none where the future is seen, and where a window is one position.
    inputs: Option<StateId>,
}

impl Convolution {
    pub(crate) fn new(config: &Filters, prefix: &str, input: usize, builder: &mut Builder) -> Self {
        let Filters { filters, shortest, longest, bidirectional } = *config;
        let of_width = |kernel: usize| {
            let ahead = if bidirectional { kernel / 2 } else { 0 };
            let sizes = Sizes { width: input, kernel, ahead };
            let name = format!("{prefix}.convolution.{kernel}");
            // As large as what goes in, behind ReLU (He et al., "Delving deep into rectifiers",
            // 2015, equation 10).
            let init = Init::Normal((2.0 / sizes.window() as f32).sqrt());
            let shape = [filters, sizes.window()];
            let weight = builder.add(format!("{name}.weight"), &shape, init);
            let bias = builder.add(format!("{name}.bias"), &[filters], Init::Zeros);
            let shape = [sizes.behind(), input];
            let carries = !bidirectional && kernel > 1;
            let inputs =
                carries.then(|| builder.carry(format!("{name}.inputs"), &shape, Precision::F32));
            OneWidth { sizes, weight, bias, inputs }
        };
        Self { widths: (shortest..=longest).map(of_width).collect() }
    }

    pub(crate) fn run(&self, tape: &mut Tape, weights: &Weights, x: Var, state: &mut State) -> Var {
        let of_width = |layer: &OneWidth| {
            let windows = match layer.inputs {
                Some(inputs) => tape.windows_with_state(layer.sizes, x, state, inputs),
                None => tape.windows(layer.sizes, x),
            };
            tape.linear(weights, &[windows], layer.weight, Some(layer.bias))
        };
        let all: Vec<Var> = self.widths.iter().map(of_width).collect();
        let joined = all.into_iter().reduce(|all, one| tape.join(all, one)).unwrap_or(x);
        tape.relu(joined)
    }
}
