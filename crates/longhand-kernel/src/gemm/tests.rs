use super::*;
use crate::precision::Precision;
use crate::testing::{close, levels, values, wide};

const SIZES: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (0, 3, 2),
    (3, 0, 5),
    (1, 17, 33),
    (5, 31, 65),
    (6, 64, 64),
    (7, 257, 130),
    (25, 40, 70),
    (33, 300, 20),
    (200, 30, 1),
    (130, 70, 800),
    (65, 513, 66),
    (70, 512, 100),
    (200, 1025, 30),
];

fn on_all(check: impl Fn(&Cpu)) {
    for level in levels() {
        for precision in Precision::ALL {
            for threads in [1, 3] {
                check(&Cpu::with(threads, level, precision));
            }
        }
    }
}

/// A product's operands, each as it is and strides transposed, and the exact result.
struct Case {
    a: [Vec<f32>; 2],
    b: [Vec<f32>; 2],
    c: Vec<f32>,
    exact: Vec<f64>,
    tolerance: f64,
}

impl Case {
    /// `add` says whether the exact result has C in it. It is that of rounded operands: what is
    /// left is the error of sums in `f32`.
    fn new(cpu: &Cpu, (m, k, n): (usize, usize, usize), add: bool) -> Self {
        let (a, b, c) = (values(m * k, 1), values(k * n, 2), values(m * n, 3));
        let rounded = |v: &[f32]| -> Vec<f64> {
            v.iter().map(|&x| f64::from(cpu.precision().round(x))).collect()
        };
        let mut exact = if add { wide(&c) } else { vec![0.0; m * n] };
        reference::gemm(&rounded(&a), &rounded(&b), &mut exact, m, k, n);
        let transpose = |v: &[f32], rows: usize, cols: usize| -> Vec<f32> {
            (0..rows * cols).map(|i| v[i % rows * cols + i / rows]).collect()
        };
        let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
        let tolerance = 1e-6 * (k as f64).sqrt().max(1.0) + 1e-6;
        Self { a: [a, at], b: [b, bt], c, exact, tolerance }
    }
}

/// A matrix from its elements as they are, or strides transposed.
fn matrix(forms: &[Vec<f32>; 2], rows: usize, cols: usize, transposed: bool) -> Matrix<'_> {
    match transposed {
        false => Matrix::new(&forms[0], rows, cols),
        true => Matrix::new(&forms[1], cols, rows).t(),
    }
}

#[test]
fn every_form_equals_the_reference_at_awkward_sizes() {
    on_all(|cpu| {
        for size @ (m, k, n) in SIZES {
            for add in [false, true] {
                let case = Case::new(cpu, size, add);
                for form in 0..4 {
                    let a = matrix(&case.a, m, k, form & 1 == 1);
                    let b = matrix(&case.b, k, n, form & 2 == 2);
                    let mut got = case.c.clone();
                    let into = if add { Into::Add } else { Into::Replace };
                    gemm(cpu, a, b, MatrixMut::new(&mut got, m, n), into);
                    let name = format!("{size:?} {form} {:?} {}", cpu.level(), cpu.precision());
                    close(&name, &got, &case.exact, case.tolerance);
                }
            }
        }
    });
}

#[test]
fn an_operand_packed_by_all_threads_serves_several_products() {
    on_all(|cpu| {
        for size @ (m, k, n) in SIZES {
            let case = Case::new(cpu, size, false);
            for transposed in [false, true] {
                let b = matrix(&case.b, k, n, transposed);
                // Two lanes for each element are always enough.
                let mut packed = vec![0.0; 2 * (k + 1) * (n + 16)];
                let mut got = vec![9.0; m * n];
                let (to, parts) = (Shards::new(&mut packed), Shards::new(&mut got));
                cpu.run(|worker| {
                    pack_together(worker, b, &to);
                    worker.barrier();
                    // SAFETY: only read from here on.
                    let data = unsafe { to.read(0..packed_len(worker, k, n)) };
                    let rows = worker.share(m, 1);
                    // SAFETY: each row belongs to one thread.
                    let own = unsafe { parts.part(rows.start * n..rows.end * n) };
                    let a = Matrix::new(&case.a[0], m, k).rows(rows.clone());
                    let c = MatrixMut::new(own, rows.len(), n);
                    gemm_packed(worker, a, Packed { data, k, n }, c, Into::Replace);
                });
                close(&format!("{size:?} {:?}", cpu.level()), &got, &case.exact, case.tolerance);
            }
        }
    });
}

#[test]
fn strided_parts_leave_the_rest_alone() {
    let cpu = Cpu::new(2);
    let (a, b) = (values(40 * 50, 4), values(50 * 30, 5));
    let mut c = vec![7.0; 40 * 100];
    let part = MatrixMut::strided(&mut c[10..], 40, 20, 100);
    gemm(
        &cpu,
        Matrix::new(&a, 40, 50).columns(5..45),
        Matrix::new(&b, 50, 30).rows(5..45).columns(3..23),
        part,
        Into::Replace,
    );
    for i in 0..40 {
        for j in 0..100 {
            let exact: f32 = if (10..30).contains(&j) {
                (5..45).map(|l| a[i * 50 + l] * b[l * 30 + j - 10 + 3]).sum()
            } else {
                7.0
            };
            assert!((c[i * 100 + j] - exact).abs() < 1e-4);
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    for precision in Precision::ALL {
        // Rows enough to be shared, of which each of several threads has few.
        for size @ (m, k, n) in [(90, 700, 130), (65, 513, 66), (64, 600, 40)] {
            let case = Case::new(&Cpu::new(1), size, false);
            for transposed in [false, true] {
                let results = [1, 2, 3, 5].map(|threads| {
                    let mut c = vec![0.0; m * n];
                    let cpu = Cpu::with_precision(threads, precision);
                    let b = matrix(&case.b, k, n, transposed);
                    let a = Matrix::new(&case.a[0], m, k);
                    gemm(&cpu, a, b, MatrixMut::new(&mut c, m, n), Into::Replace);
                    c
                });
                assert!(results.iter().all(|result| *result == results[0]), "{size:?}");
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    on_all(|cpu| {
        let ones = [1.0; 32];
        let mut a = vec![1.0; 40 * 8];
        a[3] = f32::NAN;
        a[8] = f32::INFINITY;
        let mut c = vec![0.0; 40 * 4];
        let (a, b) = (Matrix::new(&a, 40, 8), Matrix::new(&ones, 8, 4));
        gemm(cpu, a, b, MatrixMut::new(&mut c, 40, 4), Into::Replace);
        assert!(c[..4].iter().all(|x| x.is_nan()));
        assert!(c[4..8].iter().all(|&x| x == f32::INFINITY));
        assert!(c[8..].iter().all(|&x| x == 8.0));
    });
}

#[test]
#[should_panic(expected = "rows of 5 that begin 4 apart")]
fn rows_that_overlap_are_not_written() {
    MatrixMut::strided(&mut [0.0; 9], 2, 5, 4);
}
