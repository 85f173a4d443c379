//! Norms over the rows of a matrix: root mean square, layer, and layer per head.
//!
//! A row of D = groups · width elements is cut into groups that are normalised apart:
//!
//! - layer norm (Ba, Kiros, Hinton 2016): `x̂ = (x − mean x) / √(var x + ε)`,
//! - RMS norm (Zhang, Sennrich 2019): `x̂ = x / √(mean x² + ε)`,
//!
//! and `y = x̂ · weight + bias`, both optional and of D elements. The multi-head norm of xLSTM
//! (Beck et al. 2024) is the layer norm with one group per head.
//!
//! The variance is summed over x − mean, not as a difference of squares, so that a large common
//! offset costs no digits.

use crate::cpu::{Cpu, Shards, Worker};
use crate::pointwise::SERIAL_ELEMENTS;
use crate::simd::{Kernel, Vector};

/// The part of a group that is removed before it is scaled to unit size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: x / √(mean x² + ε).
    RootMeanSquare,
    /// The mean: (x − mean x) / √(var x + ε).
    Layer,
}

/// A norm and its sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Which kind of norm.
    pub kind: Kind,
    /// Parts of a row that are normalised apart: 1, or H for the multi-head norm.
    pub groups: usize,
    /// Elements of a group.
    pub width: usize,
    /// ε, added to the mean square.
    pub epsilon: f32,
}

impl Norm {
    /// RMS norm over whole rows.
    pub fn root_mean_square(width: usize, epsilon: f32) -> Self {
        Self { kind: Kind::RootMeanSquare, groups: 1, width, epsilon }
    }

    /// Layer norm over whole rows.
    pub fn layer(width: usize, epsilon: f32) -> Self {
        Self { kind: Kind::Layer, groups: 1, width, epsilon }
    }

    /// Layer norm of each of `heads` parts of a row.
    pub fn multi_head(heads: usize, width: usize, epsilon: f32) -> Self {
        Self { kind: Kind::Layer, groups: heads, width, epsilon }
    }

    /// D: elements of a row.
    pub fn row(&self) -> usize {
        self.groups * self.width
    }

    /// Elements that [`forward`] leaves for [`backward`]: scale and mean of each group.
    pub fn saved_len(&self, rows: usize) -> usize {
        rows * self.groups * 2
    }

    fn check<const N: usize>(
        &self,
        x: &[f32],
        vectors: [Option<&[f32]>; N],
        saved: usize,
    ) -> usize {
        let rows = x.len().checked_div(self.row()).unwrap_or(0);
        assert_eq!(x.len(), rows * self.row(), "norm: whole rows");
        assert_eq!(saved, self.saved_len(rows), "norm: the length of `saved`");
        for vector in vectors.into_iter().flatten() {
            assert_eq!(vector.len(), self.row(), "norm: the length of weight and bias");
        }
        rows
    }
}

/// `y [n, D]` = the norm of the rows of `x [n, D]`, times `weight [D]`, plus `bias [D]`.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn forward(
    cpu: &Cpu,
    norm: Norm,
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    saved: &mut [f32],
) {
    let rows = norm.check(x, [weight, bias], saved.len());
    assert_eq!(y.len(), x.len(), "norm: the length of y");
    let (d, statistics) = (norm.row(), 2 * norm.groups);
    let (y, saved) = (Shards::new(y), Shards::new(saved));
    on_threads(cpu, x.len(), |worker| {
        let own = worker.share(rows, 1);
        // SAFETY: each thread has rows of its own.
        let (y, saved) = unsafe {
            (
                y.part(own.start * d..own.end * d),
                saved.part(own.start * statistics..own.end * statistics),
            )
        };
        let x = &x[own.start * d..own.end * d];
        worker.level.run(Forward { norm, x, weight, bias, y, saved });
    });
}

