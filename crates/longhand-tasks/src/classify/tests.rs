use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_kernel::Cpu;
use longhand_model::Preset;
use longhand_text::TokenizerKind;
use longhand_train::settings::OptimizerSettings;
use longhand_train::{
    Adversarial, Budget, Learner, Objective, Plan, Settings as TrainSettings, Trainer,
};
use tempfile::TempDir;

use super::settings::LONGEST;
use super::*;
use crate::{Files, Measured, Predictor, TASK_FILE, TaskFile, TaskObjective, evaluate, start};

mod matches;

type Examples = crate::Examples<Classify>;
type Data = crate::Data<Classify>;

/// Texts of different lengths whose label is which of two words they hold.
fn table(count: usize) -> String {
    let mut rows = String::from("label\ttext\n");
    for i in 0..count {
        let (label, word) = if i % 3 == 0 { ("up", "high") } else { ("down", "low") };
        let before = "it is ".repeat(i % 5);
        let after = " there".repeat(i % 7);
        rows.push_str(&format!("{label}\t{before}{word}{after}\n"));
    }
    rows
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    path
}

fn files(folder: &TempDir, train: &str, test: &str) -> Files {
    Files {
        train: vec![write(folder, "train.tsv", train)],
        test: vec![write(folder, "test.tsv", test)],
        valid_fraction: 0.1,
        ..Files::default()
    }
}

fn read(folder: &TempDir, train: &str, test: &str) -> Result<Examples, TaskError> {
    Examples::read(&Settings::default(), &files(folder, train, test), 1)
}

fn words(examples: &Examples) -> Tokenizer {
    let texts = examples.texts().map(|text| Ok(text.to_owned()));
    Tokenizer::train(TokenizerKind::Word, None, texts, &mut |_| {}).unwrap()
}

fn cpu() -> Arc<Cpu> {
    Arc::new(Cpu::new(2))
}

fn model(tokenizer: &Tokenizer, labels: usize, pooling: Pooling) -> Model {
    let preset = Preset::StackedLstmClassifier.config(tokenizer.vocab_size());
    let head = HeadKind::Classifier { classes: labels, pooling };
    start::fresh(start::with_head(preset, head), tokenizer, 3).unwrap()
}

/// The answers to texts of "the test", of which the first is number `first`.
fn predict(
    predictor: &mut Predictor<Classify>,
    texts: &[String],
    first: usize,
) -> Result<Vec<Option<Prediction>>, TaskError> {
    let at = At { name: "the test", example: first };
    let examples: Vec<Example> =
        texts.iter().flat_map(|text| predictor.task.parse(text, at).unwrap()).collect();
    let answers = predictor.predict(&examples, at)?;
    Ok(answers.into_iter().map(|answers| answers.into_iter().next()).collect())
}

