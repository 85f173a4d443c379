use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_kernel::Cpu;
use longhand_model::{IGNORE, Mode, Preset, Sequence, Tape};
use longhand_train::Watch;

use super::*;
use crate::baseline::{Baseline, BaselineSettings, Form, Learning};
use crate::batches::lengths;
use crate::explain::{Explainer, Explanation};
use crate::intervals::mcnemar;
use crate::network::Network;
use crate::{plain, start};

const TRAIN: &str = "-DOCSTART- -X- O\n\nEU NNP I-ORG\nrejects VBZ O\nGerman JJ I-MISC\ncall NN O\n\n\
    Peter NNP I-PER\nBlackburn NNP I-PER\n\nEU NNP I-ORG\nEU NNP B-ORG\nrejects VBZ O\n";

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), text).unwrap();
    file
}

fn read(settings: &Settings, text: &str) -> Result<Read<Example>, TaskError> {
    Tagging::read(settings, file(text).path(), &Reading::default())
}

fn learnt(settings: &Settings, text: &str) -> (Tagging, Vec<Example>) {
    let examples = read(settings, text).unwrap().examples;
    (Tagging::learn(settings, &examples, "it").unwrap(), examples)
}

fn tokenizer(examples: &[Example]) -> Tokenizer {
    let texts = examples.iter().flat_map(Tagging::texts).map(|text| Ok(format!("{text}\n")));
    let (task, _) = learnt(&Settings::default(), TRAIN);
    let vocabulary = task.vocabulary(TokenizerKind::Word, examples);
    Tokenizer::train(TokenizerKind::Word, vocabulary, texts, &mut |_| {}).unwrap()
}

#[test]
fn tags_are_learnt_in_a_scheme_and_written_in_the_data_s() {
    let (task, examples) = learnt(&Settings::default(), TRAIN);
    assert_eq!((task.scheme, task.written), (Scheme::Iob2, Scheme::Iob1));
    assert_eq!(task.tags, ["O", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]);
    let numbers: Vec<u32> = task.numbers(&examples[2]).into_iter().flatten().collect();
    assert_eq!(numbers, [3, 3, 0]);
    let answer = Answer { tags: numbers, probabilities: vec![1.0; 3] };
    assert_eq!(task.written(&examples[2], std::slice::from_ref(&answer)), ["I-ORG", "B-ORG", "O"]);
    // Words without an answer have the tag of nothing.
    assert_eq!(task.written(&examples[0], &[answer]), ["I-ORG", "B-ORG", "O", "O"]);

    let settings = Settings { scheme: Some(Scheme::Bioes), ..Settings::default() };
    let (task, examples) = learnt(&settings, TRAIN);
    assert_eq!(task.tags.len(), 13);
    let numbers: Vec<u32> = task.numbers(&examples[1]).into_iter().flatten().collect();
    let names: Vec<&str> = numbers.iter().map(|&n| task.tags[n as usize].as_str()).collect();
    assert_eq!(names, ["B-PER", "E-PER"]);
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Tagging>(&json).unwrap(), task);
}

#[test]
fn raw_tags_have_no_entities() {
    let settings = Settings { label_column: "1".into(), ..Settings::default() };
    let (task, examples) = learnt(&settings, TRAIN);
    assert_eq!(task.scheme, Scheme::Raw);
    assert_eq!(task.tags, ["JJ", "NN", "NNP", "VBZ"]);
    assert!(task.legal()[0].iter().all(|&legal| legal));
    let answers = [Answer { tags: vec![2, 3, 0, 0], probabilities: vec![1.0; 4] }];
    let scored = Scored { example: &examples[0], items: &[], answers: &answers };
    let metrics = task.measure(&[scored]);
    // F1: 2/3, 0, 1 and 1.
    let expected = [
        ("accuracy", 0.75),
        ("macro_f1", 2.0 / 3.0),
        ("macro_precision", 2.5 / 4.0),
        ("macro_recall", 0.75),
    ];
    assert_eq!(metrics.len(), expected.len(), "{metrics:?}");
    for (name, value) in expected {
        assert!((metrics[name] - value).abs() < 1e-12, "{metrics:?}");
    }
    let report = task.report(&[scored]);
    assert_eq!(report.json["classes"]["JJ"]["precision"], 0.5);
    assert!(report.text.contains("VBZ"), "{}", report.text);
    assert_eq!(report.classes.len(), 4);
    let (names, confusion) = report.confusion.unwrap();
    assert_eq!((names, confusion.counts()[1][0]), (task.tags.clone(), 1));
    let settings = Settings { scheme: Some(Scheme::Iob2), ..settings };
    let error = Tagging::learn(&settings, &examples, "it").unwrap_err().to_string();
    assert!(error.contains("it") && error.contains("iob2"), "{error}");
}

#[test]
fn only_legal_tags_may_follow() {
    let (task, _) = learnt(&Settings::default(), TRAIN);
    let [pairs, first, last] = task.legal();
    let at = |name: &str| task.tags.iter().position(|tag| tag == name).unwrap();
    let legal = |a: &str, b: &str| pairs[at(a) * task.tags.len() + at(b)];
    assert!(legal("B-PER", "I-PER") && legal("O", "B-PER") && legal("I-PER", "B-ORG"));
    assert!(!legal("O", "I-PER") && !legal("B-ORG", "I-PER"));
    assert!(first[at("O")] && first[at("B-PER")] && !first[at("I-PER")]);
    assert!(last.iter().all(|&legal| legal));
}