/// Where [`backward`] adds gradients; `None` costs no work.
#[derive(Debug, Default)]
pub struct Gradients<'a> {
    /// `[n, D]`: gradient of the rows.
    pub x: Option<&'a mut [f32]>,
    /// `[D]`: gradient of the weight.
    pub weight: Option<&'a mut [f32]>,
    /// `[D]`: gradient of the bias.
    pub bias: Option<&'a mut [f32]>,
}

/// Adds the gradients of [`forward`], given `dy [n, D]` and what it left in `saved`.
///
/// With g = dy · weight: `dx = (g − mean g − x̂ · mean(g · x̂)) / σ`. The RMS norm leaves out
/// the term mean g.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn backward(
    cpu: &Cpu,
    norm: Norm,
    x: &[f32],
    weight: Option<&[f32]>,
    saved: &[f32],
    dy: &[f32],
    gradients: Gradients,
) {
    let Gradients { x: dx, weight: dweight, bias: dbias } = gradients;
    let rows = norm.check(x, [weight, dweight.as_deref(), dbias.as_deref()], saved.len());
    assert_eq!(dy.len(), x.len(), "norm: the length of dy");
    assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "norm: the length of dx");
    let (d, statistics) = (norm.row(), 2 * norm.groups);
    let dx = dx.map(Shards::new);
    let sums = [dweight.map(Shards::new), dbias.map(Shards::new)];
    on_threads(cpu, x.len(), |worker| {
        let own = worker.share(rows, 1);
        let elements = own.start * d..own.end * d;
        let mut partial =
            sums.each_ref().map(|sum| sum.as_ref().map(|_| worker.buffers.take_zeros(d)));
        let [dweight, dbias] = &mut partial;
        worker.level.run(Backward {
            norm,
            x: &x[elements.clone()],
            weight,
            saved: &saved[own.start * statistics..own.end * statistics],
            dy: &dy[elements.clone()],
            // SAFETY: each thread has rows of its own.
            dx: dx.as_ref().map(|dx| unsafe { dx.part(elements) }),
            dweight: dweight.as_deref_mut(),
            dbias: dbias.as_deref_mut(),
        });
        // One thread after another, so that the order of the sums is fixed.
        for turn in 0..worker.threads {
            if turn == worker.index {
                for (sum, partial) in sums.iter().zip(&partial) {
                    if let (Some(sum), Some(partial)) = (sum, partial) {
                        // SAFETY: it is this thread's turn.
                        let sum = unsafe { sum.part(0..d) };
                        sum.iter_mut().zip(partial.iter()).for_each(|(sum, x)| *sum += x);
                    }
                }
            }
            worker.barrier();
        }
        partial.into_iter().flatten().for_each(|buffer| worker.buffers.give(buffer));
    });
}

fn on_threads(cpu: &Cpu, elements: usize, body: impl Fn(&mut Worker) + Sync) {
    if elements < SERIAL_ELEMENTS {
        cpu.for_each(1, |worker, _| body(worker));
    } else {
        cpu.run(body);
    }
}

struct Forward<'a> {
    norm: Norm,
    x: &'a [f32],
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    y: &'a mut [f32],
    saved: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (groups, width) = (self.norm.groups, self.norm.width);
        let count = width as f32;
        // SAFETY: `check` has seen that every group is within its slice.
        unsafe {
            for (i, saved) in self.saved.chunks_exact_mut(2).enumerate() {
                let x = self.x.as_ptr().add(i * width);
                let mean = match self.norm.kind {
                    Kind::RootMeanSquare => 0.0,
                    Kind::Layer => sum::<V, 1>(x, 0.0, width) / count,
                };
                let square = sum::<V, 2>(x, mean, width);
                let scale = 1.0 / (square / count + self.norm.epsilon).sqrt();
                saved.copy_from_slice(&[scale, mean]);

                let column = i % groups * width;
                let y = self.y.as_mut_ptr().add(i * width);
                for j in (0..width).step_by(V::LANES) {
                    let n = width - j;
                    let mut value = V::load_first(x.add(j), n).sub(V::splat(mean));
                    value = value.mul(V::splat(scale));
                    if let Some(weight) = self.weight {
                        value = value.mul(V::load_first(weight.as_ptr().add(column + j), n));
                    }
                    if let Some(bias) = self.bias {
                        value = value.add(V::load_first(bias.as_ptr().add(column + j), n));
                    }
                    value.store_first(y.add(j), n);
                }
            }
        }
    }
}

