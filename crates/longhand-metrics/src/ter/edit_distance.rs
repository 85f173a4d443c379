//! The edit distance along a beam around the diagonal.

/// How many words of the reference are looked at on either side of the diagonal.
const BEAM_WIDTH: f64 = 25.0;

/// The distance between words that the beam does not reach. Sums of two stay in range.
const UNREACHED: u32 = u32::MAX / 4;

/// The last edit on the way to a cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// The words are equal.
    Keep,
    /// A word of the output is replaced.
    Replace,
    /// A word of the reference is inserted.
    Insert,
    /// A word of the output is deleted.
    Delete,
}

#[derive(Clone, Copy)]
struct Cell {
    distance: u32,
    edit: Edit,
}

/// The table of edit distances between the first words of an output and of a reference.
///
/// It is kept from one output to the next one: rows of the words that both begin with stay. All
/// outputs have the same length, so that a row's beam is always the same.
pub(super) struct EditTable<'a> {
    reference: &'a [u32],
    /// The words that the rows are filled for; `None` before the first output.
    words: Vec<Option<u32>>,
    cells: Vec<Cell>,
    /// The first and the one-past-last column of each row.
    beams: Vec<(usize, usize)>,
}

impl<'a> EditTable<'a> {
    pub(super) fn new(output_length: usize, reference: &'a [u32]) -> Self {
        let width = reference.len() + 1;
        let unreached = Cell { distance: UNREACHED, edit: Edit::Insert };
        let mut cells = vec![unreached; (output_length + 1) * width];
        for (cell, distance) in cells[..width].iter_mut().zip(0..) {
            cell.distance = distance;
        }
        let beams = (0..=output_length).map(|row| beam(row, output_length, reference.len()));
        Self { reference, words: vec![None; output_length], cells, beams: beams.collect() }
    }

    /// The words of the reference that outputs are turned into.
    pub(super) fn reference(&self) -> &'a [u32] {
        self.reference
    }

    /// The edits between an output, of the length named before, and the reference.
    pub(super) fn distance(&mut self, output: &[u32]) -> u32 {
        let known = self.words.iter().zip(output);
        let known = known.take_while(|(known, word)| **known == Some(**word)).count();
        for (row, &word) in output.iter().enumerate().skip(known) {
            self.words[row] = Some(word);
            self.fill(row + 1, word);
        }
        self.cells.last().map_or(0, |cell| cell.distance)
    }

    /// The edits of the output that was measured last, from its first word to its last one.
    pub(super) fn edits(&self) -> Vec<Edit> {
        let width = self.reference.len() + 1;
        let (mut row, mut column) = (self.words.len(), self.reference.len());
        let mut edits = Vec::with_capacity(row + column);
        while row > 0 || column > 0 {
            let edit = self.cells[row * width + column].edit;
            edits.push(edit);
            if edit != Edit::Insert {
                row -= 1;
            }
            if edit != Edit::Delete {
                column -= 1;
            }
        }
        edits.reverse();
        edits
    }

    /// Fills the row of the output's first `row` words, the last of which is `word`. Among equal
    /// distances, keeping and replacing come before deleting, and deleting before inserting.
    fn fill(&mut self, row: usize, word: u32) {
        let width = self.reference.len() + 1;
        let (above, rest) = self.cells.split_at_mut(row * width);
        let above = &above[(row - 1) * width..];
        let (first, end) = self.beams[row];
        for column in first..end {
            let delete = Cell { distance: above[column].distance + 1, edit: Edit::Delete };
            let mut best = delete;
            if column > 0 {
                let keep = word == self.reference[column - 1];
                let edit = if keep { Edit::Keep } else { Edit::Replace };
                let distance = above[column - 1].distance + u32::from(!keep);
                if distance <= best.distance {
                    best = Cell { distance, edit };
                }
                // The cell before the beam was never reached.
                let distance = rest[column - 1].distance + 1;
                if distance < best.distance {
                    best = Cell { distance, edit: Edit::Insert };
                }
            }
            rest[column] = best;
        }
    }
}

/// The columns of one row: around its place on the diagonal, and to the end in the last row. Where the
/// texts differ so much in length that neighbouring rows would not meet, the beam is wider.
fn beam(row: usize, output_length: usize, reference_length: usize) -> (usize, usize) {
    if row == 0 {
        return (0, reference_length + 1);
    }
    let ratio = reference_length as f64 / output_length as f64;
    let width =
        if BEAM_WIDTH < ratio / 2.0 { (ratio / 2.0 + BEAM_WIDTH).ceil() } else { BEAM_WIDTH };
    let (diagonal, width) = ((row as f64 * ratio).floor() as usize, width as usize);
    let end = if row == output_length { usize::MAX } else { diagonal + width };
    (diagonal.saturating_sub(width), end.min(reference_length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_edits_are_those_of_the_definition() {
        let reference = [1, 2, 3, 4];
        let mut table = EditTable::new(3, &reference);
        assert_eq!(table.distance(&[1, 3, 9]), 2);
        assert_eq!(table.edits(), [Edit::Keep, Edit::Insert, Edit::Keep, Edit::Replace]);
        // Rows of the first word stay.
        assert_eq!(table.distance(&[1, 2, 4]), 1);
        assert_eq!(table.edits(), [Edit::Keep, Edit::Keep, Edit::Insert, Edit::Keep]);
        assert_eq!(EditTable::new(0, &reference).distance(&[]), 4);
    }

    #[test]
    fn a_kept_table_gives_what_a_new_one_gives() {
        let reference: Vec<u32> = (0..120).map(|place| place * 7 % 11).collect();
        for length in [1, 2, 40, 119, 120, 200] {
            let mut kept = EditTable::new(length, &reference);
            for round in 0..8 {
                let output: Vec<u32> =
                    (0..length as u32).map(|place| (place + place / 9 * round) * 7 % 11).collect();
                let mut new = EditTable::new(length, &reference);
                assert_eq!(kept.distance(&output), new.distance(&output));
                assert_eq!(kept.edits(), new.edits());
                assert!(new.distance(&output) < UNREACHED);
            }
        }
    }
}