#[test]
fn what_tells_labels_apart_is_learnt_and_a_saved_classifier_answers_alike() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, &table(150), &table(60));
    let examples = Examples::read(&Settings::default(), &files, 1).unwrap();
    assert_eq!(examples.task.labels.names(), ["down", "up"]);
    let tokenizer = words(&examples);
    let task = examples.task.clone();
    let data = Data::encode(examples, &tokenizer).unwrap();
    assert_eq!((data.train.len(), data.valid.len(), data.test.len(), data.cut), (135, 15, 60, 0));
    let mut training = TrainSettings {
        batch: 16,
        budget: Budget::Epochs(12.0),
        evaluations: 3,
        ..TrainSettings::for_examples()
    };
    training.optimizer = OptimizerSettings::AdamW(Default::default());
    training.optimizer.set_learning_rate(1e-2);
    let cpu = cpu();
    let start = model(&tokenizer, 2, Pooling::Last);
    let objective =
        TaskObjective::new(task.clone(), &training, &tokenizer, data.train, data.valid).unwrap();
    let trainer = Trainer::new(training, start, objective, cpu.clone()).unwrap();
    let outcome = trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    let best = outcome.best.unwrap();
    assert_eq!(best.score.metrics["accuracy"], 1.0);

    outcome.model.save(folder.path()).unwrap();
    tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
    let file: TaskFile = task.clone().into();
    fs_err::write(folder.path().join(TASK_FILE), file.to_json()).unwrap();
    let never = AtomicBool::new(false);
    let mut unheard = |_| Ok(());
    let mut watch = longhand_train::Watch::new(&never, &mut unheard);
    let result =
        evaluate(&task, (&outcome.model, &tokenizer, None), &data.test, &cpu, &mut watch).unwrap();
    let metrics = result.score().metrics;
    assert_eq!((metrics["accuracy"], metrics["macro_f1"]), (1.0, 1.0));
    let (labels, counts) = result.report().confusion.unwrap();
    assert_eq!(labels, ["down", "up"]);
    assert_eq!(counts.counts(), [[40, 0], [0, 20]]);
    assert!(result.scored().iter().all(|scored| task.is_right(scored) == Some(true)));
    let mut kept = Predictor::new(task.clone(), outcome.model, tokenizer.clone(), cpu.clone());
    let mut loaded = Predictor::load(folder.path(), cpu).unwrap();
    assert_eq!(loaded.task, task);
    let texts = ["it is high there there".to_owned(), "low".to_owned()];
    let answers = predict(&mut loaded, &texts, 1).unwrap();
    assert_eq!(answers, predict(&mut kept, &texts, 1).unwrap());
    let answers: Vec<Prediction> = answers.into_iter().flatten().collect();
    assert_eq!(answers.iter().map(|answer| answer.label).collect::<Vec<_>>(), [1, 0]);
    for answer in &answers {
        assert!((answer.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn an_example_is_the_same_alone_and_padded_in_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let examples = read(&folder, &table(60), &table(30)).unwrap();
    let tokenizer = words(&examples);
    for pooling in [Pooling::Last, Pooling::Mean, Pooling::Max] {
        let model = model(&tokenizer, 2, pooling);
        let task = examples.task.clone();
        let mut classifier = Predictor::new(task, model, tokenizer.clone(), cpu());
        let texts: Vec<String> = examples.texts().map(str::to_owned).collect();
        let mut predict = |texts: &[String]| -> Vec<Prediction> {
            predict(&mut classifier, texts, 1).unwrap().into_iter().flatten().collect()
        };
        let together = predict(&texts);
        assert_eq!(together.len(), texts.len());
        for (text, together) in texts.iter().zip(&together) {
            let alone = predict(std::slice::from_ref(text));
            assert_alike(&alone[0], together, &format!("{pooling:?} {text:?}"));
        }
    }
}

#[test]
fn a_position_leads_to_the_same_batches() {
    let folder = tempfile::tempdir().unwrap();
    let examples = read(&folder, &table(60), &table(30)).unwrap();
    let (tokenizer, task) = (words(&examples), examples.task.clone());
    let training = TrainSettings { batch: 7, ..TrainSettings::for_examples() };
    let train = Data::encode(examples, &tokenizer).unwrap().train;
    let objective = || {
        let (task, train) = (task.clone(), train.clone());
        TaskObjective::new(task, &training, &tokenizer, train, Measured::none()).unwrap()
    };
    let mut run = objective();
    (0..11).for_each(|_| run.next_batch());
    let mut resumed = objective();
    resumed.seek(&run.position()).unwrap();
    let mut other = objective();
    for _ in 0..11 {
        run.next_batch();
        resumed.next_batch();
        assert_eq!(run.batch(), resumed.batch());
        other.next_batch();
    }
    assert_ne!(run.batch(), other.batch());
    assert!(resumed.seek(&serde_json::json!({ "epoch": 0, "batch": 99 })).is_err());
    assert!(resumed.seek(&serde_json::json!("nowhere")).is_err());
}

#[test]
fn a_trained_model_gives_its_weights_but_not_its_answers() {
    let folder = tempfile::tempdir().unwrap();
    let examples = read(&folder, &table(60), &table(30)).unwrap();
    let tokenizer = words(&examples);
    let trained = Model::new(Preset::TanhLstm.config(tokenizer.vocab_size()), 5).unwrap();
    let head = examples.task.head(&Settings::default(), trained.config().head());
    let config = start::with_head(trained.config().clone(), head);
    let expected = HeadKind::Classifier { classes: 2, pooling: Pooling::Max };
    assert_eq!(config.head(), Some(&expected));
    let (model, drawn) = start::from_trained(config, &trained, &[], 6).unwrap();
    assert_eq!(drawn, ["head.weight", "head.bias"]);
    for parameter in model.weights.iter().filter(|p| !p.name.starts_with("head.")) {
        let source = trained.weights.iter().find(|source| source.name == parameter.name).unwrap();
        assert_eq!(parameter.data[..], source.data[..]);
    }
}

#[test]
fn bad_tables_get_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let check = |train: &str, test: &str, words: &str| {
        let error = read(&folder, train, test).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(error.lines().count(), 1);
    };
    let good = table(30);
    check("", &good, "is empty");
    check("label\ttext\n", &good, "is empty");
    check("class\ttext\nup\ta\n", &good, "no column \"label\"");
    check(&format!("label\ttext\n{}", "up\ta\n".repeat(20)), &good, "at least two labels");
    check("label\ttext\nup\ta\ndown\t \n", &good, "example 2 of");
    check("label\ttext\nup\ta\ndown\tb\n", &good, "leaves none on one of the sides");
    check(&good, "label\ttext\nsideways\ta\n", "\"sideways\"");
    check(&good, "", "is empty");
}

#[test]
fn a_folder_that_is_no_classifier_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::byte().unwrap();
    tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
    let load = || Predictor::<Classify>::load(folder.path(), cpu()).err().unwrap();
    assert!(load().to_string().contains("missing"));
    let small = |vocab| Preset::StackedLstmClassifier.config(vocab);
    Model::new(Preset::TanhLstm.config(256), 1).unwrap().save(folder.path()).unwrap();
    assert!(matches!(load(), TaskError::NotATask(_)));
    Model::new(small(256), 1).unwrap().save(folder.path()).unwrap();
    assert!(load().to_string().contains("names the model's labels"));
    let write = |json: &str| fs_err::write(folder.path().join(TASK_FILE), json).unwrap();
    write("{}");
    assert!(matches!(load(), TaskError::TaskFile { .. }));
    write(r#"{"type": "classify", "labels": ["a", "b", "c"], "longest": 5}"#);
    assert!(load().to_string().contains("3 labels"));
    write(r#"{"type": "classify", "labels": ["a", "b"], "longest": 5, "temperature": 0}"#);
    assert!(load().to_string().contains("its temperature must be above 0"), "{}", load());
    write(r#"{"type": "classify", "labels": ["a", "b"], "longest": 5}"#);
    Model::new(small(40), 1).unwrap().save(folder.path()).unwrap();
    assert!(load().to_string().contains("the model knows 40"));
    write(r#"{"type": "classify", "labels": ["a", "b"], "longest": 0}"#);
    Model::new(small(256), 1).unwrap().save(folder.path()).unwrap();
    assert!(load().to_string().contains("nonzero"), "{}", load());
}

#[test]
fn a_blank_text_has_no_answer_and_one_that_is_no_number_is_refused() {
    let texts = ["low".to_owned(), " ".into(), String::new(), "high".into()];
    let tokenizer = Tokenizer::byte().unwrap();
    let labels = Labels::of(&["a", "b"].map(|label| Example {
        label: Some(label.into()),
        text: String::new(),
        second: None,
    }));
    let task = Classify {
        labels,
        longest: LONGEST,
        pair: false,
        ordered: false,
        ordinal: false,
        temperature: 1.0,
        weights: Vec::new(),
        characters: None,
        frequent: None,
    };
    let classifier = |model| Predictor::new(task.clone(), model, tokenizer.clone(), cpu());
    let mut broken = model(&tokenizer, 2, Pooling::Last);
    let answers = predict(&mut classifier(broken.clone()), &texts, 1).unwrap();
    assert!(answers.iter().map(Option::is_some).eq([true, false, false, true]));
    // Finite, but their products are not.
    broken.weights.iter_mut().for_each(|p| p.data.fill(3e38));
    let error = predict(&mut classifier(broken), &texts, 5).unwrap_err().to_string();
    // The longest text is read first.
    assert!(error.contains("example 8 of the test is not finite"), "{error}");
}

/// The answer of one text is that of the same text among others, but for rounding: weights that are
/// not packed are added up in another order where there are few rows.
fn assert_alike(alone: &Prediction, together: &Prediction, text: &str) {
    for (a, b) in alone.probabilities.iter().zip(&together.probabilities) {
        assert!((a - b).abs() < 1e-5, "{text}: {a} alone, {b} among others");
    }
}

/// Texts of which few fit into one batch, and others of all lengths, are answered as each by itself.
#[test]
fn long_and_short_texts_are_answered_as_each_alone() {
    let tokenizer = Tokenizer::byte().unwrap();
    let labels = ["a", "b"].map(|label| Example {
        label: Some(label.into()),
        text: String::new(),
        second: None,
    });
    let task = Classify {
        labels: Labels::of(&labels),
        longest: NonZeroUsize::new(4000).unwrap(),
        pair: false,
        ordered: false,
        ordinal: false,
        temperature: 1.0,
        weights: Vec::new(),
        characters: None,
        frequent: None,
    };
    let model = model(&tokenizer, 2, Pooling::Mean);
    let mut classifier = Predictor::new(task, model, tokenizer, cpu());
    let texts: Vec<String> =
        (0..90).map(|i| "low tide ".repeat(1 + i % 30 * i % 400) + &"x".repeat(i)).collect();
    let together = predict(&mut classifier, &texts, 1).unwrap();
    for (text, together) in texts.iter().zip(together) {
        let alone = predict(&mut classifier, std::slice::from_ref(text), 1).unwrap().remove(0);
        assert_alike(&alone.unwrap(), &together.unwrap(), &format!("{} bytes", text.len()));
    }
}

/// The weights after one step over three examples of 1, 3 and 7 words.
fn weights_after_one_step(batch: usize, accumulation: usize) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let table = "label\ttext\na\thigh\nb\tit is low\na\tit is as high as can be\n";
    let files = Files { valid_fraction: 0.0, ..files(&folder, table, table) };
    let examples = Examples::read(&Settings::default(), &files, 1).unwrap();
    let tokenizer = words(&examples);
    let task = examples.task.clone();
    let data = Data::encode(examples, &tokenizer).unwrap();
    let mut start = model(&tokenizer, 2, Pooling::Last).config().clone();
    start.dropout = Default::default();
    let start = Model::new(start, 3).unwrap();
    let training = TrainSettings {
        batch,
        accumulation,
        budget: Budget::Steps(1),
        warmup: 0,
        clip: 0.0,
        average: 0.0,
        optimizer: OptimizerSettings::Sgd(Default::default()),
        ..TrainSettings::default()
    };
    let valid = Measured::none();
    let objective = TaskObjective::new(task, &training, &tokenizer, data.train, valid).unwrap();
    let trainer = Trainer::new(training, start, objective, cpu()).unwrap();
    let outcome = trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    outcome.model.weights.iter().flat_map(|parameter| parameter.data.to_vec()).collect()
}

/// Fault F16: batches were averaged, not examples.
#[test]
fn each_padded_example_counts_the_same_however_batches_are_cut() {
    let expected = weights_after_one_step(4, 1);
    for (batch, accumulation) in [(2, 2), (1, 3)] {
        let got = weights_after_one_step(batch, accumulation);
        let off = got.iter().zip(&expected).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(off < 1e-6, "{accumulation} batches of {batch}: off by {off}");
    }
}

#[test]
fn two_texts_are_one_sequence_with_a_separator() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "a b\tc\tyes\nb c d\ta\tno\n".repeat(3);
    let path = write(&folder, "pairs.tsv", &format!("one\ttwo\tlabel\n{rows}"));
    let columns = Reading { text_column: Some("one".into()), ..Reading::default() };
    let settings = Settings { pair_column: Some("two".into()), ..Settings::default() };
    let files = Files { train: vec![path.clone()], reading: columns.clone(), ..Files::default() };
    let examples = Examples::read(&settings, &files, 1).unwrap();
    let task = Classify { longest: 5.try_into().unwrap(), ..examples.task.clone() };
    assert!(task.pair);
    let plain = words(&examples);
    let tokenizer = plain.with_special_tokens(&task.special_tokens()).unwrap();
    let example = |text: &str, second: &str| {
        let (text, second) = (text.to_owned(), Some(second.to_owned()));
        Example { label: None, text, second }
    };
    let ids = |tokenizer: &Tokenizer, text: &str, second: &str| -> (String, bool) {
        let encoded = task.encode(tokenizer, &example(text, second)).unwrap();
        let ids = encoded.items.iter().flat_map(|item| item.ids.clone());
        let tokens: Vec<String> = ids.map(|id| tokenizer.token(id).unwrap().to_owned()).collect();
        (tokens.join(" "), encoded.is_cut)
    };
    assert_eq!(ids(&tokenizer, "a b", "c"), ("a b <sep> c".into(), false));
    assert_eq!(ids(&tokenizer, "a b", "c d"), ("a b <sep> c d".into(), false));
    // The longer text is cut first.
    assert_eq!(ids(&tokenizer, "a b c d", "d"), ("a b c <sep> d".into(), true));
    assert_eq!(ids(&tokenizer, "a", "d c b a"), ("a <sep> d c b".into(), true));
    assert_eq!(ids(&tokenizer, "a b c", "d c b"), ("a b <sep> d c".into(), true));
    assert_eq!(ids(&tokenizer, "a b", " "), (String::new(), false));
    // A base model's tokeniser may have no separator.
    assert_eq!(ids(&plain, "a", "b"), ("a <eos> b".into(), false));
    let byte = Tokenizer::byte().unwrap();
    let error = task.encode(&byte, &example("a", "b")).unwrap_err().to_string();
    assert!(error.contains("the byte tokeniser has no token that parts two texts"), "{error}");

    let kind = task.head(&settings, None);
    assert_eq!(kind, HeadKind::SentencePair { classes: 2, pooling: Pooling::Max });
    assert_eq!(task.misfit(&kind), None);
    let single = HeadKind::Classifier { classes: 2, pooling: Pooling::Max };
    assert!(task.misfit(&single).unwrap().contains("pairs"));
    let at = At { name: "lines", example: 7 };
    let parsed = task.parse("a b\tc", at).unwrap();
    assert_eq!(parsed, [example("a b", "c")]);
    let error = task.parse("a b c", at).unwrap_err().to_string();
    assert!(error.contains("line 7 of lines is not two texts"), "{error}");
    let error = Classify::read(
        &Settings { pair_column: Some("three".into()), ..settings },
        &path,
        &columns,
    );
    assert!(error.unwrap_err().to_string().contains("no column \"three\""));
    let file: TaskFile = task.clone().into();
    assert!(String::from_utf8(file.to_json()).unwrap().contains("\"pair\": true"));
}

/// The weights after one step on three texts, with the settings given.
fn weighted_step(class_weights: Option<ClassWeights>, table: &str) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { valid_fraction: 0.0, ..files(&folder, table, table) };
    let settings = Settings { class_weights, ..Settings::default() };
    let examples = Examples::read(&settings, &files, 1).unwrap();
    // The ids do not depend on the table.
    let text = std::iter::once(Ok("high low so it is".to_owned()));
    let tokenizer = Tokenizer::train(TokenizerKind::Word, None, text, &mut |_| {}).unwrap();
    let task = examples.task.clone();
    let train = Data::encode(examples, &tokenizer).unwrap().train;
    let mut start = model(&tokenizer, 2, Pooling::Last).config().clone();
    start.dropout = Default::default();
    let start = Model::new(start, 3).unwrap();
    let training = TrainSettings {
        batch: 8,
        budget: Budget::Steps(1),
        warmup: 0,
        clip: 0.0,
        average: 0.0,
        optimizer: OptimizerSettings::Sgd(Default::default()),
        ..TrainSettings::default()
    };
    let valid = Measured::none();
    let objective = TaskObjective::new(task, &training, &tokenizer, train, valid).unwrap();
    let trainer = Trainer::new(training, start, objective, cpu()).unwrap();
    let outcome = trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    outcome.model.weights.iter().flat_map(|parameter| parameter.data.to_vec()).collect()
}

#[test]
fn a_weight_of_a_label_counts_as_that_many_examples() {
    let once = "label\ttext\na\thigh\na\tlow\nb\tso it is\n";
    let differ = |one: &[f32], other: &[f32]| {
        one.iter().zip(other).fold(0f32, |most, (a, b)| most.max((a - b).abs()))
    };
    let plain = weighted_step(None, once);
    // Balanced weights of 2 and 1 examples are 3/4 and 3/2.
    let balanced = weighted_step(Some(ClassWeights::Rule(WeightRule::Balanced)), once);
    let named = [("a".to_owned(), 0.75), ("b".to_owned(), 1.5)];
    let named = weighted_step(Some(ClassWeights::Named(named.into())), once);
    assert!(differ(&balanced, &named) < 1e-7 && differ(&balanced, &plain) > 1e-6);
    // The same as the text of b twice, but for the number of examples that the sum is divided by.
    let twice = weighted_step(None, &format!("{once}b\tso it is\n"));
    assert!(differ(&balanced, &twice) < 1e-6, "{}", differ(&balanced, &twice));
}

#[test]
fn weights_and_orders_that_cannot_be_get_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, &table(30), &table(30));
    let told = |settings: Settings| Examples::read(&settings, &files, 1).err().unwrap().to_string();
    let named = |name: &str, weight: f32| {
        let weights = ClassWeights::Named([(name.to_owned(), weight)].into());
        told(Settings { class_weights: Some(weights), ..Settings::default() })
    };
    assert!(named("sideways", 2.0).contains("sideways=2: no training example has that label"));
    assert!(named("up", 0.0).contains("up=0: a weight must be above 0"));
    assert!(named("up", f32::NAN).contains("a weight must be above 0"));
    let ordered = told(Settings { ordered: true, ..Settings::default() });
    assert!(ordered.contains("label \"down\", but ordered labels must be numbers"), "{ordered}");
    let wrong = serde_json::from_str::<Settings>(r#"{"class_weights": 3}"#).unwrap_err();
    assert!(wrong.to_string().contains("it must be \"balanced\""), "{wrong}");
}

