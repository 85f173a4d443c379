//! Centroids of a set of rows, and the nearest centroid of each row.

use super::squares;
use crate::cpu::{Cpu, Shards};
use crate::gemm::{Into, Matrix, MatrixMut, gemm};
use crate::pointwise::for_rows;
use crate::random::split_mix64;
use crate::scratch;
use crate::simd::{Kernel, Vector};

/// Rows that are compared with all centroids at once.
const BLOCK: usize = 1024;
/// Minima that are found side by side.
const LANES: usize = 16;

/// The nearest centroid of each row of a set.
#[derive(Debug)]
pub struct Assigned<'a> {
    /// `[N]`: its number; of equally near ones the smallest.
    pub lists: &'a mut [u32],
    /// `[N]`: ‖x − c‖².
    pub distances: &'a mut [f32],
}

/// Finds the nearest of the centroids `[C, D]` for each of `rows` `[N, D]`. Bits do not depend on
/// the number of threads.
///
/// # Panics
/// If the lengths do not agree, or there is no centroid.
pub fn assign(cpu: &Cpu, width: usize, centroids: &[f32], rows: &[f32], to: Assigned<'_>) {
    let Assigned { lists: ids, distances } = to;
    let lists = centroids.len() / width;
    assert!(lists > 0, "at least one centroid");
    assert_eq!(rows.len(), ids.len() * width, "a list for each row");
    assert_eq!(ids.len(), distances.len(), "a distance for each row");
    let mut norms = scratch::take(cpu, lists);
    squares(cpu, width, centroids, &mut norms);
    let mut products = scratch::take(cpu, BLOCK.min(ids.len()) * lists);
    let parts = ids.chunks_mut(BLOCK).zip(distances.chunks_mut(BLOCK));
    for (rows, (ids, distances)) in rows.chunks(BLOCK * width).zip(parts) {
        let count = ids.len();
        squares(cpu, width, rows, distances);
        let products = &mut products[..count * lists];
        let (a, b) = (Matrix::new(rows, count, width), Matrix::new(centroids, lists, width).t());
        gemm(cpu, a, b, MatrixMut::new(products, count, lists), Into::Replace);
        let (ids, distances, products) =
            (Shards::new(ids), Shards::new(distances), Shards::new(products));
        for_rows(cpu, count, lists, |worker, range| {
            for row in range {
                // SAFETY: each row belongs to one thread.
                let (id, distance, row) = unsafe {
                    (
                        &mut ids.part(row..row + 1)[0],
                        &mut distances.part(row..row + 1)[0],
                        products.part(row * lists..(row + 1) * lists),
                    )
                };
                let least = worker.level.run(Least { row, norms: &norms });
                *id = row.iter().position(|&x| x == least).unwrap_or(0) as u32;
                *distance = (*distance + least).max(0.0);
            }
        });
    }
    scratch::give(cpu, products);
    scratch::give(cpu, norms);
}

/// C centroids of `rows` `[N, D]`, `[C, D]`, by Lloyd's algorithm ("Least squares quantization in PCM",
/// 1982): each row goes to its nearest centroid, and each centroid to the mean of its rows, `rounds`
/// times. The first centroids are rows of [`spread`], the same for the same rows. A
/// centroid without rows takes the place of the row that is farthest from its own. `more` is asked
/// before each round, given its number, and the work ends where it answers false.
///
/// # Panics
/// If there are fewer rows than centroids, or the lengths do not agree.
pub fn k_means(
    cpu: &Cpu,
    width: usize,
    rows: &[f32],
    lists: usize,
    rounds: usize,
    more: &mut dyn FnMut(usize) -> bool,
) -> Vec<f32> {
    let count = rows.len() / width;
    assert!(lists <= count && rows.len() == count * width, "a row for each centroid");
    let row = |place: usize| &rows[place * width..(place + 1) * width];
    let mut centroids: Vec<f32> =
        (0..lists).flat_map(|list| row(spread(list, lists, count))).copied().collect();
    if lists == 0 {
        return centroids;
    }
    let (mut ids, mut distances) = (vec![0; count], vec![0.0; count]);
    let mut sums = vec![0.0_f64; lists * width];
    for round in 0..rounds {
        if !more(round) {
            break;
        }
        let to = Assigned { lists: &mut ids, distances: &mut distances };
        assign(cpu, width, &centroids, rows, to);
        sums.fill(0.0);
        let mut sizes = vec![0_u32; lists];
        for (place, &list) in ids.iter().enumerate() {
            sizes[list as usize] += 1;
            let sums = &mut sums[list as usize * width..][..width];
            sums.iter_mut().zip(row(place)).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mut far = far_rows(&distances, sizes.iter().filter(|&&size| size == 0).count());
        let parts = centroids.chunks_mut(width).zip(sums.chunks(width));
        for ((centroid, sums), &size) in parts.zip(&sizes) {
            if size > 0 {
                let mean = |(to, sum): (&mut f32, &f64)| *to = (sum / f64::from(size)) as f32;
                centroid.iter_mut().zip(sums).for_each(mean);
            } else if let Some(place) = far.pop() {
                centroid.copy_from_slice(row(place));
            }
        }
    }
    centroids
}

/// Place number `index` of `places` that are spread over `0..count`: each is somewhere in a stretch of
/// its own, all of about equal length, so that what repeats at equal distances is met everywhere. The
/// place within the stretch follows from the index alone.
///
/// # Panics
/// If there are more places than elements, or no elements.
pub fn spread(index: usize, places: usize, count: usize) -> usize {
    assert!(index < places && places <= count, "places of their own");
    // In 128 bits, where the product of two sizes fits.
    let within = u128::from(split_mix64(index as u64)) % count as u128;
    ((index as u128 * count as u128 + within) / places as u128) as usize
}

/// The `count` rows that are farthest from their centroids, the farthest last.
fn far_rows(distances: &[f32], count: usize) -> Vec<usize> {
    if count == 0 {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..distances.len()).collect();
    order.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]).then(b.cmp(&a)));
    order.split_off(order.len().saturating_sub(count))
}

/// Replaces the products x·c of a row by ‖c‖² − 2·x·c, and gives the least of them.
struct Least<'a> {
    row: &'a mut [f32],
    norms: &'a [f32],
}

impl Kernel for Least<'_> {
    type Output = f32;

    // Plain loops, which the compiler makes vectors of in the instruction set of the caller.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> f32 {
        let Self { row, norms } = self;
        row.iter_mut().zip(norms).for_each(|(x, norm)| *x = norm - 2.0 * *x);
        let (whole, rest) = row.as_chunks::<LANES>();
        let mut least = [f32::INFINITY; LANES];
        let less = |least: &mut f32, x: f32| *least = if x < *least { x } else { *least };
        for part in whole {
            least.iter_mut().zip(part).for_each(|(least, &x)| less(least, x));
        }
        least.iter_mut().zip(rest).for_each(|(least, &x)| less(least, x));
        least.into_iter().fold(f32::INFINITY, f32::min)
    }
}
