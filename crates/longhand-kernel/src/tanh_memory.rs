//! The tanh working memory: WM\[t\] = tanh(x\[t\] + WM\[t−1\]), element
//! by element, without weights.

#[cfg(test)]
mod tests;

use crate::call::Call;
use crate::cpu::{Cpu, Shards};
use crate::pointwise::SERIAL_ELEMENTS;
use crate::sequence::Sequence;
use crate::simd::{Kernel, Vector, tanh};

/// Elements of a row that one thread takes through time at once.
const CHUNK: usize = 64;

/// Reads `x` (`[T·B, D]`) from `state` (`[B, D]`) on; writes the outputs `y` (`[T·B, D]`) and the
/// state after the last position. `call.sizes` is D.
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn forward(call: Call<usize>, x: &[f32], state: &[f32], y: &mut [f32], next: &mut [f32]) {
    let Call { cpu, sizes: width, sequence } = call;
    check(width, sequence, &[x, y], &[state, next]);
    let (y, next) = (Shards::new(y), Shards::new(next));
    for_each_chunk(cpu, width, sequence, |cpu_level, b, columns| {
        cpu_level.run(Forward { width, sequence, b, columns, x, state, y: &y, next: &next });
    });
}

/// Adds to `d_x` and `d_state`, given the outputs `y` and their gradient `d_y`. `d_next` is the
/// gradient of the state after the last position, if there is one.
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn backward(
    call: Call<usize>,
    y: &[f32],
    d_y: &[f32],
    d_next: Option<&[f32]>,
    d_x: Option<&mut [f32]>,
    d_state: Option<&mut [f32]>,
) {
    let Call { cpu, sizes: width, sequence } = call;
    check(width, sequence, &[y, d_y], &[]);
    check(width, sequence, d_x.as_deref().as_slice(), d_next.as_slice());
    check(width, sequence, &[], d_state.as_deref().as_slice());
    let (d_x, d_state) = (d_x.map(Shards::new), d_state.map(Shards::new));
    let (d_x, d_state) = (d_x.as_ref(), d_state.as_ref());
    for_each_chunk(cpu, width, sequence, |level, b, columns| {
        level.run(Backward { width, sequence, b, columns, y, d_y, d_next, d_x, d_state });
    });
}

/// The plain form, generic over the number type.
pub mod reference {
    use crate::real::Real;
    use crate::sequence::Sequence;

    /// As the fast [`forward`](super::forward), position by position.
    pub fn forward<R: Real>(
        width: usize,
        sequence: &Sequence,
        x: &[R],
        state: &[R],
        y: &mut [R],
        next: &mut [R],
    ) {
        next.copy_from_slice(state);
        y.fill(R::zero());
        for t in sequence.steps() {
            for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
                for k in 0..width {
                    let (at, memory) = ((t * sequence.batch + b) * width + k, b * width + k);
                    let before = if sequence.starts_empty(t, b) { R::zero() } else { next[memory] };
                    y[at] = (x[at] + before).tanh();
                    next[memory] = y[at];
                }
            }
        }
    }

    /// As the fast [`backward`](super::backward).
    pub fn backward<R: Real>(
        width: usize,
        sequence: &Sequence,
        y: &[R],
        d_y: &[R],
        d_next: Option<&[R]>,
        mut d_x: Option<&mut [R]>,
        d_state: Option<&mut [R]>,
    ) {
        let mut carry = vec![R::zero(); sequence.batch * width];
        if let Some(d_next) = d_next {
            carry.copy_from_slice(d_next);
        }
        for t in sequence.steps().rev() {
            for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
                for k in 0..width {
                    let (at, memory) = ((t * sequence.batch + b) * width + k, b * width + k);
                    let d = (d_y[at] + carry[memory]) * (R::one() - y[at] * y[at]);
                    if let Some(d_x) = &mut d_x {
                        d_x[at] += d;
                    }
                    carry[memory] = if sequence.starts_empty(t, b) { R::zero() } else { d };
                }
            }
        }
        if let Some(to) = d_state {
            to.iter_mut().zip(carry).for_each(|(to, d)| *to += d);
        }
    }
}

fn check(width: usize, sequence: &Sequence, rows: &[&[f32]], states: &[&[f32]]) {
    assert!(rows.iter().all(|r| r.len() == sequence.rows() * width), "rows are [T·B, D]");
    assert!(states.iter().all(|s| s.len() == sequence.batch * width), "states are [B, D]");
}