#[test]
fn an_adversarial_step_adds_the_weighted_loss_of_moved_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let examples = read(&folder, &table(60), &table(6)).unwrap();
    let (tokenizer, task) = (words(&examples), examples.task.clone());
    let train = Data::encode(examples, &tokenizer).unwrap().train;
    let step = |adversarial: Option<[f32; 2]>| {
        let adversarial = adversarial.map(|[epsilon, weight]| Adversarial { epsilon, weight });
        let settings = TrainSettings { adversarial, ..TrainSettings::for_examples() };
        let mut objective = TaskObjective::new(
            task.clone(),
            &settings,
            &tokenizer,
            train.clone(),
            Measured::none(),
        )
        .unwrap();
        let start = model(&tokenizer, 2, Pooling::Max);
        let mut learner =
            Learner::new(start, OptimizerSettings::AdamW(Default::default()), cpu()).unwrap();
        let plan = Plan { rate: 0.0, clip: 0.0, batches: 1, seed: 1 };
        learner.step(plan, |mut pass| objective.learn(&mut pass)).unwrap()
    };
    let plain = step(None);
    // Tokens that hardly move give the same gradient again; the loss that is told is the plain one.
    let twice = step(Some([1e-4, 1.0]));
    assert_eq!(twice.part, plain.part);
    assert!((twice.norm / plain.norm - 2.0).abs() < 1e-2, "{} {}", twice.norm, plain.norm);
    let lightly = step(Some([1e-4, 0.25]));
    assert!((lightly.norm / plain.norm - 1.25).abs() < 1e-2, "{} {}", lightly.norm, plain.norm);
    // Tokens that move raise the loss, and so the gradient.
    let moved = step(Some([5.0, 1.0]));
    assert_eq!(moved.part, plain.part);
    assert!(moved.norm > 1.001 * twice.norm, "{} {}", moved.norm, twice.norm);
}

