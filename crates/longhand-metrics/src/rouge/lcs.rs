//! Longest common subsequences, of two texts and of sentences.

use std::collections::HashMap;

/// The length of the longest common subsequence, in O(m·n) steps and O(n) memory.
pub(super) fn length(output: &[String], reference: &[String]) -> usize {
    let mut above = vec![0; output.len() + 1];
    let mut row = above.clone();
    for word in reference {
        fill(&above, &mut row, word, output);
        std::mem::swap(&mut above, &mut row);
    }
    above[output.len()]
}

/// How many words of the reference's sentences match: those of the union, over the output's sentences,
/// of one longest common subsequence each. A word of either text matches as often as it is there, as in
/// version 1.5.5 of the original script; the paper does not say so.
pub(super) fn union_matches(output: &[Vec<String>], reference: &[Vec<String>]) -> usize {
    let [mut in_output, mut in_reference] = [output, reference].map(|sentences| {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for word in sentences.iter().flatten() {
            *counts.entry(word).or_insert(0) += 1;
        }
        counts
    });
    let mut matches = 0;
    for sentence in reference {
        let mut common = vec![false; sentence.len()];
        for other in output {
            mark(sentence, other, &mut common);
        }
        let words = sentence.iter().zip(common).filter(|(_, common)| *common);
        for (word, _) in words {
            let left = (in_output.get_mut(word.as_str()), in_reference.get_mut(word.as_str()));
            if let (Some(output @ 1..), Some(reference @ 1..)) = left {
                *output -= 1;
                *reference -= 1;
                matches += 1;
            }
        }
    }
    matches
}

/// Marks the words of `reference` that are in one longest common subsequence: the one found from the
/// end that leaves a word of the output only where that loses less than leaving one of the reference.
fn mark(reference: &[String], output: &[String], common: &mut [bool]) {
    let width = output.len() + 1;
    let mut table = vec![0; (reference.len() + 1) * width];
    for (row, word) in reference.iter().enumerate() {
        let (above, rest) = table.split_at_mut((row + 1) * width);
        fill(&above[row * width..], &mut rest[..width], word, output);
    }
    let (mut row, mut column) = (reference.len(), output.len());
    while row > 0 && column > 0 {
        if reference[row - 1] == output[column - 1] {
            row -= 1;
            column -= 1;
            common[row] = true;
        } else if table[row * width + column - 1] > table[(row - 1) * width + column] {
            column -= 1;
        } else {
            row -= 1;
        }
    }
}

/// One row of the table of lengths: of the reference up to `word` and each beginning of the output.
fn fill(above: &[usize], row: &mut [usize], word: &str, output: &[String]) {
    for (column, other) in output.iter().enumerate() {
        row[column + 1] =
            if word == other { above[column] + 1 } else { above[column + 1].max(row[column]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn lengths_are_those_of_the_definition() {
        let length = |a, b| length(&letters(a), &letters(b));
        assert_eq!(length("abcbdab", "bdcaba"), 4);
        assert_eq!(length("abc", "xyz"), 0);
        assert_eq!(length("", "abc"), 0);
    }

    #[test]
    fn one_subsequence_is_marked() {
        let (reference, output) = (letters("abcbdab"), letters("bdcaba"));
        let mut common = vec![false; 7];
        mark(&reference, &output, &mut common);
        assert_eq!(common.iter().filter(|common| **common).count(), 4);
        assert_eq!(union_matches(&[output], &[reference]), 4);
        assert_eq!(union_matches(&[], &[letters("a")]), 0);
    }
}
