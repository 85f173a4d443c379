//! The whole model against its definition, by hand and through its file.

use std::sync::atomic::AtomicBool;

use longhand_model::{IGNORE, Sequence, State};
use longhand_text::Tokens;
use proptest::prelude::*;

use crate::count::count_within;
use crate::model::Ngram;
use crate::readings::Readings;
use crate::reference::Reference;
use crate::{ArpaWords, Discounts, NgramError, count};

/// Documents of words below V, none of them empty.
type Documents = Vec<Vec<u32>>;

fn tokens(documents: &[Vec<u32>], vocabulary: usize) -> Tokens {
    let starts = documents.iter().scan(0, |at, document| {
        let start = *at;
        *at += document.len() as u64;
        Some(start)
    });
    Tokens::from_ids(documents.concat(), starts.collect(), vocabulary).unwrap()
}

/// A model whose n-grams go through files, where `limit` is small.
fn model(documents: &[Vec<u32>], vocabulary: usize, order: usize, limit: usize) -> Ngram {
    let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    count_within(limit, &tokens(documents, vocabulary), order, folder.path(), &stop).unwrap()
}

/// Pseudo-random documents in which some words are far more frequent.
fn documents(seed: u64, vocabulary: u64, lengths: &[usize]) -> Documents {
    let mut x = seed | 1;
    let mut word = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (a, b) = ((x >> 33) % vocabulary, (x >> 45) % vocabulary);
        (a * b / vocabulary) as u32
    };
    lengths.iter().map(|&length| (0..length).map(|_| word()).collect()).collect()
}

#[test]
fn a_small_text_gives_what_is_computed_by_hand() {
    // The text `a b a b b`, V = 3, bigrams. The discounts are the fallback ½, 1, 1½.
    let model = model(&[vec![0, 1, 0, 1, 1]], 3, 2, 100);
    let p = |context: &[u32], word| f64::from(model.log_probability(context, word)).exp();
    // Unigrams count the words before them: a has the start and b, b has a and b. Each gives 1 of
    // its 2, so that 2 of 4 are shared out among three words.
    let [a, b, c] = [1.0 / 4.0 + 1.0 / 6.0, 1.0 / 4.0 + 1.0 / 6.0, 1.0 / 6.0];
    for (word, expected) in [(0, a), (1, b), (2, c)] {
        assert!((p(&[], word) - expected).abs() < 1e-6);
    }
    // After a: b twice, which gives 1. After b: a once, b once, and each gives ½.
    for (context, word, expected) in [
        (0, 0, 0.5 * a),
        (0, 1, 0.5 + 0.5 * b),
        (0, 2, 0.5 * c),
        (1, 0, 0.25 + 0.5 * a),
        (1, 1, 0.25 + 0.5 * b),
        (model.start(), 0, 0.5 + 0.5 * a),
        (2, 1, b),
    ] {
        assert!((p(&[context], word) - expected).abs() < 1e-6, "{context} {word}");
    }
    assert!(model.discounts().iter().all(|it| it.amounts == Discounts::FALLBACK && it.fallback));
    assert!(model.counts().eq([4, 4]));
}

