//! The plain form: one position after another, equation by equation.

use super::{EPSILON, Gradients, Inputs, Sizes, State, StateMut};
use crate::real::Real;
use crate::sequence::Sequence;

/// [`super::forward`] position by position.
pub fn forward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    inputs: Inputs<R>,
    state: State<R>,
    y: &mut [R],
    next: StateMut<R>,
) {
    let width = sizes.width;
    y.fill(R::zero());
    for b in 0..sequence.batch {
        for h in 0..sizes.heads {
            let i = b * sizes.heads + h;
            let mut memory = Memory::part(&state, i, width);
            for t in sequence.steps().filter(|&t| sequence.is_real(t, b)) {
                if sequence.starts_empty(t, b) {
                    memory = Memory::empty(width);
                }
                let at = (t * sequence.batch + b) * sizes.heads + h;
                let read = Reading::new(&inputs, at, width);
                memory = read.write(&memory);
                let (numerator, denominator, _) = read.read(&memory);
                for d in 0..width {
                    y[at * width + d] = numerator[d] / denominator;
                }
            }
            next.c[i * width * width..(i + 1) * width * width].copy_from_slice(&memory.c);
            next.n[i * width..(i + 1) * width].copy_from_slice(&memory.n);
            next.m[i] = memory.m;
        }
    }
}

/// As [`super::backward()`], with every gradient wanted.
///
/// # Panics
/// If one is not.
pub fn backward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    inputs: Inputs<R>,
    state: State<R>,
    d_y: &[R],
    d_next: State<R>,
    gradients: Gradients<R>,
) {
    let Gradients {
        q: Some(dq),
        k: Some(dk),
        v: Some(dv),
        input_gate: Some(d_input),
        forget_gate: Some(d_forget),
        state: Some(d_state),
    } = gradients
    else {
        panic!("the reference gives every gradient");
    };
    let width = sizes.width;
    for b in 0..sequence.batch {
        for h in 0..sizes.heads {
            let i = b * sizes.heads + h;
            let steps: Vec<usize> = sequence.steps().filter(|&t| sequence.is_real(t, b)).collect();
            let place = |t: usize| (t * sequence.batch + b) * sizes.heads + h;
            let mut memories = Vec::new();
            let mut memory = Memory::part(&state, i, width);
            for &t in &steps {
                if sequence.starts_empty(t, b) {
                    memory = Memory::empty(width);
                }
                let after = Reading::new(&inputs, place(t), width).write(&memory);
                memories.push(std::mem::replace(&mut memory, after));
            }
            let mut d = Memory::part(&d_next, i, width);
            for (&t, before) in steps.iter().zip(&memories).rev() {
                let (at, row) = (place(t), place(t) * width..(place(t) + 1) * width);
                let read = Reading::new(&inputs, at, width);
                let after = read.write(before);
                let dq = &mut dq[row.clone()];
                through_output(&read, &after, &d_y[row.clone()], &mut d, dq);
                let (dk, dv) = (&mut dk[row.clone()], &mut dv[row]);
                let gates = through_update(&read, before, &after, &mut d, dk, dv);
                d_input[at] += gates[0];
                d_forget[at] += gates[1];
                if sequence.starts_empty(t, b) {
                    d = Memory::empty(width);
                }
            }
            let c = &mut d_state.c[i * width * width..(i + 1) * width * width];
            c.iter_mut().zip(&d.c).for_each(|(to, &d)| *to += d);
            let n = &mut d_state.n[i * width..(i + 1) * width];
            n.iter_mut().zip(&d.n).for_each(|(to, &d)| *to += d);
            d_state.m[i] += d.m;
        }
    }
}

/// Through h = Cᵀq / (max(|n·q|, e^−m) + ε): adds to the gradients of the state and of the query.
fn through_output<R: Real>(
    read: &Reading<R>,
    after: &Memory<R>,
    dy: &[R],
    d: &mut Memory<R>,
    dq: &mut [R],
) {
    let width = dy.len();
    let (numerator, denominator, normaliser) = read.read(after);
    let mut d_denominator = R::zero();
    for e in 0..width {
        d_denominator += -(dy[e] * numerator[e] / (denominator * denominator));
        for r in 0..width {
            let d_numerator = dy[e] / denominator;
            d.c[r * width + e] += read.q[r] * d_numerator;
            dq[r] += after.c[r * width + e] * d_numerator;
        }
    }
    let least = (-after.m).exp();
    if normaliser.abs() > least {
        let sign = if normaliser > R::zero() { R::one() } else { -R::one() };
        for r in 0..width {
            d.n[r] += d_denominator * sign * read.q[r];
            dq[r] += d_denominator * sign * after.n[r];
        }
    } else {
        d.m += -(d_denominator * least);
    }
}

