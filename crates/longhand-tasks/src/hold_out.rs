//! Which examples are held out, which few are learnt from, and the folds of cross-validation.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Splits examples into those that are kept and the share that is held out, the same share of each
/// stratum. It shuffles by `seed`, sorts by stratum, and takes examples at even distances.
pub(crate) fn hold_out<E>(
    mut examples: Vec<E>,
    stratum: impl Fn(&E) -> &str,
    share: f64,
    seed: u64,
) -> (Vec<E>, Vec<E>) {
    examples.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    examples.sort_by(|a, b| stratum(a).cmp(stratum(b)));
    let (mut kept, mut held_out) = (Vec::new(), Vec::new());
    for (place, example) in examples.into_iter().enumerate() {
        // Half a step early, so that the first of a few examples is not always among the kept.
        let taken = |place: usize| (place as f64 * share + 0.5).floor();
        if taken(place + 1) > taken(place) { held_out.push(example) } else { kept.push(example) }
    }
    (kept, held_out)
}

/// Splits examples into those that are kept and about the share that is held out, each in the order
/// given: an example is held out if the hash of its key, and of the `part` that is held out, is
/// below the share. Examples of one key stay together, whatever else the file holds. Of two keys or
/// more, those of the least hash are held out and those of the largest are kept in any case. None
/// without a key is held out.
pub(crate) fn hold_out_groups<E>(
    examples: Vec<E>,
    key: impl Fn(&E) -> Option<Cow<'_, str>>,
    share: f64,
    part: &str,
) -> (Vec<E>, Vec<E>) {
    let hash = |example: &E| {
        let hash = blake3::hash(format!("{part}\n{}", key(example)?).as_bytes());
        hash.as_bytes().first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    };
    let hashes: Vec<Option<u64>> = examples.iter().map(hash).collect();
    let known = || hashes.iter().flatten().copied();
    let (least, largest) = (known().min(), known().max());
    let below = |hash: u64| (hash as f64) < share * 2_f64.powi(64);
    let is_held_out = |hash: u64| (below(hash) || Some(hash) == least) && Some(hash) != largest;
    let (mut kept, mut held_out) = (Vec::new(), Vec::new());
    for (example, hash) in examples.into_iter().zip(&hashes) {
        let part = if hash.is_some_and(is_held_out) { &mut held_out } else { &mut kept };
        part.push(example);
    }
    (kept, held_out)
}

/// Splits examples into those of the other folds and those of fold `number`, from 0 to `of`, each in
/// the order given. The examples of each stratum are shuffled by `seed` and dealt to the folds in
/// turns, so that each fold has the same share of a stratum and of all.
///
/// # Errors
/// A stratum that has fewer examples than there are folds, and how many it has.
pub(crate) fn fold<E>(
    examples: Vec<E>,
    stratum: impl Fn(&E) -> &str,
    (number, of): (usize, usize),
    seed: u64,
) -> Result<(Vec<E>, Vec<E>), (String, usize)> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order.sort_by(|&a, &b| stratum(&examples[a]).cmp(stratum(&examples[b])));
    let same = |&a: &usize, &b: &usize| stratum(&examples[a]) == stratum(&examples[b]);
    if let Some(few) = order.chunk_by(same).find(|places| places.len() < of) {
        return Err((stratum(&examples[few[0]]).to_owned(), few.len()));
    }
    let mut is_own = vec![false; examples.len()];
    let own = order.iter().enumerate().filter(|(turn, _)| turn % of == number);
    own.for_each(|(_, &place)| is_own[place] = true);
    let (mut others, mut own) = (Vec::new(), Vec::new());
    for (example, is_own) in examples.into_iter().zip(is_own) {
        if is_own { own.push(example) } else { others.push(example) }
    }
    Ok((others, own))
}

/// `count` examples of each stratum, drawn by `seed`, in the order given.
///
/// # Errors
/// A stratum that has fewer, and how many it has.
pub(crate) fn few<E>(
    examples: Vec<E>,
    stratum: impl Fn(&E) -> &str,
    count: usize,
    seed: u64,
) -> Result<Vec<E>, (String, usize)> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, example) in examples.iter().enumerate() {
        places.entry(stratum(example)).or_default().push(place);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut taken = vec![false; examples.len()];
    for (name, mut places) in places {
        if places.len() < count {
            return Err((name.to_owned(), places.len()));
        }
        places.shuffle(&mut random);
        places[..count].iter().for_each(|&place| taken[place] = true);
    }
    let all = examples.into_iter().zip(taken);
    Ok(all.filter_map(|(example, taken)| taken.then_some(example)).collect())
}

#[cfg(test)]
mod tests {
    use longhand_text::corpus::table::Example;

    fn hold_out(examples: Vec<Example>, share: f64, seed: u64) -> (Vec<Example>, Vec<Example>) {
        super::hold_out(examples, |e| e.label.as_deref().unwrap_or_default(), share, seed)
    }

