use super::*;
use crate::cpu::Cpu;
use crate::linear;
use crate::testing::memory::{
    Case, Inputs, Memory, Outcome, a_sequence_is_independent_of_its_batch as independent,
    fast_equals_reference as equal, packed_documents_equal_each_alone as packed,
    reference_gradients_are_right as right, seven_properties,
};
use crate::testing::{check_gradient, close, values, wide};

const fn sizes(width: usize, kernel: usize, ahead: usize) -> Sizes {
    Sizes { width, kernel, ahead }
}

impl Memory for Sizes {
    fn widths(&self) -> (usize, usize) {
        (self.width, self.window())
    }
    fn weights(&self) -> Vec<usize> {
        Vec::new()
    }
    fn states(&self) -> Vec<usize> {
        vec![self.behind() * self.width]
    }

    fn forward(&self, cpu: &Cpu, sequence: &Sequence, inputs: &Inputs<f32>) -> Outcome<f32> {
        let mut y = vec![f32::NAN; sequence.rows() * self.window()];
        let mut next = vec![vec![f32::NAN; inputs.state[0].len()]];
        let state = State { before: &inputs.state[0], next: &mut next[0] };
        unfold(Call::new(cpu, *self, sequence), &inputs.x, Some(state), &mut y);
        Outcome { y, next, saved: Vec::new() }
    }

    fn backward(
        &self,
        cpu: &Cpu,
        sequence: &Sequence,
        inputs: &Inputs<f32>,
        _outcome: &mut Outcome<f32>,
        d_y: &[f32],
        d_next: &[Vec<f32>],
    ) -> Inputs<f32> {
        let mut to = inputs.clone();
        let (d_next, d_x, d_state) = (Some(&*d_next[0]), Some(&mut *to.x), &mut to.state[0]);
        fold(Call::new(cpu, *self, sequence), d_y, d_next, d_x, Some(d_state));
        to.minus(inputs)
    }

    fn reference(&self, sequence: &Sequence, inputs: &Inputs<f64>) -> Outcome<f64> {
        let (y, next) = reference::unfold(*self, sequence, &inputs.x, &inputs.state[0]);
        Outcome { y, next: vec![next], saved: Vec::new() }
    }

    fn reference_backward(
        &self,
        sequence: &Sequence,
        inputs: &Inputs<f64>,
        d_y: &[f64],
        d_next: &[Vec<f64>],
    ) -> Inputs<f64> {
        let (x, state) = reference::fold(*self, sequence, d_y, &d_next[0]);
        Inputs { x, state: vec![state], ..inputs.zeros_like() }
    }
}

seven_properties!(sizes(37, 5, 0), sizes(2, 3, 0), [(1, 1), (5, 1), (13, 5), (2, 53)]);

#[test]
fn awkward_windows_equal_the_reference() {
    for (width, kernel, ahead) in [(0, 3, 0), (1, 1, 0), (64, 2, 1), (3, 4, 2), (5, 40, 3)] {
        equal(&sizes(width, kernel, ahead), &[(7, 4), (0, 2), (3, 0), (40, 2)]);
    }
}

#[test]
fn windows_that_see_the_future_stay_in_their_document() {
    for ahead in [1, 2] {
        right(&sizes(2, 3, ahead));
        packed(&sizes(9, 5, ahead));
        independent(&sizes(9, 5, ahead));
    }
}