/// Through C, n and m of one position: turns the gradient of the state after into that of the state
/// before, adds to those of key and value, and returns those of the input and the forget gate.
fn through_update<R: Real>(
    read: &Reading<R>,
    before: &Memory<R>,
    after: &Memory<R>,
    d: &mut Memory<R>,
    dk: &mut [R],
    dv: &mut [R],
) -> [R; 2] {
    let width = dk.len();
    let scale = R::one() / R::from_f64(width as f64).sqrt();
    let (forget, input) = read.gates(before.m, after.m);
    let (mut d_forget_gate, mut d_input_gate) = (R::zero(), R::zero());
    for r in 0..width {
        let k = read.k[r] * scale;
        d_forget_gate += d.n[r] * before.n[r];
        d_input_gate += d.n[r] * k;
        dk[r] += input * d.n[r] * scale;
        for e in 0..width {
            let dc = d.c[r * width + e];
            d_forget_gate += dc * before.c[r * width + e];
            d_input_gate += dc * k * read.v[e];
            dk[r] += input * dc * read.v[e] * scale;
            dv[e] += input * dc * k;
            d.c[r * width + e] = forget * dc;
        }
        d.n[r] = forget * d.n[r];
    }
    let (mut d_log_forget, mut d_log_input) = (forget * d_forget_gate, input * d_input_gate);
    let mut d_before = d_log_forget;
    d.m += -(d_log_forget + d_log_input);
    if read.log_forget() + before.m > read.input {
        d_log_forget += d.m;
        d_before += d.m;
    } else {
        d_log_input += d.m;
    }
    d.m = d_before;
    [d_log_input, d_log_forget * (-read.forget).sigmoid()]
}

/// The state of one head of one sequence.
struct Memory<R> {
    c: Vec<R>,
    n: Vec<R>,
    m: R,
}

impl<R: Real> Memory<R> {
    fn empty(width: usize) -> Self {
        Self { c: vec![R::zero(); width * width], n: vec![R::zero(); width], m: R::zero() }
    }

    fn part(state: &State<R>, i: usize, width: usize) -> Self {
        Self {
            c: state.c[i * width * width..(i + 1) * width * width].to_vec(),
            n: state.n[i * width..(i + 1) * width].to_vec(),
            m: state.m[i],
        }
    }
}

/// The inputs of one head at one position.
struct Reading<'a, R> {
    q: &'a [R],
    k: &'a [R],
    v: &'a [R],
    input: R,
    forget: R,
}

impl<'a, R: Real> Reading<'a, R> {
    fn new(inputs: &Inputs<'a, R>, at: usize, width: usize) -> Self {
        let row = at * width..(at + 1) * width;
        Self {
            q: &inputs.q[row.clone()],
            k: &inputs.k[row.clone()],
            v: &inputs.v[row],
            input: inputs.input_gate[at],
            forget: inputs.forget_gate[at],
        }
    }

    fn log_forget(&self) -> R {
        let below = if self.forget < R::zero() { self.forget } else { R::zero() };
        below - (-self.forget.abs()).exp().ln_1p()
    }

    fn gates(&self, m_before: R, m: R) -> (R, R) {
        ((self.log_forget() + m_before - m).exp(), (self.input - m).exp())
    }

    fn write(&self, before: &Memory<R>) -> Memory<R> {
        let width = self.q.len();
        let scale = R::one() / R::from_f64(width as f64).sqrt();
        let m = (self.log_forget() + before.m).max(self.input);
        let (forget, input) = self.gates(before.m, m);
        let mut after = Memory { m, ..Memory::empty(width) };
        for r in 0..width {
            let k = self.k[r] * scale;
            after.n[r] = forget * before.n[r] + input * k;
            for e in 0..width {
                let at = r * width + e;
                after.c[at] = forget * before.c[at] + input * k * self.v[e];
            }
        }
        after
    }

    /// (Cᵀq, the denominator, n·q).
    fn read(&self, memory: &Memory<R>) -> (Vec<R>, R, R) {
        let width = self.q.len();
        let column = |e: usize| (0..width).map(|r| memory.c[r * width + e] * self.q[r]).sum();
        let numerator = (0..width).map(column).collect();
        let normaliser: R = (0..width).map(|r| memory.n[r] * self.q[r]).sum();
        let epsilon = R::from_f64(f64::from(EPSILON));
        (numerator, normaliser.abs().max((-memory.m).exp()) + epsilon, normaliser)
    }
}
