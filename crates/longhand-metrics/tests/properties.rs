//! What holds for every text: best scores of equal texts, bounds, and no effect of order.

use longhand_metrics::{
    Bleu, Chrf, Distinct, Metric, MetricsError, Overlap, Rouge, RougeScores, RougeTokens,
    Smoothing, Ter, Tokenizer, distinct,
};
use proptest::prelude::*;

/// Texts of few words, so that n-grams repeat, with what the tokenisers treat in different ways.
const TEXT: &str = "([abAB中文] ?|[ .,'&-]|[0-9]{1,3}|\u{3000}|\n|Σ|é){0,24}";

/// A corpus: outputs with one to three references each.
fn corpora() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let references = proptest::collection::vec(TEXT, 1..4);
    proptest::collection::vec((TEXT, references), 1..7)
}

/// Every setting of BLEU.
fn bleus() -> impl Iterator<Item = Bleu> {
    Tokenizer::ALL.into_iter().flat_map(|tokenizer| {
        Smoothing::ALL.into_iter().flat_map(move |smoothing| {
            [false, true].map(|switch| Bleu {
                tokenizer,
                smoothing,
                lowercase: switch,
                effective_order: switch,
            })
        })
    })
}

/// Every setting of chrF.
fn chrfs() -> impl Iterator<Item = Chrf> {
    (0..3).flat_map(|word_order| {
        [false, true].into_iter().flat_map(move |lowercase| {
            [false, true].map(|switch| Chrf {
                word_order,
                lowercase,
                whitespace: switch,
                epsilon_smoothing: switch,
            })
        })
    })
}

/// Every setting of ROUGE.
fn rouges() -> [Rouge; 3] {
    [RougeTokens::Words, RougeTokens::Stems, RougeTokens::Characters].map(|tokens| Rouge { tokens })
}

fn overlaps(scores: &RougeScores) -> [Overlap; 4] {
    [scores.rouge1, scores.rouge2, scores.rouge_l, scores.rouge_lsum]
}

