//! Counts of n-grams, and how many of two texts match.

use std::collections::HashMap;
use std::hash::Hash;

/// How often each n-gram of a text occurs.
pub(crate) type Counts<'a, T> = HashMap<&'a T, u64>;

/// Counts the n-grams of `order` tokens, which is at least 1.
pub(crate) fn count<T: Eq + Hash>(tokens: &[T], order: usize) -> Counts<'_, [T]> {
    let mut counts = HashMap::new();
    for ngram in tokens.windows(order) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}

/// Σ min(a(g), b(g)) over the n-grams g: the matches, each clipped to its count in the other text.
pub(crate) fn matches<T: Eq + Hash + ?Sized>(a: &Counts<'_, T>, b: &Counts<'_, T>) -> u64 {
    a.iter().map(|(ngram, &count)| b.get(ngram).map_or(0, |&other| count.min(other))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_clipped_to_the_smaller_count() {
        let (a, b) = (["a", "a", "b", "a", "a"], ["a", "a", "a", "c"]);
        assert_eq!(matches(&count(&a, 1), &count(&b, 1)), 3);
        // Bigrams: "a a" twice on both sides.
        assert_eq!(matches(&count(&a, 2), &count(&b, 2)), 2);
        assert!(count(&a, 6).is_empty());
    }
}
