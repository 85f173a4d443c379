//! Rows of two inputs side by side: the outputs of a recurrence in both directions.

use crate::cpu::{Cpu, Shards};
use crate::pointwise::for_rows;

/// `y [R, Da + Db]` = the rows of `a [R, Da]`, each followed by that of `b [R, Db]`.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn forward(cpu: &Cpu, widths: [usize; 2], a: &[f32], b: &[f32], y: &mut [f32]) {
    let [first, second] = widths;
    let row = first + second;
    let rows = check(widths, a.len(), b.len(), y.len());
    let y = Shards::new(y);
    for_rows(cpu, rows, row, |_, range| {
        for r in range {
            // SAFETY: each row belongs to one thread.
            let y = unsafe { y.part(r * row..(r + 1) * row) };
            y[..first].copy_from_slice(&a[r * first..(r + 1) * first]);
            y[first..].copy_from_slice(&b[r * second..(r + 1) * second]);
        }
    });
}

/// `da` and `db`, where wanted, += their columns of `dy [R, Da + Db]`.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn backward(
    cpu: &Cpu,
    widths: [usize; 2],
    dy: &[f32],
    da: Option<&mut [f32]>,
    db: Option<&mut [f32]>,
) {
    let row = widths[0] + widths[1];
    let rows = dy.len().checked_div(row).unwrap_or(0);
    for (into, start, width) in [(da, 0, widths[0]), (db, widths[0], widths[1])] {
        let Some(into) = into else { continue };
        assert_eq!(into.len(), rows * width, "the gradient of one side");
        let into = Shards::new(into);
        for_rows(cpu, rows, width, |_, range| {
            for r in range {
                let dy = &dy[r * row + start..][..width];
                // SAFETY: each row belongs to one thread.
                let into = unsafe { into.part(r * width..(r + 1) * width) };
                into.iter_mut().zip(dy).for_each(|(into, dy)| *into += dy);
            }
        });
    }
}

fn check([first, second]: [usize; 2], a: usize, b: usize, y: usize) -> usize {
    let rows = y.checked_div(first + second).unwrap_or(0);
    assert_eq!((a, b, y), (rows * first, rows * second, rows * (first + second)), "joined rows");
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    #[test]
    fn what_is_joined_comes_apart_again() {
        let cpu = Cpu::new(3);
        for (rows, first, second) in [(0, 2, 3), (1, 1, 0), (5, 3, 7), (300, 33, 16)] {
            let (a, b) = (values(rows * first, 1), values(rows * second, 2));
            let mut y = vec![0.0; rows * (first + second)];
            forward(&cpu, [first, second], &a, &b, &mut y);
            let (mut da, mut db) = (vec![1.0; a.len()], vec![2.0; b.len()]);
            backward(&cpu, [first, second], &y, Some(&mut da), Some(&mut db));
            assert!(da.iter().zip(&a).all(|(da, a)| *da == a + 1.0));
            assert!(db.iter().zip(&b).all(|(db, b)| *db == b + 2.0));
        }
    }
}
