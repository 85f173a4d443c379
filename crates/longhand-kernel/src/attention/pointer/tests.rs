use super::super::tests::everything;
use super::*;
use crate::testing::{check_gradient, close, values, wide};

fn some_lengths(time: usize, batch: usize) -> Vec<u32> {
    (0..batch).map(|b| [time, time / 2, 0][b % 3] as u32).collect()
}

/// Rows of a matrix with a positive value everywhere, as coverage has.
fn positive(len: usize, seed: u64) -> Vec<f32> {
    values(len, seed).iter().map(|x| x.abs()).collect()
}

#[test]
fn reference_gradients_are_central_differences() {
    let (target_lengths, source_lengths) = ([4, 2], [3, 5]);
    let sequence = Sequence { lengths: Some(&target_lengths), ..Sequence::new(4, 2) };
    let source = Sequence { lengths: Some(&source_lengths), ..Sequence::new(5, 2) };
    let (q, keys) = (wide(&values(8 * 3, 1)), wide(&values(10 * 3, 2)));
    let first = wide(&positive(10, 3));
    let (da, dc) = (wide(&values(40, 4)), wide(&values(40, 5)));
    let loss = |q: &[f64], keys: &[f64], weight: f64| -> f64 {
        let [a, c] = reference::forward(&sequence, &source, [q, keys], weight, &first);
        let real = |row: usize| sequence.is_real(row / 2, row % 2);
        let terms = (0..40).filter(|i| real(i / 5)).map(|i| a[i] * da[i] + c[i] * dc[i]);
        terms.sum()
    };
    let weight = -0.7;
    let [a, c] = reference::forward(&sequence, &source, [&q, &keys], weight, &first);
    let both = [&da[..], &dc[..]];
    let (dq, dkeys, d_weight) =
        reference::backward(&sequence, &source, [&q, &keys], weight, [&a, &c], both);
    check_gradient("dq", &q, &dq, |q| loss(q, &keys, weight));
    check_gradient("dkeys", &keys, &dkeys, |keys| loss(&q, keys, weight));
    check_gradient("dw", &[weight], &[d_weight], |w| loss(&q, &keys, w[0]));
}

#[test]
fn the_coverage_loss_has_the_gradient_of_its_sum() {
    let (a, c) = (wide(&positive(30, 6)), wide(&positive(30, 7)));
    let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let loss = |a: &[f64], c: &[f64]| a.iter().zip(c).map(|(a, c)| a.min(*c)).sum::<f64>();
    let (mut da, mut dc) = (vec![1.0; 30], vec![2.0; 30]);
    let into = Some((0.5, [Some(&mut da[..]), Some(&mut dc[..])]));
    let got = coverage_loss(&narrow(&a), &narrow(&c), into);
    assert!((got - loss(&a, &c)).abs() < 1e-5);
    let less = |d: &[f32], start: f32| d.iter().map(|d| f64::from((d - start) / 0.5)).collect();
    let [da, dc]: [Vec<f64>; 2] = [less(&da, 1.0), less(&dc, 2.0)];
    check_gradient("da", &a, &da, |a| loss(a, &c));
    check_gradient("dc", &c, &dc, |c| loss(&a, c));
}

#[test]
fn every_level_equals_the_reference() {
    for cpu in everything(2) {
        for (width, coverage) in [(1, None), (5, Some(-0.5)), (40, Some(0.3))] {
            for (time, source_time) in [(0, 3), (1, 1), (5, 0), (17, 70), (33, 16)] {
                for padded in [false, true] {
                    check(&cpu, width, coverage, [time, source_time], padded);
                }
            }
        }
    }
}

