//! Texts of symbols between white space, such as the phonemes of a word, and how many are wrong.

/// The edits between an answer and the right text that it is nearest to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Symbols to insert, to delete or to replace.
    pub edits: usize,
    /// Symbols of the right text.
    pub symbols: usize,
}

impl Edits {
    /// The edits from `output` to the nearest of `references`, the first of equally near ones.
    pub fn between(output: &str, references: &[&str]) -> Self {
        let output: Vec<&str> = output.split_whitespace().collect();
        let each = references.iter().map(|text| {
            let right: Vec<&str> = text.split_whitespace().collect();
            Self { edits: distance(&output, &right), symbols: right.len() }
        });
        each.min_by_key(|edits| edits.edits).unwrap_or_default()
    }
}

/// A text with a space between any two of its characters; white space is left out.
pub fn spelled(text: &str) -> String {
    let mut spelled = String::with_capacity(2 * text.len());
    for character in text.chars().filter(|character| !character.is_whitespace()) {
        if !spelled.is_empty() {
            spelled.push(' ');
        }
        spelled.push(character);
    }
    spelled
}

/// The distance of Levenshtein (1966): the fewest insertions, deletions and replacements.
fn distance(from: &[&str], to: &[&str]) -> usize {
    let mut before: Vec<usize> = (0..=to.len()).collect();
    let mut now = vec![0; to.len() + 1];
    for (i, symbol) in from.iter().enumerate() {
        now[0] = i + 1;
        for (j, other) in to.iter().enumerate() {
            let replaced = before[j] + usize::from(symbol != other);
            now[j + 1] = replaced.min(before[j + 1] + 1).min(now[j] + 1);
        }
        std::mem::swap(&mut before, &mut now);
    }
    before[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_right_text_counts() {
        let edits = |output, references: &[&str]| {
            let Edits { edits, symbols } = Edits::between(output, references);
            (edits, symbols)
        };
        assert_eq!(edits("K AE T", &["K AE T"]), (0, 3));
        assert_eq!(edits("K AE T", &["D AO G Z", "K AE T S"]), (1, 4));
        assert_eq!(edits("K AE T", &["K T", "K AE T S"]), (1, 2));
        assert_eq!(edits("", &["K AE T"]), (3, 3));
        assert_eq!(edits(" K   AE ", &["AE K"]), (2, 2));
        assert_eq!(edits("a b c d e", &["b x d e f"]), (3, 5));
        assert_eq!(edits("a", &[]), (0, 0));
    }

    #[test]
    fn a_spelled_text_has_its_characters_apart() {
        assert_eq!(spelled("hé llo"), "h é l l o");
        assert_eq!(spelled("h e l l o"), "h e l l o");
        assert_eq!(spelled(""), "");
    }
}