#[test]
fn a_sentence_becomes_ids_tags_and_features() {
    let settings = Settings { feature_columns: vec!["1".into()], ..Settings::default() };
    let (task, examples) = learnt(&settings, TRAIN);
    let tokenizer = tokenizer(&examples);
    // `<unk>`, `<eos>`, `EU` and `rejects`.
    assert_eq!(tokenizer.vocab_size(), 4);
    let encoded = task.encode(&tokenizer, &examples[0]).unwrap();
    let [LabelledIds { ids, label }] = &encoded.items[..] else { panic!() };
    assert_eq!(ids[..], [2, 3, 0, 0]);
    assert_eq!(label.tags, [3, 0, 1, 0]);
    // Two features of the whole word, eight affixes, one column.
    assert_eq!(label.features.len(), 11 * 4);
    // NNP is the most frequent part of speech, then VBZ.
    assert_eq!(label.features[40..42], [2, 3]);
    // `EU` has no affix of three characters.
    assert_eq!((label.features[6 * 4], label.features[7 * 4]), (1, 1));

    let batch = LabelledBatch {
        batch: 2,
        time: 4,
        ids: Vec::new(),
        lengths: vec![4, 2],
        labels: vec![
            label.clone(),
            task.encode(&tokenizer, &examples[1]).unwrap().items[0].label.clone(),
        ],
        examples: vec![0, 1],
    };
    task.with_targets(&batch, |targets| {
        let Targets::Tags(tags, _) = targets else { panic!() };
        assert_eq!(tags, [3, 5, 0, 6, 1, IGNORE, 0, IGNORE]);
    });
    let features = Task::features(&task, &batch);
    let column: Vec<u32> = features[10 * 8..].to_vec();
    assert_eq!(column[..4], [2, 2, 3, 2]);
    assert_eq!((column[5], column[7]), (0, 0));

    let short = Settings { longest: NonZeroUsize::new(3).unwrap(), ..settings };
    let (task, examples) = learnt(&short, TRAIN);
    let encoded = task.encode(&tokenizer, &examples[0]).unwrap();
    // A long sentence becomes two sequences, and no word is lost.
    assert!(!encoded.is_cut);
    let [first, second] = &encoded.items[..] else { panic!() };
    assert_eq!((&first.label.tags[..], &second.label.tags[..]), (&[3, 0, 1][..], &[0][..]));
    assert_eq!((&first.ids[..], &second.ids[..]), (&ids[..3], &ids[3..]));
    assert_eq!(first.label.features.len(), 11 * 3);
    assert_eq!(second.label.features[10], label.features[10 * 4 + 3]);
}

#[test]
fn a_word_of_several_tokens_has_one_tag_and_its_features_at_each_token() {
    let settings = Settings { feature_columns: vec!["1".into()], ..Settings::default() };
    let (task, examples) = learnt(&settings, TRAIN);
    assert!(task.spaced);
    let texts: Vec<_> = examples.iter().flat_map(|example| task.running_texts(example)).collect();
    assert_eq!(texts, ["EU rejects German call", "Peter Blackburn", "EU EU rejects"]);
    let vocabulary = task.vocabulary(TokenizerKind::Char, &examples);
    // `<unk>`, `<eos>`, the space, and E, U, r, e, j, c, t, s, a, l, n of `EU rejects Germn call`.
    assert_eq!(vocabulary, Some(14));
    let bytes = Tokenizer::byte().unwrap();
    let encoded = task.encode(&bytes, &examples[0]).unwrap();
    let [LabelledIds { ids, label }] = &encoded.items[..] else { panic!() };
    assert_eq!((ids.len(), &label.tags[..]), (22, &[3, 0, 1, 0][..]));
    assert_eq!(label.words, [(0, 2), (3, 10), (11, 17), (18, 22)]);
    // `EU` is a NNP, the space after it nothing, `rejects` a VBZ.
    assert_eq!(label.features.len(), 11 * 22);
    assert_eq!(label.features[10 * 22..][..5], [2, 2, 1, 3, 3]);

    let second = task.encode(&bytes, &examples[1]).unwrap().items.remove(0).label;
    let batch = LabelledBatch {
        batch: 2,
        time: 22,
        ids: Vec::new(),
        lengths: vec![22, 15],
        labels: vec![label.clone(), second],
        examples: vec![0, 1],
    };
    let words = Task::words(&task, &batch).unwrap();
    let second = [(0, 5), (6, 15), (0, 0), (0, 0)];
    let expected: Vec<_> = label.words.iter().zip(second).flat_map(|(a, b)| [*a, b]).collect();
    assert_eq!((words.ranges, words.lengths, words.vector), (expected, vec![4, 2], None));
    task.with_targets(&batch, |targets| {
        let Targets::Tags(tags, _) = targets else { panic!() };
        assert_eq!(tags, [3, 5, 0, 6, 1, IGNORE, 0, IGNORE]);
    });
}

#[test]
fn a_document_is_read_as_one_sequence() {
    let text = format!("{TRAIN}\n-DOCSTART- -X- O\n\nEU NNP I-ORG\nEU NNP I-ORG\n");
    let settings = Settings { document: true, ..Settings::default() };
    let (task, examples) = learnt(&settings, &text);
    assert_eq!(examples.iter().map(Example::len).collect::<Vec<_>>(), [9, 2]);
    assert_eq!(task.unit(), Unit::Whole);
    // Each sentence keeps its own entities, and an entity of one does not go on in the next.
    let first: Vec<_> = examples[0].entities().concat().iter().map(|e| (e.first, e.last)).collect();
    assert_eq!(first, [(0, 0), (2, 2), (4, 5), (6, 6), (7, 7)]);
    let tokenizer = tokenizer(&examples);
    let encoded = task.encode(&tokenizer, &examples[0]).unwrap();
    assert_eq!(encoded.items.len(), 1);
    assert_eq!(encoded.items[0].label.tags, [3, 0, 1, 0, 5, 6, 3, 3, 0]);
    let answers = [Answer { tags: vec![5; 9], probabilities: vec![1.0; 9] }];
    let expected = ["I-PER", "B-PER", "B-PER", "B-PER", "I-PER", "B-PER", "I-PER", "B-PER"];
    assert_eq!(task.written(&examples[0], &answers)[..8], expected);

    // A file to tag is one example, whose documents do not see each other.
    let [whole] = &task.parse(&text, At { name: "it", example: 1 }).unwrap()[..] else { panic!() };
    assert_eq!(whole.windows(1024), [0..9, 9..11]);
    // Sentences stay whole where they fit.
    assert_eq!(whole.windows(5), [0..4, 4..9, 9..11]);
    assert_eq!(whole.windows(3), [0..3, 3..6, 6..9, 9..11]);
    let answers = [9, 2].map(|n| Answer { tags: vec![0; n], probabilities: vec![1.0; n] });
    assert_eq!(task.plain(whole, &answers).lines().count(), text.lines().count());
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Tagging>(&json).unwrap(), task);
}

