//! Pairs of texts, of which one may be the continuation of the other.

use longhand_text::batch::PassageBatch;

use crate::random::draw;

/// Keep the draws of whether a second part follows, and of another one, apart.
const FOLLOWS: u64 = 0x6e65_7874;
const OTHER: u64 = 0x006f_7468_6572;

/// Passages in two parts with a separator between them. In half of them the second part is that of
/// another passage (Devlin et al., "BERT", 2019, section 3.1).
pub(crate) struct Pairs {
    /// First part, separator, second part.
    pub(crate) batch: PassageBatch,
    /// `[B]`: 1 where the second part follows the first one, and 0 where it is of another passage.
    pub(crate) follows: Vec<u32>,
}

impl Pairs {
    /// Cuts each passage in its middle and draws the second parts from the same batch. A passage
    /// alone keeps its own.
    pub(crate) fn of(batch: &PassageBatch, separator: u32, seed: u64) -> Self {
        let count = batch.batch as u64;
        // Whose second part each passage has.
        let others = (0..count).map(|b| match draw([seed, FOLLOWS, b]) % 2 {
            0 if count > 1 => (b + 1 + draw([seed, OTHER, b]) % (count - 1)) % count,
            _ => b,
        });
        let others: Vec<usize> = others.map(|other| other as usize).collect();
        let middle = |b: usize| batch.lengths[b] as usize / 2;
        let rows: Vec<Vec<u32>> = others
            .iter()
            .enumerate()
            .map(|(b, &other)| {
                let id = |b: usize| move |t: usize| batch.ids[t * batch.batch + b];
                let first = (0..middle(b)).map(id(b));
                let second = (middle(other)..batch.lengths[other] as usize).map(id(other));
                first.chain([separator]).chain(second).collect()
            })
            .collect();
        let time = rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut ids = vec![0; time * rows.len()];
        for (b, row) in rows.iter().enumerate() {
            for (t, &id) in row.iter().enumerate() {
                ids[t * rows.len() + b] = id;
            }
        }
        let lengths = rows.iter().map(|row| row.len() as u32).collect();
        let follows = others.iter().enumerate().map(|(b, &other)| u32::from(b == other));
        Self {
            batch: PassageBatch { batch: batch.batch, time, ids, lengths },
            follows: follows.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passages of some lengths; the token at t of passage b is 100·b + t.
    fn batch(lengths: &[u32]) -> PassageBatch {
        let (batch, time) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0) as usize);
        let ids = (0..time * batch).map(|row| (100 * (row % batch) + row / batch) as u32);
        PassageBatch { batch, time, ids: ids.collect(), lengths: lengths.to_vec() }
    }

    #[test]
    fn a_second_part_follows_or_is_of_another_passage() {
        let lengths = [8, 7, 2, 5, 6, 9];
        let mut followers = 0;
        for seed in 0..100 {
            let Pairs { batch: pairs, follows } = Pairs::of(&batch(&lengths), 999, seed);
            for (b, &follows) in follows.iter().enumerate() {
                let row: Vec<u32> = (0..pairs.lengths[b] as usize)
                    .map(|t| pairs.ids[t * pairs.batch + b])
                    .collect();
                let half = lengths[b] as usize / 2;
                let first: Vec<u32> = (0..half).map(|t| (100 * b + t) as u32).collect();
                assert_eq!((&row[..half], row[half]), (&first[..], 999));
                let of = row[half + 1] as usize / 100;
                let start = lengths[of] / 2;
                let second: Vec<u32> = (start..lengths[of]).map(|t| 100 * of as u32 + t).collect();
                assert_eq!(row[half + 1..], second);
                assert_eq!(follows == 1, of == b);
                followers += follows;
            }
        }
        assert!((250..350).contains(&followers), "{followers} of 600");
    }

    #[test]
    fn a_passage_alone_keeps_its_second_part() {
        for seed in 0..10 {
            let pairs = Pairs::of(&batch(&[5]), 9, seed);
            assert_eq!((pairs.batch.ids, pairs.follows), (vec![0, 1, 9, 2, 3, 4], vec![1]));
        }
    }
}