/// All scores of a corpus, and the highest value that each can have.
fn all_scores(corpus: &[(String, Vec<String>)]) -> Result<Vec<(f64, f64)>, MetricsError> {
    let (outputs, references): (Vec<_>, Vec<_>) = corpus.iter().cloned().unzip();
    let mut scores = Vec::new();
    for bleu in bleus() {
        let score = bleu.corpus(&outputs, &references)?;
        scores.push((score.score, 100.0));
        scores.extend(score.precisions.map(|precision| (precision, 100.0)));
        scores.push((score.brevity_penalty, 1.0));
    }
    for chrf in chrfs() {
        scores.push((chrf.corpus(&outputs, &references)?, 100.0));
    }
    for case_sensitive in [false, true] {
        let score = Ter { case_sensitive }.corpus(&outputs, &references)?;
        scores.push((score.score, f64::INFINITY));
    }
    for rouge in rouges() {
        for Overlap { precision, recall, f1 } in overlaps(&rouge.corpus(&outputs, &references)?) {
            scores.extend([precision, recall, f1].map(|share| (share, 1.0)));
        }
    }
    for tokenizer in Tokenizer::ALL {
        let counts: Distinct = distinct(&outputs, tokenizer)?;
        scores.extend(counts.per_token().map(|share| (share, 1.0)));
        scores.extend(counts.per_ngram().map(|share| (share, 1.0)));
    }
    Ok(scores)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn scores_are_within_their_bounds(corpus in corpora()) {
        for (score, highest) in all_scores(&corpus)? {
            prop_assert!((0.0..=highest + 1e-9).contains(&score), "{score} above {highest}");
        }
    }

    #[test]
    fn the_order_of_the_outputs_does_not_matter(
        (corpus, other) in corpora().prop_flat_map(|corpus| {
            (Just(corpus.clone()), Just(corpus).prop_shuffle())
        })
    ) {
        for ((a, _), (b, _)) in all_scores(&corpus)?.into_iter().zip(all_scores(&other)?) {
            prop_assert!(near(a, b), "{a} is not {b}");
        }
    }

    #[test]
    fn equal_texts_have_the_best_scores(text in TEXT, other in TEXT) {
        let references = [&other, &text];
        for bleu in bleus() {
            let tokens = bleu.tokenizer.tokenize(&text).len();
            // Without four tokens and the effective order, some precision is one of nothing.
            if tokens >= 4 || tokens > 0 && bleu.effective_order && bleu.smoothing != Smoothing::AddK {
                let score = bleu.sentence(&text, &references)?.score;
                prop_assert!(near(score, 100.0), "{bleu:?}: {score}");
            }
        }
        let is_empty = text.chars().all(char::is_whitespace);
        for chrf in chrfs().filter(|chrf| !is_empty && !chrf.epsilon_smoothing) {
            prop_assert!(near(chrf.sentence(&text, &references)?, 100.0), "{chrf:?}");
        }
        prop_assert_eq!(Ter::default().sentence(&text, &references)?.counts.edits, 0);
        for rouge in rouges() {
            let scores = rouge.sentence(&text, &references)?;
            // Without a token, or a pair, there is nothing to share.
            for overlap in overlaps(&scores).into_iter().filter(|overlap| overlap.recall > 0.0) {
                prop_assert!(near(overlap.f1, 1.0), "{rouge:?}: {scores:?}");
            }
        }
    }

    #[test]
    fn sums_of_counts_score_as_the_corpus(corpus in corpora()) {
        let (outputs, references): (Vec<_>, Vec<_>) = corpus.iter().cloned().unzip();
        let (bleu, chrf, ter) = (Bleu::default(), Chrf::plus_plus(), Ter::default());
        let twice = |n: usize| (0..n).chain(0..n);
        let doubled: Vec<_> = twice(corpus.len()).map(|i| &outputs[i]).collect();
        let doubled_references: Vec<_> = twice(corpus.len()).map(|i| &references[i]).collect();
        let counts = bleu.counts(&outputs, &references)?;
        prop_assert_eq!(
            bleu.score(twice(corpus.len()).map(|i| &counts[i])),
            bleu.corpus(&doubled, &doubled_references)?
        );
        let counts = chrf.counts(&outputs, &references)?;
        prop_assert_eq!(
            chrf.score(twice(corpus.len()).map(|i| &counts[i])),
            chrf.corpus(&doubled, &doubled_references)?
        );
        let counts = ter.counts(&outputs, &references)?;
        prop_assert_eq!(
            ter.score(twice(corpus.len()).map(|i| &counts[i])),
            ter.corpus(&doubled, &doubled_references)?
        );
    }

    #[test]
    fn edits_are_at_least_the_difference_in_length(a in TEXT, b in TEXT) {
        let count = |text: &str| text.split_whitespace().count() as u64;
        let (output, reference) = (count(&a), count(&b));
        let edits = Ter::default().sentence(&a, &[&b])?.counts.edits;
        prop_assert!(edits >= output.abs_diff(reference));
        prop_assert!(edits <= output.max(reference));
    }
}

#[test]
fn every_metric_refuses_what_it_cannot_measure() {
    let (outputs, references) = (["a", "b"], [["a"]]);
    let unequal = MetricsError::UnequalCounts { outputs: 2, references: 1 };
    assert_eq!(Bleu::default().corpus(&outputs, &references), Err(unequal));
    assert_eq!(Chrf::default().corpus(&outputs, &references), Err(unequal));
    assert_eq!(Ter::default().corpus(&outputs, &references), Err(unequal));
    assert_eq!(Rouge::default().corpus(&outputs, &references), Err(unequal));
    let (none, no_texts): ([&str; 0], [&str; 0]) = ([], []);
    assert_eq!(
        Rouge::default().corpus::<_, [&str; 1], _>(&none, &[]),
        Err(MetricsError::NoOutputs)
    );
    let missing = MetricsError::NoReferences { output: 1 };
    assert_eq!(Bleu::default().sentence("a", &no_texts), Err(missing));
    assert_eq!(Ter::default().sentence("a", &no_texts), Err(missing));
}