#[test]
fn place_digits_are_read_apart_from_the_word() {
    let text = "科0\tO\n技1\tO\n\u{fffd}\u{fffd}0\tB-X\n1\tO\n\n科0\tB-X\n7\tO\n学1\tO\n";
    let settings = Settings { place_digits: true, ..Settings::default() };
    let (task, examples) = learnt(&settings, text);
    assert_eq!(examples[0].words(), ["科", "技", "\u{fffd}\u{fffd}", "1"]);
    assert_eq!(Tagging::texts(&examples[1]), ["科", "7", "学"]);
    let columns = task.columns(&examples[1]);
    assert_eq!(examples[1].features_of(columns, None), [["0", "", "1"]]);
    // 0 is the most frequent digit.
    assert_eq!(task.feature_rows(&examples[0], None).last().unwrap()[..], [2, 4, 2, 3]);

    let [block] = &task.parse("科0\n技1", At { name: "it", example: 1 }).unwrap()[..] else {
        panic!()
    };
    let answers = [Answer { tags: vec![0, 0], probabilities: vec![1.0; 2] }];
    assert_eq!(task.plain(block, &answers), "科0 O\n技1 O");
    assert_eq!(task.fields(block, &answers)["words"], json!(["科", "技"]));
}

/// A sentence with two predicates, one with none, and one with one.
const ROLES: &str = "Bush\tN\t_\tA0\t_\nnominated\tV\tnominate.01\tV\t_\nher\tN\t_\tA1\tA0\n\
    to\tP\t_\t_\t_\ngo\tV\tgo.01\tA2\tV\n\nYes\tI\t_\t\n\nBush\tN\t_\tA0\nwent\tV\tgo.01\tV\n";

#[test]
fn each_predicate_has_a_sequence_of_its_own() {
    let settings = Settings { predicate_column: Some("2".into()), ..Settings::default() };
    let (task, examples) = learnt(&settings, ROLES);
    assert_eq!(task.tags, ["A0", "A1", "A2", "V", "_"]);
    assert_eq!(examples[0].tags(), ["A0", "V", "A1", "_", "A2", "_", "_", "A0", "_", "V"]);
    let tokenizer = tokenizer(&examples);
    let encoded: Vec<_> =
        examples.iter().map(|e| task.encode(&tokenizer, e).unwrap().items).collect();
    assert_eq!(encoded.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 1]);
    let [first, second] = &encoded[0][..] else { panic!() };
    assert_eq!(first.ids, second.ids);
    assert_eq!(
        (&first.label.tags[..], &second.label.tags[..]),
        (&[0, 3, 1, 4, 2][..], &[4, 4, 0, 4, 3][..])
    );
    let columns = task.columns(&examples[0]);
    assert_eq!(
        examples[0].features_of(columns, Some(1)),
        [["-1", "0", "1", "2", "3"], ["nominated"; 5],]
    );

    // Two of four roles are found, and one that is none.
    let answer = |tags: &[u32]| Answer { tags: tags.into(), probabilities: vec![1.0; tags.len()] };
    let answers = [answer(&[0, 3, 0, 4, 4]), answer(&[4, 4, 0, 4, 3])];
    let scored = Scored { example: &examples[0], items: &encoded[0], answers: &answers };
    let metrics = task.measure(&[scored]);
    assert!((metrics["recall"] - 0.5).abs() < 1e-12, "{metrics:?}");
    assert!((metrics["precision"] - 2.0 / 3.0).abs() < 1e-12, "{metrics:?}");

    let at = At { name: "it", example: 1 };
    let [block] = &task.parse("Bush\tN\t_\nwon\tV\twin.01\nhere\tR\t_", at).unwrap()[..] else {
        panic!()
    };
    assert_eq!(task.encode(&tokenizer, block).unwrap().items.len(), 1);
    let answers = [answer(&[0, 3, 4])];
    let expected = "Bush\tN\t_\tA0\nwon\tV\twin.01\tV\nhere\tR\t_\t_";
    assert_eq!(task.plain(block, &answers), expected);
    assert_eq!(task.fields(block, &answers)["predicates"], json!([1]));
    let [none] = &task.parse("Yes\tI\t_", at).unwrap()[..] else { panic!() };
    assert_eq!(task.plain(none, &[]), "Yes\tI\t_\t_");

    // A role that training lacks is a role that was not found.
    let rare = read(&settings, "He\tN\t_\tA9\nwent\tV\tgo.01\tV\n").unwrap().examples;
    task.check(&rare[0], At { name: "it", example: 1 }).unwrap();
    let answers = [answer(&[0, 3])];
    let metrics = task.measure(&[Scored { example: &rare[0], items: &[], answers: &answers }]);
    assert_eq!((metrics["recall"], metrics["precision"]), (0.0, 0.0));

    // It is measured as one more tag, and its loss is that of no role.
    let report = task.report(&[Scored { example: &rare[0], items: &[], answers: &answers }]);
    let (names, confusion) = report.confusion.unwrap();
    assert_eq!((names[5].as_str(), confusion.counts()[5][0]), ("(not in training)", 1));
    let encoded = task.encode(&tokenizer, &rare[0]).unwrap();
    assert_eq!(encoded.items[0].label.tags, [4, 3]);

    // A predicate without a column of its own.
    let error = read(&settings, "a\tN\t_\tA0\nb\tV\tb.01\tV\nc\tV\tc.01\tA1\n").unwrap_err();
    let error = error.to_string();
    assert!(error.contains("line 1") && error.contains("label is empty"), "{error}");
}

