//! Counting: tokens → sorted n-grams of the highest order → those of every order, with the counts
//! that Kneser and Ney adjust.
//!
//! Memory: 256 MiB of n-grams before they go into temporary files, and then the arrays of the
//! model, with at most 16 bytes for each different n-gram of any order. The tokens are read once.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use longhand_text::Tokens;

use crate::build::Builder;
use crate::discount::Discounts;
use crate::error::{NgramError, check};
use crate::key::Packing;
use crate::model::Ngram;
use crate::sorter::{Sorted, Sorter};

/// Entries of n-grams that are held in memory, 32 bytes each.
const MOST_IN_MEMORY: usize = 8 << 20;
/// Tokens read at once.
const BLOCK: usize = 1 << 16;

/// The model of order `order` of some tokens. What exceeds memory goes into temporary files of
/// `folder`. Ends early once `stop` is set.
///
/// # Errors
/// [`NgramError::Order`] for an order that the vocabulary does not allow, [`NgramError::Sort`] if
/// the temporary files fail, [`NgramError::Stopped`] for `stop`.
pub fn count(
    tokens: &Tokens,
    order: usize,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Ngram, NgramError> {
    count_within(MOST_IN_MEMORY, tokens, order, folder, stop)
}

/// As [`count`], with at most `limit` entries in memory.
pub(crate) fn count_within(
    limit: usize,
    tokens: &Tokens,
    order: usize,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Ngram, NgramError> {
    let packing = Packing::new(tokens.vocabulary(), order)?;
    let mut highest = Sorter::new(folder, limit);
    read(tokens, packing, &mut highest, stop)?;
    let counted = adjust(highest.finish()?, packing, (folder, limit), stop)?;
    let mut builder = Builder::new(tokens.vocabulary(), packing);
    for Counted { ngrams, discounts } in counted {
        builder.add(ngrams.finish()?, discounts, stop)?;
    }
    Ok(builder.finish())
}

/// The n-gram that ends at each token. Near a document's start it is shorter, and begins there.
fn read(
    tokens: &Tokens,
    packing: Packing,
    highest: &mut Sorter,
    stop: &AtomicBool,
) -> Result<(), NgramError> {
    let start = tokens.vocabulary() as u32;
    let mut documents = tokens.documents().iter().copied().peekable();
    let mut ids = vec![0; BLOCK];
    let (mut at, mut key) = (0, packing.push(0, start));
    while at < tokens.len() {
        check(stop)?;
        let count = (tokens.len() - at).min(BLOCK as u64) as usize;
        tokens.copy(at, &mut ids[..count])?;
        for &id in &ids[..count] {
            if documents.next_if_eq(&at).is_some() {
                key = packing.push(0, start);
            }
            key = packing.push(key, id);
            highest.push(key, 1)?;
            at += 1;
        }
    }
    Ok(())
}

/// The n-grams of one order, in the text's order of words, with adjusted counts.
struct Counted {
    ngrams: Sorter,
    discounts: Discounts,
}

/// The n-grams of one order while they are adjusted.
struct Order {
    ngrams: Sorter,
    /// The adjusted count of the n-gram at hand.
    count: u64,
    /// How many n-grams count 1, 2, 3 and 4.
    counts_of_counts: [u64; 4],
}

/// All orders from the highest, whose keys come sorted by their last words. A k-gram below it
/// counts once for each different word before it; one that begins a document, which has no word
/// before it, counts as often as it comes.
fn adjust(
    mut highest: Sorted,
    packing: Packing,
    (folder, limit): (&Path, usize),
    stop: &AtomicBool,
) -> Result<Vec<Counted>, NgramError> {
    let order = packing.order();
    let new =
        || Order { ngrams: Sorter::new(folder, limit / order), count: 0, counts_of_counts: [0; 4] };
    let mut orders: Vec<Order> = std::iter::repeat_with(new).take(order).collect();
    let (mut last, mut length) = (0, 0);
    let mut read = 0usize;
    while let Some((key, count)) = highest.next()? {
        if read.is_multiple_of(BLOCK) {
            check(stop)?;
        }
        read += 1;
        let shared = packing.shared(last, key).min(length);
        close(&mut orders, packing, last, shared..length)?;
        (last, length) = (key, packing.length(key));
        for (k, order) in orders[..length].iter_mut().enumerate() {
            let longer_is_new = k + 1 >= shared;
            match k + 1 == length {
                true => order.count = count,
                false => order.count += u64::from(longer_is_new),
            }
        }
    }
    close(&mut orders, packing, last, 0..length)?;
    let counted = orders.into_iter().map(|Order { ngrams, counts_of_counts, .. }| Counted {
        ngrams,
        discounts: Discounts::estimate(counts_of_counts),
    });
    Ok(counted.collect())
}

/// Hands on the n-grams of some lengths, less one, at the end of a key: no further key has them.
fn close(
    orders: &mut [Order],
    packing: Packing,
    key: u128,
    lengths: std::ops::Range<usize>,
) -> Result<(), NgramError> {
    for k in lengths {
        let order = &mut orders[k];
        let count = std::mem::take(&mut order.count);
        if let Some(known) = order.counts_of_counts.get_mut(count as usize - 1) {
            *known += 1;
        }
        order.ngrams.push(packing.forward(key, k + 1), count)?;
    }
    Ok(())
}