#[test]
fn a_window_holds_the_inputs_around_its_position() {
    let cpu = Cpu::new(1);
    let resets = [false, false, false, true, false];
    let sequence = Sequence { resets: Some(&resets), ..Sequence::new(5, 1) };
    let x = [1.0, 2.0, 3.0, 4.0, 5.0];
    let check = |sizes: Sizes, before: &[f32], expected: [[f32; 3]; 5], last: &[f32]| {
        let (mut y, mut next) = (vec![9.0; 15], vec![9.0; before.len()]);
        let state = State { before, next: &mut next };
        unfold(Call::new(&cpu, sizes, &sequence), &x, Some(state), &mut y);
        assert_eq!(y, expected.concat());
        assert_eq!(next, last);
    };
    let causal =
        [[-2.0, -1.0, 1.0], [-1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [0.0, 0.0, 4.0], [0.0, 4.0, 5.0]];
    check(sizes(1, 3, 0), &[-2.0, -1.0], causal, &[4.0, 5.0]);
    let centred =
        [[-1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0], [0.0, 4.0, 5.0], [4.0, 5.0, 0.0]];
    check(sizes(1, 3, 1), &[-1.0], centred, &[5.0]);
    let mut y = vec![9.0; 15];
    unfold(Call::new(&cpu, sizes(1, 3, 1), &sequence), &x, None, &mut y);
    assert_eq!(y[..3], [0.0, 1.0, 2.0]);
}

/// y[t] = Σ W[slot]·x[t + slot − behind] + b, written from the definition.
fn convolve(sizes: Sizes, filters: usize, time: usize, [x, w, b]: [&[f64]; 3]) -> Vec<f64> {
    let Sizes { width, kernel, .. } = sizes;
    let mut y = Vec::new();
    for t in 0..time {
        for n in 0..filters {
            let mut sum = b[n];
            for slot in 0..kernel {
                let at = (t + slot).checked_sub(sizes.behind());
                let Some(at) = at.filter(|&at| at < time) else { continue };
                for d in 0..width {
                    sum += w[(n * kernel + slot) * width + d] * x[at * width + d];
                }
            }
            y.push(sum);
        }
    }
    y
}

#[test]
fn a_product_with_windows_is_a_convolution_forward_and_backward() {
    let (time, filters, cpu) = (6, 4, Cpu::new(2));
    for sizes in [sizes(3, 3, 0), sizes(3, 4, 2), sizes(3, 5, 2)] {
        let sequence = Sequence::new(time, 1);
        let call = Call::new(&cpu, sizes, &sequence);
        let size = linear::Size { rows: time, input: sizes.window(), output: filters };
        let (x, w) = (values(time * 3, 1), values(filters * sizes.window(), 2));
        let (b, dy) = (values(filters, 3), values(time * filters, 4));
        let (mut windows, mut y) = (vec![0.0; time * sizes.window()], vec![0.0; time * filters]);
        unfold(call, &x, None, &mut windows);
        linear::forward(&cpu, size, &[&windows], &w, Some(&b), &mut y);
        let exact = [wide(&x), wide(&w), wide(&b)];
        let all = [&exact[0][..], &exact[1], &exact[2]];
        close("y", &y, &convolve(sizes, filters, time, all), 1e-6);

        let (mut d_windows, mut dx) = (vec![0.0; windows.len()], vec![0.0; x.len()]);
        let (mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; filters]);
        let into = linear::Gradients {
            inputs: &mut [Some(&mut d_windows[..])],
            weight: Some(&mut dw),
            bias: Some(&mut db),
        };
        linear::backward(&cpu, size, &[&windows], &w, &dy, into);
        fold(call, &d_windows, None, Some(&mut dx), None);
        for (place, gradient) in [dx, dw, db].iter().enumerate() {
            let mut point = exact.clone();
            let mut slopes = Vec::new();
            for i in 0..point[place].len() {
                let mut at = |value: f64| {
                    point[place][i] = value;
                    let all = [&point[0][..], &point[1], &point[2]];
                    let y = convolve(sizes, filters, time, all);
                    y.iter().zip(&dy).map(|(y, &dy)| y * f64::from(dy)).sum::<f64>()
                };
                let middle = exact[place][i];
                // Linear in each: a wide difference is exact.
                slopes.push(at(middle + 0.5) - at(middle - 0.5));
                at(middle);
            }
            close(&format!("gradient {place}"), gradient, &slopes, 1e-5);
        }
    }
}

#[test]
fn gradients_flow_without_a_state() {
    let cpu = Cpu::new(1);
    let case = Case::plain(4, 2);
    let sequence = case.sequence();
    let sizes = sizes(1, 3, 1);
    let d = wide(&values(24, 1));
    let x = wide(&values(8, 2));
    let mut dx = vec![0.0; 8];
    let narrow: Vec<f32> = d.iter().map(|&d| d as f32).collect();
    fold(Call::new(&cpu, sizes, &sequence), &narrow, None, Some(&mut dx), None);
    let (exact, _) = reference::fold(sizes, &sequence, &d, &[0.0; 2]);
    close("dx", &dx, &exact, 1e-6);
    check_gradient("x", &x, &exact, |x| {
        let (y, _) = reference::unfold(sizes, &sequence, x, &[0.0; 2]);
        y.iter().zip(&d).map(|(y, d)| y * d).sum()
    });
}