/// The commonest tags of words, as a baseline learns them.
fn majority(task: &Tagging, train: &[Example]) -> Baseline {
    let settings = BaselineSettings::named("majority").unwrap();
    let train = plain::labelled(task, &settings, train).unwrap();
    let (classes, cpu, never) = (task.tags.len(), Cpu::new(1), AtomicBool::new(false));
    let learning = Learning { classes, train: &train, valid: &[], seed: 1, cpu: &cpu };
    Baseline::fit(&settings, &learning, &mut Watch::new(&never, &mut |_| Ok(()))).unwrap()
}

#[test]
fn a_baseline_gives_each_word_its_commonest_tag() {
    let (task, examples) = learnt(&Settings::default(), TRAIN);
    let baseline = majority(&task, &examples);
    assert_eq!((baseline.form(), baseline.classes()), (Form::Tags, 7));
    let measured = plain::measured(&task, examples.clone()).unwrap();
    let (never, mut unheard) = (AtomicBool::new(false), |_| Ok(()));
    let mut watch = Watch::new(&never, &mut unheard);
    let evaluation = plain::evaluate(&task, &baseline, &measured, &mut watch).unwrap();
    let score = evaluation.score();
    // No word has two tags.
    assert_eq!((score.metrics["accuracy"], score.metrics["entity_f1"]), (1.0, 1.0));
    // The tags have 4, 2, 1, 4, 1, 2 and 2 of 16 words, with 1 added to each.
    let nats = |count: f64, share: f64| -((count + share / 16.0) / (count + 1.0)).ln();
    let expected = 3.0 * nats(3.0, 4.0)
        + 2.0 * nats(2.0, 4.0)
        + nats(1.0, 2.0)
        + nats(1.0, 4.0)
        + 2.0 * nats(1.0, 2.0);
    assert!((score.loss - expected / 9.0).abs() < 1e-6, "{score:?}");

    // A word that training lacks has the commonest tag, and none is told apart by its neighbours.
    let at = At { name: "it", example: 1 };
    let parsed = task.parse("Blackburn X\nBush X\nrejects X", at).unwrap();
    let answers = plain::predict(&task, &baseline, &parsed).unwrap().remove(0);
    assert_eq!(task.plain(&parsed[0], &answers), "Blackburn X I-PER\nBush X O\nrejects X O");
    assert!((answers[0].probabilities[1] - 0.25).abs() < 1e-6, "{answers:?}");
    let none = task.parse("-DOCSTART- X", at).unwrap();
    assert!(plain::predict(&task, &baseline, &none).unwrap()[0].is_empty());
}

#[test]
fn a_baseline_gives_roles_by_words_or_by_feature_columns() {
    let settings = Settings { predicate_column: Some("2".into()), ..Settings::default() };
    let answered = |settings: &Settings| {
        let (task, examples) = learnt(settings, ROLES);
        let baseline = majority(&task, &examples);
        let answers = plain::predict(&task, &baseline, &examples).unwrap();
        let tags: Vec<Vec<String>> = examples
            .iter()
            .zip(&answers)
            .map(|(example, answers)| task.written(example, answers))
            .collect();
        let words = task.plain_words(&examples[0]);
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        (tags, words)
    };
    let (tags, words) = answered(&settings);
    assert_eq!(words, ["Bush", "nominated", "her", "to", "go"].repeat(2));
    // Of roles that a word has as often, the one that is more frequent among all.
    assert_eq!(tags[0], ["A0", "_", "A0", "_", "V"].repeat(2));
    assert!(tags[1].is_empty(), "it has no predicate");
    assert_eq!(tags[2], ["A0", "V"]);

    let (tags, words) = answered(&Settings { feature_columns: vec!["1".into()], ..settings });
    assert_eq!(words[..5], ["N -1", "V 0", "N 1", "P 2", "V 3"]);
    assert_eq!(words[5..], ["N -4", "V -3", "N -2", "P -1", "V 0"]);
    assert_eq!(tags[0], ["A0", "V", "A1", "_", "A2", "_", "_", "A0", "_", "V"]);
}

#[test]
fn chains_of_words_are_sentences_with_cells_for_each_predicate() {
    let chains = |settings: &Settings, lines: &str| -> Vec<Vec<String>> {
        let (task, examples) = learnt(settings, lines);
        let chains = task.chains_of_words(&examples[0]);
        let texts: usize = chains.iter().map(Vec::len).sum();
        assert_eq!(texts, task.plain_words(&examples[0]).len());
        chains.iter().map(|chain| chain.iter().map(|text| text.to_string()).collect()).collect()
    };
    // Two sentences of one document, with a further column.
    let settings =
        Settings { document: true, feature_columns: vec!["1".into()], ..Settings::default() };
    let found = chains(&settings, "a N O\nb V B-X\n\nc N O\n");
    assert_eq!(found, [vec!["a\tN", "b\tV"], vec!["c\tN"]]);
    let plain = Settings { feature_columns: Vec::new(), ..settings };
    assert_eq!(chains(&plain, "a N O\nb V B-X\n\nc N O\n"), [vec!["a", "b"], vec!["c"]]);
    // One sentence for each of two predicates, with the place beside it and its word.
    let settings = Settings {
        predicate_column: Some("2".into()),
        feature_columns: vec!["1".into()],
        ..Settings::default()
    };
    let found = chains(&settings, ROLES);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0][..2], ["Bush\tN\t-1\tnominated", "nominated\tV\t0\tnominated"]);
    assert_eq!(found[1][..2], ["Bush\tN\t-4\tgo", "nominated\tV\t-3\tgo"]);
}

