mod edit_distance;
mod shift;

use std::collections::HashMap;

use edit_distance::EditTable;
use shift::{MOST_CANDIDATES, best_shift};

use crate::metric::{Metric, case};
use crate::white_space::words;

/// Translation edit rate (Snover et al. 2006, section 3), with the digits of sacrebleu:
///
/// TER = 100 · edits / mean length of the references
///
/// An edit inserts, deletes or replaces a word, or moves a run of words to another place. The moves
/// are found greedily, each the one that saves most, by the rules and limits of the program tercom:
/// runs of at most 10 words, at most 50 words away, at most 1,000 attempts an output, and an edit
/// distance that looks 25 words to either side of the diagonal. Of several references, the one with
/// the fewest edits counts, and the mean of their lengths. 0 is the best score; there is no worst one.
/// Words are what stands between white space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ter {
    /// Whether words that differ in case are different; no by default.
    pub case_sensitive: bool,
}

/// What outputs contribute to TER. The counts of a corpus are the sums of those of its outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TerCounts {
    /// The edits that turn the outputs into references.
    pub edits: u64,
    /// The words of the references, for each output the mean of its references.
    pub reference_length: f64,
}

/// TER and what it was made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TerScore {
    /// TER: 0 or more, 0 is best. It is 100 for words where the references are empty.
    pub score: f64,
    /// The counts of all outputs.
    pub counts: TerCounts,
}

impl Metric for Ter {
    type Counts = TerCounts;
    type Score = TerScore;

    fn score<'a>(&self, counts: impl IntoIterator<Item = &'a TerCounts>) -> TerScore {
        let mut sum = TerCounts::default();
        for of_output in counts {
            sum.edits += of_output.edits;
            sum.reference_length += of_output.reference_length;
        }
        let score = match sum.edits {
            edits if sum.reference_length > 0.0 => 100.0 * (edits as f64 / sum.reference_length),
            0 => 0.0,
            _ => 100.0,
        };
        TerScore { score, counts: sum }
    }

    fn count(&self, output: &str, references: &[&str]) -> TerCounts {
        let mut numbers = HashMap::new();
        let output = self.numbered(output, &mut numbers);
        let references: Vec<_> =
            references.iter().map(|text| self.numbered(text, &mut numbers)).collect();
        let edits = references.iter().map(|reference| fewest_edits(&output, reference)).min();
        let length: usize = references.iter().map(Vec::len).sum();
        let reference_length = length as f64 / references.len().max(1) as f64;
        TerCounts { edits: edits.unwrap_or(0), reference_length }
    }

    fn settings(&self) -> String {
        format!("case:{}|tok:tercom|norm:no|punct:yes|asian:no", case(!self.case_sensitive))
    }
}

impl Ter {
    /// The words of a text, equal words as equal numbers.
    fn numbered(&self, text: &str, numbers: &mut HashMap<String, u32>) -> Vec<u32> {
        let text = if self.case_sensitive { text.to_owned() } else { text.to_lowercase() };
        let number = |word: &str| {
            let next = numbers.len() as u32;
            *numbers.entry(word.to_owned()).or_insert(next)
        };
        words(&text).map(number).collect()
    }
}

/// The moves and the edits after them that turn `output` into `reference`.
fn fewest_edits(output: &[u32], reference: &[u32]) -> u64 {
    if reference.is_empty() {
        return output.len() as u64;
    }
    let mut table = EditTable::new(output.len(), reference);
    let mut words = output.to_vec();
    let (mut moves, mut candidates) = (0, 0);
    while let Some(moved) = best_shift(&words, &mut table, &mut candidates) {
        // A round that used up the attempts is left out, as in tercom.
        if candidates >= MOST_CANDIDATES {
            break;
        }
        words = moved;
        moves += 1;
    }
    moves + u64::from(table.distance(&words))
}

#[cfg(test)]
mod tests;
