//! L2-regularised logistic regression by dual coordinate descent (Yu, Huang and Lin, "Dual
//! coordinate descent methods for logistic regression and maximum entropy models", 2011,
//! algorithm 5, as LIBLINEAR does it).
//!
//! It minimises f(w) = ½‖w‖² + C Σᵢ ln(1 + exp(−yᵢ w·xᵢ)) over yᵢ = ±1. The dual problem has a
//! number αᵢ between 0 and C for each example, and w = Σᵢ αᵢ yᵢ xᵢ. A pass takes the examples in a
//! seeded order and solves for one αᵢ at a time by Newton's method.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::index::Rows;

/// Examples with binary features, each of which has a scale: xᵢⱼ is `scales[j]` or 0, and one more
/// feature is 1 in every example.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a> {
    /// The features of each example, none of them twice.
    pub(crate) rows: &'a Rows,
    /// Whether yᵢ is 1.
    pub(crate) targets: &'a [bool],
    /// `[V]`: the value of each feature.
    pub(crate) scales: &'a [f32],
}

/// The weights, and what a further run with another C begins with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Solution {
    /// `[V]`: wⱼ times the scale of the feature j, so that a score is a sum of these.
    pub(crate) weights: Vec<f32>,
    /// The weight of the feature that is always 1.
    pub(crate) bias: f32,
    /// αᵢ / C of each example.
    shares: Vec<f64>,
}

/// The largest gradient of a dual variable at which the descent ends.
const TOLERANCE: f64 = 0.01;
/// The most passes: more do not change an answer.
const PASSES: usize = 300;
/// The most Newton steps for one variable.
const NEWTON: usize = 100;
/// The factor by which a step that would leave the interval shrinks instead.
const SHRINK: f64 = 0.1;
/// αᵢ / C at the start.
const FIRST: f64 = 1e-3;

