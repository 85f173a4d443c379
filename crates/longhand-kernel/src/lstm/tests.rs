use crate::call::Call;
use crate::cpu::Cpu;
use crate::recurrence::{CellKind, Input, Outputs, Sizes, Weights, forward, gate, saved_len};
use crate::sequence::Sequence;
use crate::testing::memory::seven_properties;

fn sizes(input: usize, hidden: usize, heads: usize) -> Sizes {
    Sizes { cell: CellKind::Lstm, input, hidden, heads }
}

seven_properties!(sizes(19, 37, 1), sizes(2, 3, 1), [(1, 1), (5, 1), (13, 5), (2, 53)]);

#[test]
fn awkward_sizes_equal_the_reference() {
    for (input, hidden, heads) in
        [(0, 3, 1), (3, 0, 1), (1, 1, 1), (40, 16, 1), (7, 17, 1), (5, 128, 1), (5, 48, 3)]
    {
        crate::testing::memory::fast_equals_reference(
            &sizes(input, hidden, heads),
            &[(7, 4), (0, 2), (3, 0)],
        );
    }
}

#[test]
fn gates_are_read_in_the_order_of_units() {
    // One unit's own weight in each gate tells its place.
    for level in crate::testing::levels() {
        let cpu = Cpu::with_level(2, level);
        let sizes = sizes(1, 21, 1);
        let input: Vec<f32> = (0..84).map(|row| row as f32 / 20.0 - 2.0).collect();
        let (zeros, recurrent) = ([0.0; 84], vec![0.0; 84 * 21]);
        let weights = Weights { input: &input, recurrent: &recurrent, biases: [&zeros; 2] };
        for (batch, padded) in [(1, false), (9, false), (1, true), (9, true)] {
            let lengths: Vec<u32> = (0..batch as u32).map(|b| (b + 2) % 4).collect();
            let lengths = padded.then_some(&lengths[..]);
            let sequence = Sequence { lengths, ..Sequence::new(3, batch) };
            let state = vec![0.0; batch * 21];
            let (mut h, mut c) = (state.clone(), state.clone());
            let before: [&[f32]; 2] = [&state, &state];
            let after: &mut [&mut [f32]] = &mut [&mut h, &mut c];
            let (mut y, mut saved) =
                (vec![0.0; 3 * batch * 21], vec![9.0; saved_len(sizes, &sequence)]);
            let x = vec![1.0; 3 * batch];
            let outputs = Outputs { y: &mut y, next: after, saved: Some(&mut saved) };
            forward(Call::new(&cpu, sizes, &sequence), weights, Input::Rows(&x), &before, outputs);
            for index in 0..4 {
                let mut out = vec![0.0; sequence.real_rows().count() * 21];
                gate(&cpu, sizes, &sequence, &saved, index, &mut out);
                for (i, &got) in out.iter().enumerate() {
                    let raw = f64::from(input[index * 21 + i % 21]);
                    let exact = if index == 2 { raw.tanh() } else { 1.0 / (1.0 + (-raw).exp()) };
                    assert!((f64::from(got) - exact).abs() < 1e-6, "{level:?}, gate {index}, {i}");
                }
            }
        }
    }
}
