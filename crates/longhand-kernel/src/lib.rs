//! Numeric operations, forward and backward, with a plain reference beside each fast form.
//!
//! One file holds one operation. Each exposes a fast form over `f32` slices and, unless it only
//! moves or adds up elements, a `reference` module generic over [`Real`] (`f32` and `f64`): slow,
//! obvious, and checked by central differences; the fast form is then checked against the
//! reference. [`recurrence`] holds all that its cells share; [`lstm`], [`slstm`] and [`rnn`] are
//! their equations.
//!
//! Dimension letters, for the whole project: B batch, T time, D model width, H heads, K head
//! width, V vocabulary, W attention window, L layers, N hidden units of a recurrent cell.
//! Activations are row-major with rows in time-major order: row `t * B + b`.
//!
//! The path of a call:
//! 1. [`Cpu`] holds the threads, the instruction set chosen at run time, and reusable buffers.
//! 2. [`gemm`] multiplies matrices; [`simd`] holds the vector forms of `exp`, `tanh` and σ.
//! 3. The memories, norms, fusions and losses are built on these two.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
#![allow(unsafe_code)]
// One index runs over several slices, and constants stand as they were computed.
#![allow(clippy::needless_range_loop, clippy::excessive_precision)]

pub mod attention;
pub mod buffer;
pub mod cpu;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod gemm;
pub mod join;
pub mod level;
pub mod linear;
pub mod loss;
pub mod low_rank;
pub mod lstm;
pub mod mlstm;
pub mod norm;
mod operand;
pub mod optimizer;
mod pointwise;
pub mod pooling;
pub mod precision;
pub mod random;
pub mod real;
pub mod recurrence;
pub mod rnn;
mod scratch;
pub mod sequence;
pub mod simd;
pub mod slstm;
mod small_product;
pub mod tanh_memory;
#[cfg(test)]
mod testing;
pub mod weights;

pub use buffer::{Buffer, Buffers};
pub use cpu::{Cpu, Worker};
pub use gemm::{Matrix, MatrixMut};
pub use level::{InstructionSet, Level};
pub use precision::Precision;
pub use real::Real;
pub use sequence::Sequence;