/// Solves the problem for the cost C. `earlier` is a solution for another cost.
pub(crate) fn solve(
    problem: Problem<'_>,
    cost: f64,
    seed: u64,
    earlier: Option<&Solution>,
) -> Solution {
    let Problem { rows, targets, scales } = problem;
    let shares = match earlier {
        Some(earlier) => earlier.shares.clone(),
        None => vec![FIRST.min(1e-8 / cost); rows.len()],
    };
    let mut descent = Descent {
        // Weight and scale together: each feature costs one cache line.
        features: scales.iter().map(|&scale| [0.0, scale]).collect(),
        bias: 0.0,
        cost,
        inner: 1e-2,
    };
    let square = |row: &[u32]| {
        let squares = row.iter().map(|&j| f64::from(scales[j as usize]).powi(2));
        1.0 + squares.sum::<f64>()
    };
    let squares: Vec<f64> = rows.iter().map(square).collect();
    let mut alphas: Vec<f64> = shares.iter().map(|share| share * cost).collect();
    for (place, row) in rows.iter().enumerate() {
        descent.add(row, sign(targets[place]) * alphas[place]);
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..PASSES {
        order.shuffle(&mut random);
        let (mut largest, mut steps) = (0.0_f64, 0);
        for &place in &order {
            let (row, sign) = (rows.row(place), sign(targets[place]));
            let margin = sign * descent.score(row);
            let (alpha, taken, gradient) = descent.minimise(alphas[place], squares[place], margin);
            largest = largest.max(gradient.abs());
            steps += taken;
            if taken > 0 {
                descent.add(row, sign * (alpha - alphas[place]));
                alphas[place] = alpha;
            }
        }
        if largest < TOLERANCE {
            break;
        }
        if steps <= rows.len() / 10 {
            descent.inner = (descent.inner * 0.1).max(1e-8);
        }
    }
    Solution {
        weights: descent.features.iter().map(|feature| feature[0]).collect(),
        bias: descent.bias as f32,
        shares: alphas.iter().map(|alpha| alpha / cost).collect(),
    }
}

/// Weights in the course of a descent.
struct Descent {
    /// wⱼ·sⱼ and sⱼ of each feature, with the scale s.
    features: Vec<[f32; 2]>,
    bias: f64,
    cost: f64,
    /// The gradient at which Newton's method for one variable ends.
    inner: f64,
}

impl Descent {
    /// The score w·x of a row.
    fn score(&self, row: &[u32]) -> f64 {
        let sum: f64 = row.iter().map(|&j| f64::from(self.features[j as usize][0])).sum();
        sum + self.bias
    }

    /// Adds a multiple of x to w.
    fn add(&mut self, row: &[u32], factor: f64) {
        for &j in row {
            let [weight, scale] = &mut self.features[j as usize];
            *weight += factor as f32 * *scale * *scale;
        }
        self.bias += factor;
    }

    /// The α of one example that minimises the dual, the steps taken, and the gradient before them.
    /// `square` is ‖x‖² and `margin` y w·x. The variable is α or C − α, whichever keeps away from
    /// the end of the interval where the logarithms are steep (the paper's algorithm 4).
    fn minimise(&self, alpha: f64, square: f64, margin: f64) -> (f64, usize, f64) {
        let cost = self.cost;
        let is_other = 0.5 * square * (cost - 2.0 * alpha) + margin < 0.0;
        let (before, slope) = if is_other { (cost - alpha, -margin) } else { (alpha, margin) };
        let mut z = if cost - before < 0.5 * cost { SHRINK * before } else { before };
        let gradient = |z: f64| square * (z - before) + slope + (z / (cost - z)).ln();
        let mut slope_here = gradient(z);
        let first = slope_here;
        let mut steps = 0;
        while slope_here.abs() >= self.inner && steps < NEWTON {
            let curvature = square + cost / (cost - z) / z;
            let next = z - slope_here / curvature;
            z = if next <= 0.0 { z * SHRINK } else { next };
            slope_here = gradient(z);
            steps += 1;
        }
        if steps == 0 || !z.is_finite() {
            return (alpha, 0, first);
        }
        (if is_other { cost - z } else { z }, steps, first)
    }
}

fn sign(target: bool) -> f64 {
    if target { 1.0 } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f(w) and its gradient, straight from the definition; the last weight is the bias.
    fn loss(problem: Problem<'_>, cost: f64, w: &[f64]) -> (f64, Vec<f64>) {
        let mut value = 0.5 * w.iter().map(|x| x * x).sum::<f64>();
        let mut gradient = w.to_vec();
        let bias = w.len() - 1;
        for (place, row) in problem.rows.iter().enumerate() {
            let y = sign(problem.targets[place]);
            let x = |j: u32| f64::from(problem.scales[j as usize]);
            let score = w[bias] + row.iter().map(|&j| w[j as usize] * x(j)).sum::<f64>();
            value += cost * (-y * score).exp().ln_1p();
            let slope = -cost * y / (1.0 + (y * score).exp());
            row.iter().for_each(|&j| gradient[j as usize] += slope * x(j));
            gradient[bias] += slope;
        }
        (value, gradient)
    }

    fn problem() -> (Rows, Vec<bool>, Vec<f32>) {
        let mut rows = Rows::default();
        let mut targets = Vec::new();
        for place in 0..60_u32 {
            // Feature 0 mostly decides; the others are noise, and some rows contradict.
            let mut row = vec![1 + place % 5, 6 + place % 7];
            if place % 3 == 0 {
                row.insert(0, 0);
            }
            rows.push(&row);
            targets.push((place % 3 == 0) != (place % 11 == 0));
        }
        let scales = (0..13).map(|j| 0.5 + 0.25 * (j % 4) as f32 - f32::from(j % 2 == 1)).collect();
        (rows, targets, scales)
    }

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let (rows, targets, scales) = problem();
        let problem = Problem { rows: &rows, targets: &targets, scales: &scales };
        let w: Vec<f64> = (0..14).map(|j| (f64::from(j) * 0.7).sin()).collect();
        let (_, gradient) = loss(problem, 2.0, &w);
        for j in 0..w.len() {
            let at = |step: f64| {
                let mut w = w.clone();
                w[j] += step;
                loss(problem, 2.0, &w).0
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((numeric - gradient[j]).abs() < 1e-6, "{j}: {numeric} {}", gradient[j]);
        }
    }

    #[test]
    fn the_gradient_vanishes_at_the_solution_for_any_cost() {
        let (rows, targets, scales) = problem();
        let problem = Problem { rows: &rows, targets: &targets, scales: &scales };
        let mut earlier: Option<Solution> = None;
        for cost in [0.01, 1.0, 100.0] {
            let cold = solve(problem, cost, 1, None);
            let warm = solve(problem, cost, 1, earlier.as_ref());
            for solution in [&cold, &warm] {
                let scaled = solution.weights.iter().zip(&scales);
                let mut w: Vec<f64> =
                    scaled.map(|(weight, scale)| f64::from(weight / scale)).collect();
                w.push(f64::from(solution.bias));
                let (value, gradient) = loss(problem, cost, &w);
                let norm = gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
                assert!(norm < 0.02 * (1.0 + value), "C = {cost}: {norm}, f = {value}");
            }
            assert_eq!(solve(problem, cost, 1, None), cold);
            earlier = Some(cold);
        }
    }
}
