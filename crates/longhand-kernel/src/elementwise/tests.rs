use super::*;
use crate::testing::{check_gradient, close, levels, values, wide};

const SIZES: [usize; 6] = [0, 1, 7, 17, 100, 40_003];

fn on_all(check: impl Fn(&Cpu, usize)) {
    for level in levels() {
        for threads in [1, 3] {
            let cpu = Cpu::with_level(threads, level);
            SIZES.into_iter().for_each(|len| check(&cpu, len));
        }
    }
}

/// Values in −8..8, where the gates bend and saturate.
fn spread(len: usize, seed: u64) -> Vec<f32> {
    values(len, seed).iter().map(|x| 8.0 * x).collect()
}

fn exact(len: usize, f: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..len).map(f).collect()
}

#[test]
fn references_have_the_gradients_of_their_functions() {
    for seed in 0..20 {
        let v = wide(&spread(4, seed));
        let dy = v[3];
        let (dg, dx) = reference::sigmoid_gate_backward(v[0], v[1], dy);
        check_gradient("gate", &v[..2], &[dg, dx], |v| dy * reference::sigmoid_gate(v[0], v[1]));
        let (dg, da, db) = reference::gate_fusion_backward(v[0], v[1], v[2], dy);
        check_gradient("gate fusion", &v[..3], &[dg, da, db], |v| {
            dy * reference::gate_fusion(v[0], v[1], v[2])
        });
        let (dg, du) = reference::swiglu_backward(v[0], v[1], dy);
        check_gradient("SwiGLU", &v[..2], &[dg, du], |v| dy * reference::swiglu(v[0], v[1]));
    }
}

#[test]
fn sums() {
    on_all(|cpu, len| {
        let (a, b) = (values(len, 1), values(len, 2));
        let mut y = vec![9.0; len];
        add(cpu, &a, &b, &mut y);
        assert!((0..len).all(|i| y[i] == a[i] + b[i]));
        accumulate(cpu, &a, &mut y);
        assert!((0..len).all(|i| y[i] == a[i] + b[i] + a[i]));
    });
}

#[test]
fn rectified_values_pass_what_is_above_zero() {
    on_all(|cpu, len| {
        let (x, dy) = (values(len, 1), values(len, 2));
        let (mut y, mut dx) = (vec![9.0; len], vec![1.0; len]);
        relu(cpu, &x, &mut y);
        relu_backward(cpu, &y, &dy, &mut dx);
        for i in 0..len {
            let passes = x[i] > 0.0;
            assert_eq!(y[i], if passes { x[i] } else { 0.0 });
            assert_eq!(dx[i], if passes { 1.0 + dy[i] } else { 1.0 });
        }
    });
    let cpu = Cpu::new(1);
    let mut dx = [0.0; 2];
    relu_backward(&cpu, &[0.0, 1e-30], &[5.0; 2], &mut dx);
    assert_eq!(dx, [0.0, 5.0]);
}

#[test]
fn sigmoid_gates_follow_the_reference() {
    on_all(|cpu, len| {
        let (g, x, dy) = (spread(len, 1), values(len, 2), values(len, 3));
        let (mut y, mut dg, mut dx) = (vec![9.0; len], vec![1.0; len], vec![2.0; len]);
        sigmoid_gate(cpu, &g, &x, &mut y);
        sigmoid_gate_backward(cpu, &g, &x, &dy, Some(&mut dg), Some(&mut dx));
        let (mut dg_alone, mut dx_alone) = (vec![1.0; len], vec![2.0; len]);
        sigmoid_gate_backward(cpu, &g, &x, &dy, Some(&mut dg_alone), None);
        sigmoid_gate_backward(cpu, &g, &x, &dy, None, Some(&mut dx_alone));
        assert!(dg == dg_alone && dx == dx_alone);
        let (g, x, dy) = (wide(&g), wide(&x), wide(&dy));
        let back = |i: usize| reference::sigmoid_gate_backward(g[i], x[i], dy[i]);
        close("y", &y, &exact(len, |i| reference::sigmoid_gate(g[i], x[i])), 1e-6);
        close("dg", &dg, &exact(len, |i| 1.0 + back(i).0), 1e-6);
        close("dx", &dx, &exact(len, |i| 2.0 + back(i).1), 1e-6);
    });
}