/// Roles of several words. The second predicate alone has an A4.
const BIO_ROLES: &str = "Bush\tN\t_\tB-A0\tO\nnominated\tV\tnominate.01\tB-V\tO\n\
    her\tN\t_\tB-A1\tB-A0\ntwin\tN\t_\tI-A1\tI-A0\nto\tP\t_\tO\tO\n\
    go\tV\tgo.01\tO\tB-V\nhome\tR\t_\tO\tB-A4\n\nYes\tI\t_\n";

#[test]
fn entities_of_every_predicate_are_found_measured_and_explained() {
    let settings = Settings { predicate_column: Some("2".into()), ..Settings::default() };
    let (task, examples) = learnt(&settings, BIO_ROLES);
    let kinds = ["O", "B-A0", "I-A0", "B-A1", "I-A1", "B-A4", "I-A4", "B-V", "I-V"];
    assert_eq!((task.scheme, &task.tags[..]), (Scheme::Iob2, &kinds.map(String::from)[..]));
    let items = task.encode(&Tokenizer::byte().unwrap(), &examples[0]).unwrap().items;
    let targets: Vec<&[u32]> = items.iter().map(|item| &item.label.tags[..]).collect();
    assert_eq!(targets, [[1, 7, 3, 4, 0, 0, 0], [0, 0, 1, 2, 0, 7, 5]]);

    // Of four roles three are found, and one that is none. Predicates are known, and do not count.
    let answer = |tags: &[u32]| Answer { tags: tags.into(), probabilities: vec![1.0; tags.len()] };
    let answers = [answer(&[1, 7, 3, 0, 0, 0, 0]), answer(&[0, 0, 1, 2, 0, 7, 5])];
    let scored = Scored { example: &examples[0], items: &items, answers: &answers };
    let without = Scored { example: &examples[1], items: &[], answers: &[] };
    let metrics = task.measure(&[scored, without]);
    for name in ["entity_f1", "entity_precision", "entity_recall"] {
        assert!((metrics[name] - 0.75).abs() < 1e-12, "{metrics:?}");
    }
    assert!((metrics["entity_macro_f1"] - 2.0 / 3.0).abs() < 1e-12, "{metrics:?}");
    let report = task.report(&[scored]);
    let entities = &report.json["entities"];
    assert_eq!(entities["A4"]["right"], 1);
    assert!(entities["V"].is_null(), "{entities}");
    // A sentence without a predicate has no role to find.
    assert_eq!([scored, without].map(|it| task.is_right(&it)), [Some(false), Some(true)]);
    let truth = "B-A0 B-V B-A1 I-A1 O O O | O O B-A0 I-A0 O B-V B-A4";
    assert_eq!(Tagging::truth(&examples[0]), truth);
    assert_eq!(task.plain(&examples[0], &answers), truth.replace("I-A1", "O"));

    let fields = task.fields(&examples[0], &answers);
    let found: Vec<(&str, &str, u64)> = (fields["entities"].as_array().unwrap().iter())
        .map(|it| (&it["type"], &it["text"], &it["predicate"]))
        .map(|(a, b, c)| (a.as_str().unwrap(), b.as_str().unwrap(), c.as_u64().unwrap()))
        .collect();
    let first = [("A0", "Bush", 1_u64), ("V", "nominated", 1), ("A1", "her", 1)];
    let second = [("A0", "her twin", 5), ("V", "go", 5), ("A4", "home", 5)];
    assert_eq!(found, [first, second].concat());

    let parts = task.explained(&examples[0], &items, &answers);
    let of = |it: &Explained<Target>| (it.item, it.part.clone().unwrap().kind);
    let expected = [(0, "A0"), (0, "A1"), (1, "A0"), (1, "A4")];
    let expected = expected.map(|(item, kind)| (item, kind.to_owned()));
    assert_eq!(parts.iter().map(of).collect::<Vec<_>>(), expected);
    assert_eq!(parts[2].target.tags, [IGNORE, IGNORE, 1, 2, IGNORE, IGNORE, IGNORE]);

    // A scheme of the model's own is turned back for each predicate.
    let bioes = Settings { scheme: Some(Scheme::Bioes), ..settings.clone() };
    let (task, examples) = learnt(&bioes, BIO_ROLES);
    let numbers: Vec<u32> = task.numbers(&examples[0]).into_iter().flatten().collect();
    let answers: Vec<Answer> = numbers.chunks(7).map(answer).collect();
    assert_eq!(task.written(&examples[0], &answers), examples[0].tags());
    let scored = Scored { example: &examples[0], items: &[], answers: &answers };
    assert_eq!((task.measure(&[scored])["entity_f1"], task.is_right(&scored)), (1.0, Some(true)));

    let number: Settings = serde_json::from_value(json!({"predicate_column": 2})).unwrap();
    assert_eq!(number, settings);
    assert!(serde_json::from_value::<Settings>(json!({"predicate_column": [2]})).is_err());
}

/// `V` is a verb, `O` a letter and `_` a sign where no column marks predicates.
#[test]
fn roles_need_a_column_of_predicates() {
    let (task, examples) = learnt(&Settings::default(), "he N\ngoes V\nO O\n_ _\n");
    assert_eq!((task.scheme, task.tags.join(" ")), (Scheme::Raw, "N O V _".to_owned()));
    let answers = [Answer { tags: vec![0, 0, 1, 3], probabilities: vec![1.0; 4] }];
    let scored = Scored { example: &examples[0], items: &[], answers: &answers };
    let metrics = task.measure(&[scored]);
    assert!(!metrics.contains_key("f1"), "{metrics:?}");
    // F1: 2/3, 1, 0 and 1.
    assert!((metrics["macro_f1"] - 2.0 / 3.0).abs() < 1e-12, "{metrics:?}");
    let items = task.encode(&Tokenizer::byte().unwrap(), &examples[0]).unwrap().items;
    let answers = [Answer { tags: vec![0, 2, 1, 3], probabilities: vec![1.0; 4] }];
    let parts = task.explained(&examples[0], &items, &answers);
    let kinds: Vec<String> = parts.into_iter().map(|it| it.part.unwrap().kind).collect();
    assert_eq!(kinds, ["N", "V"]);
}