struct Backward<'a> {
    norm: Norm,
    x: &'a [f32],
    weight: Option<&'a [f32]>,
    saved: &'a [f32],
    dy: &'a [f32],
    dx: Option<&'a mut [f32]>,
    dweight: Option<&'a mut [f32]>,
    dbias: Option<&'a mut [f32]>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let (groups, width) = (self.norm.groups, self.norm.width);
        let count = width as f32;
        // SAFETY: `check` has seen that every group is within its slice.
        unsafe {
            for (i, saved) in self.saved.chunks_exact(2).enumerate() {
                let (scale, mean) = (saved[0], saved[1]);
                let column = i % groups * width;
                let x = self.x.as_ptr().add(i * width);
                let dy = self.dy.as_ptr().add(i * width);
                let weight = self.weight.map(|weight| weight.as_ptr().add(column));
                let group = Group { x, dy, weight, mean, scale };
                let (mut sum, mut along) = (V::zero(), V::zero());
                for j in (0..width).step_by(V::LANES) {
                    let n = width - j;
                    let (normal, dy) = (group.normal::<V>(j, n), V::load_first(dy.add(j), n));
                    if let Some(dweight) = &mut self.dweight {
                        let to = dweight.as_mut_ptr().add(column + j);
                        dy.mul_add(normal, V::load_first(to, n)).store_first(to, n);
                    }
                    if let Some(dbias) = &mut self.dbias {
                        let to = dbias.as_mut_ptr().add(column + j);
                        dy.add(V::load_first(to, n)).store_first(to, n);
                    }
                    // Past the end the gradient is zero.
                    let gradient = group.gradient::<V>(j, n);
                    sum = sum.add(gradient);
                    along = gradient.mul_add(normal, along);
                }
                let Some(dx) = &mut self.dx else { continue };
                let common = match self.norm.kind {
                    Kind::RootMeanSquare => 0.0,
                    Kind::Layer => sum.sum() / count,
                };
                let along = along.sum() / count;
                let dx = dx.as_mut_ptr().add(i * width);
                for j in (0..width).step_by(V::LANES) {
                    let (n, to) = (width - j, dx.add(j));
                    let normal = group.normal::<V>(j, n);
                    let rest = normal.mul_add(V::splat(along), V::splat(common));
                    let value = group.gradient::<V>(j, n).sub(rest);
                    value.mul_add(V::splat(scale), V::load_first(to, n)).store_first(to, n);
                }
            }
        }
    }
}

/// The inputs of one group's backward pass.
struct Group {
    x: *const f32,
    dy: *const f32,
    weight: Option<*const f32>,
    mean: f32,
    scale: f32,
}

impl Group {
    /// x̂, the first `n` elements from j on.
    #[inline(always)]
    unsafe fn normal<V: Vector>(&self, j: usize, n: usize) -> V {
        // SAFETY: the caller keeps j within the group, and has the instruction set.
        unsafe {
            let x = V::load_first(self.x.add(j), n);
            x.sub(V::splat(self.mean)).mul(V::splat(self.scale))
        }
    }

    /// The gradient of x̂, zero past the end.
    #[inline(always)]
    unsafe fn gradient<V: Vector>(&self, j: usize, n: usize) -> V {
        // SAFETY: as in `normal`.
        unsafe {
            let dy = V::load_first(self.dy.add(j), n);
            match self.weight {
                Some(weight) => dy.mul(V::load_first(weight.add(j), n)),
                None => dy,
            }
        }
    }
}