/// A label of held-out texts alone is no output of the model.
#[test]
fn a_label_that_is_held_out_alone_is_told_and_not_learnt() {
    let folder = TempDir::new().unwrap();
    let rows = [("down", 4), ("odd", 1), ("up", 15)].map(|(label, count)| {
        (0..count).map(|i| format!("{label}\tit is {label} {i}\n")).collect::<String>()
    });
    let train = format!("label\ttext\n{}", rows.concat());
    let examples = read(&folder, &train, "label\ttext\nup\tit is up\n").unwrap();
    assert_eq!(examples.task.labels.names(), ["down", "up"]);
    assert_eq!((examples.train.len(), examples.valid.len()), (18, 1));
    let note = "held-out examples have a label, such as \"odd\", that no training example has: they are \
                not measured";
    assert_eq!(examples.notes.get(note), Some(&1), "{:?}", examples.notes);
    let error = read(&folder, &train, "label\ttext\nodd\tit is up\n").err().unwrap();
    assert!(matches!(error, TaskError::UnknownLabel { .. }), "{error}");
}

#[test]
fn distinct_examples_are_learnt_from_once_and_not_measured_on() {
    let folder = TempDir::new().unwrap();
    let train = table(60) + "up\tit is low\ndown\tquite new\n";
    let test = "label\ttext\nup\tit is low\nup\tof its own\ndown\tof its own\n";
    let mut files = files(&folder, &train, test);
    let all = Examples::read(&Settings::default(), &files, 1).unwrap();
    assert_eq!((all.train.len() + all.valid.len(), all.test.len()), (62, 3));

    files.distinct = true;
    let once = Examples::read(&Settings::default(), &files, 1).unwrap();
    let mut texts: Vec<&str> = once.texts().chain(once.held_out_texts()).collect();
    let count = texts.len();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), count, "a text is learnt from twice, or held out and learnt from");
    // The first of equal texts keeps its label.
    let own = |text: &str| once.train.iter().chain(&once.valid).find(|e| e.text == text);
    assert_eq!(own("it is low").unwrap().label.as_deref(), Some("down"));
    let texts: Vec<&str> = once.test.iter().map(|example| example.text.as_str()).collect();
    assert_eq!(texts, ["of its own", "of its own"], "repeats to measure on stay");
    let told: Vec<usize> = once.notes.into_values().collect();
    // One text to measure on is learnt from, and one that is dropped had the other label.
    assert_eq!(told, [1, 62 - count, 1]);

    files.test = files.train.clone();
    let error = Examples::read(&Settings::default(), &files, 1).err().unwrap();
    assert!(matches!(error, TaskError::AllLearnt(_)), "{error}");
}

