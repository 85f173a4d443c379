//! Cross-attention as a layer: a decoder's block reads what the encoder gave, in the same pass or as
//! it was kept (Vaswani et al., "Attention is all you need", 2017, section 3.2.3).

use longhand_kernel::attention::cross::Sizes;

use crate::config::CrossAttention;
use crate::source::Source;
use crate::tape::{Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Weights};

/// Queries from the block's rows, keys and values from the source's, and a projection to the
/// width of the block.
pub(crate) struct Cross {
    sizes: Sizes,
    /// Its place among the layers of this kind, whose keys and values a source keeps in order.
    place: usize,
    query: ParameterId,
    key_value: ParameterId,
    output: ParameterId,
}

/// The sources that a pass reads.
#[derive(Clone, Copy)]
pub(crate) enum Across<'a> {
    /// The encoder's output in the same pass.
    Rows(Var),
    /// Keys and values that were kept.
    Kept(&'a Source),
}

impl Cross {
    /// A layer between blocks of `width`, whose output adds to the residual stream; `depth` keeps
    /// the scale of the sum of all such outputs.
    pub(crate) fn new(
        config: &CrossAttention,
        place: usize,
        prefix: &str,
        width: usize,
        depth: f32,
        builder: &mut Builder,
    ) -> Self {
        let CrossAttention { heads, kv_heads, head_width, source_width } = *config;
        let inner = heads * head_width;
        let mut add = |name: &str, shape: [usize; 2], share: f32| {
            let init = Init::Normal(share / (shape[1] as f32).sqrt());
            builder.add(format!("{prefix}.cross.{name}.weight"), &shape, init)
        };
        Self {
            sizes: Sizes { heads, groups: kv_heads, width: head_width },
            place,
            query: add("query", [inner, width], 0.5),
            key_value: add("key_value", [2 * kv_heads * head_width, source_width], 0.5),
            output: add("output", [width, inner], 0.5 / depth),
        }
    }

    pub(crate) fn run(
        &self,
        tape: &mut Tape,
        weights: &Weights,
        x: Var,
        source: Across<'_>,
    ) -> Var {
        let queries = tape.linear(weights, &[x], self.query, None);
        let y = match source {
            Across::Rows(rows) => {
                let keys_values = self.keys_values(tape, weights, rows);
                tape.cross_attention(self.sizes, queries, keys_values)
            }
            Across::Kept(source) => {
                tape.kept_cross_attention(self.sizes, queries, source, self.place)
            }
        };
        tape.linear(weights, &[y], self.output, None)
    }

    /// `[S·B, 2·G·K]`: keys and values of the encoder's rows.
    pub(crate) fn keys_values(&self, tape: &mut Tape, weights: &Weights, rows: Var) -> Var {
        tape.linear(weights, &[rows], self.key_value, None)
    }
}