#[test]
fn estimated_discounts_are_used() {
    let model = model(&documents(5, 40, &[3000, 800]), 40, 3, 100_000);
    assert!(model.discounts()[1..].iter().all(|discounts| !discounts.fallback));
    let all = documents(5, 40, &[3000, 800]);
    let reference = Reference::new(&[&all[0], &all[1]], 40, 3);
    for context in [[3, 7], [0, 0], [39, 39], [40, 1]] {
        for word in 0..40 {
            let p = f64::from(model.log_probability(&context, word)).exp();
            let expected = reference.probability(&context, word);
            assert!((p - expected).abs() < 5e-6 * expected, "{context:?} {word}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn probabilities_are_the_definition_and_sum_to_one(
        seed in any::<u64>(),
        vocabulary in 2usize..12,
        order in 1usize..6,
        lengths in proptest::collection::vec(1usize..40, 1..4),
        limit in 2usize..60,
    ) {
        let documents = documents(seed, vocabulary as u64, &lengths);
        let model = model(&documents, vocabulary, order, limit);
        let slices: Vec<&[u32]> = documents.iter().map(Vec::as_slice).collect();
        let reference = Reference::new(&slices, vocabulary, order);
        // Contexts of the text, from a document's start too, and of words in any order.
        let start = [model.start()];
        let mut contexts: Vec<Vec<u32>> = vec![vec![], start.to_vec()];
        for document in &slices {
            let words = [&start, *document].concat();
            contexts.extend(words.windows(order.max(2) - 1).map(<[u32]>::to_vec));
            contexts.push(document.iter().rev().copied().take(order + 1).collect());
        }
        let mut row = vec![0.0; vocabulary];
        for context in &contexts {
            model.log_probabilities(context, &mut row);
            let mut sum = 0.0;
            for (word, &log_probability) in (0..).zip(&row) {
                prop_assert_eq!(log_probability, model.log_probability(context, word));
                let known = &context[context.len().saturating_sub(order - 1)..];
                let expected = reference.probability(known, word);
                let p = f64::from(log_probability).exp();
                prop_assert!((p - expected).abs() < 5e-6 * expected);
                sum += p;
            }
            prop_assert!((sum - 1.0).abs() < 1e-5, "{} after {:?}", sum, context);
        }
    }
}

#[test]
fn a_folder_gives_the_same_model_and_damage_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for order in [1, 2, 4] {
        let model = model(&documents(1, 9, &[200, 30]), 9, order, 1000);
        model.save(folder.path()).unwrap();
        assert!(Ngram::is_in(folder.path()));
        let read = Ngram::load(folder.path()).unwrap();
        assert_eq!(read, model);
        assert_eq!(read.hash(), model.hash());
        let weights = model.weights();
        for at in (0..weights.len()).step_by(37) {
            let mut damaged = weights.clone();
            damaged[at] ^= 1;
            let read = Ngram::from_bytes(&model.header(), &damaged, folder.path());
            assert!(read.is_err(), "byte {at}");
        }
        // Arrays of another model.
        let other = self::model(&documents(2, 9, &[190]), 9, order, 1000);
        let read = Ngram::from_bytes(&model.header(), &other.weights(), folder.path());
        assert!(order == 1 || read.is_err());
    }
}

#[test]
fn chunks_steps_and_batches_read_alike() {
    let (vocabulary, order) = (7, 4);
    let texts = documents(3, 7, &[30, 30]);
    let model = model(&texts, vocabulary, order, 1000);
    let layout = model.state_layout();
    let mut alone = Vec::new();
    for text in &texts {
        let (mut readings, mut state) = (Readings::default(), State::new(&layout, 1));
        for (at, &id) in text.iter().enumerate() {
            readings.read(&model, &[id], &Sequence::new(1, 1), &mut state).unwrap();
            let mut row = Vec::new();
            readings.logits(&model, 0..1, &mut row);
            let context: Vec<u32> =
                [model.start()].into_iter().chain(text[..=at].iter().copied()).collect();
            let mut expected = vec![0.0; vocabulary];
            model.log_probabilities(&context, &mut expected);
            assert_eq!(row, expected);
            alone.push(row);
        }
    }
    // Both side by side, in two chunks, and each once more behind a reset.
    let (mut readings, mut state) = (Readings::default(), State::new(&layout, 2));
    for (first, time) in [(0, 11), (11, 19), (0, 30)] {
        let ids: Vec<u32> =
            (first..first + time).flat_map(|t| [texts[0][t], texts[1][t]]).collect();
        let mut resets = vec![false; ids.len()];
        resets[..2].fill(first == 0);
        let sequence = Sequence { resets: Some(&resets), ..Sequence::new(time, 2) };
        readings.read(&model, &ids, &sequence, &mut state).unwrap();
        let mut rows = Vec::new();
        readings.logits(&model, 0..2 * time, &mut rows);
        for (row, logits) in rows.chunks(vocabulary).enumerate() {
            assert_eq!(logits, alone[row % 2 * 30 + first + row / 2]);
        }
        let mut targets = ids[2..].to_vec();
        targets.extend([IGNORE; 2]);
        let mut losses = vec![0.0; targets.len()];
        readings.losses(&model, &targets, &mut losses).unwrap();
        for (row, (&target, loss)) in targets.iter().zip(losses).enumerate() {
            let expected =
                if target == IGNORE { 0.0 } else { -rows[row * vocabulary + target as usize] };
            assert_eq!(loss, expected);
        }
    }
    assert_eq!(state.positions(), [60, 60]);
    assert_eq!(state.since_reset(), [30, 30]);
}

#[test]
fn what_cannot_be_counted_says_so() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let text = tokens(&[vec![0, 1, 2]], 50_000);
    let error = count(&text, 9, folder.path(), &stop).unwrap_err().to_string();
    assert_eq!(
        error,
        "the order is 9, but must be from 1 to 8 with 50000 tokens: name a lower one"
    );
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let stopped = count(&text, 2, folder.path(), &stop);
    assert!(matches!(stopped, Err(NgramError::Stopped)));
}

