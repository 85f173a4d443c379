use super::*;
use crate::testing::{check_gradient, close, levels, values, wide};

fn norms() -> Vec<Norm> {
    let mut norms = Vec::new();
    for width in [1, 5, 16, 33, 160] {
        norms.push(Norm::root_mean_square(width, 1e-5));
        norms.push(Norm::layer(width, 1e-5));
        norms.push(Norm::multi_head(3, width, 1e-5));
    }
    norms
}

#[test]
fn reference_gradients_are_central_differences() {
    for norm in
        [Norm::root_mean_square(7, 1e-5), Norm::layer(6, 1e-5), Norm::multi_head(2, 4, 1e-5)]
    {
        let (rows, d) = (3, norm.row());
        let x = wide(&values(rows * d, 1));
        let weight = wide(&values(d, 2));
        let bias = wide(&values(d, 3));
        let dy = wide(&values(rows * d, 4));
        let loss = |x: &[f64], weight: &[f64], bias: &[f64]| -> f64 {
            let y = reference::forward(norm, x, Some(weight), Some(bias));
            y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
        };
        let (dx, dweight, dbias) = reference::backward(norm, &x, Some(&weight), &dy);
        check_gradient("dx", &x, &dx, |x| loss(x, &weight, &bias));
        check_gradient("dweight", &weight, &dweight, |weight| loss(&x, weight, &bias));
        check_gradient("dbias", &bias, &dbias, |bias| loss(&x, &weight, bias));
    }
}

#[test]
fn every_level_equals_the_reference() {
    for level in levels() {
        for threads in [1, 2] {
            let cpu = Cpu::with_level(threads, level);
            for norm in norms() {
                for rows in [0, 1, 7, 131] {
                    for with_vectors in [false, true] {
                        check(&cpu, norm, rows, with_vectors);
                    }
                }
            }
        }
    }
}

fn check(cpu: &Cpu, norm: Norm, rows: usize, with_vectors: bool) {
    let d = norm.row();
    let x = values(rows * d, 5);
    let dy = values(rows * d, 6);
    let (weight, bias) = (values(d, 7), values(d, 8));
    let weight = with_vectors.then_some(&weight[..]);
    let bias = with_vectors.then_some(&bias[..]);
    let weight_wide = weight.map(wide);

    let mut y = vec![f32::NAN; rows * d];
    let mut saved = vec![f32::NAN; norm.saved_len(rows)];
    forward(cpu, norm, &x, weight, bias, &mut y, &mut saved);
    let exact =
        reference::forward(norm, &wide(&x), weight_wide.as_deref(), bias.map(wide).as_deref());
    close("y", &y, &exact, 1e-5);

    // Gradients are added to what is there.
    let (mut dx, mut dweight, mut dbias) = (vec![1.0; rows * d], vec![2.0; d], vec![3.0; d]);
    backward(
        cpu,
        norm,
        &x,
        weight,
        &saved,
        &dy,
        Gradients { x: Some(&mut dx), weight: Some(&mut dweight), bias: Some(&mut dbias) },
    );
    let (exact_dx, exact_dweight, exact_dbias) =
        reference::backward(norm, &wide(&x), weight_wide.as_deref(), &wide(&dy));
    let plus = |values: &[f64], start: f64| values.iter().map(|x| x + start).collect::<Vec<_>>();
    // A group of one element has a deviation near √ε: its gradients are large and cancel.
    let tolerance = if norm.width == 1 { 1e-3 } else { 3e-5 };
    close("dx", &dx, &plus(&exact_dx, 1.0), tolerance);
    close("dweight", &dweight, &plus(&exact_dweight, 2.0), tolerance);
    close("dbias", &dbias, &plus(&exact_dbias, 3.0), tolerance);

    // Each alone, the others costing nothing.
    let mut alone = vec![1.0; rows * d];
    let only = Gradients { x: Some(&mut alone), ..Gradients::default() };
    backward(cpu, norm, &x, weight, &saved, &dy, only);
    assert_eq!(alone, dx);
}

#[test]
fn threads_add_in_a_fixed_order() {
    let norm = Norm::layer(64, 1e-5);
    let cpu = Cpu::new(3);
    let (x, dy) = (values(1000 * 64, 9), values(1000 * 64, 10));
    let mut y = vec![0.0; x.len()];
    let mut saved = vec![0.0; norm.saved_len(1000)];
    forward(&cpu, norm, &x, None, None, &mut y, &mut saved);
    let run = || {
        let mut dweight = vec![0.0; 64];
        let only = Gradients { weight: Some(&mut dweight), ..Gradients::default() };
        backward(&cpu, norm, &x, None, &saved, &dy, only);
        dweight
    };
    let once = run();
    for _ in 0..20 {
        assert_eq!(run(), once);
    }
}

#[test]
fn large_and_constant_rows_stay_finite() {
    let cpu = Cpu::new(1);
    for norm in [Norm::root_mean_square(24, 1e-5), Norm::layer(24, 1e-5)] {
        let x: Vec<f32> =
            (0..72).map(|i| [0.0, 1e4, if i % 2 == 0 { 1e4 } else { -1e4 }][i / 24]).collect();
        let dy = vec![1e4; 72];
        let mut y = vec![0.0; 72];
        let mut saved = vec![0.0; norm.saved_len(3)];
        forward(&cpu, norm, &x, None, None, &mut y, &mut saved);
        let mut dx = vec![0.0; 72];
        let only = Gradients { x: Some(&mut dx), ..Gradients::default() };
        backward(&cpu, norm, &x, None, &saved, &dy, only);
        assert!(y.iter().chain(&dx).all(|x| x.is_finite()));
    }
}

#[test]
#[should_panic(expected = "the length of weight and bias")]
fn a_short_weight_is_refused_in_the_backward_pass() {
    let norm = Norm::layer(8, 1e-5);
    let (x, saved, mut dx) = ([1.0; 16], [1.0; 4], [0.0; 16]);
    let weight = Some(&x[..7]);
    let only = Gradients { x: Some(&mut dx), ..Gradients::default() };
    backward(&Cpu::new(1), norm, &x, weight, &saved, &x, only);
}
