//! The choice of the next run of words to move.

use std::cmp::Reverse;

use super::edit_distance::{Edit, EditTable};

/// The longest run of words that is moved.
const LONGEST: usize = 10;
/// How far from each other the run and its match may begin.
const FARTHEST: usize = 50;
/// The attempts at moves for one output and reference.
pub(super) const MOST_CANDIDATES: usize = 1000;

/// The output after the move that saves most edits, or `None` if no move saves one. Among equal
/// savings the longest run is moved, then the first one, then to the first place. The attempts are
/// added to `candidates`.
pub(super) fn best_shift(
    words: &[u32],
    table: &mut EditTable<'_>,
    candidates: &mut usize,
) -> Option<Vec<u32>> {
    let before = i64::from(table.distance(words));
    let alignment = Alignment::new(&table.edits());
    let mut best = None;
    for run in matching_runs(words, table.reference()) {
        if !alignment.is_worth_moving(&run) {
            continue;
        }
        let mut last = None;
        for place in run.reference..=run.reference + run.length {
            // Before the first word, or after the word that the reference's previous word aligns with.
            let target = if place == 0 { 0 } else { alignment.after[place - 1] };
            if last == Some(target) {
                continue;
            }
            last = Some(target);
            let moved = with_run_moved(words, &run, target);
            let saved = before - i64::from(table.distance(&moved));
            *candidates += 1;
            let rank = (saved, run.length, Reverse(run.output), Reverse(target));
            if best.as_ref().is_none_or(|(best, _)| rank > *best) {
                best = Some((rank, moved));
            }
        }
        if *candidates >= MOST_CANDIDATES {
            break;
        }
    }
    best.filter(|((saved, ..), _)| *saved > 0).map(|(_, moved)| moved)
}

/// A run of words that stands in both texts.
struct Run {
    /// Where it begins in the output.
    output: usize,
    /// Where it begins in the reference.
    reference: usize,
    length: usize,
}

/// Every run that stands in both texts, with all its beginnings, within the limits.
fn matching_runs<'a>(
    words: &'a [u32],
    reference: &'a [u32],
) -> impl Iterator<Item = Run> + use<'a> {
    (0..words.len()).flat_map(move |output| {
        let near = output.saturating_sub(FARTHEST)..reference.len().min(output + FARTHEST + 1);
        near.flat_map(move |start| {
            let pairs = words[output..].iter().zip(&reference[start..]);
            let longest = pairs.take(LONGEST).take_while(|(word, other)| word == other).count();
            (1..=longest).map(move |length| Run { output, reference: start, length })
        })
    })
}

/// Which words of the two texts stand side by side, and which are wrong.
#[derive(Default)]
struct Alignment {
    /// For each word of the reference, how many words of the output stand up to its place.
    after: Vec<usize>,
    /// The words of the reference that are inserted or replace others.
    reference_wrong: Vec<bool>,
    /// The words of the output that are deleted or replaced.
    output_wrong: Vec<bool>,
}

impl Alignment {
    fn new(edits: &[Edit]) -> Self {
        let mut alignment = Self::default();
        for &edit in edits {
            let wrong = edit != Edit::Keep;
            if edit != Edit::Insert {
                alignment.output_wrong.push(wrong);
            }
            if edit != Edit::Delete {
                alignment.after.push(alignment.output_wrong.len());
                alignment.reference_wrong.push(wrong);
            }
        }
        alignment
    }

    /// Whether something is wrong at both ends of the move, and the run's place in the reference does
    /// not align with the run itself.
    fn is_worth_moving(&self, run: &Run) -> bool {
        let any = |wrong: &[bool], start: usize| {
            wrong[start..start + run.length].iter().any(|&wrong| wrong)
        };
        let after = self.after[run.reference];
        let is_itself = after > run.output && after <= run.output + run.length;
        any(&self.output_wrong, run.output)
            && any(&self.reference_wrong, run.reference)
            && !is_itself
    }
}

/// The words with the run moved to stand before word `target`. A target inside the run counts from the
/// run's beginning, in the words that remain.
fn with_run_moved(words: &[u32], run: &Run, target: usize) -> Vec<u32> {
    let end = run.output + run.length;
    let mut moved = [&words[..run.output], &words[end..]].concat();
    let place = if target > end { target - run.length } else { target.min(moved.len()) };
    moved.splice(place..place, words[run.output..end].iter().copied());
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_move_before_after_and_within() {
        let moved = |target| {
            with_run_moved(&[0, 1, 2, 3, 4, 5], &Run { output: 2, reference: 0, length: 2 }, target)
        };
        assert_eq!(moved(0), [2, 3, 0, 1, 4, 5]);
        assert_eq!(moved(6), [0, 1, 4, 5, 2, 3]);
        assert_eq!(moved(2), [0, 1, 2, 3, 4, 5]);
        assert_eq!(moved(3), [0, 1, 4, 2, 3, 5]);
        assert_eq!(moved(4), [0, 1, 4, 5, 2, 3]);
    }

    #[test]
    fn runs_keep_the_limits() {
        let words: Vec<u32> = (0..60).collect();
        let runs: Vec<_> = matching_runs(&words, &words).collect();
        assert!(runs.iter().all(|run| run.output == run.reference && run.length <= LONGEST));
        // Each word begins ten runs, but the last nine.
        assert_eq!(runs.len(), 51 * 10 + (1..10).sum::<usize>());
        let far = [vec![7], vec![8; FARTHEST + 1]].concat();
        let reference = [vec![9; FARTHEST + 1], vec![7]].concat();
        assert_eq!(matching_runs(&far, &reference).count(), 0);
        assert_eq!(matching_runs(&far, &reference[1..]).count(), 1);
    }
}