fn check(
    cpu: &Cpu,
    width: usize,
    coverage: Option<f32>,
    [time, source_time]: [usize; 2],
    padded: bool,
) {
    let batch = 3;
    let lengths = [time, source_time].map(|time| some_lengths(time, batch));
    let sequence =
        Sequence { lengths: padded.then_some(&lengths[0]), ..Sequence::new(time, batch) };
    let source =
        Sequence { lengths: padded.then_some(&lengths[1]), ..Sequence::new(source_time, batch) };
    let (q, keys) = (values(sequence.rows() * width, 1), values(source.rows() * width, 2));
    let columns = source_time;
    let mut first = positive(batch * columns, 3);
    for (b, row) in first.chunks_mut(columns.max(1)).enumerate() {
        row[source.real(b)..].fill(0.0);
    }
    let count = sequence.rows() * columns;
    let (da, dc) = (values(count, 4), values(count, 5));
    let starts: Vec<usize> = (0..batch).collect();
    let real: Vec<usize> = (0..batch).map(|b| source.real(b)).collect();
    let sources = Sources { keys: &keys, starts: &starts, lengths: &real, step: batch };
    let inputs = Inputs { width, columns, q: &q, sources, coverage };
    let (mut a, mut c) = (vec![f32::NAN; count], vec![f32::NAN; count]);
    if time > 0 {
        c[..batch * columns].copy_from_slice(&first);
    }
    forward(cpu, &sequence, inputs, &mut a, coverage.is_some().then_some(&mut c[..]));
    let wide_inputs = [&wide(&q)[..], &wide(&keys)[..]];
    let weight = f64::from(coverage.unwrap_or(0.0));
    let [exact_a, exact_c] =
        reference::forward(&sequence, &source, wide_inputs, weight, &wide(&first));
    close("a", &a, &exact_a, 3e-6);
    if coverage.is_some() {
        close("c", &c, &exact_c, 1e-5);
    } else {
        c.fill(0.0);
    }
    let zeros = vec![0.0; count];
    let dc = if coverage.is_some() { dc } else { zeros };
    let (exact_q, exact_keys, exact_weight) = reference::backward(
        &sequence,
        &source,
        wide_inputs,
        weight,
        [&exact_a, &exact_c],
        [&wide(&da), &wide(&dc)],
    );
    let (mut dq, mut dkeys, mut d_weight) = (vec![1.0; q.len()], vec![2.0; keys.len()], 3.0);
    let gradients = Gradients {
        q: Some(&mut dq),
        keys: Some(&mut dkeys),
        coverage: coverage.is_some().then_some(&mut d_weight),
    };
    backward(cpu, &sequence, inputs, [&a, &c], [Some(&da), Some(&dc)], gradients);
    let plus = |values: &[f64], start: f64| values.iter().map(|x| x + start).collect::<Vec<_>>();
    close("dq", &dq, &plus(&exact_q, 1.0), 2e-5);
    close("dkeys", &dkeys, &plus(&exact_keys, 2.0), 2e-5);
    if coverage.is_some() {
        close("dw", &[d_weight], &[exact_weight + 3.0], 1e-4);
    }
}

/// Read one position at a time, with the coverage carried, from keys laid source after source and
/// by two candidates each: the same bits as in one pass.
#[test]
fn steps_with_candidates_are_those_of_the_sequence() {
    let (width, columns, time, lengths) = (6, 20, 9, [13usize, 0, 20]);
    let (sources_count, candidates) = (lengths.len(), 2);
    let starts = [0, 13, 13];
    let keys = values(33 * width, 1);
    let q = values(time * sources_count * width, 2);
    for coverage in [None, Some(-1.5)] {
        let cpu = Cpu::new(2);
        let sources = Sources { keys: &keys, starts: &starts, lengths: &lengths, step: 1 };
        let inputs = Inputs { width, columns, q: &q, sources, coverage };
        let sequence = Sequence::new(time, sources_count);
        let count = sequence.rows() * columns;
        let (mut a, mut c) = (vec![f32::NAN; count], vec![0.0; count]);
        forward(&cpu, &sequence, inputs, &mut a, coverage.is_some().then_some(&mut c[..]));
        let step = Sequence::new(1, candidates * sources_count);
        let mut covered = vec![0.0; step.rows() * columns];
        for (q, exact) in q.chunks(sources_count * width).zip(a.chunks(sources_count * columns)) {
            let q = q.repeat(candidates);
            let mut own = vec![f32::NAN; step.rows() * columns];
            let inputs = Inputs { q: &q, ..inputs };
            forward(&cpu, &step, inputs, &mut own, coverage.is_some().then_some(&mut covered[..]));
            assert_eq!(own, exact.repeat(candidates));
            covered.iter_mut().zip(&own).for_each(|(c, a)| *c += a);
        }
    }
}

/// Property (f): extreme inputs stay finite, forward and backward.
#[test]
fn saturated_inputs_stay_finite() {
    let large = |len: usize, seed: u64| -> Vec<f32> {
        values(len, seed).iter().map(|x| x.signum() * 1e4).collect()
    };
    let (sequence, width, columns) = (Sequence::new(5, 2), 8, 7);
    let (q, keys) = (large(10 * 8, 1), large(14 * 8, 2));
    let sources = Sources { keys: &keys, starts: &[0, 7], lengths: &[7, 7], step: 1 };
    let inputs = Inputs { width, columns, q: &q, sources, coverage: Some(-1e4) };
    for cpu in everything(1) {
        let (mut a, mut c) = (vec![0.0; 70], vec![0.0; 70]);
        forward(&cpu, &sequence, inputs, &mut a, Some(&mut c));
        let (mut dq, mut dkeys) = (vec![0.0; q.len()], vec![0.0; keys.len()]);
        let gradients = Gradients { q: Some(&mut dq), keys: Some(&mut dkeys), coverage: None };
        let d = large(70, 3);
        backward(&cpu, &sequence, inputs, [&a, &c], [Some(&d), Some(&d)], gradients);
        assert!([a, c, dq, dkeys].iter().flatten().all(|x| x.is_finite()));
    }
}