#[test]
fn gate_fusion_follows_the_reference() {
    on_all(|cpu, len| {
        let (g, a, b, dy) = (spread(len, 1), values(len, 2), values(len, 3), values(len, 4));
        let mut y = vec![9.0; len];
        gate_fusion(cpu, &g, &a, &b, &mut y);
        let fresh = || (vec![1.0; len], vec![2.0; len], vec![3.0; len]);
        let (mut dg, mut da, mut db) = fresh();
        let inputs = [&g[..], &a, &b];
        gate_fusion_backward(cpu, inputs, &dy, Some(&mut dg), Some(&mut da), Some(&mut db));
        let (mut dg_alone, mut da_alone, mut db_alone) = fresh();
        gate_fusion_backward(cpu, inputs, &dy, Some(&mut dg_alone), None, None);
        gate_fusion_backward(cpu, inputs, &dy, None, Some(&mut da_alone), Some(&mut db_alone));
        assert!(dg == dg_alone && da == da_alone && db == db_alone);
        let (g, a, b, dy) = (wide(&g), wide(&a), wide(&b), wide(&dy));
        let back = |i: usize| reference::gate_fusion_backward(g[i], a[i], b[i], dy[i]);
        close("y", &y, &exact(len, |i| reference::gate_fusion(g[i], a[i], b[i])), 1e-6);
        close("dg", &dg, &exact(len, |i| 1.0 + back(i).0), 1e-6);
        close("da", &da, &exact(len, |i| 2.0 + back(i).1), 1e-6);
        close("db", &db, &exact(len, |i| 3.0 + back(i).2), 1e-6);
    });
}

#[test]
fn swiglu_follows_the_reference() {
    for level in levels() {
        let cpu = Cpu::with_level(3, level);
        for (rows, width) in [(0, 5), (1, 1), (3, 17), (130, 160)] {
            let (x, dy) = (spread(2 * rows * width, 1), values(rows * width, 2));
            let (mut y, mut dx) = (vec![9.0; rows * width], vec![1.0; 2 * rows * width]);
            swiglu(&cpu, width, &x, &mut y);
            swiglu_backward(&cpu, width, &x, &dy, &mut dx);
            let (x, dy) = (wide(&x), wide(&dy));
            let at = |i: usize| {
                let gate = i / width * 2 * width + i % width;
                (x[gate], x[gate + width], gate)
            };
            let y_exact = exact(rows * width, |i| reference::swiglu(at(i).0, at(i).1));
            close("y", &y, &y_exact, 2e-6);
            let mut dx_exact = vec![1.0; 2 * rows * width];
            for (i, &dy) in dy.iter().enumerate() {
                let (gate, up, place) = at(i);
                let (dgate, dup) = reference::swiglu_backward(gate, up, dy);
                dx_exact[place] += dgate;
                dx_exact[place + width] += dup;
            }
            close("dx", &dx, &dx_exact, 2e-6);
        }
    }
}

#[test]
fn sums_of_rows() {
    for level in levels() {
        let mut first: Option<Vec<f32>> = None;
        for threads in [1, 3] {
            let cpu = Cpu::with_level(threads, level);
            for (rows, width) in [(0, 3), (1, 1), (5, 33), (700, 70)] {
                let x = values(rows * width, 1);
                let mut sums = vec![1.0; width];
                sum_rows(&cpu, &x, &mut sums);
                let column = |c: usize| (0..rows).map(|r| f64::from(x[r * width + c])).sum::<f64>();
                close("sums", &sums, &exact(width, |c| 1.0 + column(c)), 1e-5);
                if rows == 700 {
                    assert_eq!(*first.get_or_insert_with(|| sums.clone()), sums);
                }
            }
        }
    }
}

#[test]
fn extremes_stay_finite() {
    for level in levels() {
        let cpu = Cpu::with_level(1, level);
        let g = [-1e4, 1e4, -1e4, 1e4];
        let (a, dy) = ([1e4, -1e4, 1e4, -1e4], [1.0; 4]);
        let (mut y, mut dg, mut da, mut db) = ([0.0; 4], [0.0; 4], [0.0; 4], [0.0; 4]);
        gate_fusion(&cpu, &g, &a, &g, &mut y);
        let (dg, da, db) = (Some(&mut dg[..]), Some(&mut da[..]), Some(&mut db[..]));
        gate_fusion_backward(&cpu, [&g, &a, &g], &dy, dg, da, db);
        let (mut z, mut dx) = ([0.0; 2], [0.0; 4]);
        swiglu(&cpu, 2, &g, &mut z);
        swiglu_backward(&cpu, 2, &g, &dy[..2], &mut dx);
        assert!(y.iter().chain(&z).chain(&dx).all(|v| v.is_finite()));
    }
}