#[test]
fn words_that_the_vocabulary_lacks_are_told_apart_by_their_characters() {
    let reader = crate::characters::CharacterSettings::Lstm(Default::default());
    let settings = Settings { characters: Some(reader), ..Settings::default() };
    let example = |text: &str, label: &str| Example {
        label: Some(label.into()),
        text: text.into(),
        second: None,
    };
    let examples = [example("it is high", "up"), example("it is  low", "down")];
    let task = Classify::learn(&settings, &examples, "texts").unwrap();
    let lines = ["it is"; 2].map(|text| Ok(format!("{text}\n")));
    let tokenizer =
        Tokenizer::train(TokenizerKind::Word, Some(4), lines.into_iter(), &mut |_| {}).unwrap();
    // `i`, `t`, `s` and `h`, of which training has two or more.
    let encoded = task.encode(&tokenizer, &examples[0]).unwrap();
    let [LabelledIds { ids, label }] = &encoded.items[..] else { panic!() };
    assert_eq!((ids.len(), label.label), (3, 1));
    assert_eq!(label.characters.ranges, [(0, 2), (2, 4), (4, 8)]);
    assert!(label.characters.ids[6] == 0 && label.characters.ids[0] > 0, "g occurs once");
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Classify>(&json).unwrap(), task);

    let config = Preset::StackedLstmClassifier.config(tokenizer.vocab_size());
    let config = task.body(start::with_head(config, task.head(&settings, None)), &tokenizer);
    let mut model = start::fresh(config, &tokenizer, 3).unwrap();
    for parameter in model.weights.iter_mut().filter(|p| p.name == "characters.output.weight") {
        parameter.data.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32).sin());
    }
    let mut predictor = Predictor::new(task.clone(), model, tokenizer.clone(), cpu());
    let texts = ["it is high", "it is sit", "hit", "it"].map(str::to_owned);
    let all = predict(&mut predictor, &texts, 1).unwrap();
    let shares = |answer: &Option<Prediction>| answer.as_ref().unwrap().probabilities.clone();
    assert_ne!(shares(&all[0]), shares(&all[1]), "both end with an unknown word");
    for (text, answer) in texts.iter().zip(&all) {
        let alone = predict(&mut predictor, std::slice::from_ref(text), 1).unwrap().remove(0);
        assert_alike(&alone.unwrap(), answer.as_ref().unwrap(), text);
    }

    // The separator of a pair has no characters.
    let settings = Settings { pair_column: Some("second".into()), ..settings };
    let second = |text: &str| Some(text.to_owned());
    let pair = Example { second: second("is high"), ..examples[0].clone() };
    let other = Example { second: second("it"), ..examples[1].clone() };
    let task = Classify::learn(&settings, &[pair.clone(), other], "texts").unwrap();
    let tokenizer = tokenizer.with_special_tokens(&task.special_tokens()).unwrap();
    let items = task.encode(&tokenizer, &pair).unwrap().items;
    let ranges = &items[0].label.characters.ranges;
    assert_eq!(ranges.len(), 6);
    assert_eq!((ranges[3], ranges[4].1 - ranges[4].0), ((8, 8), 2));
}

