//! The plain form, generic over the number type.

use std::cmp::Ordering;

use crate::real::Real;

/// The K keys of `[N, D]` nearest to a query `[D]`: their numbers and ‖q − k‖², the nearest first and
/// of equally near ones the smaller number, by sorting all of them.
pub fn nearest<R: Real>(query: &[R], keys: &[R], count: usize) -> Vec<(usize, R)> {
    let distance = |key: &[R]| {
        let squares = query.iter().zip(key).map(|(&q, &k)| (q - k) * (q - k));
        squares.sum::<R>()
    };
    let mut all: Vec<(usize, R)> = keys.chunks(query.len()).map(distance).enumerate().collect();
    all.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0)));
    all.truncate(count);
    all
}