/// Runs `body(level, b, columns)` for pieces of every sequence's row.
fn for_each_chunk(
    cpu: &Cpu,
    width: usize,
    sequence: &Sequence,
    body: impl Fn(crate::level::Level, usize, std::ops::Range<usize>) + Sync,
) {
    let chunks = width.div_ceil(CHUNK);
    let body = |i: usize| {
        let start = i % chunks * CHUNK;
        body(cpu.level(), i / chunks, start..(start + CHUNK).min(width));
    };
    let count = sequence.batch * chunks;
    if sequence.rows() * width < SERIAL_ELEMENTS {
        (0..count).for_each(body);
    } else {
        cpu.for_each(count, |_, i| body(i));
    }
}

struct Forward<'a> {
    width: usize,
    sequence: &'a Sequence<'a>,
    b: usize,
    columns: std::ops::Range<usize>,
    x: &'a [f32],
    state: &'a [f32],
    y: &'a Shards<'a, f32>,
    next: &'a Shards<'a, f32>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (sequence, b) = (self.sequence, self.b);
        let row =
            |row: usize| row * self.width + self.columns.start..row * self.width + self.columns.end;
        let mut memory = [0.0; CHUNK];
        memory[..self.columns.len()].copy_from_slice(&self.state[row(b)]);
        for t in sequence.steps() {
            let at = row(t * sequence.batch + b);
            // SAFETY: these columns of this sequence belong to this piece alone.
            let y = unsafe { self.y.part(at.clone()) };
            if !sequence.is_real(t, b) {
                y.fill(0.0);
                continue;
            }
            if sequence.starts_empty(t, b) {
                memory.fill(0.0);
            }
            let x = &self.x[at];
            for v in (0..x.len()).step_by(V::LANES) {
                let count = x.len() - v;
                // SAFETY: no more than the slice's elements are touched; the memory is padded.
                unsafe {
                    let before = V::load(memory.as_ptr().add(v));
                    let after = tanh(V::load_first(x.as_ptr().add(v), count).add(before));
                    after.store(memory.as_mut_ptr().add(v));
                    after.store_first(y.as_mut_ptr().add(v), count);
                }
            }
        }
        // SAFETY: as for y.
        let next = unsafe { self.next.part(row(b)) };
        next.copy_from_slice(&memory[..next.len()]);
    }
}

struct Backward<'a> {
    width: usize,
    sequence: &'a Sequence<'a>,
    b: usize,
    columns: std::ops::Range<usize>,
    y: &'a [f32],
    d_y: &'a [f32],
    d_next: Option<&'a [f32]>,
    d_x: Option<&'a Shards<'a, f32>>,
    d_state: Option<&'a Shards<'a, f32>>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (sequence, b) = (self.sequence, self.b);
        let row =
            |row: usize| row * self.width + self.columns.start..row * self.width + self.columns.end;
        let mut carry = [0.0; CHUNK];
        if let Some(d_next) = self.d_next {
            carry[..self.columns.len()].copy_from_slice(&d_next[row(b)]);
        }
        for t in sequence.steps().rev().filter(|&t| sequence.is_real(t, b)) {
            let at = row(t * sequence.batch + b);
            let (y, d_y) = (&self.y[at.clone()], &self.d_y[at.clone()]);
            // SAFETY: these columns of this sequence belong to this piece alone.
            let mut d_x = self.d_x.map(|d_x| unsafe { d_x.part(at) });
            for v in (0..y.len()).step_by(V::LANES) {
                let count = y.len() - v;
                // SAFETY: no more than the slices' elements are touched; the carry is padded.
                unsafe {
                    let y = V::load_first(y.as_ptr().add(v), count);
                    let above = V::load_first(d_y.as_ptr().add(v), count);
                    let above = above.add(V::load(carry.as_ptr().add(v)));
                    let d = above.mul(V::splat(1.0).sub(y.mul(y)));
                    d.store(carry.as_mut_ptr().add(v));
                    if let Some(d_x) = &mut d_x {
                        let to = d_x.as_mut_ptr().add(v);
                        V::load_first(to, count).add(d).store_first(to, count);
                    }
                }
            }
            if sequence.starts_empty(t, b) {
                carry.fill(0.0);
            }
        }
        if let Some(d_state) = self.d_state {
            // SAFETY: as for d_x.
            let to = unsafe { d_state.part(row(b)) };
            to.iter_mut().zip(carry).for_each(|(to, d)| *to += d);
        }
    }
}
