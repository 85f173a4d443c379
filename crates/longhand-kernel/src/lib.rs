//! Numeric operations for language models, forward and backward, with a plain reference
//! beside each fast form.
//!
//! One file holds one operation. Its fast form works on `f32` slices. Unless the operation only
//! moves or adds elements, a `reference` module holds the plain form, generic over [`Real`] (`f32`
//! and `f64`). Tests check the reference by central differences, and the fast form against the
//! reference. The recurrent cells ([`lstm`], [`slstm`], [`rnn`]) are equations; [`recurrence`]
//! runs all of them.
//!
//! Letters of dimensions, for the whole project: B batch, T time, D model width, H heads, K head
//! width, V vocabulary, W attention window, L layers, N hidden units of a recurrent cell.
//! Activations are row-major with rows in time-major order: row `t * B + b`.
//!
//! The path of a call:
//! 1. [`Cpu`] holds the threads, the instruction set chosen at run time, and reusable buffers.
//! 2. [`Call`] adds the sizes of a layer and the [`Sequence`] that it reads.
//! 3. [`gemm`] multiplies matrices; [`simd`] holds the vector forms of `exp`, `tanh` and σ.
//! 4. The memories, norms, fusions and losses are built on these.
//!
//! An LSTM of 2 hidden units reads 3 positions of width 1, then the gradient of its outputs flows
//! back to its inputs:
//!
//! ```
//! use longhand_kernel::recurrence::{self, CellKind, Gradients, Input, Kept, OutputGradients};
//! use longhand_kernel::recurrence::{Outputs, Sizes, WeightGradients, Weights};
//! use longhand_kernel::{Call, Cpu, Sequence};
//!
//! let cpu = Cpu::new(2);
//! let sizes = Sizes { cell: CellKind::Lstm, input: 1, hidden: 2, heads: 1 };
//! let sequence = Sequence::new(3, 1);
//! let call = Call::new(&cpu, sizes, &sequence);
//!
//! // 4 gates of 2 units, in PyTorch's layout.
//! let (input, recurrent, bias) = ([0.5; 8], [0.1; 16], [0.0; 8]);
//! let weights = Weights { input: &input, recurrent: &recurrent, biases: [&bias, &[]] };
//! let (x, empty) = ([1.0, -1.0, 2.0], [0.0; 2]);
//! let before: [&[f32]; 2] = [&empty, &empty];
//!
//! let (mut y, mut h, mut c) = ([0.0; 6], [0.0; 2], [0.0; 2]);
//! let mut saved = vec![0.0; recurrence::saved_len(sizes, &sequence)];
//! let next: &mut [&mut [f32]] = &mut [&mut h, &mut c];
//! let outputs = Outputs { y: &mut y, next, saved: Some(&mut saved) };
//! recurrence::forward(call, weights, Input::Rows(&x), &before, outputs);
//! assert_eq!(y[4..], h, "the hidden state is the last output");
//!
//! let mut d_x = [0.0; 3];
//! let gradients =
//!     Gradients { weights: WeightGradients::default(), x: Some(&mut d_x), state: None };
//! let kept = Kept { y: &y, saved: &mut saved };
//! let d = OutputGradients { y: &[1.0; 6], next: &[] };
//! recurrence::backward(call, weights, Input::Rows(&x), &before, kept, d, gradients);
//! assert!(d_x.iter().all(|d| d.is_finite() && *d != 0.0));
//! ```

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
#![allow(unsafe_code)]
// One index runs over several slices, and constants keep their published digits.
#![allow(clippy::needless_range_loop, clippy::excessive_precision)]

mod amx;
pub mod attention;
mod barrier;
pub mod buffer;
pub mod call;
pub mod candidates;
pub mod convolution;
pub mod cpu;
pub mod crf;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
mod gate;
pub mod gemm;
pub mod join;
mod lanes;
pub mod level;
pub mod linear;
pub mod loss;
pub mod low_rank;
pub mod lstm;
pub mod mlstm;
pub mod nearest;
pub mod norm;
mod operand;
pub mod optimizer;
pub mod perturbation;
mod pointwise;
pub mod pooling;
pub mod precision;
pub mod random;
pub mod real;
pub mod recurrence;
pub mod rnn;
mod scratch;
pub mod segments;
pub mod self_test;
pub mod sequence;
pub mod simd;
pub mod singular;
pub mod slstm;
mod small_product;
pub mod tanh_memory;
#[cfg(test)]
mod testing;
pub mod weights;

pub use buffer::{Buffer, Buffers};
pub use call::Call;
pub use cpu::{Cpu, Worker};
pub use gemm::{Matrix, MatrixMut};
pub use level::{InstructionSet, Level};
pub use precision::Precision;
pub use real::Real;
pub use sequence::Sequence;
