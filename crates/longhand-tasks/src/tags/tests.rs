use proptest::prelude::*;

use super::*;

fn parse<'a>(tags: &[&'a str]) -> Vec<Tag<'a>> {
    tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect()
}

fn marked<'a>(tags: &[&'a str]) -> Vec<(&'a str, usize, usize)> {
    entities(&parse(tags)).into_iter().map(|e| (e.kind, e.first, e.last)).collect()
}

/// Values of seqeval 1.2.2, `get_entities`, whose default mode is that of conlleval.
#[test]
fn entities_are_read_as_conlleval_reads_them() {
    let check = |tags: &str, expected: &[(&str, usize, usize)]| {
        let tags: Vec<&str> = tags.split(' ').collect();
        assert_eq!(marked(&tags), expected, "{tags:?}");
    };
    check("B-A I-A O B-B", &[("A", 0, 1), ("B", 3, 3)]);
    check("I-A I-A O I-B", &[("A", 0, 1), ("B", 3, 3)]);
    check("B-A B-A I-A", &[("A", 0, 0), ("A", 1, 2)]);
    check("I-A B-A I-B", &[("A", 0, 0), ("A", 1, 1), ("B", 2, 2)]);
    check("B-A I-B I-B", &[("A", 0, 0), ("B", 1, 2)]);
    check("O I-A B-A O", &[("A", 1, 1), ("A", 2, 2)]);
    check("B-A E-A S-B B-A I-A E-A", &[("A", 0, 1), ("B", 2, 2), ("A", 3, 5)]);
    check("E-A E-A O I-A E-A", &[("A", 0, 0), ("A", 1, 1), ("A", 3, 4)]);
    check("S-A I-A I-A", &[("A", 0, 0), ("A", 1, 2)]);
    check("B-A S-A E-A", &[("A", 0, 0), ("A", 1, 1), ("A", 2, 2)]);
    check("B-A O E-A", &[("A", 0, 0), ("A", 2, 2)]);
    check("E-A B-A", &[("A", 0, 0), ("A", 1, 1)]);
    check("O O", &[]);
    check("B-X-Y I-X-Y I-X", &[("X-Y", 0, 1), ("X", 2, 2)]);
    check("B M M E S O", &[("", 0, 3), ("", 4, 4)]);
}

#[test]
fn a_scheme_is_told_by_its_tags() {
    let check = |sentences: &[&[&str]], expected: Scheme| {
        assert_eq!(Scheme::of(sentences.iter().copied()), expected, "{sentences:?}");
    };
    check(&[&["I-A", "I-A", "O"], &["I-B", "B-B"]], Scheme::Iob1);
    check(&[&["B-A", "I-A", "O"], &["B-B"]], Scheme::Iob2);
    check(&[&["B-A", "I-A", "O"], &["O", "I-B"], &["B-B"]], Scheme::Iob2);
    check(&[&["B-A", "M-A", "E-A"], &["O"]], Scheme::Bioes);
    check(&[&["O", "S-A"]], Scheme::Bioes);
    check(&[&["B-A", "E-A", "NN"]], Scheme::Raw);
    check(&[&["DT", "NN"]], Scheme::Raw);
    check(&[&["O"], &[]], Scheme::Iob2);
}

#[test]
fn tags_change_their_scheme() {
    let check = |from: Scheme, tags: &str, to: Scheme, expected: &str| {
        let tags: Vec<&str> = tags.split(' ').collect();
        assert_eq!(from.convert(&tags, to).join(" "), expected, "{tags:?}");
    };
    let (iob1, iob2, bioes) =
        ("I-A I-A B-A O I-B I-A", "B-A I-A B-A O B-B B-A", "B-A E-A S-A O S-B S-A");
    let all = [(Scheme::Iob1, iob1), (Scheme::Iob2, iob2), (Scheme::Bioes, bioes)];
    for (from, tags) in all {
        for (to, expected) in all {
            check(from, tags, to, expected);
        }
    }
    check(Scheme::Bioes, "B-A M-A E-A", Scheme::Iob2, "B-A I-A I-A");
    check(Scheme::Iob2, "O I-A", Scheme::Iob2, "O B-A");
    check(Scheme::Raw, "NN B-A", Scheme::Bioes, "NN B-A");
}

#[test]
fn steps_that_a_scheme_forbids_are_counted() {
    let check = |scheme: Scheme, tags: &str, expected: usize| {
        let tags: Vec<&str> = tags.split(' ').collect();
        assert_eq!(scheme.violations(&parse(&tags)), expected, "{scheme} {tags:?}");
    };
    check(Scheme::Iob2, "B-A I-A O B-B I-B", 0);
    check(Scheme::Iob2, "I-A I-A O I-B I-A", 3);
    check(Scheme::Iob1, "I-A B-A I-A O I-B", 0);
    check(Scheme::Iob1, "B-A I-A O B-B", 2);
    check(Scheme::Bioes, "S-A B-A I-A E-A O S-B", 0);
    check(Scheme::Bioes, "B-A O", 1);
    check(Scheme::Bioes, "B-A E-B", 1);
    check(Scheme::Bioes, "O B-A", 1);
    check(Scheme::Bioes, "I-A S-A E-A", 3);
    check(Scheme::Raw, "I-A B-B", 0);
}

#[test]
fn scores_are_those_of_conlleval() {
    // conlleval: 3 phrases; found: 4 phrases; correct: 1; precision 25.00, recall 33.33, FB1 28.57.
    let truth = parse(&["B-A", "I-A", "O", "B-B", "O", "B-A"]);
    let found = parse(&["B-A", "B-A", "O", "I-B", "B-C", "O"]);
    let mut scores = EntityScores::default();
    scores.add(&entities(&truth), &entities(&found));
    let overall = scores.overall();
    assert_eq!(overall, EntityCounts { truth: 3, found: 4, right: 1 });
    assert_eq!((overall.precision(), overall.recall()), (0.25, 1.0 / 3.0));
    assert!((overall.f1() - 2.0 / 7.0).abs() < 1e-15);
    assert_eq!(scores.types()["B"].f1(), 1.0);
    assert_eq!((scores.types()["C"].recall(), scores.types()["C"].precision()), (0.0, 0.0));
    assert!((scores.macro_f1() - 1.0 / 3.0).abs() < 1e-15);
    let table = scores.table();
    assert!(
        table.lines().count() == 5 && table.contains("33.33   28.57         3      4"),
        "{table}"
    );
    assert_eq!(EntityScores::default().overall().f1(), 0.0);
}

#[test]
fn an_unknown_scheme_is_told() {
    let error = "bilou".parse::<Scheme>().unwrap_err().to_string();
    assert!(error.contains("`bilou`") && error.contains("bioes"), "{error}");
    assert_eq!("iob1".parse::<Scheme>().unwrap(), Scheme::Iob1);
}

proptest! {
    #[test]
    fn every_scheme_marks_the_same_entities(
        tags in prop::collection::vec("[BIES]-[AB]|O", 0..12),
    ) {
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let own = entities(&parse(&tags));
        for scheme in [Scheme::Iob1, Scheme::Iob2, Scheme::Bioes] {
            let converted = scheme.tags(tags.len(), &own);
            prop_assert_eq!(scheme.violations(&converted), 0);
            prop_assert_eq!(&entities(&converted), &own);
            let written: Vec<String> = converted.iter().map(Tag::to_string).collect();
            let written: Vec<&str> = written.iter().map(String::as_str).collect();
            prop_assert_eq!(parse(&written), converted);
        }
    }
}
