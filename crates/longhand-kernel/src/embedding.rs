//! Embeddings: rows of a table by token id, and the gradients of those rows.

use crate::cpu::{Cpu, Shards};
use crate::pointwise::{apply_serial, for_columns, for_rows, pointwise};

/// The first id that is not below `vocabulary`, with its place: what a caller checks before the
/// operations below, which panic on it.
pub fn out_of_range(ids: &[u32], vocabulary: usize) -> Option<(usize, u32)> {
    let place = ids.iter().position(|&id| id as usize >= vocabulary)?;
    Some((place, ids[place]))
}

/// y [R, D] = the rows `ids` `[R]` of `table` [V, D].
///
/// # Panics
/// If an id is not below V, or a slice's length is not that of its shape.
pub fn gather(cpu: &Cpu, width: usize, ids: &[u32], table: &[f32], y: &mut [f32]) {
    assert_eq!(y.len(), ids.len() * width, "the output of an embedding");
    check(width, ids, table.len());
    let y = Shards::new(y);
    for_rows(cpu, ids.len(), width, |_, range| {
        for r in range {
            let from = ids[r] as usize * width;
            // SAFETY: each row belongs to one thread.
            unsafe { y.part(r * width..(r + 1) * width) }
                .copy_from_slice(&table[from..from + width]);
        }
    });
}

/// dtable [V, D] += dy [R, D], row r of dy to row `ids[r]`. The order of the sums does not depend
/// on the number of threads.
///
/// # Panics
/// The panics of [`gather`] for these ids and lengths.
pub fn scatter_add(cpu: &Cpu, width: usize, ids: &[u32], dy: &[f32], dtable: &mut [f32]) {
    pointwise!(Accumulate {} [x] [y] { [y.add(x)] });
    assert_eq!(dy.len(), ids.len() * width, "the gradient of an embedding's output");
    check(width, ids, dtable.len());
    let dtable = Shards::new(dtable);
    for_columns(cpu, ids.len(), width, |worker, columns| {
        for (r, &id) in ids.iter().enumerate() {
            let (from, to) = (r * width, id as usize * width);
            let dy = &dy[from + columns.start..from + columns.end];
            // SAFETY: each column belongs to one thread.
            let into = unsafe { dtable.part(to + columns.start..to + columns.end) };
            apply_serial(worker.level, Accumulate {}, [dy], [into]);
        }
    });
}

/// x [R, D] += the sines and cosines of each row's place (Vaswani et al., "Attention is all you
/// need", 2017, section 3.5), computed in double precision so that far places stay apart.
///
/// # Panics
/// If `x` is not a row for each place.
pub fn add_sinusoids(cpu: &Cpu, width: usize, places: &[u64], x: &mut [f32]) {
    assert_eq!(x.len(), places.len() * width, "a row for each place");
    let x = Shards::new(x);
    for_rows(cpu, places.len(), width, |worker, range| {
        // Streams that began together are at one place in every row of a time.
        let mut sinusoids = worker.buffers.take(width);
        let mut known = None;
        for r in range {
            if known != Some(places[r]) {
                known = Some(places[r]);
                for (d, to) in sinusoids.iter_mut().enumerate() {
                    *to = reference::sinusoid(width, places[r], d) as f32;
                }
            }
            // SAFETY: each row belongs to one thread.
            let row = unsafe { x.part(r * width..(r + 1) * width) };
            row.iter_mut().zip(&*sinusoids).for_each(|(x, sinusoid)| *x += sinusoid);
        }
        worker.buffers.give(sinusoids);
    });
}

fn check(width: usize, ids: &[u32], table: usize) {
    let vocabulary = table.checked_div(width).unwrap_or(usize::MAX);
    assert!(
        width == 0 || table == vocabulary * width,
        "a table of {table} elements is not whole rows of {width}"
    );
    if let Some((place, id)) = out_of_range(ids, vocabulary) {
        panic!("token {id} at place {place} is outside a vocabulary of {vocabulary}");
    }
}

/// The plain form, generic over the number type.
pub mod reference {
    use crate::real::Real;

    /// y = the rows `ids` of `table`.
    pub fn gather<R: Real>(width: usize, ids: &[u32], table: &[R], y: &mut [R]) {
        for (r, &id) in ids.iter().enumerate() {
            for d in 0..width {
                y[r * width + d] = table[id as usize * width + d];
            }
        }
    }

    /// Element `d` of the vector of a place: sin(p / 10000^(d/D)) for even d, and the cosine of the
    /// same angle after it.
    pub fn sinusoid(width: usize, place: u64, d: usize) -> f64 {
        let frequency = 10_000f64.powf(-((d / 2 * 2) as f64) / width as f64);
        let angle = place as f64 * frequency;
        if d.is_multiple_of(2) { angle.sin() } else { angle.cos() }
    }

    /// dtable += dy, row by row.
    pub fn scatter_add<R: Real>(width: usize, ids: &[u32], dy: &[R], dtable: &mut [R]) {
        for (r, &id) in ids.iter().enumerate() {
            for d in 0..width {
                dtable[id as usize * width + d] += dy[r * width + d];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, close, levels, values, wide};

    #[test]
    fn the_reference_has_the_gradient_of_its_function() {
        let ids = [2, 0, 2, 3];
        let (table, dy) = (wide(&values(12, 1)), wide(&values(12, 2)));
        let mut gradient = [0.0; 12];
        reference::scatter_add(3, &ids, &dy, &mut gradient);
        check_gradient("table", &table, &gradient, |table| {
            let mut y = [0.0; 12];
            reference::gather(3, &ids, table, &mut y);
            y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
        });
    }

    #[test]
    fn both_directions_follow_the_reference() {
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                for (rows, vocabulary, width) in
                    [(0, 4, 5), (1, 1, 1), (50, 3, 0), (300, 7, 33), (900, 500, 64)]
                {
                    let ids: Vec<u32> = (0..rows).map(|i| (i * i + 3 * i) % vocabulary).collect();
                    let rows = ids.len();
                    let table = values(vocabulary as usize * width, 1);
                    let dy = values(rows * width, 2);
                    let (mut y, mut exact) = (vec![9.0; rows * width], vec![0.0; rows * width]);
                    gather(&cpu, width, &ids, &table, &mut y);
                    reference::gather(width, &ids, &table, &mut exact);
                    assert_eq!(y, exact);
                    let mut dtable = vec![1.0; table.len()];
                    let mut exact = vec![1.0; table.len()];
                    scatter_add(&cpu, width, &ids, &dy, &mut dtable);
                    reference::scatter_add(width, &ids, &wide(&dy), &mut exact);
                    close("table", &dtable, &exact, 1e-5);
                }
            }
        }
    }

    #[test]
    fn sinusoids_turn_at_their_own_speeds() {
        let cpu = Cpu::new(2);
        let mut x = vec![1.0; 3 * 5];
        add_sinusoids(&cpu, 5, &[0, 1, 1_000_000], &mut x);
        assert_eq!(x[..5], [1.0, 2.0, 1.0, 2.0, 1.0]);
        assert!((f64::from(x[5]) - 1.0 - 1f64.sin()).abs() < 1e-6);
        let slow = 1e6 * 10_000f64.powf(-0.8);
        assert!((f64::from(x[14]) - 1.0 - slow.sin()).abs() < 1e-6);
    }

    #[test]
    fn ids_outside_the_vocabulary_are_found() {
        assert_eq!(out_of_range(&[0, 4, 5, 9], 5), Some((2, 5)));
        assert_eq!(out_of_range(&[0, 4], 5), None);
    }
}
