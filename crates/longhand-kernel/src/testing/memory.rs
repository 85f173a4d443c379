//! The seven properties every memory is held to, written once for all of them.

use super::{check_gradient, close, levels, rounded, values, wide};
use crate::cpu::Cpu;
use crate::precision::Precision;
use crate::sequence::Sequence;

/// The inputs of a memory; gradients have the same form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inputs<R> {
    pub(crate) weights: Vec<Vec<R>>,
    pub(crate) x: Vec<R>,
    pub(crate) state: Vec<Vec<R>>,
}

/// The results of a memory.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<R> {
    pub(crate) y: Vec<R>,
    pub(crate) next: Vec<Vec<R>>,
    pub(crate) saved: Vec<R>,
}

/// A memory under test.
pub(crate) trait Memory {
    /// Elements of a row of x, and of y.
    fn widths(&self) -> (usize, usize);
    /// Elements of each weight.
    fn weights(&self) -> Vec<usize>;
    /// Elements of each state, per sequence.
    fn states(&self) -> Vec<usize>;
    /// Turns arbitrary values into a state that can occur.
    fn admit_state(&self, _state: &mut [Vec<f32>]) {}
    /// Turns arbitrary values into a gradient of the next state that can occur.
    fn admit_gradient(&self, _next: &[Vec<f64>], _d_next: &mut [Vec<f64>]) {}

    fn forward(&self, cpu: &Cpu, sequence: &Sequence, inputs: &Inputs<f32>) -> Outcome<f32>;
    fn backward(
        &self,
        cpu: &Cpu,
        sequence: &Sequence,
        inputs: &Inputs<f32>,
        outcome: &mut Outcome<f32>,
        d_y: &[f32],
        d_next: &[Vec<f32>],
    ) -> Inputs<f32>;
    fn reference(&self, sequence: &Sequence, inputs: &Inputs<f64>) -> Outcome<f64>;
    fn reference_backward(
        &self,
        sequence: &Sequence,
        inputs: &Inputs<f64>,
        d_y: &[f64],
        d_next: &[Vec<f64>],
    ) -> Inputs<f64>;
}

/// A sequence that owns its document starts and lengths.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) time: usize,
    pub(crate) batch: usize,
    resets: Option<Vec<bool>>,
    lengths: Option<Vec<u32>>,
    reverse: bool,
}

impl Case {
    pub(crate) fn plain(time: usize, batch: usize) -> Self {
        Self { time, batch, resets: None, lengths: None, reverse: false }
    }

    /// The four combinations of document starts and lengths, in both directions.
    pub(crate) fn all(time: usize, batch: usize) -> Vec<Self> {
        let resets: Vec<bool> = (0..time * batch).map(|i| i * 7 % 5 == 1).collect();
        // Some padded past a whole chunk, some not at all, some without any position.
        let real = |b: usize| [2 * time / 3, time, time.saturating_sub(3), 0, time.min(1)][b % 5];
        let lengths: Vec<u32> = (0..batch).map(|b| real(b) as u32).collect();
        (0..8)
            .map(|form| Self {
                resets: (form & 1 == 1).then(|| resets.clone()),
                lengths: (form & 2 == 2).then(|| lengths.clone()),
                reverse: form & 4 == 4,
                ..Self::plain(time, batch)
            })
            .collect()
    }

    pub(crate) fn sequence(&self) -> Sequence<'_> {
        Sequence {
            resets: self.resets.as_deref(),
            lengths: self.lengths.as_deref(),
            reverse: self.reverse,
            ..Sequence::new(self.time, self.batch)
        }
    }
}

pub(crate) fn inputs(memory: &impl Memory, time: usize, batch: usize, seed: u64) -> Inputs<f32> {
    let tensors = |lens: Vec<usize>, scale: f32, seed: u64| -> Vec<Vec<f32>> {
        let scaled = |(i, len)| values(len, seed + i as u64).iter().map(|x| x * scale).collect();
        lens.into_iter().enumerate().map(scaled).collect()
    };
    // Larger recurrent weights make a wide tanh network chaotic: rounding errors would grow.
    let scale = 1.5 / (memory.widths().1.max(4) as f32).sqrt();
    let per_batch = memory.states().iter().map(|len| len * batch).collect();
    let mut inputs = Inputs {
        weights: tensors(memory.weights(), scale, seed),
        x: values(time * batch * memory.widths().0, seed + 20),
        state: tensors(per_batch, 0.8, seed + 30),
    };
    memory.admit_state(&mut inputs.state);
    inputs
}

