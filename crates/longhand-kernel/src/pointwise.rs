//! The loop under every element-by-element operation: some inputs, some outputs, one function of
//! vectors, spread over the threads.

use std::ops::Range;

use crate::cpu::{Cpu, Shards, Worker, share};
use crate::level::Level;
use crate::simd::{Kernel, Vector};

/// Below this many elements a second thread costs more than it gains.
pub(crate) const SERIAL_ELEMENTS: usize = 1 << 13;

/// A function of `I` inputs and of what the `O` outputs hold, giving the outputs.
pub(crate) trait Pointwise<const I: usize, const O: usize>: Copy + Sync {
    /// # Safety
    /// The machine must have the instruction set of `V`.
    unsafe fn apply<V: Vector>(self, inputs: [V; I], outputs: [V; O]) -> [V; O];
}

/// Runs `op` over slices of equal length, on all threads if that is faster. Panics if the lengths
/// differ from each other.
pub(crate) fn apply<P: Pointwise<I, O>, const I: usize, const O: usize>(
    cpu: &Cpu,
    op: P,
    inputs: [&[f32]; I],
    outputs: [&mut [f32]; O],
) {
    let len = outputs.first().map_or(0, |output| output.len());
    let shards = outputs.map(|output| {
        assert_eq!(output.len(), len, "an elementwise operation on slices of different lengths");
        Shards::new(output)
    });
    for input in inputs {
        assert_eq!(input.len(), len, "an elementwise operation on slices of different lengths");
    }
    for_parts(cpu, len, 16, SERIAL_ELEMENTS, |worker, range| {
        let outputs = std::array::from_fn(|i| {
            // SAFETY: the parts of `for_parts` are disjoint.
            unsafe { shards[i].part(range.clone()) }
        });
        apply_serial(worker.level, op, inputs.map(|input| &input[range.clone()]), outputs);
    });
}

/// As [`apply`], on the calling thread: for use inside a region.
pub(crate) fn apply_serial<P: Pointwise<I, O>, const I: usize, const O: usize>(
    level: Level,
    op: P,
    inputs: [&[f32]; I],
    mut outputs: [&mut [f32]; O],
) {
    let len = outputs.first().map_or(0, |output| output.len());
    assert!(inputs.iter().all(|input| input.len() == len));
    assert!(outputs.iter().all(|output| output.len() == len));
    let outputs = std::array::from_fn(|i| outputs[i].as_mut_ptr());
    level.run(Loop { op, len, inputs: inputs.map(<[f32]>::as_ptr), outputs });
}

/// Cuts `0..count` at multiples of `block` into one part per thread; one part alone where fewer
/// than `serial` units of work make threads too dear.
pub(crate) fn for_parts(
    cpu: &Cpu,
    count: usize,
    block: usize,
    serial: usize,
    body: impl Fn(&mut Worker, Range<usize>) + Sync,
) {
    let parts = if count < serial { 1 } else { cpu.threads().min(count.div_ceil(block)).max(1) };
    cpu.for_each(parts, |worker, i| body(worker, share(count, block, i, parts)));
}

/// As [`for_parts`] over the rows of a matrix, as serial as a matrix of that size should be.
pub(crate) fn for_rows(
    cpu: &Cpu,
    rows: usize,
    width: usize,
    body: impl Fn(&mut Worker, Range<usize>) + Sync,
) {
    for_parts(cpu, rows, 1, SERIAL_ELEMENTS / width.max(1), body);
}

/// As [`for_parts`] over the columns of a matrix, for sums over its rows: a column's sum is made
/// by one thread in the order of the rows, whatever the number of threads.
pub(crate) fn for_columns(
    cpu: &Cpu,
    rows: usize,
    width: usize,
    body: impl Fn(&mut Worker, Range<usize>) + Sync,
) {
    for_parts(cpu, width, 16, SERIAL_ELEMENTS / rows.max(1), body);
}

struct Loop<P, const I: usize, const O: usize> {
    op: P,
    len: usize,
    inputs: [*const f32; I],
    outputs: [*mut f32; O],
}

impl<P: Pointwise<I, O>, const I: usize, const O: usize> Kernel for Loop<P, I, O> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { op, len, inputs, outputs } = self;
        // SAFETY: every slice has `len` elements, and the last vector touches only what is left.
        unsafe {
            let mut i = 0;
            while i + V::LANES <= len {
                let results = op.apply(
                    inputs.map(|input| V::load(input.add(i))),
                    outputs.map(|output| V::load(output.add(i))),
                );
                for (result, output) in results.into_iter().zip(outputs) {
                    result.store(output.add(i));
                }
                i += V::LANES;
            }
            let rest = len - i;
            if rest > 0 {
                let results = op.apply(
                    inputs.map(|input| V::load_first(input.add(i), rest)),
                    outputs.map(|output| V::load_first(output.add(i), rest)),
                );
                for (result, output) in results.into_iter().zip(outputs) {
                    result.store_first(output.add(i), rest);
                }
            }
        }
    }
}

/// Declares a [`Pointwise`] function: its fields are numbers, its body is over vectors `V`.
macro_rules! pointwise {
    ($name:ident { $($field:ident),* } [$($input:ident),*] [$($old:ident),*] $body:block) => {
        #[derive(Clone, Copy)]
        struct $name { $($field: f32),* }
        impl $crate::pointwise::Pointwise<
            { $crate::pointwise::count!($($input)*) },
            { $crate::pointwise::count!($($old)*) },
        > for $name {
            #[inline(always)]
            unsafe fn apply<V: $crate::simd::Vector>(
                self,
                [$($input),*]: [V; $crate::pointwise::count!($($input)*)],
                [$($old),*]: [V; $crate::pointwise::count!($($old)*)],
            ) -> [V; $crate::pointwise::count!($($old)*)] {
                let Self { $($field),* } = self;
                // SAFETY: the caller has the instruction set.
                unsafe {
                    $(let $field = V::splat($field);)*
                    $body
                }
            }
        }
    };
}

macro_rules! count {
    () => { 0 };
    ($head:ident $($tail:ident)*) => { 1 + $crate::pointwise::count!($($tail)*) };
}

pub(crate) use {count, pointwise};
