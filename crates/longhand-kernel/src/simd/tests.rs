use super::*;
use crate::real::Real;

/// Distance in units of the last place of the exact value rounded to `f32`.
fn ulps(got: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if got == rounded {
        return 0.0;
    }
    let ulp = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
    (f64::from(got) - exact).abs() / ulp
}

fn check(
    name: &str,
    tolerance: f64,
    range: std::ops::Range<f64>,
    fast: fn(Level, &mut [f32]),
    exact: fn(f64) -> f64,
) {
    let inputs: Vec<f32> = (0..200_003)
        .map(|i| (range.start + (range.end - range.start) * f64::from(i) / 200_002.0) as f32)
        .chain((0..2_000).map(|i| (f64::from(i - 1000) * 1e-6) as f32))
        .collect();
    for level in Level::available() {
        let mut outputs = inputs.clone();
        fast(level, &mut outputs);
        for (&x, &y) in inputs.iter().zip(&outputs) {
            let error = ulps(y, exact(f64::from(x)));
            assert!(error <= tolerance, "{name}({x}) = {y} at {level:?}: off by {error} ulp");
        }
    }
}

#[test]
fn a_transpose_puts_every_element_in_its_place() {
    struct Square<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Square<'_> {
        type Output = usize;
        #[inline(always)]
        unsafe fn run<V: Vector>(self) -> usize {
            // SAFETY: both hold 16 rows, 19 and 17 apart.
            unsafe { V::transpose(self.0.as_ptr(), 19, self.1.as_mut_ptr(), 17) }
            V::LANES
        }
    }
    let from: Vec<f32> = (0..16 * 19).map(|i| i as f32).collect();
    for level in Level::available() {
        let mut to = vec![0.0; 16 * 17];
        let lanes = level.run(Square(&from, &mut to));
        for (i, value) in to.iter().enumerate() {
            let (row, column) = (i / 17, i % 17);
            let inside = row < lanes && column < lanes;
            assert_eq!(*value, if inside { from[column * 19 + row] } else { 0.0 }, "{level:?}");
        }
    }
}

#[test]
fn exp_is_within_two_ulp_over_the_whole_range() {
    check("exp", 2.0, -110.0..88.7, exp_slice, f64::exp);
}

#[test]
fn tanh_is_within_two_ulp_over_the_whole_range() {
    check("tanh", 2.0, -20.0..20.0, tanh_slice, f64::tanh);
    check("tanh", 2.0, -1.0..1.0, tanh_slice, f64::tanh);
}

#[test]
fn log_sigmoid_is_within_four_ulp_over_the_whole_range() {
    fn exact(x: f64) -> f64 {
        x.min(0.0) - (-x.abs()).exp().ln_1p()
    }
    check("log_sigmoid", 4.0, -1e4..80.0, log_sigmoid_slice, exact);
    check("log_sigmoid", 4.0, -20.0..20.0, log_sigmoid_slice, exact);
}

#[test]
fn sigmoid_is_within_two_ulp_over_the_whole_range() {
    for range in [-110.0..110.0, -20.0..20.0, -2.0..2.0] {
        check("sigmoid", 2.0, range, sigmoid_slice, Real::sigmoid);
    }
}

#[test]
fn extremes_stay_defined() {
    for level in Level::available() {
        let mut values = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY, f32::NAN];
        exp_slice(level, &mut values);
        assert_eq!(values[..4], [0.0, 0.0, f32::INFINITY, f32::INFINITY]);
        assert!(values[4].is_nan());
        let mut values = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY];
        tanh_slice(level, &mut values);
        assert_eq!(values, [-1.0, -1.0, 1.0, 1.0]);
        let mut values = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY];
        sigmoid_slice(level, &mut values);
        assert_eq!(values, [0.0, 0.0, 1.0, 1.0]);
    }
}

#[test]
fn four_sums_are_each_a_sum() {
    struct Sums<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Sums<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            // SAFETY: four vectors are read, and five values written.
            unsafe {
                let at = |i: usize| V::load(self.0.as_ptr().add(i * V::LANES));
                V::store_sums([at(0), at(1), at(2), at(3)], self.1.as_mut_ptr());
                self.1[4] = at(2).sum();
            }
        }
    }
    for level in Level::available() {
        let lanes = level.lanes();
        // Whole numbers: any order of summation gives the same.
        let from: Vec<f32> = (0..4 * lanes).map(|i| (i * i % 97) as f32).collect();
        let mut sums = [0.0; 5];
        level.run(Sums(&from, &mut sums));
        let exact: Vec<f32> = from.chunks(lanes).map(|vector| vector.iter().sum()).collect();
        assert_eq!(sums[..4], exact, "{level:?}");
        assert_eq!(sums[4], exact[2], "{level:?}");
    }
}
