use super::*;

fn edits(output: &str, references: &[&str]) -> u64 {
    Ter::default().sentence(output, references).unwrap().counts.edits
}

/// The example of Snover et al. 2006, section 3: "this week" moves, "the saudis" is replaced by two
/// words, and "american" is inserted.
#[test]
fn a_moved_phrase_is_one_edit() {
    let reference =
        "SAUDI ARABIA denied THIS WEEK information published in the AMERICAN new york times";
    let output = "THIS WEEK THE SAUDIS denied information published in the new york times";
    let score = Ter::default().sentence(output, &[reference]).unwrap();
    assert_eq!(score.counts, TerCounts { edits: 4, reference_length: 13.0 });
    assert!((score.score - 400.0 / 13.0).abs() < 1e-9);
}

#[test]
fn each_kind_of_edit_counts_once() {
    assert_eq!(edits("a b c d", &["a b c d"]), 0);
    assert_eq!(edits("a b x c d", &["a b c d"]), 1);
    assert_eq!(edits("a c d", &["a b c d"]), 1);
    assert_eq!(edits("a x c d", &["a b c d"]), 1);
    assert_eq!(edits("d e f a b c", &["a b c d e f"]), 1);
    assert_eq!(edits("A b", &["a B"]), 0);
    let sensitive = Ter { case_sensitive: true };
    assert_eq!(sensitive.sentence("A b", &["a B"]).unwrap().counts.edits, 2);
}

#[test]
fn the_easiest_reference_counts_with_the_mean_length() {
    let score = Ter::default().sentence("a b c", &["x y z u v", "a b d"]).unwrap();
    assert_eq!(score.counts, TerCounts { edits: 1, reference_length: 4.0 });
    assert!((score.score - 25.0).abs() < 1e-9);
}

#[test]
fn empty_texts_have_scores() {
    let score = |output, reference: &str| Ter::default().sentence(output, &[reference]).unwrap();
    assert_eq!(score("", "").score, 0.0);
    assert_eq!(score("a b", "").score, 100.0);
    assert_eq!(score("", "a b").score, 100.0);
}

#[test]
fn very_different_lengths_stay_within_the_beam() {
    let long = "w ".repeat(500) + "end";
    assert_eq!(edits("end", &[&long]), 500);
    assert_eq!(edits(&long, &["end"]), 500);
    // The row of "x" ends before the last word, so that "end" is replaced as well.
    assert_eq!(edits("x end", &[&long]), 501);
}

#[test]
fn the_signature_names_tercoms_settings() {
    let version = concat!("|version:longhand-", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        Ter::default().signature(&[["a"]]),
        format!("nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no{version}")
    );
}
