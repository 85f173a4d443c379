use super::*;
use crate::precision::Precision;
use crate::testing::{check_gradient, close, levels, rounded, values, wide};

/// Targets that differ, every fifth or so ignored.
fn targets(rows: usize, vocabulary: usize) -> Vec<u32> {
    (0..rows)
        .map(|r| match r % 5 {
            3 if r % 2 == 1 => IGNORE,
            _ => ((r * r + 7 * r) % vocabulary) as u32,
        })
        .collect()
}

#[test]
fn the_reference_has_the_gradient_of_its_function() {
    let size = Size { rows: 5, width: 3, vocabulary: 4 };
    let (x, w) = (wide(&values(15, 1)), wide(&values(12, 2)));
    let b = wide(&values(4, 3));
    let targets = targets(5, 4);
    assert!(targets.contains(&IGNORE));
    for smoothing in [0.0, 0.2] {
        let value = |x: &[f64], w: &[f64], b: &[f64]| {
            let mut losses = [0.0; 5];
            let layer = Layer { x, weight: w, bias: Some(b) };
            let targets = Targets { ids: &targets, smoothing };
            reference::cross_entropy(size, layer, targets, &mut losses, None);
            0.3 * losses.iter().sum::<f64>()
        };
        let (mut dx, mut dw, mut db) = ([0.0; 15], [0.0; 12], [0.0; 4]);
        let into = Some((0.3, [&mut dx[..], &mut dw, &mut db]));
        let layer = Layer { x: &x, weight: &w, bias: Some(&b[..]) };
        let targets = Targets { ids: &targets, smoothing };
        reference::cross_entropy(size, layer, targets, &mut [0.0; 5], into);
        check_gradient("x", &x, &dx, |x| value(x, &w, &b));
        check_gradient("weight", &w, &dw, |w| value(&x, w, &b));
        check_gradient("bias", &b, &db, |b| value(&x, &w, b));
    }
}

#[test]
fn losses_and_gradients_follow_the_reference() {
    let sizes = [
        (0, 3, 2),
        (1, 1, 2),
        (1, 5, 1),
        (7, 0, 3),
        (70, 17, 5),
        (1100, 9, 33),
        (130, 33, 70),
        (40, 20, 2000),
    ];
    for level in levels() {
        let forms = [1, 2, 5].map(|threads| (threads, Precision::F32));
        for (threads, precision) in forms.into_iter().chain([(2, Precision::Bf16)]) {
            let cpu = Cpu::with(threads, level, precision);
            for (i, (rows, width, vocabulary)) in sizes.into_iter().enumerate() {
                let smoothing = if i % 2 == 0 { 0.0 } else { 0.1 };
                check(&cpu, Size { rows, width, vocabulary }, smoothing);
            }
        }
    }
}

fn check(cpu: &Cpu, size: Size, smoothing: f32) {
    let Size { rows, width, vocabulary } = size;
    // Exact in the precision: only the sums of the logits err, in `f32`.
    let of = |len: usize, seed: u64| rounded(cpu.precision(), &values(len, seed));
    let (x, w) = (of(rows * width, 1), of(vocabulary * width, 2));
    let (b, targets) = (values(vocabulary, 3), targets(rows, vocabulary));
    let (wide_x, wide_w, wide_b) = (wide(&x), wide(&w), wide(&b));
    let mut exact = vec![0.0; rows];
    let (mut dx, mut dw) = (vec![1.0; x.len()], vec![2.0; w.len()]);
    let mut db = vec![3.0; vocabulary];
    let into = Some((0.5, [&mut dx[..], &mut dw, &mut db]));
    let wide_layer = Layer { x: &wide_x, weight: &wide_w, bias: Some(&wide_b[..]) };
    let wide_targets = Targets { ids: &targets, smoothing: f64::from(smoothing) };
    reference::cross_entropy(size, wide_layer, wide_targets, &mut exact, into);

    let mut losses = vec![9.0; rows];
    let (mut gx, mut gw) = (vec![1.0; x.len()], vec![2.0; w.len()]);
    let mut gb = vec![3.0; vocabulary];
    let gradient =
        Gradient { scale: 0.5, x: Some(&mut gx), weight: Some(&mut gw), bias: Some(&mut gb) };
    let layer = Layer { x: &x, weight: &w, bias: Some(&b) };
    let asked = Targets { ids: &targets, smoothing };
    let total = cross_entropy(cpu, size, layer, asked, Some(&mut losses), Some(gradient));
    let tolerance = 2e-6 * (1.0 + (width.max(rows) as f64).sqrt());
    close("losses", &losses, &exact, tolerance);
    // Gradients of logits are rounded to 2⁻⁹ before they are multiplied.
    let products = if cpu.precision() == Precision::F32 { tolerance } else { 1e-2 };
    close("dx", &gx, &dx, products);
    close("dW", &gw, &dw, products);
    close("db", &gb, &db, tolerance);
    let nats: f64 = exact.iter().sum();
    assert!((total.nats - nats).abs() <= tolerance * (1.0 + nats), "{} for {nats}", total.nats);
    assert_eq!(total.count, targets.iter().filter(|&&target| target != IGNORE).count());

    let mut out = vec![9.0; rows * vocabulary];
    logits(cpu, size, &x, &w, Some(&b), &mut out);
    let right = |(row, &target): (&[f32], &u32)| {
        target != IGNORE && row.iter().all(|&logit| logit <= row[target as usize])
    };
    let correct = out.chunks(vocabulary).zip(&targets).filter(|&pair| right(pair)).count();
    assert_eq!(total.correct, correct);
    log_softmax(cpu, vocabulary, &mut out);
    for (row, &target) in out.chunks(vocabulary).zip(&targets) {
        assert!((row.iter().map(|&x| f64::from(x).exp()).sum::<f64>() - 1.0).abs() < 1e-5);
        assert!(target == IGNORE || row[target as usize] <= 0.0);
    }

    // Without gradients, and with some of them, the rest is bit-identical.
    let again = cross_entropy(cpu, size, layer, asked, None, None);
    assert_eq!(again, total);
    let mut only = vec![1.0; x.len()];
    let gradient = Gradient { scale: 0.5, x: Some(&mut only), weight: None, bias: None };
    cross_entropy(cpu, size, layer, asked, None, Some(gradient));
    assert_eq!(only, gx);
}