/// How much larger errors may be than with `f32` operands. Weights, inputs and first states are
/// exact in the precision; what it costs is the rounding of h and of gradients, to 2⁻⁹ each.
fn slack(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1.0,
        Precision::Bf16 => 1000.0,
    }
}

impl Inputs<f32> {
    /// With values that operands of that precision can have.
    fn rounded(mut self, precision: Precision) -> Self {
        self.x = rounded(precision, &self.x);
        for tensor in self.weights.iter_mut().chain(&mut self.state) {
            *tensor = rounded(precision, tensor);
        }
        self
    }

    pub(crate) fn wide(&self) -> Inputs<f64> {
        Inputs {
            weights: self.weights.iter().map(|w| wide(w)).collect(),
            x: wide(&self.x),
            state: self.state.iter().map(|s| wide(s)).collect(),
        }
    }

    /// The difference to `before`.
    pub(crate) fn minus(mut self, before: &Self) -> Self {
        let subtract = |to: &mut Vec<f32>, from: &Vec<f32>| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to -= from);
        };
        subtract(&mut self.x, &before.x);
        self.weights.iter_mut().zip(&before.weights).for_each(|(to, from)| subtract(to, from));
        self.state.iter_mut().zip(&before.state).for_each(|(to, from)| subtract(to, from));
        self
    }

    fn zeros(&self) -> Self {
        let zeros = |v: &Vec<Vec<f32>>| v.iter().map(|w| vec![0.0; w.len()]).collect();
        Self {
            weights: zeros(&self.weights),
            x: vec![0.0; self.x.len()],
            state: zeros(&self.state),
        }
    }
}