/// Σ (xⱼ − mean)ᴾ over `width` elements, for P of 1 or 2. A function of the term would be compiled
/// by itself, without the instruction set.
#[inline(always)]
unsafe fn sum<V: Vector, const P: usize>(x: *const f32, mean: f32, width: usize) -> f32 {
    const { assert!(P == 1 || P == 2) };
    // SAFETY: the caller has the instruction set and gives `width` elements.
    unsafe {
        let mut sums = [V::zero(); 2];
        for (i, j) in (0..width).step_by(V::LANES).enumerate() {
            let n = width - j;
            // The lanes past the end stay zero.
            let x = V::load_first(x.add(j), n).sub(first::<V>(mean, n));
            sums[i % 2] = sums[i % 2].add(if P == 2 { x.mul(x) } else { x });
        }
        sums[0].add(sums[1]).sum()
    }
}

/// `value` in the first `count` lanes, zero in the others.
#[inline(always)]
unsafe fn first<V: Vector>(value: f32, count: usize) -> V {
    // SAFETY: the array is as long as the longest vector.
    unsafe {
        if count >= V::LANES { V::splat(value) } else { V::load_first([value; 16].as_ptr(), count) }
    }
}

/// The plain form, generic over the number type.
pub mod reference {
    use super::{Kind, Norm};
    use crate::real::Real;

    /// As the fast [`forward`](super::forward).
    pub fn forward<R: Real>(
        norm: Norm,
        x: &[R],
        weight: Option<&[R]>,
        bias: Option<&[R]>,
    ) -> Vec<R> {
        let mut y = vec![R::zero(); x.len()];
        for (i, x) in x.chunks(norm.width).enumerate() {
            let (normal, _) = normalise(norm, x);
            for (j, &value) in normal.iter().enumerate() {
                let column = i % norm.groups * norm.width + j;
                let weight = weight.map_or(R::one(), |weight| weight[column]);
                let bias = bias.map_or(R::zero(), |bias| bias[column]);
                y[i * norm.width + j] = value * weight + bias;
            }
        }
        y
    }

    /// dx, dweight and dbias.
    pub fn backward<R: Real>(
        norm: Norm,
        x: &[R],
        weight: Option<&[R]>,
        dy: &[R],
    ) -> (Vec<R>, Vec<R>, Vec<R>) {
        let mut dx = vec![R::zero(); x.len()];
        let mut dweight = vec![R::zero(); norm.row()];
        let mut dbias = vec![R::zero(); norm.row()];
        let count = R::from_f64(norm.width as f64);
        for (i, x) in x.chunks(norm.width).enumerate() {
            let (normal, scale) = normalise(norm, x);
            let mut gradient = Vec::new();
            for (j, &value) in normal.iter().enumerate() {
                let column = i % norm.groups * norm.width + j;
                let dy = dy[i * norm.width + j];
                dweight[column] += dy * value;
                dbias[column] += dy;
                gradient.push(dy * weight.map_or(R::one(), |weight| weight[column]));
            }
            let common = match norm.kind {
                Kind::RootMeanSquare => R::zero(),
                Kind::Layer => gradient.iter().copied().sum::<R>() / count,
            };
            let along = normal.iter().zip(&gradient).map(|(&x, &g)| x * g).sum::<R>() / count;
            for j in 0..norm.width {
                dx[i * norm.width + j] += (gradient[j] - common - normal[j] * along) * scale;
            }
        }
        (dx, dweight, dbias)
    }

    /// x̂ of one group, and 1/σ.
    fn normalise<R: Real>(norm: Norm, x: &[R]) -> (Vec<R>, R) {
        let count = R::from_f64(norm.width as f64);
        let mean = match norm.kind {
            Kind::RootMeanSquare => R::zero(),
            Kind::Layer => x.iter().copied().sum::<R>() / count,
        };
        let square = x.iter().map(|&x| (x - mean) * (x - mean)).sum::<R>() / count;
        let scale = R::one() / (square + R::from_f64(f64::from(norm.epsilon))).sqrt();
        (x.iter().map(|&x| (x - mean) * scale).collect(), scale)
    }
}

#[cfg(test)]
mod tests;
