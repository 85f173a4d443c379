use super::super::reference;
use super::super::tests::{everything, tolerance};
use super::*;
use crate::cpu::Cpu;
use crate::testing::{check_gradient, close, values, wide};

fn some_lengths(time: usize, batch: usize) -> Vec<u32> {
    (0..batch).map(|b| [time, time / 2, 0][b % 3] as u32).collect()
}

#[test]
fn reference_gradients_are_central_differences() {
    let sizes = Sizes { heads: 4, groups: 2, width: 3 };
    let (target_lengths, source_lengths) = ([4, 2], [3, 5]);
    let sequence = Sequence { lengths: Some(&target_lengths), ..Sequence::new(4, 2) };
    let source = Sequence { lengths: Some(&source_lengths), ..Sequence::new(5, 2) };
    let q = wide(&values(8 * 12, 1));
    let kv = wide(&values(10 * 12, 2));
    let dy = wide(&values(8 * 12, 3));
    let loss = |q: &[f64], kv: &[f64]| -> f64 {
        let y = reference::cross_forward(sizes, &sequence, &source, q, kv);
        y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
    };
    let (dq, dkv) = reference::cross_backward(sizes, &sequence, &source, &q, &kv, &dy);
    check_gradient("dq", &q, &dq, |q| loss(q, &kv));
    check_gradient("dkv", &kv, &dkv, |kv| loss(&q, kv));
}

#[test]
fn every_level_equals_the_reference() {
    for cpu in everything(2) {
        for (heads, groups, width) in [(1, 1, 5), (4, 2, 16), (3, 3, 40)] {
            for (time, source_time) in [(0, 3), (1, 1), (5, 0), (17, 70), (65, 16)] {
                for padded in [false, true] {
                    check(&cpu, Sizes { heads, groups, width }, time, source_time, padded);
                }
            }
        }
    }
}

fn check(cpu: &Cpu, sizes: Sizes, time: usize, source_time: usize, padded: bool) {
    let batch = 3;
    let Sizes { heads, groups, width } = sizes;
    let (target_lengths, source_lengths) =
        (some_lengths(time, batch), some_lengths(source_time, batch));
    let sequence =
        Sequence { lengths: padded.then_some(&target_lengths), ..Sequence::new(time, batch) };
    let source = Sequence {
        lengths: padded.then_some(&source_lengths),
        ..Sequence::new(source_time, batch)
    };
    let q = values(time * batch * heads * width, 4);
    let kv = values(source_time * batch * 2 * groups * width, 5);
    let dy = values(q.len(), 6);
    let mut y = vec![f32::NAN; q.len()];
    let mut saved = vec![f32::NAN; saved_len(sizes, &sequence)];
    let (call, inputs) = (Call::new(cpu, sizes, &sequence), Inputs { q: &q, kv: &kv });
    forward(call, &source, inputs, &mut y, &mut saved);
    let exact = reference::cross_forward(sizes, &sequence, &source, &wide(&q), &wide(&kv));
    close("y", &y, &exact, tolerance(cpu, 3e-6));

    let (mut dq, mut dkv) = (vec![1.0; q.len()], vec![2.0; kv.len()]);
    let run = |dq: Option<&mut [f32]>, dkv: Option<&mut [f32]>| {
        backward(call, &source, inputs, &saved, &dy, Gradients { q: dq, kv: dkv });
    };
    run(Some(&mut dq), Some(&mut dkv));
    let (exact_dq, exact_dkv) =
        reference::cross_backward(sizes, &sequence, &source, &wide(&q), &wide(&kv), &wide(&dy));
    let plus = |values: &[f64], start: f64| values.iter().map(|x| x + start).collect::<Vec<_>>();
    close("dq", &dq, &plus(&exact_dq, 1.0), tolerance(cpu, 1e-5));
    close("dkv", &dkv, &plus(&exact_dkv, 2.0), tolerance(cpu, 1e-5));
    let (mut dq_alone, mut dkv_alone) = (vec![1.0; q.len()], vec![2.0; kv.len()]);
    run(Some(&mut dq_alone), None);
    run(None, Some(&mut dkv_alone));
    assert_eq!((dq_alone, dkv_alone), (dq, dkv));
}

/// y and both gradients.
fn run(
    cpu: &Cpu,
    sizes: Sizes,
    [sequence, source]: [&Sequence; 2],
    [q, kv, dy]: [&[f32]; 3],
) -> [Vec<f32>; 3] {
    let mut y = vec![f32::NAN; q.len()];
    let mut saved = vec![f32::NAN; saved_len(sizes, sequence)];
    let (call, inputs) = (Call::new(cpu, sizes, sequence), Inputs { q, kv });
    forward(call, source, inputs, &mut y, &mut saved);
    let (mut dq, mut dkv) = (vec![0.0; q.len()], vec![0.0; kv.len()]);
    let gradients = Gradients { q: Some(&mut dq), kv: Some(&mut dkv) };
    backward(call, source, inputs, &saved, dy, gradients);
    [y, dq, dkv]
}

/// Property (e), bit for bit.
#[test]
fn a_sequence_is_the_same_alone_and_in_a_batch() {
    let sizes = Sizes { heads: 4, groups: 2, width: 10 };
    let (time, source_time, batch) = (35, 50, 4);
    let (row, kv_row) = (40, 40);
    let cpu = Cpu::new(2);
    let lengths = [some_lengths(time, batch), some_lengths(source_time, batch)];
    let [sequence, source] = [(time, &lengths[0]), (source_time, &lengths[1])]
        .map(|(time, lengths)| Sequence { lengths: Some(lengths), ..Sequence::new(time, batch) });
    let (q, kv) = (values(time * batch * row, 7), values(source_time * batch * kv_row, 8));
    let dy = values(q.len(), 9);
    let together = run(&cpu, sizes, [&sequence, &source], [&q, &kv, &dy]);
    for b in 0..batch {
        let own = |x: &[f32]| -> Vec<f32> {
            x.chunks(row).skip(b).step_by(batch).flatten().copied().collect()
        };
        let [sequence, source] =
            [(time, &lengths[0]), (source_time, &lengths[1])].map(|(time, lengths)| Sequence {
                lengths: Some(&lengths[b..b + 1]),
                ..Sequence::new(time, 1)
            });
        let alone = run(&cpu, sizes, [&sequence, &source], [&own(&q), &own(&kv), &own(&dy)]);
        assert_eq!(together.each_ref().map(|x| own(x)), alone, "row {b}");
    }
}

/// Property (f): extreme inputs stay finite.
#[test]
fn saturated_inputs_stay_finite() {
    let sizes = Sizes { heads: 2, groups: 1, width: 8 };
    let (sequence, source) = (Sequence::new(33, 2), Sequence::new(20, 2));
    let large = |len: usize, seed: u64| -> Vec<f32> {
        values(len, seed).iter().map(|x| x.signum() * 1e4).collect()
    };
    let (q, kv, dy) = (large(33 * 2 * 16, 10), large(20 * 2 * 16, 11), large(33 * 2 * 16, 12));
    for cpu in everything(1) {
        let got = run(&cpu, sizes, [&sequence, &source], [&q, &kv, &dy]);
        assert!(got.iter().flatten().all(|x| x.is_finite()));
    }
}