#[test]
fn huge_logits_stay_finite_and_what_is_not_a_number_shows() {
    for level in levels() {
        let cpu = Cpu::with_level(2, level);
        let size = Size { rows: 2, width: 1, vocabulary: 3 };
        let (x, w) = ([1e4, -1e4], [1.0, -1.0, 0.5]);
        let (mut dx, mut losses) = ([0.0; 2], [0.0; 2]);
        let gradient = Gradient { scale: 1.0, x: Some(&mut dx), weight: None, bias: None };
        let into = Some(&mut losses[..]);
        let of =
            |x, ids, smoothing| (Layer { x, weight: &w, bias: None }, Targets { ids, smoothing });
        let (layer, targets) = of(&x, &[1, 1], 0.1);
        let total = cross_entropy(&cpu, size, layer, targets, into, Some(gradient));
        assert!(total.nats.is_finite() && dx.iter().all(|d| d.is_finite()), "{losses:?}");
        assert_eq!(total.correct, 1);
        let x = [f32::NAN, 1.0];
        let (layer, targets) = of(&x, &[1, 1], 0.0);
        let total = cross_entropy(&cpu, size, layer, targets, None, None);
        assert!(total.nats.is_nan());
        let (layer, targets) = of(&x, &[IGNORE, 0], 0.0);
        let total = cross_entropy(&cpu, size, layer, targets, None, None);
        assert!(total.nats.is_finite() && total.count == 1);
        let (layer, targets) = of(&x, &[IGNORE; 2], 0.0);
        let total = cross_entropy(&cpu, size, layer, targets, None, None);
        assert_eq!(total, Total::default());
    }
}

#[test]
#[should_panic(expected = "target 3 of row 1 is outside a vocabulary of 3")]
fn a_target_outside_the_vocabulary_is_refused() {
    let size = Size { rows: 2, width: 1, vocabulary: 3 };
    let layer = Layer { x: &[0.0; 2], weight: &[0.0; 3], bias: None };
    let targets = Targets { ids: &[0, 3], smoothing: 0.0 };
    cross_entropy(&Cpu::new(1), size, layer, targets, None, None);
}

#[test]
fn targets_outside_the_vocabulary_are_found_before_the_call() {
    assert_eq!(target_out_of_range(&[0, IGNORE, 2, 3, 9], 3), Some((3, 3)));
    assert_eq!(target_out_of_range(&[0, IGNORE, 2], 3), None);
    assert_eq!(target_out_of_range(&[0], 0), Some((0, 0)));
}

#[test]
fn the_most_probable_is_the_first_of_the_largest_at_any_place() {
    for level in levels() {
        let cpu = Cpu::with(2, level, Precision::F32);
        for count in [1, 31, 32, 33, 100, 2049] {
            let row = |at: usize| {
                (0..count).map(move |i| match i {
                    _ if i == at || i == at + 3 => 2.0,
                    _ if i % 7 == 3 => f32::NAN,
                    _ => -(i as f32),
                })
            };
            let places: Vec<usize> = (0..count).step_by(1 + count / 9).collect();
            let x: Vec<f32> = places.iter().flat_map(|&at| row(at)).collect();
            let mut found = vec![9; places.len()];
            most_probable(&cpu, count, &x, &mut found);
            assert!(found.iter().zip(&places).all(|(&found, &at)| found as usize == at));
        }
        let mut found = [9];
        most_probable(&cpu, 3, &[f32::NAN; 3], &mut found);
        assert_eq!(found, [0]);
        most_probable(&cpu, 3, &[f32::NEG_INFINITY; 3], &mut found);
        assert_eq!(found, [0]);
    }
}