#[test]
fn a_line_that_names_the_columns_is_no_token() {
    let settings = Settings {
        word_column: "form".into(),
        label_column: "tag".into(),
        feature_columns: vec!["pos".into()],
        ..Settings::default()
    };
    let text = "form pos tag\nEU NNP B-ORG\nrejects VBZ O\n\nPeter NNP B-PER\n";
    let (task, examples) = learnt(&settings, text);
    assert_eq!(examples.iter().map(Example::len).collect::<Vec<_>>(), [2, 1]);
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Tagging>(&json).unwrap(), task);

    let at = At { name: "it", example: 1 };
    let parse = |text: &str| task.parse(text, at).map(|mut found| found.remove(0));
    let block = parse("form pos\nPeter NNP\nsaid VBD").unwrap();
    let answers = [Answer { tags: vec![3, 0], probabilities: vec![1.0; 2] }];
    let expected = "form pos predicted\nPeter NNP B-PER\nsaid VBD O";
    assert_eq!(task.plain(&block, &answers), expected);
    assert_eq!(task.fields(&block, &answers)["words"], json!(["Peter", "said"]));
    let alone = parse("form pos tag\n").unwrap();
    assert_eq!((alone.len(), task.plain(&alone, &[])), (0, "form pos tag predicted".to_owned()));

    // Other lines are tokens: a file need not name its columns, and a word alone is no header.
    for (lines, tokens) in [("Peter NNP\n", 1), ("form NN\n", 1), ("form\nPeter\n", 2)] {
        assert_eq!(parse(lines).unwrap().len(), tokens, "{lines}");
    }
    // The places of later blocks, which name no column, could not be known.
    for lines in ["pos form\nNNP Peter\n", "# global.columns = pos form\nNNP Peter\n"] {
        let error = parse(lines).unwrap_err().to_string();
        assert!(error.contains("\"pos\" is number 0"), "{error}");
        assert!(error.contains("number 1 in the training data"), "{error}");
    }
    let (unnamed, _) = learnt(&Settings::default(), TRAIN);
    assert_eq!(unnamed.parse("form pos\n", at).unwrap()[0].len(), 1);
}

#[test]
fn entities_of_a_text_without_spaces_have_none() {
    let text = "苏 B-LOC\n黎 I-LOC\n世 I-LOC\n很 O\n美 O\n";
    let (task, _) = learnt(&Settings::default(), text);
    assert!(!task.spaced);
    let block = task.parse("苏\n黎\n世\n美", At { name: "it", example: 1 }).unwrap().remove(0);
    let answers = [Answer { tags: vec![1, 2, 2, 0], probabilities: vec![1.0; 4] }];
    assert_eq!(task.fields(&block, &answers)["entities"][0]["text"], "苏黎世");
    let items = task.encode(&Tokenizer::byte().unwrap(), &block).unwrap().items;
    let parts = task.explained(&block, &items, &answers);
    assert_eq!(parts[0].part.as_ref().unwrap().text, "苏黎世");
}