impl Inputs<f64> {
    pub(crate) fn zeros_like(&self) -> Self {
        let zeros = |v: &Vec<Vec<f64>>| v.iter().map(|w| vec![0.0; w.len()]).collect();
        Self {
            weights: zeros(&self.weights),
            x: vec![0.0; self.x.len()],
            state: zeros(&self.state),
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gradients of y and of the next state.
fn upstream(memory: &impl Memory, exact: &Outcome<f64>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let d_y = wide(&values(exact.y.len(), 40));
    let mut d_next: Vec<Vec<f64>> =
        (exact.next.iter().zip(41..)).map(|(next, seed)| wide(&values(next.len(), seed))).collect();
    memory.admit_gradient(&exact.next, &mut d_next);
    (d_y, d_next)
}

/// (b) Every gradient of the reference is that of central differences.
pub(crate) fn reference_gradients_are_right(memory: &impl Memory) {
    for case in Case::all(3, 4).into_iter().chain([Case::plain(1, 1)]) {
        let sequence = case.sequence();
        let at = inputs(memory, case.time, case.batch, 1).wide();
        let (d_y, d_next) = upstream(memory, &memory.reference(&sequence, &at));
        let got = memory.reference_backward(&sequence, &at, &d_y, &d_next);
        let loss = |inputs: &Inputs<f64>| {
            let outcome = memory.reference(&sequence, inputs);
            let states: f64 = outcome.next.iter().zip(&d_next).map(|(s, d)| dot(s, d)).sum();
            dot(&outcome.y, &d_y) + states
        };
        let mut point = at.clone();
        for (i, gradient) in got.weights.iter().enumerate() {
            check_gradient(&format!("weight {i} {case:?}"), &at.weights[i], gradient, |w| {
                point.weights[i].copy_from_slice(w);
                loss(&point)
            });
            point = at.clone();
        }
        for (i, gradient) in got.state.iter().enumerate() {
            check_gradient(&format!("state {i} {case:?}"), &at.state[i], gradient, |s| {
                point.state[i].copy_from_slice(s);
                loss(&point)
            });
            point = at.clone();
        }
        check_gradient(&format!("x {case:?}"), &at.x, &got.x, |x| {
            point.x.copy_from_slice(x);
            loss(&point)
        });
    }
}

/// (a, first half) The fast form, forward and backward, equals the reference: every instruction
/// set, one and several threads, gradients added to what was there.
pub(crate) fn fast_equals_reference(memory: &impl Memory, sizes: &[(usize, usize)]) {
    for &(time, batch) in sizes {
        for case in Case::all(time, batch) {
            for precision in Precision::ALL {
                fast_equals_reference_in(memory, &case, precision);
            }
        }
    }
}

fn fast_equals_reference_in(memory: &impl Memory, case: &Case, precision: Precision) {
    let (time, batch) = (case.time, case.batch);
    let sequence = case.sequence();
    let inputs = inputs(memory, time, batch, 2).rounded(precision);
    let exact = memory.reference(&sequence, &inputs.wide());
    let (d_y, d_next) = upstream(memory, &exact);
    let exact_gradients = memory.reference_backward(&sequence, &inputs.wide(), &d_y, &d_next);
    let narrow = |v: &Vec<f64>| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let (d_y, d_next) = (narrow(&d_y), d_next.iter().map(narrow).collect::<Vec<_>>());
    let tolerance = 2e-6 * slack(precision) * (1.0 + time as f64 * batch as f64).sqrt();
    for level in levels() {
        for threads in [1, 3] {
            let cpu = Cpu::with(threads, level, precision);
            let at = format!("{level:?} {precision} {threads} {case:?}");
            let mut outcome = memory.forward(&cpu, &sequence, &inputs);
            close(&format!("y {at}"), &outcome.y, &exact.y, tolerance);
            for (got, exact) in outcome.next.iter().zip(&exact.next) {
                close(&format!("next {at}"), got, exact, tolerance);
            }
            let got = memory.backward(&cpu, &sequence, &inputs, &mut outcome, &d_y, &d_next);
            let tolerance = 4.0 * tolerance;
            close(&format!("dx {at}"), &got.x, &exact_gradients.x, tolerance);
            for (i, got) in got.weights.iter().enumerate() {
                close(&format!("dw {i} {at}"), got, &exact_gradients.weights[i], tolerance);
            }
            for (i, got) in got.state.iter().enumerate() {
                close(&format!("dstate {i} {at}"), got, &exact_gradients.state[i], tolerance);
            }
        }
    }
}

/// (a, second half) Chunks and single steps from state to state equal the whole.
pub(crate) fn splits_equal_the_whole(memory: &impl Memory) {
    let (time, batch) = (29, 2);
    let (input, output) = memory.widths();
    let forms = levels().flat_map(|level| Precision::ALL.map(|precision| (level, precision)));
    for (level, precision) in forms {
        let cpu = Cpu::with(2, level, precision);
        let tolerance = 1e-5 * slack(precision);
        let inputs = inputs(memory, time, batch, 3);
        let whole = memory.forward(&cpu, &Sequence::new(time, batch), &inputs);
        for chunk in [1, 2, 13, 28] {
            let mut part = inputs.clone();
            let mut y = Vec::new();
            for from in (0..time).step_by(chunk) {
                let length = chunk.min(time - from);
                part.x = inputs.x[from * batch * input..(from + length) * batch * input].to_vec();
                let outcome = memory.forward(&cpu, &Sequence::new(length, batch), &part);
                y.extend(outcome.y);
                part.state = outcome.next;
            }
            assert_eq!(y.len(), time * batch * output);
            close("y", &y, &wide(&whole.y), tolerance);
            for (got, exact) in part.state.iter().zip(&whole.next) {
                close("state", got, &wide(exact), tolerance);
            }
        }
    }
}

/// (c) What comes later changes nothing before, to the bit, and something from there on; in
/// reverse the other way round.
pub(crate) fn the_future_changes_nothing(memory: &impl Memory) {
    let (time, batch) = (27, 2);
    let (input, output) = memory.widths();
    for (reverse, precision) in
        [false, true].into_iter().flat_map(|reverse| Precision::ALL.map(|p| (reverse, p)))
    {
        let cpu = Cpu::with_precision(2, precision);
        let sequence = Sequence { reverse, ..Sequence::new(time, batch) };
        let mut inputs = inputs(memory, time, batch, 4);
        let before = memory.forward(&cpu, &sequence, &inputs).y;
        for t in [0, 13, time - 1] {
            inputs.x[t * batch * input] += 0.5;
            let after = memory.forward(&cpu, &sequence, &inputs).y;
            inputs.x[t * batch * input] -= 0.5;
            let at = t * batch * output;
            let (unread, read) = if reverse {
                let behind = at + batch * output;
                (behind..after.len(), 0..behind)
            } else {
                (0..at, at..after.len())
            };
            assert_eq!(after[unread.clone()], before[unread]);
            assert_ne!(after[read.clone()], before[read]);
        }
    }
}

/// (d) Two documents with a reset between them equal each alone from the zero state, forward and
/// backward; no gradient flows to the state before them.
pub(crate) fn packed_documents_equal_each_alone(memory: &impl Memory) {
    Precision::ALL.into_iter().for_each(|precision| packed_documents_in(memory, precision));
}

fn packed_documents_in(memory: &impl Memory, precision: Precision) {
    let (first, second) = (17, 14);
    let (input, output) = memory.widths();
    let cpu = Cpu::with_precision(2, precision);
    let tolerance = 1e-5 * slack(precision);
    let whole = inputs(memory, first + second, 1, 5);
    let mut resets = vec![false; first + second];
    (resets[0], resets[first]) = (true, true);
    let sequence = Sequence { resets: Some(&resets), ..Sequence::new(first + second, 1) };
    let mut packed = memory.forward(&cpu, &sequence, &whole);
    let d_y = values(packed.y.len(), 8);
    let d_next: Vec<Vec<f32>> = packed.next.iter().map(|s| vec![0.0; s.len()]).collect();
    let together = memory.backward(&cpu, &sequence, &whole, &mut packed, &d_y, &d_next);

    let mut document = Inputs { x: Vec::new(), state: whole.zeros().state, ..whole.clone() };
    let (mut y, mut next, mut d_x) = (Vec::new(), Vec::new(), Vec::new());
    let mut d_weights = whole.wide().zeros_like().weights;
    for rows in [0..first, first..first + second] {
        let alone = Sequence::new(rows.len(), 1);
        document.x = whole.x[rows.start * input..rows.end * input].to_vec();
        let mut outcome = memory.forward(&cpu, &alone, &document);
        let d_y = &d_y[rows.start * output..rows.end * output];
        let got = memory.backward(&cpu, &alone, &document, &mut outcome, d_y, &d_next);
        y.extend(outcome.y);
        next = outcome.next;
        d_x.extend(got.x);
        for (sum, got) in d_weights.iter_mut().zip(&got.weights) {
            sum.iter_mut().zip(got).for_each(|(sum, &got)| *sum += f64::from(got));
        }
    }
    close("y", &packed.y, &wide(&y), tolerance);
    for (got, exact) in packed.next.iter().zip(&next) {
        close("state", got, &wide(exact), tolerance);
    }
    close("dx", &together.x, &wide(&d_x), 2.0 * tolerance);
    for (got, exact) in together.weights.iter().zip(&d_weights) {
        close("dw", got, exact, 2.0 * tolerance);
    }
    assert_eq!(together.state, whole.zeros().state);
}

/// (e) A sequence gives the same alone as in a batch.
pub(crate) fn a_sequence_is_independent_of_its_batch(memory: &impl Memory) {
    Precision::ALL.into_iter().for_each(|precision| independent_in(memory, precision));
}

fn independent_in(memory: &impl Memory, precision: Precision) {
    let (time, batch, own) = (15, 7, 4);
    let (input, output) = memory.widths();
    let cpu = Cpu::with_precision(2, precision);
    let tolerance = 1e-5 * slack(precision);
    let all = inputs(memory, time, batch, 6);
    let together = memory.forward(&cpu, &Sequence::new(time, batch), &all);
    let rows = |v: &[f32], width: usize| -> Vec<f32> {
        v.chunks(width).skip(own).step_by(batch).flatten().copied().collect()
    };
    let states = memory.states();
    let mut alone = all.clone();
    alone.x = rows(&all.x, input);
    alone.state = all.state.iter().zip(&states).map(|(s, &len)| rows(s, len)).collect();
    let alone = memory.forward(&cpu, &Sequence::new(time, 1), &alone);
    close("y", &alone.y, &wide(&rows(&together.y, output)), tolerance);
    for ((got, exact), &len) in alone.next.iter().zip(&together.next).zip(&states) {
        close("state", got, &wide(&rows(exact, len)), tolerance);
    }
}

/// (f) Huge inputs leave everything finite, forward and backward.
pub(crate) fn saturation_stays_finite(memory: &impl Memory) {
    let (time, batch) = (12, 5);
    let forms = levels().flat_map(|level| Precision::ALL.map(|precision| (level, precision)));
    for (level, precision) in forms {
        let cpu = Cpu::with(2, level, precision);
        let sequence = Sequence::new(time, batch);
        let mut inputs = inputs(memory, time, batch, 7);
        inputs.x.iter_mut().for_each(|x| *x = if *x < 0.0 { -1e4 } else { 1e4 });
        for from_zero in [false, true] {
            if from_zero {
                inputs.state = inputs.zeros().state;
            }
            let mut outcome = memory.forward(&cpu, &sequence, &inputs);
            let d_y = values(outcome.y.len(), 8);
            let d_next: Vec<Vec<f32>> = outcome.next.iter().map(|s| values(s.len(), 9)).collect();
            let finite = |v: &[f32]| assert!(v.iter().all(|x| x.is_finite()), "{v:?}");
            finite(&outcome.y);
            outcome.next.iter().for_each(|s| finite(s));
            let got = memory.backward(&cpu, &sequence, &inputs, &mut outcome, &d_y, &d_next);
            finite(&got.x);
            got.weights.iter().chain(&got.state).for_each(|w| finite(w));
        }
    }
}

/// (g) The state is all there is: another processor with another past, its buffers full of other
/// numbers, goes on from it to the bit.
pub(crate) fn a_saved_state_goes_on_to_the_bit(memory: &impl Memory) {
    Precision::ALL.into_iter().for_each(|precision| saved_state_in(memory, precision));
}

fn saved_state_in(memory: &impl Memory, precision: Precision) {
    let [cpu, other] = [(); 2].map(|()| Cpu::with_precision(2, precision));
    let (input, _) = memory.widths();
    let sequence = Sequence::new(20, 3);
    let mut elsewhere = inputs(memory, 33, 2, 11);
    elsewhere.x.iter_mut().for_each(|x| *x *= 3.0);
    memory.forward(&other, &Sequence::new(33, 2), &elsewhere);
    let mut inputs = inputs(memory, 40, 3, 10);
    let later = inputs.x.split_off(20 * 3 * input);
    let middle = memory.forward(&cpu, &sequence, &inputs);
    let next = Inputs { weights: inputs.weights, x: later, state: middle.next };
    let direct = memory.forward(&cpu, &sequence, &next);
    let resumed = memory.forward(&other, &sequence, &next);
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&direct.y), bits(&resumed.y));
    for (a, b) in direct.next.iter().zip(&resumed.next) {
        assert_eq!(bits(a), bits(b));
    }
}

/// The tests of the seven properties; `$sizes` are times and batches for the reference.
macro_rules! seven_properties {
    ($memory:expr, $small:expr, $sizes:expr) => {
        #[test]
        fn reference_gradients_are_right() {
            $crate::testing::memory::reference_gradients_are_right(&$small);
        }
        #[test]
        fn fast_equals_reference() {
            $crate::testing::memory::fast_equals_reference(&$memory, &$sizes);
        }
        #[test]
        fn splits_equal_the_whole() {
            $crate::testing::memory::splits_equal_the_whole(&$memory);
        }
        #[test]
        fn the_future_changes_nothing() {
            $crate::testing::memory::the_future_changes_nothing(&$memory);
        }
        #[test]
        fn packed_documents_equal_each_alone() {
            $crate::testing::memory::packed_documents_equal_each_alone(&$memory);
        }
        #[test]
        fn a_sequence_is_independent_of_its_batch() {
            $crate::testing::memory::a_sequence_is_independent_of_its_batch(&$memory);
        }
        #[test]
        fn saturation_stays_finite() {
            $crate::testing::memory::saturation_stays_finite(&$memory);
        }
        #[test]
        fn a_saved_state_goes_on_to_the_bit() {
            $crate::testing::memory::a_saved_state_goes_on_to_the_bit(&$memory);
        }
    };
}
pub(crate) use seven_properties;