/// A tokeniser whose tokens have white space in them, and the model of a text.
fn characters() -> (longhand_text::Tokenizer, Ngram) {
    let text = "one two\n three two\u{3000}one\tthree two one\n".repeat(3);
    let texts = std::iter::once(Ok(text.clone()));
    let kind = longhand_text::TokenizerKind::Char;
    let tokenizer = longhand_text::Tokenizer::train(kind, None, texts, &mut |_| {}).unwrap();
    let ids = tokenizer.encode(&text).unwrap();
    let model = model(&[ids[..40].to_vec(), ids[40..].to_vec()], tokenizer.vocab_size(), 3, 100);
    (tokenizer, model)
}

#[test]
fn an_arpa_file_gives_the_same_probabilities() {
    let (tokenizer, model) = characters();
    let words = ArpaWords::new(&tokenizer).unwrap();
    let mut arpa = Vec::new();
    model.write_arpa(&words, &mut arpa).unwrap();
    let text = String::from_utf8(arpa).unwrap();
    assert!(text.contains("\t<U+0020> t w"), "{text}");
    let read = Ngram::read_arpa(&words, text.as_bytes()).unwrap();
    assert!(read.counts().eq(model.counts()));
    let vocabulary = model.vocabulary();
    let (mut ours, mut theirs) = (vec![0.0; vocabulary], vec![0.0; vocabulary]);
    for context in [vec![], vec![model.start()], vec![1, 2], vec![3, 3], vec![2, 5]] {
        model.log_probabilities(&context, &mut ours);
        read.log_probabilities(&context, &mut theirs);
        let differ = ours.iter().zip(&theirs).any(|(a, b)| (a - b).abs() > 2e-6 * a.abs().max(1.0));
        assert!(!differ, "{context:?}: {ours:?} {theirs:?}");
    }
}

#[test]
fn a_damaged_arpa_file_is_refused_by_its_line() {
    let (tokenizer, _) = characters();
    let words = ArpaWords::new(&tokenizer).unwrap();
    let good = "\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1\to\t-0.5\n-1\tn\n-99\t</s>\n\n\
                \\2-grams:\n-0.5\to n\n\n\\end\\\n";
    let model = Ngram::read_arpa(&words, good.as_bytes()).unwrap();
    let [o, n] = ["o", "n"].map(|token| tokenizer.id(token).unwrap());
    let log10 = |context: &[u32], id| model.log_probability(context, id) / std::f32::consts::LN_10;
    let got = [log10(&[o], n), log10(&[o], o), log10(&[n], o)];
    assert!(got.iter().zip([-0.5, -1.5, -1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
    for (from, to, words_of_error) in [
        ("-1\tn", "1\tn", "line 7 of the ARPA file: a logarithm that is at most 0 belongs first"),
        ("-1\tn", "x\tn", "line 7 of the ARPA file: x is no logarithm"),
        ("-1\tn", "-1\tmany", "line 7 of the ARPA file: the word many is no token"),
        ("-1\tn", "-1\to", "one of the 1-grams above is there twice"),
        ("-1\tn", "-1\tn 1 1", "there is more here than 1 words"),
        ("ngram 2=1", "ngram 3=1", "line 3 of the ARPA file: a count of n-grams belongs here"),
        ("ngram 1=3", "ngram 1=2", "line 8 of the ARPA file: the 2-grams belong here"),
        ("o n", "<unk>", "2 words belong here"),
        ("o n", "n <s>", "<s> stands behind another word"),
        ("\\end\\", "", "before its \\end\\"),
    ] {
        let damaged = good.replacen(from, to, 1);
        assert_ne!(damaged, good);
        let error = Ngram::read_arpa(&words, damaged.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words_of_error), "{error}");
    }
    // Every prefix is refused.
    for end in 0..good.len() - 2 {
        assert!(Ngram::read_arpa(&words, &good.as_bytes()[..end]).is_err(), "{end}");
    }
}