#[test]
fn bad_files_are_told() {
    let check = |settings: &Settings, text: &str, words: &[&str]| {
        let error = read(settings, text).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let settings = Settings::default();
    check(&settings, "a O\n\nb\n", &["line 3", "1 column(s)"]);
    check(&settings, "a\tO\nb\t\n", &["line 2", "label is empty"]);
    check(&Settings { label_column: "5".into(), ..settings.clone() }, "a O\n", &["no column 5"]);
    let together =
        Settings { document: true, predicate_column: Some("2".into()), ..settings.clone() };
    check(&together, ROLES, &["document = true", "predicate_column", "leave one"]);
    let named = Settings { word_column: "form".into(), ..settings.clone() };
    check(&named, "word tag\na O\n", &["no column \"form\"", "\"word\""]);
    let only = read(&settings, "a O\n").unwrap().examples;
    let error = Tagging::learn(&settings, &only, "it").unwrap_err().to_string();
    assert!(error.contains("it") && error.contains("\"O\""), "{error}");

    let notes = read(&settings, "a B-X\nb I-X\n\nc I-X\nd B-X\n\ne O\n").unwrap().notes;
    assert_eq!(notes.into_values().collect::<Vec<_>>(), [1]);
    let (task, _) = learnt(&settings, TRAIN);
    let other = read(&settings, "a I-LOC\n").unwrap().examples;
    let error = task.check(&other[0], At { name: "it", example: 7 }).unwrap_err().to_string();
    assert!(error.contains("LOC") && error.contains("example 7 of it"), "{error}");
}

#[test]
fn entities_are_measured() {
    let (task, examples) = learnt(&Settings::default(), TRAIN);
    let answers = [
        [Answer { tags: vec![3, 0, 0, 0], probabilities: vec![1.0; 4] }],
        [Answer { tags: vec![5, 6], probabilities: vec![1.0; 2] }],
        [Answer { tags: vec![3, 4, 0], probabilities: vec![1.0; 3] }],
    ];
    let scored: Vec<Scored<'_, Tagging>> = examples
        .iter()
        .zip(&answers)
        .map(|(example, answers)| Scored { example, items: &[], answers })
        .collect();
    let metrics = task.measure(&scored);
    // Of five entities two are found, and one that is none.
    assert!((metrics["entity_precision"] - 2.0 / 3.0).abs() < 1e-12);
    assert!((metrics["entity_recall"] - 0.4).abs() < 1e-12);
    assert!((metrics["entity_f1"] - 0.5).abs() < 1e-12);
    assert!((metrics["accuracy"] - 7.0 / 9.0).abs() < 1e-12);
    let report = task.report(&scored);
    assert_eq!(report.json["entities"]["PER"]["right"], 1);
    assert!(report.text.contains("MISC"), "{}", report.text);
    // A sentence is right where each of its tags is.
    let right: Vec<Option<bool>> = scored.iter().map(|it| task.is_right(it)).collect();
    assert_eq!(right, [Some(false), Some(true), Some(false)]);
    let other: Vec<Scored<'_, Tagging>> =
        scored.iter().map(|it| Scored { answers: &answers[0], ..*it }).collect();
    let found = mcnemar((&task, &scored[..]), (&task, &other[..])).unwrap();
    assert_eq!((found.only_first, found.only_second), (1, 0));
    // One example of a file is told by its tags.
    assert_eq!(Tagging::truth(&examples[0]), "I-ORG O I-MISC O");
    assert_eq!(task.plain(&examples[0], &answers[0]), "I-ORG O O O");
    let block = task.parse("Peter NNP\n", At { name: "it", example: 1 }).unwrap().remove(0);
    assert_eq!(task.is_right(&Scored { example: &block, ..scored[1] }), None);
}

#[test]
fn lines_come_back_with_their_tags() {
    let (task, examples) = learnt(&Settings::default(), TRAIN);
    let at = At { name: "it", example: 4 };
    let [block] = &task.parse("# a comment line\nPeter NNP\nsaid VBD", at).unwrap()[..] else {
        panic!()
    };
    let encoded = task.encode(&tokenizer(&examples), block).unwrap();
    assert_eq!(encoded.items[0].ids.len(), 2);
    let answers = [Answer { tags: vec![5, 0], probabilities: vec![0.75, 0.5] }];
    let plain = task.plain(block, &answers);
    assert_eq!(plain, "# a comment line\nPeter NNP I-PER\nsaid VBD O");
    let fields = task.fields(block, &answers);
    assert_eq!(fields["tags"], json!(["I-PER", "O"]));
    assert_eq!(fields["words"], json!(["Peter", "said"]));
    assert_eq!(fields["probabilities"], json!([0.75, 0.5]));
    let expected = json!([{"type": "PER", "first": 0, "last": 0, "text": "Peter"}]);
    assert_eq!(fields["entities"], expected);

    let [empty] = &task.parse("-DOCSTART- -X-", at).unwrap()[..] else { panic!() };
    assert!(task.encode(&tokenizer(&examples), empty).unwrap().items.is_empty());
    assert_eq!(task.plain(empty, &[]), "-DOCSTART- -X-");
    let error = task.parse("a b\nc", at).unwrap_err().to_string();
    assert!(error.starts_with("it, line 5"), "{error}");
}

#[test]
fn a_model_answers_with_the_best_legal_path() {
    let (task, examples) = learnt(&Settings::default(), TRAIN);
    let tokenizer = tokenizer(&examples);
    let config = Preset::Tagger.config(tokenizer.vocab_size());
    let head = task.head(&Settings::default(), config.head());
    assert_eq!(head, HeadKind::Tags { tags: 7, crf: true });
    assert_eq!(task.misfit(&head), None);
    assert!(task.misfit(&HeadKind::Tags { tags: 6, crf: true }).is_some());
    assert!(task.misfit(&HeadKind::Span {}).is_some());
    let config = task.body(start::with_head(config, head), &tokenizer);
    assert_eq!(config.features.len(), 10);
    let model = start::fresh(config, &tokenizer, 1).unwrap();

    let items: Vec<LabelledIds<Target>> =
        examples.iter().map(|e| task.encode(&tokenizer, e).unwrap().items.remove(0)).collect();
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut batch = LabelledBatch::default();
    batch.fill(&items.iter().collect::<Vec<_>>(), 0);
    let mut pass = tape.pass(Mode::Read);
    let lengths = lengths(&batch);
    let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(batch.time, batch.batch) };
    let x = crate::batches::read(&task, &model, &mut pass, &batch).unwrap();
    let mut logits = Vec::new();
    model.logits(&mut pass, x, 0..sequence.rows(), &mut logits);
    // Every position would begin with the inside of an entity.
    logits.iter_mut().for_each(|logit| *logit = 0.0);
    for row in logits.chunks_mut(7) {
        row[6] = 5.0;
    }
    let answers = task.answers(&model, &mut pass, &logits, &batch);
    for (answer, &length) in answers.iter().zip(&lengths) {
        assert_eq!(answer.tags.len(), length as usize);
        assert_eq!(answer.tags[0], 5, "an entity begins with B");
        assert!(answer.tags[1..].iter().all(|&tag| tag == 6));
        // Of all paths, few begin with a B: these are probabilities of legal ones.
        assert!(answer.probabilities.iter().all(|p| (0.8..=1.0).contains(p)), "{answer:?}");
    }
    // A bias of the tag of nothing that outweighs all.
    let task = Tagging { outside_bias: 20.0, ..task };
    for answer in task.answers(&model, &mut pass, &logits, &batch) {
        assert!(answer.tags.iter().all(|&tag| tag == 0));
        assert!(answer.probabilities.iter().all(|p| (0.9..=1.0).contains(p)));
    }
}