#[test]
fn ordinal_labels_are_ordered_and_their_thresholds_are_learnt() {
    let settings = Settings { ordinal: true, ..Settings::default() };
    let example =
        |label: &str| Example { label: Some(label.into()), text: "it is".into(), second: None };
    let examples = ["10", "2", "1.5"].map(example);
    let task = Classify::learn(&settings, &examples, "texts").unwrap();
    assert_eq!(task.labels.names(), ["1.5", "2", "10"]);
    assert!(task.ordered);
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Classify>(&json).unwrap(), task);
    assert!(Classify::learn(&settings, &[example("1"), example("good")], "texts").is_err());

    let labels = vec![Target::of(2), Target::of(0)];
    let batch = LabelledBatch { batch: 2, labels, ..Default::default() };
    let is_ordered = |targets: Targets<'_>| matches!(targets, Targets::Ordered([2, 0]));
    assert!(task.with_targets(&batch, is_ordered));
    let mut parts = 0;
    let mut learn = |targets: Targets<'_>, weight: f32| {
        parts += usize::from(is_ordered(targets) && weight == 1.0);
        Ok::<(), TaskError>(())
    };
    task.with_weighted_targets(&batch, &mut learn).unwrap();
    assert_eq!(parts, 1);
    // An explanation is of the probability of the answer.
    assert!(task.with_explained(&batch, |targets| matches!(targets, Targets::Labels([2, 0]))));

    // The loss is told of the thresholds, through the network as through logits alone.
    let tokenizer = Tokenizer::byte().unwrap();
    let model = model(&tokenizer, 3, Pooling::Last);
    let mut tape = longhand_model::Tape::new(cpu());
    let mut pass = tape.pass(longhand_model::Mode::Read);
    let (sequence, ids) = (longhand_model::Sequence::new(3, 2), [7, 8, 9, 10, 11, 12]);
    let x = model.forward(&mut pass, &ids, &sequence, &mut model.state(2)).unwrap();
    let mut logits = Vec::new();
    model.logits(&mut pass, x, 0..2, &mut logits);
    let options = longhand_model::LossOptions::default();
    let own = task.with_targets(&batch, |targets| model.loss(&mut pass, x, targets, options));
    let plain =
        task.with_targets(&batch, |targets| model.loss_of_logits(&pass, x, &logits, targets));
    let (own, plain) = (own.unwrap(), plain.unwrap());
    let direct =
        longhand_kernel::loss::ordinal::cross_entropy(3, &logits, &[2, 0], 0.0, None, None);
    assert_eq!((plain, own.count), (direct, 2));
    assert!((own.nats - direct.nats).abs() < 1e-5, "{own:?} {direct:?}");
}