    #[test]
    fn each_label_has_the_same_share_held_out() {
        let example = |label: usize, place: usize| Example {
            label: Some(label.to_string()),
            text: place.to_string(),
            second: None,
        };
        let counts = [100, 50, 20, 5, 1];
        let examples: Vec<Example> = counts
            .iter()
            .enumerate()
            .flat_map(|(label, &count)| (0..count).map(move |place| example(label, place)))
            .collect();
        let (kept, held_out) = hold_out(examples.clone(), 0.1, 7);
        assert_eq!(kept.len() + held_out.len(), examples.len());
        for (label, count) in counts.iter().enumerate() {
            let label = label.to_string();
            let held = held_out.iter().filter(|e| e.label.as_deref() == Some(&label)).count();
            assert!((held as f64 - *count as f64 * 0.1).abs() <= 1.0, "{held} of {count}");
        }
        assert_eq!(hold_out(examples.clone(), 0.1, 7), (kept.clone(), held_out));
        assert_ne!(hold_out(examples, 0.1, 8).0, kept);
    }

    #[test]
    fn examples_of_one_key_stay_together() {
        let examples: Vec<(String, usize)> =
            (0..4000).map(|place| ((place / 4).to_string(), place)).collect();
        let part = |examples: &[(String, usize)], part| {
            super::hold_out_groups(examples.to_vec(), |e| Some(e.0.as_str().into()), 0.1, part)
        };
        let (kept, held_out) = part(&examples, "test");
        assert!((300..500).contains(&held_out.len()), "{}", held_out.len());
        assert_eq!(kept.len() + held_out.len(), examples.len());
        assert!(held_out.iter().all(|(key, _)| kept.iter().all(|(other, _)| other != key)));
        assert!(held_out.is_sorted_by_key(|e| e.1) && kept.is_sorted_by_key(|e| e.1));
        // Other examples beside them change nothing, and the parts are independent.
        let half = part(&examples[..2000], "test").1;
        assert_eq!(half, held_out.into_iter().filter(|e| e.1 < 2000).collect::<Vec<_>>());
        assert_ne!(part(&kept, "valid").1, part(&kept, "test").1);
        // However few there are, each side has a key.
        for number in 0..20 {
            let few = [(number.to_string(), 0), (format!("{number}b"), 1)];
            assert_eq!([part(&few, "test").0.len(), part(&few, "test").1.len()], [1, 1]);
        }
        assert_eq!(part(&[("a".to_owned(), 0)], "test").0.len(), 1);
        let without = super::hold_out_groups(examples, |_| None, 0.5, "test");
        assert!(without.1.is_empty());
    }

    #[test]
    fn the_folds_part_the_examples_and_each_has_its_share() {
        let examples: Vec<(String, usize)> =
            (0..103).map(|place| ((place % 7 / 3).to_string(), place)).collect();
        let fold = |number, of, seed| super::fold(examples.clone(), |e| &e.0, (number, of), seed);
        let mut tested = Vec::new();
        for number in 0..5 {
            let (others, own) = fold(number, 5, 3).unwrap();
            assert_eq!(others.len() + own.len(), examples.len());
            assert!((20..=21).contains(&own.len()), "{}", own.len());
            assert!(own.iter().all(|example| !others.contains(example)));
            for label in ["0", "1", "2"] {
                let count = |of: &[(String, usize)]| of.iter().filter(|e| e.0 == label).count();
                let share = count(&examples) as f64 / 5.0;
                assert!((count(&own) as f64 - share).abs() <= 1.0, "{label}: {share}");
            }
            tested.extend(own);
        }
        tested.sort_by_key(|example| example.1);
        assert_eq!(tested, examples);
        assert_eq!(fold(1, 5, 3), fold(1, 5, 3));
        assert_ne!(fold(1, 5, 3), fold(1, 5, 4));
        assert_eq!(fold(0, 15, 1), Err(("2".to_owned(), 14)));
    }

    #[test]
    fn a_few_of_each_label_are_drawn() {
        let examples: Vec<(String, usize)> =
            (0..60).map(|place| ((place % 3).to_string(), place)).collect();
        let draw = |count, seed| super::few(examples.clone(), |e| e.0.as_str(), count, seed);
        let drawn = draw(4, 1).unwrap();
        for label in ["0", "1", "2"] {
            assert_eq!(drawn.iter().filter(|e| e.0 == label).count(), 4);
        }
        assert!(drawn.is_sorted_by_key(|e| e.1));
        assert_eq!(draw(4, 1).unwrap(), drawn);
        assert_ne!(draw(4, 2).unwrap(), drawn);
        assert_eq!(draw(20, 1).unwrap(), examples);
        assert_eq!(draw(21, 1), Err(("0".to_owned(), 20)));
    }
}