#[test]
fn the_bias_of_the_tag_of_nothing_has_alternatives() {
    let biases = |task: &Tagging, step| -> Vec<f32> {
        let others = task.alternatives(&Settings::default(), step);
        others.into_iter().map(|other| other.outside_bias).collect()
    };
    let (task, _) = learnt(&Settings::default(), TRAIN);
    assert_eq!(biases(&task, 0), [-2.0, -1.0, 1.0]);
    let task = Tagging { outside_bias: -1.0, ..task };
    assert_eq!(biases(&task, 1), [-1.5, -0.5]);
    assert!(biases(&task, 3).is_empty());
    assert_eq!(Tagging::calibrates(&Settings::default()), Calibrates::IfHeldOut);

    let given = Settings { outside_bias: Some(-0.75), ..Settings::default() };
    assert_eq!(Tagging::calibrates(&given), Calibrates::Never);
    let (task, examples) = learnt(&given, TRAIN);
    assert_eq!(task.outside_bias, -0.75);
    let bad = Settings { outside_bias: Some(f32::NAN), ..given };
    let error = Tagging::learn(&bad, &examples, "it").unwrap_err().to_string();
    assert!(error.contains("outside_bias") && error.contains("finite"), "{error}");
    // Parts of speech have no tag of nothing.
    let (task, _) = learnt(&Settings { label_column: "1".into(), ..Settings::default() }, TRAIN);
    assert!(biases(&task, 0).is_empty());
    let mut task = task;
    assert!(task.calibrate(&Settings::default(), &[]).is_empty());
    // As a changed task.json could say.
    let task = Tagging { outside_bias: f32::INFINITY, ..task };
    assert!(task.misfit(&HeadKind::Tags { tags: 4, crf: true }).unwrap().contains("outside_bias"));
}

/// A tagger of random weights, and the explanations of an answer with these tags.
fn explained(settings: &Settings, tags: &[&str], words: &str) -> Vec<Explanation> {
    explained_by(settings, tags, words, |_| {})
}

fn explained_by(
    settings: &Settings,
    tags: &[&str],
    words: &str,
    change: impl Fn(&mut Model),
) -> Vec<Explanation> {
    let (task, examples) = learnt(settings, TRAIN);
    let tokenizer = tokenizer(&examples);
    let config = Preset::Tagger.config(tokenizer.vocab_size());
    let head = task.head(settings, None);
    let config = task.body(start::with_head(config, head), &tokenizer);
    let mut model = start::fresh(config, &tokenizer, 3).unwrap();
    change(&mut model);
    let network = Network { model, tokenizer, ensemble: None };
    let mut explainer = Explainer::new(network, Arc::new(Cpu::new(2))).unwrap();
    let example = task.parse(words, At { name: "it", example: 1 }).unwrap().remove(0);
    let number = |tag: &&str| task.tags.iter().position(|known| known == tag).unwrap() as u32;
    let longest = settings.longest.get();
    let answer = |tags: &[&str]| Answer {
        tags: tags.iter().map(number).collect(),
        probabilities: vec![0.5; tags.len()],
    };
    let answers: Vec<Answer> = tags.chunks(longest).map(answer).collect();
    explainer.explain(&task, &example, &answers).unwrap()
}

#[test]
fn each_entity_is_explained_by_the_scores_of_its_own_words() {
    let tags = ["B-ORG", "O", "B-PER", "I-PER", "O"];
    let words = "EU NNP\nrejects VBZ\nPeter NNP\nBlackburn NNP\ncall NN\n";
    for settings in [
        Settings::default(),
        Settings { longest: std::num::NonZeroUsize::new(2).unwrap(), ..Settings::default() },
    ] {
        let found = explained(&settings, &tags, words);
        let parts: Vec<(&str, &str)> = (found.iter())
            .map(|found| found.part.as_ref().unwrap())
            .map(|part| (part.kind.as_str(), part.text.as_str()))
            .collect();
        assert_eq!(parts, [("ORG", "EU"), ("PER", "Peter Blackburn")]);
        for found in &found {
            let sum: f64 = found.tokens.iter().map(|token| token.share).sum();
            let whole = found.log_probability - found.without_tokens;
            assert!((sum - whole - found.completeness_error).abs() < 1e-9);
            assert!(found.completeness_error.abs() < 0.02 + 0.02 * whole.abs(), "{found:?}");
        }
        // Of a sentence in windows, the window of the entity is read.
        let tokens: Vec<&str> = found[1].tokens.iter().map(|token| &*token.text).collect();
        let all = ["EU", "<unk>", "<unk>", "<unk>", "<unk>"];
        assert_eq!(tokens.len(), settings.longest.get().min(all.len()));
    }
    // Seven tags of one word: the probabilities by its own score are one distribution.
    let tag = |tag: &str| {
        let found = explained(&Settings::default(), &[tag, "O"], "EU NNP\nrejects VBZ\n");
        found[0].log_probability.exp()
    };
    let known = ["B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"].map(tag);
    let sum: f64 = known.iter().sum();
    assert!(sum < 1.0 && sum > 0.5, "{known:?}");
    assert_eq!(explained(&Settings::default(), &["O", "O"], "EU NNP\nrejects VBZ\n"), []);
}

#[test]
fn spelling_has_a_share_in_the_explanation_of_an_entity() {
    let words = "EU NNP\nrejects VBZ\nPeter NNP\nBlackburn NNP\ncall NN\n";
    let tags = ["B-ORG", "O", "B-PER", "I-PER", "O"];
    // Tokens that are all the same say nothing: what is left is their spelling.
    let found = explained_by(&Settings::default(), &tags, words, |model| {
        for parameter in model.weights.iter_mut() {
            match parameter.name.as_str() {
                "embedding.weight" => parameter.data.fill(0.1),
                name if name.starts_with("features.") => {
                    parameter.data.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32).sin());
                }
                _ => {}
            }
        }
    });
    for found in &found {
        let most = found.tokens.iter().fold(0.0_f64, |most, token| most.max(token.share.abs()));
        assert!(most > 1e-3, "{found:?}");
        let whole = found.log_probability - found.without_tokens;
        assert!(found.completeness_error.abs() < 0.02 + 0.02 * whole.abs(), "{found:?}");
    }
}
