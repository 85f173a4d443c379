use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use longhand_engine::SamplerSettings;
use longhand_kernel::Cpu;
use longhand_model::Config;
use longhand_model::config::Sentences;
use longhand_train::settings::OptimizerSettings;
use longhand_train::{Budget, Settings as TrainSettings, Trainer};
use tempfile::TempDir;

use super::*;
use crate::answer::Reply;
use crate::baseline::Learning;
use crate::ids::{Data, Measured};
use crate::summarize::Summary;
use crate::translate::Translation;
use crate::{
    Baseline, BaselineSettings, Examples, Files, Predictor, TASK_FILE, TaskFile, TaskObjective,
    evaluate, plain, start,
};

type Translate = Writing<Translation>;

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    path
}

fn pair(source: &str, target: &str) -> Example {
    Example { source: vec![source.into()], targets: vec![target.into()], ..Example::default() }
}

fn learnt<K: Kind>(settings: &Settings, examples: &[Example]) -> Writing<K> {
    Writing::learn(settings, examples, "it").unwrap()
}

fn tokenizer<K: Kind>(kind: TokenizerKind, task: &Writing<K>, examples: &[Example]) -> Tokenizer {
    let texts = examples.iter().flat_map(|example| task.running_texts(example));
    let tokenizer =
        Tokenizer::train(kind, None, texts.map(|text| Ok(text.into_owned())), &mut |_| {}).unwrap();
    let special = task.special_tokens();
    tokenizer.with_special_tokens(&special).unwrap()
}

fn both() -> Settings {
    let languages = ["de", "en"].map(str::to_owned).to_vec();
    Settings { directions: Directions::Both, languages, ..Settings::default() }
}

fn answer<K: Kind>(text: &str, direction: usize) -> Answer<K> {
    let text = Ranked {
        text: text.into(),
        score: -1.0,
        log_probability: -2.0,
        tokens: 2,
        is_finished: true,
        matches: None,
    };
    Answer { texts: vec![text], direction, is_cut: false, counts: Arc::default() }
}

fn scored<K: Kind>(pairs: &[(Example, Answer<K>)]) -> Vec<Scored<'_, Writing<K>>> {
    pairs
        .iter()
        .map(|(example, answer)| Scored {
            example,
            items: &[],
            answers: std::slice::from_ref(answer),
        })
        .collect()
}

fn measured<K: Kind>(task: &Writing<K>, pairs: &[(Example, Answer<K>)]) -> BTreeMap<String, f64> {
    let scored = scored(pairs);
    let mut metrics = task.measure(&scored);
    metrics.extend(task.measure_once(&scored));
    metrics
}

#[test]
fn a_stream_learns_the_target_alone() {
    let examples = [pair("ab", "ba")];
    let task: Translate = learnt(&Settings::default(), &examples);
    let tokenizer = tokenizer(TokenizerKind::Char, &task, &examples);
    let [a, b, separator, end] =
        ["a", "b", "<sep>", "</s>"].map(|token| tokenizer.id(token).unwrap());
    let items = task.encode(&tokenizer, &examples[0]).unwrap().items;
    let [LabelledIds { ids, label }] = &items[..] else { panic!("{items:?}") };
    assert_eq!(ids, &[a, b, separator, b, a]);
    assert_eq!(label.next, [IGNORE, IGNORE, b, a, end]);
    let prompt = task.prompt(&items[0]);
    assert_eq!((prompt.source, prompt.prefix), (None, &[a, b, separator][..]));
    // What is to be predicted has the same prompt and no target.
    let unknown = task.parse("ab", At { name: "it", example: 1 }).unwrap();
    let items = task.encode(&tokenizer, &unknown[0]).unwrap().items;
    assert_eq!(items[0].ids, [a, b, separator]);
    assert_eq!(items[0].label.next, [IGNORE; 3]);
    let blank = task.parse(" ", At { name: "it", example: 1 }).unwrap();
    assert!(task.encode(&tokenizer, &blank[0]).unwrap().items.is_empty());
    assert_eq!(task.plain(&blank[0], &[]), "");
}

#[test]
fn a_decoder_has_its_source_apart() {
    let examples = [pair("ab", "ba")];
    let settings = Settings { form: Form::EncoderDecoder, ..Settings::default() };
    let task: Translate = learnt(&settings, &examples);
    let tokenizer = tokenizer(TokenizerKind::Char, &task, &examples);
    let [a, b, separator, end] =
        ["a", "b", "<sep>", "</s>"].map(|token| tokenizer.id(token).unwrap());
    let items = task.encode(&tokenizer, &examples[0]).unwrap().items;
    assert_eq!(items[0].ids, [separator, b, a]);
    assert_eq!(items[0].label.next, [b, a, end]);
    let prompt = task.prompt(&items[0]);
    assert_eq!((prompt.source, prompt.prefix), (Some(&[a, b][..]), &[separator][..]));
    let rows = SourceRows::of([&[a, b][..], &[b], &[]].into_iter());
    assert_eq!(rows, SourceRows { ids: vec![a, b, 0, b, 0, 0], lengths: vec![2, 1, 1], time: 2 });
}

#[test]
fn a_long_source_is_cut_and_a_long_target_is_not_ended() {
    let size = NonZeroUsize::new(3);
    let settings = Settings { longest_source: size, longest_target: size, ..Settings::default() };
    let examples = [pair("abcd", "abcd"), pair("abc", "ab")];
    let task: Translate = learnt(&settings, &examples);
    let tokenizer = tokenizer(TokenizerKind::Char, &task, &examples);
    let id = |token: &str| tokenizer.id(token).unwrap();
    let encoded = task.encode(&tokenizer, &examples[0]).unwrap();
    assert!(encoded.is_cut && encoded.items[0].label.is_cut);
    let counted = Measured::encode(&task, examples.to_vec(), &tokenizer).unwrap();
    assert_eq!((counted.cut, counted.cut_targets()), (1, 1));
    let [a, b, c] = ["a", "b", "c"].map(id);
    assert_eq!(encoded.items[0].ids, [a, b, c, id("<sep>"), a, b]);
    assert_eq!(encoded.items[0].label.next[3..], [a, b, c]);
    let encoded = task.encode(&tokenizer, &examples[1]).unwrap();
    assert!(!encoded.is_cut);
    assert_eq!(encoded.items[0].label.next[3..], [a, b, id("</s>")]);
    // A story gives way to the question about it.
    let source = vec!["abcd".into(), "dc".into()];
    let asked = Example { source, targets: vec!["a".into()], ..Example::default() };
    let settings = Settings { longest_source: NonZeroUsize::new(5), ..Settings::default() };
    let task: Writing<Reply> = learnt(&settings, std::slice::from_ref(&asked));
    let encoded = task.encode(&tokenizer, &asked).unwrap();
    assert!(encoded.is_cut);
    let d = id("d");
    assert_eq!(encoded.items[0].ids[..6], [a, b, id("<sep>"), d, c, id("<sep>")]);
}

#[test]
fn one_model_writes_in_both_directions() {
    let examples = [pair("ab", "xy")];
    let mut task: Translate = learnt(&both(), &examples);
    assert_eq!(task.special_tokens(), ["<sep>", "</s>", "<2de>", "<2en>"]);
    assert_eq!(task.directions(), ["de-en", "en-de"]);
    let tokenizer = tokenizer(TokenizerKind::Char, &task, &examples);
    let id = |token: &str| tokenizer.id(token).unwrap();
    let items = task.encode(&tokenizer, &examples[0]).unwrap().items;
    let [a, b, x, y, separator] = ["a", "b", "x", "y", "<sep>"].map(id);
    assert_eq!(items[0].ids, [id("<2en>"), a, b, separator, x, y]);
    assert_eq!(items[1].ids, [id("<2de>"), x, y, separator, a, b]);
    let perfect = [(examples[0].clone(), answer("xy", 0)), (examples[0].clone(), answer("ab", 1))];
    let metrics = measured(&task, &perfect);
    assert!(metrics["chrf_forward"] > 99.9 && metrics["chrf_backward"] > 99.9, "{metrics:?}");
    task.choose_direction(1);
    let items = task.encode(&tokenizer, &examples[0]).unwrap().items;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].label.direction, 1);
    let metrics = measured(&task, &perfect[1..]);
    assert!(metrics["chrf"] > 99.9 && !metrics.contains_key("chrf_backward"), "{metrics:?}");
    // A line to predict is the source of the direction that was chosen.
    let line = task.parse("xy", At { name: "it", example: 1 }).unwrap();
    let items = task.encode(&tokenizer, &line[0]).unwrap().items;
    assert_eq!(items[0].ids, [id("<2de>"), x, y, separator]);
    // Not every tokeniser has the tokens of the languages.
    let bare = Tokenizer::byte().unwrap().with_special_tokens(&["<sep>", "</s>"]).unwrap();
    let error = task.encode(&bare, &examples[0]).unwrap_err().to_string();
    assert!(error.starts_with("the byte tokeniser has no token <2de>"), "{error}");
}

#[test]
fn the_first_of_several_targets_alone_is_translated_back() {
    let examples = [Example { targets: vec!["xy".into(), "yx".into()], ..pair("ab", "") }];
    let task: Translate = learnt(&both(), &examples);
    let tokenizer = tokenizer(TokenizerKind::Char, &task, &examples);
    let items = task.encode(&tokenizer, &examples[0]).unwrap().items;
    let expected = ["<2de>", "x", "y", "<sep>", "a", "b"].map(|it| tokenizer.id(it).unwrap());
    assert_eq!(items[1].ids, expected);
    // Each of them is right where the source is translated.
    let answers = [("yx", 0), ("ab", 1)];
    let answers = answers.map(|(text, direction)| (examples[0].clone(), answer(text, direction)));
    let metrics = measured(&task, &answers);
    assert!(metrics["chrf_forward"] > 99.9 && metrics["chrf_backward"] > 99.9, "{metrics:?}");
}

#[test]
fn signatures_have_the_keys_of_their_metrics() {
    let example = pair("ab", "xy");
    let task: Translate = learnt(&both(), std::slice::from_ref(&example));
    let keys = |directions: &[usize]| {
        let answered = |&direction: &usize| (example.clone(), answer("xy", direction));
        let pairs: Vec<(Example, Answer<Translation>)> = directions.iter().map(answered).collect();
        let (metrics, report) = (task.measure(&scored(&pairs)), task.report(&scored(&pairs)));
        let signatures = report.json["signatures"].as_object().unwrap();
        let keys: Vec<String> = signatures.keys().cloned().collect();
        assert!(keys.iter().all(|key| metrics.contains_key(key)), "{keys:?} {metrics:?}");
        keys
    };
    assert_eq!(keys(&[0])[0], "bleu");
    assert_eq!(keys(&[1])[0], "bleu");
    let both = keys(&[0, 1]);
    assert_eq!([&*both[0], &*both[3]], ["bleu_forward", "bleu_backward"]);
}

/// The second example of the paper of BLEU has two matches of seven words; the values of the others
/// follow from the definitions.
#[test]
fn the_metrics_are_those_of_the_definitions() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    let examples = [pair("x y", "a b c d e"), pair("x", "a b c d")];
    let task: Translate = learnt(&Settings::default(), &examples);
    // Precisions 8/8, 6/6, 4/4, 2/2; 8 words against 9.
    let answers =
        [(examples[0].clone(), answer("a b c d", 0)), (examples[1].clone(), answer("a b c d", 0))];
    let metrics = measured(&task, &answers);
    near(metrics["bleu"], 100.0 * (1.0_f64 - 9.0 / 8.0).exp());
    near(metrics["ter"], 100.0 / 9.0);
    // Bigrams ab, bc, cd of six in all.
    near(metrics["distinct2"], 0.5);
    let report = task.report(&[]);
    assert!(report.json.is_empty() && report.text.is_empty());

    let examples = [pair("one two three four", "one two"), pair("five six seven", "seven eight")];
    let task: Writing<Summary> = learnt(&Settings::default(), &examples);
    assert_eq!(task.measures[0].lead, 2);
    let answers = [
        (examples[0].clone(), answer("one two", 0)),
        (examples[1].clone(), answer("eight nine ten", 0)),
    ];
    let metrics = measured(&task, &answers);
    // One of three words, one of two words.
    near(metrics["rouge1"], (1.0 + 2.0 / 5.0) / 2.0);
    near(metrics["rouge2"], 0.5);
    near(metrics["lead_rouge1"], 0.5);

    let asked = Example {
        source: vec!["A story.".into(), "Where?".into()],
        targets: vec!["the garden".into(), "a green garden".into()],
        ..Example::default()
    };
    let task: Writing<Reply> = learnt(&Settings::default(), std::slice::from_ref(&asked));
    let answers =
        [(asked.clone(), answer("Garden.", 0)), (asked.clone(), answer("green house", 0))];
    let metrics = measured(&task, &answers);
    near(metrics["exact_match"], 0.5);
    near(metrics["f1"], (1.0 + 0.5) / 2.0);
}

#[test]
fn texts_without_spaces_are_measured_by_characters() {
    let examples = [pair("你好吗", "how are you"), pair("好", "good")];
    let task: Translate = learnt(&both(), &examples);
    let [forward, backward] = &task.measures[..] else { panic!("{:?}", task.measures) };
    assert_eq!((forward.bleu, forward.unspaced), (BleuTokens::Mteval13a, false));
    assert_eq!((backward.bleu, backward.unspaced), (BleuTokens::Zh, true));
    assert!(backward.ter().is_none());
    assert_eq!(backward.lead, 2);
    assert_eq!(backward.lead("你 好吗"), "你 好");
    assert_eq!(forward.lead("one  two three"), "one  two");
    assert_eq!(forward.lead("one"), "one");
}

#[test]
fn pairs_are_read_from_each_form_of_file() {
    let folder = TempDir::new().unwrap();
    let read = |settings: &Settings, path: &Path, reading: Reading| {
        Translate::read(settings, path, &reading).map(|read| (read.examples, read.notes))
    };
    let sources = write(&folder, "a.de", "Ein Hund\n\nZwei\n");
    let targets = write(&folder, "a.en", "A dog\nnothing\nTwo\n");
    let paired = |to_learn| Reading {
        targets: [(sources.clone(), targets.clone())].into(),
        to_learn,
        ..Reading::default()
    };
    let (examples, notes) = read(&Settings::default(), &sources, paired(true)).unwrap();
    assert_eq!(examples, [pair("Ein Hund", "A dog"), pair("Zwei", "Two")]);
    assert_eq!(notes.values().collect::<Vec<_>>(), [&1]);
    let lower = Settings { lowercase: true, ..Settings::default() };
    assert_eq!(read(&lower, &sources, paired(true)).unwrap().0[0], pair("ein hund", "a dog"));
    let error = read(&Settings::default(), &sources, paired(false)).unwrap_err().to_string();
    assert!(error.starts_with("example 2 of") && error.contains("an empty source"), "{error}");
    let error = read(&Settings::default(), &sources, Reading::default()).unwrap_err().to_string();
    assert!(error.contains("has no texts to write"), "{error}");

    let table = write(&folder, "t.tsv", "Hi.\tHallo.\tfrom me\nGo.\tLos.\tfrom you\n");
    let columns = Settings {
        source_column: Some("1".into()),
        target_column: Some("0".into()),
        ..Settings::default()
    };
    let (examples, _) = read(&columns, &table, Reading::default()).unwrap();
    assert_eq!(examples, [pair("Hallo.", "Hi."), pair("Los.", "Go.")]);
    let lines = "{\"source\": \"x\", \"target\": \"y\"}\n{\"source\": \"u\", \"target\": \"v\"}\n";
    let lines = write(&folder, "t.jsonl", lines);
    let (examples, _) = read(&Settings::default(), &lines, Reading::default()).unwrap();
    assert_eq!(examples, [pair("x", "y"), pair("u", "v")]);
    let unlabelled = Reading { unlabelled: true, ..Reading::default() };
    let (examples, _) = read(&Settings::default(), &sources, unlabelled).unwrap();
    assert_eq!(examples.len(), 3);
    assert!(examples.iter().all(Example::is_unanswered));
}

#[test]
fn questions_are_read_with_their_stories() {
    let folder = TempDir::new().unwrap();
    let read = |settings: &Settings, path: &Path, unlabelled: bool| {
        let reading = Reading { unlabelled, ..Reading::default() };
        Writing::<Reply>::read(settings, path, &reading).unwrap().examples
    };
    let asked = |context: &str, question: &str, answers: &[&str]| Example {
        source: vec![context.into(), question.into()],
        targets: answers.iter().map(|&text| text.into()).collect(),
        ..Example::default()
    };
    let of_story = |example| Example { group: Some("qa1".into()), ..example };
    let story = "1 Mary sat.\n2 Who sat? \tMary\t1\n3 Bo left.\n4 Who left?\tBo\t3\n";
    let path = write(&folder, "qa1.txt", story);
    let expected = [
        of_story(asked("Mary sat.", "Who sat?", &["Mary"])),
        of_story(asked("Mary sat. Bo left.", "Who left?", &["Bo"])),
    ];
    assert_eq!(read(&Settings::default(), &path, false), expected);
    assert!(read(&Settings::default(), &path, true).iter().all(Example::is_unanswered));
    let squad = r#"{"data": [{"paragraphs": [{"context": "A red car.", "qas": [
        {"id": "1", "question": "What?", "answers": [{"text": "car", "answer_start": 6},
                                                     {"text": "red car", "answer_start": 2}]},
        {"id": "2", "question": "Why?", "answers": []}]}]}]}"#;
    let path = write(&folder, "squad.json", squad);
    let expected = [asked("A red car.", "What?", &["car", "red car"])];
    assert_eq!(read(&Settings::default(), &path, false), expected);
    assert_eq!(read(&Settings::default(), &path, true).len(), 2);
    let path = write(&folder, "t.csv", "story,question,answer\nA dog.,What?,dog\n");
    let settings = Settings {
        source_column: Some("question".into()),
        context_column: Some("story".into()),
        ..Settings::default()
    };
    assert_eq!(read(&settings, &path, false), [asked("A dog.", "What?", &["dog"])]);
    assert_eq!(read(&settings, &path, true), [asked("A dog.", "What?", &[])]);
    // Lines of JSON are rows of a table where none has a context.
    let alone = "{\"question\": \"Who?\", \"answer\": \"Bo\"}\n";
    let beside = "{\"context\": \"A dog.\", \"question\": \"What?\", \"answer\": \"dog\"}\n";
    let path = write(&folder, "alone.jsonl", alone);
    assert_eq!(read(&Settings::default(), &path, false), [pair("Who?", "Bo")]);
    assert_eq!(read(&Settings::default(), &path, true)[0].source, ["Who?".into()]);
    let has_no_rows = |path: &Path| {
        Writing::<Reply>::has_no_rows(&Settings::default(), path, &Reading::default())
    };
    assert!(!has_no_rows(&path));
    let path = write(&folder, "beside.jsonl", beside);
    assert_eq!(read(&Settings::default(), &path, false), [asked("A dog.", "What?", &["dog"])]);
    assert!(has_no_rows(&path));
    let path = write(&folder, "mixed.jsonl", &[alone, beside].concat());
    let mixed = Writing::<Reply>::read(&Settings::default(), &path, &Reading::default());
    let error = mixed.unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("missing field `context`"), "{error}");
    let lines = write(&folder, "lines.txt", "A dog.\tWhat?\nWho?\n");
    let found = read(&Settings::default(), &lines, true);
    assert_eq!(found[0], asked("A dog.", "What?", &[]));
    assert_eq!(found[1].source, ["Who?".into()]);
}

#[test]
fn settings_that_cannot_be_get_one_sentence() {
    let told = |settings: Settings| {
        Translate::learn(&settings, &[pair("a", "b")], "it").unwrap_err().to_string()
    };
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let nameless = Settings { languages: Vec::new(), ..both() };
    assert!(told(nameless).contains("--languages de,en"));
    assert!(told(Settings { languages: names(&["de"]), ..both() }).contains("there are two"));
    assert!(told(Settings { languages: names(&["de", "de"]), ..both() }).contains("there are two"));
    assert!(
        told(Settings { languages: names(&["de", "e n"]), ..both() }).contains("ASCII letters")
    );
    let search = |search: SearchOptions| told(Settings { search, ..Settings::default() });
    let own = SearchOptions::default;
    assert!(search(SearchOptions { length_penalty: -1.0, ..own() }).contains("0 or more"));
    assert!(search(SearchOptions { coverage_penalty: f32::NAN, ..own() }).contains("0 or more"));
    let many = NonZeroUsize::new(513).unwrap();
    assert!(search(SearchOptions { beam: many, ..own() }).contains("at most 512"));
    let short = SearchOptions { minimum: 3, maximum: NonZeroUsize::new(2), ..own() };
    assert!(search(short).contains("at most the maximum"));
    let long = SearchOptions { minimum: 129, ..own() };
    assert!(search(long).contains("minimum = 129: targets are learnt up to 128 tokens"));
    let error = Writing::<Summary>::learn(&both(), &[pair("a", "b")], "it").unwrap_err();
    assert!(error.to_string().contains("only a translation has another direction"));
}

/// Words, and the same words in reverse.
fn reversed(count: usize) -> String {
    let words = ["red", "blue", "old", "cat", "dog", "sun"];
    let mut rows = String::from("source\ttarget\n");
    let mut state = 7_u64;
    for _ in 0..count {
        let mut line = Vec::new();
        for _ in 0..2 + state as usize % 3 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407) >> 3;
            line.push(words[state as usize % words.len()]);
        }
        let source = line.join(" ");
        line.reverse();
        rows.push_str(&format!("{source}\t{}\n", line.join(" ")));
    }
    rows
}

fn small(form: Form, vocabulary: usize) -> Config {
    let config = match form {
        Form::Stream => Preset::LonghandNano.config(vocabulary),
        Form::EncoderDecoder => Preset::EncoderDecoderNano.config(vocabulary),
    };
    let width = if form == Form::Stream { 64 } else { config.width };
    Config { width, dropout: Default::default(), ..config }
}

/// Learns to write words in reverse, and gives the folder of the model.
fn learns_to_reverse(form: Form) {
    let folder = TempDir::new().unwrap();
    let files = Files {
        train: vec![write(&folder, "train.tsv", &reversed(1500))],
        test: vec![write(&folder, "test.tsv", &reversed(30))],
        valid_fraction: 0.05,
        ..Files::default()
    };
    let settings = Settings { form, ..Settings::default() };
    let examples = Examples::<Translate>::read(&settings, &files, 1).unwrap();
    let task = examples.task.clone();
    let tokenizer = tokenizer(TokenizerKind::Word, &task, &examples.train);
    let data = Data::encode(examples, &tokenizer).unwrap();
    let config = small(form, tokenizer.vocab_size());
    let head = task.head(&settings, config.head());
    let model =
        start::fresh(task.body(start::with_head(config, head), &tokenizer), &tokenizer, 3).unwrap();
    let mut training = TrainSettings {
        batch: 32,
        budget: Budget::Epochs(12.0),
        evaluations: 2,
        ..TrainSettings::for_examples()
    };
    training.optimizer = OptimizerSettings::AdamW(Default::default());
    training.optimizer.set_learning_rate(5e-3);
    let cpu = Arc::new(Cpu::new(2));
    let objective =
        TaskObjective::new(task.clone(), &training, &tokenizer, data.train, data.valid).unwrap();
    let trainer = Trainer::new(training, model, objective, cpu.clone()).unwrap();
    let outcome = trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    let best = outcome.best.unwrap().score;
    // In training the loss alone is measured.
    assert_eq!(best.metrics.keys().collect::<Vec<_>>(), ["perplexity"]);
    assert!((best.metrics["perplexity"] - best.loss.exp()).abs() < 1e-9);

    let never = AtomicBool::new(false);
    let mut unheard = |_| Ok(());
    let mut watch = longhand_train::Watch::new(&never, &mut unheard);
    let result =
        evaluate(&task, (&outcome.model, &tokenizer, None), &data.test, &cpu, &mut watch).unwrap();
    let metrics = result.score().metrics;
    assert!(metrics["bleu"] > 95.0 && metrics["chrf"] > 95.0, "{metrics:?}");
    assert!(metrics["ter"] < 5.0, "{metrics:?}");
    assert!(result.pace.unwrap().tokens >= 30 * 3);
    let signature = result.report().json["signatures"]["bleu"].as_str().unwrap().to_owned();
    assert!(signature.starts_with("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"), "{signature}");

    outcome.model.save(folder.path()).unwrap();
    tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
    let file: TaskFile = task.clone().into();
    fs_err::write(folder.path().join(TASK_FILE), file.to_json()).unwrap();
    let mut loaded = Predictor::<Translate>::load(folder.path(), cpu).unwrap();
    assert_eq!(loaded.task, task);
    let at = At { name: "it", example: 1 };
    let lines = ["red cat sun", "", "dog blue", "old"];
    let examples: Vec<Example> =
        lines.iter().flat_map(|line| loaded.task.parse(line, at).unwrap()).collect();
    let answers = loaded.predict(&examples, at).unwrap();
    let texts: Vec<String> =
        examples.iter().zip(&answers).map(|(e, answers)| loaded.task.plain(e, answers)).collect();
    assert_eq!(texts[..3], ["sun cat red", "", "blue dog"]);
    // An example is the same alone and in a batch.
    for (example, together) in examples.iter().zip(&answers) {
        let alone = loaded.predict(std::slice::from_ref(example), at).unwrap();
        let found = |answers: &[Answer<Translation>]| {
            answers.iter().flat_map(|answer| answer.texts.clone()).collect::<Vec<_>>()
        };
        let (alone, together) = (found(&alone[0]), found(together));
        assert_eq!(alone.len(), together.len());
        for (one, other) in alone.iter().zip(&together) {
            assert_eq!(one.text, other.text);
            assert!((one.log_probability - other.log_probability).abs() < 1e-3);
        }
    }
    // The best of several is the first.
    loaded.task.search.hypotheses = NonZeroUsize::new(3).unwrap();
    let several = loaded.predict(&examples[..1], at).unwrap();
    let ranked = loaded.task.ranked(&several[0]);
    assert!(ranked.len() == 3 && ranked.is_sorted_by(|a, b| a.score >= b.score), "{ranked:?}");
    assert_eq!(ranked[0].text, "sun cat red");

    // Texts that are drawn are the same alone and in a batch, bit for bit, and none is left out.
    let hot = SamplerSettings { temperature: 3.0, seed: 4, ..SamplerSettings::default() };
    loaded.task.search.sampler = Some(hot);
    loaded.task.search.hypotheses = NonZeroUsize::new(8).unwrap();
    let drawn = loaded.predict(&examples, at).unwrap();
    for (example, together) in examples.iter().zip(&drawn) {
        let alone = loaded.predict(std::slice::from_ref(example), at).unwrap();
        assert_eq!(loaded.task.ranked(&alone[0]), loaded.task.ranked(together));
    }
    let ranked = loaded.task.ranked(&drawn[0]);
    assert!(ranked.len() == 8 && ranked.iter().any(|it| it.text != ranked[0].text), "{ranked:?}");
    loaded.task.search.sampler = Some(SamplerSettings::greedy());
    let greedy = loaded.predict(&examples[..1], at).unwrap();
    let ranked = loaded.task.ranked(&greedy[0]);
    assert!(ranked.len() == 8 && ranked.iter().all(|it| *it == ranked[0]), "{ranked:?}");
}

#[test]
fn a_stream_learns_to_reverse_words() {
    learns_to_reverse(Form::Stream);
}

#[test]
fn a_decoder_learns_to_reverse_words() {
    learns_to_reverse(Form::EncoderDecoder);
}

/// The words of `text` as a tokeniser of whole words has them, with what a task needs.
fn of_words(text: &str) -> Tokenizer {
    let texts = std::iter::once(Ok(text.to_owned()));
    let words = Tokenizer::train(TokenizerKind::Word, None, texts, &mut |_| {}).unwrap();
    words.with_special_tokens(&["<sep>", "</s>"]).unwrap()
}

#[test]
fn questions_are_measured_by_the_group_of_their_file() {
    let of_group = |group: &str, target: &str| Example {
        group: Some(group.into()),
        ..pair("Who sat?", target)
    };
    let task: Writing<Reply> = learnt(&Settings::default(), &[pair("Who?", "Mary")]);
    let pairs = [
        (of_group("qa1", "Mary"), answer("Mary", 0)),
        (of_group("qa1", "Bo"), answer("mary", 0)),
        (of_group("qa2", "yes"), answer("Yes.", 0)),
    ];
    let metrics = measured(&task, &pairs);
    assert_eq!((metrics["exact_match"], metrics["group_mean"]), (2.0 / 3.0, 0.75));
    assert_eq!(metrics["groups_at_least_95"], 1.0);
    let report = task.report(&scored(&pairs));
    let groups = &report.json["by_group"];
    assert_eq!((&groups["mean"], &groups["at_least_95"]), (&json!(0.75), &json!(1)));
    let names: Vec<&Value> = (0..2).map(|i| &groups["groups"][i]["name"]).collect();
    assert_eq!(names, ["qa1", "qa2"]);
    assert_eq!(groups["groups"][0]["exact_match"], 0.5);
    assert_eq!(groups["groups"][0]["examples"], 2);
    assert!(report.text.contains("qa2: exact match 100.00 % of 1"), "{}", report.text);
    // Examples of no group have none, and so have those without answers.
    let bare = measured(&task, &[(pair("Who?", "Bo"), answer("Bo", 0))]);
    assert!(!bare.contains_key("group_mean"), "{bare:?}");
    let unanswered = Scored { example: &pairs[0].0, items: &[], answers: &[] };
    assert!(task.report(&[unanswered]).json.is_empty());
}

#[test]
fn a_question_can_stand_on_both_sides_of_its_story() {
    let asked = Example {
        source: vec!["a b c".into(), "who".into()],
        targets: vec!["a".into()],
        ..Example::default()
    };
    let tokenizer = of_words("a b c who");
    let id = |token: &str| tokenizer.id(token).unwrap();
    let [a, b, who, separator] = ["a", "b", "who", "<sep>"].map(id);
    let read = |longest: usize| {
        let settings = Settings {
            question: QuestionPlace::Both,
            longest_source: NonZeroUsize::new(longest),
            ..Settings::default()
        };
        let task: Writing<Reply> = learnt(&settings, std::slice::from_ref(&asked));
        task.encode(&tokenizer, &asked).unwrap()
    };
    let whole = read(9).items[0].ids.clone();
    assert_eq!(whole[..2], [who, separator]);
    assert_eq!(whole[5..8], [separator, who, separator]);
    // The story gives way, and no question does.
    let cut = read(6);
    assert!(cut.is_cut);
    let expected = [who, separator, a, b, separator, who, separator, a];
    assert_eq!(cut.items[0].ids, expected, "{}", tokenizer.decode(&cut.items[0].ids).unwrap());
}

#[test]
fn an_encoder_of_sentences_learns_what_ends_them_from_the_tokeniser() {
    let tokenizer = of_words("a dog . who ?");
    let task: Writing<Reply> = learnt(&Settings::default(), &[pair("a dog . who ?", "a")]);
    let mut config = small(Form::EncoderDecoder, tokenizer.vocab_size());
    let sentences = Sentences { ends: Vec::new(), places: 8, question: true, blocks: Vec::new() };
    config.encoder.as_mut().unwrap().sentences = Some(sentences);
    let mut ends = task.body(config, &tokenizer).encoder.unwrap().sentences.unwrap().ends;
    ends.sort_unstable();
    let mut marks = [".", "?", "<sep>"].map(|mark| tokenizer.id(mark).unwrap());
    marks.sort_unstable();
    assert_eq!(ends, marks);
}

#[test]
fn symbols_are_measured_by_their_errors() {
    let settings = Settings { symbols: true, spelled: true, ..Settings::default() };
    let example = |targets: &[&str]| Example {
        targets: targets.iter().map(|&text| text.into()).collect(),
        ..pair("c a t", "")
    };
    let examples = [example(&["K AE T", "K AA T S"]), example(&["D AO G"])];
    let task: Writing<Reply> = learnt(&settings, &examples);
    let metrics = measured(
        &task,
        &[
            // The second pronunciation is as right as the first.
            (examples[0].clone(), answer("K AA T S", 0)),
            (examples[1].clone(), answer("D AA G Z", 0)),
        ],
    );
    assert_eq!((metrics["word_error_rate"], metrics["exact_match"]), (0.5, 0.5));
    assert!((metrics["phoneme_error_rate"] - 2.0 / 7.0).abs() < 1e-12, "{metrics:?}");
    assert!(!metrics.contains_key("f1"));
    let line = task.parse("cat", At { name: "it", example: 1 }).unwrap();
    assert_eq!(line[0].source, ["c a t".into()]);
}

#[test]
fn further_columns_are_read_where_they_count() {
    let folder = TempDir::new().unwrap();
    let lines = "{\"document\": \"d\", \"summary\": \"s\", \"more\": [\"s\", \" t \"]}\n\
                 {\"document\": \"e\", \"summary\": \"u\", \"more\": []}\n";
    let json = write(&folder, "a.jsonl", lines);
    let table = write(&folder, "a.tsv", "document\tsummary\tmore\nd\ts\tt ||| s\ne\tu\t\n");
    let named = Settings {
        references_column: Some("more".into()),
        prefix_column: Some("summary".into()),
        ..Settings::default()
    };
    let read = |settings: &Settings, path: &Path, reading: &Reading| {
        Writing::<Summary>::read(settings, path, reading).map(|read| read.examples)
    };
    for path in [&json, &table] {
        let examples = read(&named, path, &Reading::default()).unwrap();
        assert_eq!(examples[0].targets, ["s", "t"], "{}", path.display());
        assert_eq!(examples[1], pair("e", "u"));
        let learnt = Reading { to_learn: true, ..Reading::default() };
        assert_eq!(read(&named, path, &learnt).unwrap()[0], pair("d", "s"));
        let unlabelled = Reading { unlabelled: true, ..Reading::default() };
        let examples = read(&named, path, &unlabelled).unwrap();
        assert_eq!(examples[0].beginning.as_deref(), Some("s"));
        assert!(examples[0].is_unanswered());
    }
    // Numbered columns, with a row of names and without.
    let numbered = |references: &str| Settings {
        source_column: Some("0".into()),
        target_column: Some("1".into()),
        references_column: Some(references.into()),
        ..Settings::default()
    };
    let examples = read(&numbered("2"), &table, &Reading::default()).unwrap();
    assert_eq!((examples.len(), &examples[0].targets[..]), (2, &["s".into(), "t".into()][..]));
    let bare = write(&folder, "b.tsv", "d\ts\tt\ne\tu\tv\n");
    let examples = read(&numbered("2"), &bare, &Reading::default()).unwrap();
    assert_eq!(examples[1].targets, ["u", "v"]);
    let error = read(&numbered("7"), &bare, &Reading::default()).unwrap_err().to_string();
    assert!(error.contains("has only 3 column(s)"), "{error}");
    let sources = write(&folder, "s.txt", "d\n");
    let targets = write(&folder, "t.txt", "s\n");
    let pairs = Reading { targets: [(sources.clone(), targets)].into(), ..Reading::default() };
    let error = read(&named, &sources, &pairs).unwrap_err().to_string();
    assert!(error.contains("is no table whose rows have a column more"), "{error}");
}

#[test]
fn an_answer_begins_as_it_must() {
    let tokenizer = of_words("a b c d");
    let examples = [pair("a b", "c d")];
    let settings = Settings { longest_target: NonZeroUsize::new(3), ..Settings::default() };
    let mut task: Translate = learnt(&settings, &examples);
    let forced = |task: &Translate, example: &Example| {
        let items = task.encode(&tokenizer, example)?.items;
        Ok::<_, TaskError>(task.prompt(&items[0]).forced.to_vec())
    };
    let unknown = task.parse("a b", At { name: "it", example: 1 }).unwrap().remove(0);
    assert!(forced(&task, &unknown).unwrap().is_empty());
    assert!(task.begin_answers(" d c "));
    let [c, d] = ["c", "d"].map(|token| tokenizer.id(token).unwrap());
    assert_eq!(forced(&task, &unknown).unwrap(), [d, c]);
    let own = Example { beginning: Some("c".into()), ..unknown.clone() };
    assert_eq!(forced(&task, &own).unwrap(), [c]);
    // Nothing is forced where the answer is known and measured.
    assert!(forced(&task, &examples[0]).unwrap().is_empty());
    let foreign = Example { beginning: Some("c zzz".into()), ..unknown.clone() };
    let error = forced(&task, &foreign).unwrap_err().to_string();
    assert!(error.contains("\"c zzz\"") && error.contains("does not know"), "{error}");
    let long = Example { beginning: Some("c d c".into()), ..unknown };
    let error = forced(&task, &long).unwrap_err().to_string();
    assert!(error.contains("is to begin with 3 tokens, but has at most 3"), "{error}");
    // What was written begins with the forced tokens.
    let config = small(Form::Stream, tokenizer.vocab_size());
    let config = start::with_head(config, task.head(&settings, None));
    let model = start::fresh(config, &tokenizer, 1).unwrap();
    let mut predictor = Predictor::new(task, model, tokenizer.clone(), Arc::new(Cpu::new(1)));
    let at = At { name: "it", example: 1 };
    let answers = predictor.predict(std::slice::from_ref(&own), at).unwrap();
    assert!(answers[0][0].text().starts_with('c'), "{answers:?}");
    // A beginning that the rules forbid is told.
    let rules = longhand_engine::Rules::regex("d( c)*").unwrap();
    predictor.follow(&Arc::new(rules)).unwrap();
    let at = At { name: "it", example: 1 };
    let error = predictor.predict(&[own], at).unwrap_err().to_string();
    assert!(error.contains("\"c\", but no text that matches the rules begins so"), "{error}");
    // So are more tokens than an answer has.
    predictor.task.search.minimum = 4;
    let error = predictor.predict(&examples, at).unwrap_err().to_string();
    assert!(error.contains("minimum = 4: an answer has at most 3 tokens"), "{error}");
}

#[test]
fn an_unknown_word_is_written_as_the_source_has_it() {
    let tokenizer = of_words("the dog runs");
    let id = |token: &str| tokenizer.id(token).unwrap();
    let examples = [pair("the dog", "the dog")];
    let search = SearchOptions { replace_unknown: true, ..SearchOptions::default() };
    let settings = Settings { form: Form::EncoderDecoder, search, ..Settings::default() };
    let task: Translate = learnt(&settings, &examples);
    let unknown = task.parse("the Rex runs", At { name: "it", example: 1 }).unwrap();
    let items = task.encode(&tokenizer, &unknown[0]).unwrap().items;
    assert_eq!(items[0].label.words, ["the", "Rex", "runs"]);
    let found = Hypothesis {
        ids: vec![id("<unk>"), id("runs")],
        log_probabilities: vec![-1.0; 2],
        end: None,
        log_probability: -2.0,
        score: -1.0,
        alignment: vec![1, 2],
        matches: None,
        is_complete: false,
    };
    let answer = task.written(&tokenizer, &items[0], std::slice::from_ref(&found)).unwrap();
    assert_eq!(answer.text(), "Rex runs");
    // A model that attends to no source, and a tokeniser that knows every word, are refused.
    let refused_with = |form: Form, tokenizer: &Tokenizer, sentences: Option<Sentences>| {
        let settings = Settings { form, ..settings.clone() };
        let task: Translate = learnt(&settings, &examples);
        let mut config = small(form, tokenizer.vocab_size());
        if let Some(encoder) = &mut config.encoder {
            encoder.sentences = sentences;
        }
        let config = start::with_head(config, task.head(&settings, None));
        let model = start::fresh(config, tokenizer, 1).unwrap();
        let mut predictor = Predictor::new(task, model, tokenizer.clone(), Arc::new(Cpu::new(1)));
        let result = predictor.predict(&unknown, At { name: "it", example: 1 });
        result.err().map(|error| error.to_string())
    };
    let refused = |form: Form, tokenizer: &Tokenizer| refused_with(form, tokenizer, None);
    assert_eq!(refused(Form::EncoderDecoder, &tokenizer), None);
    let error = refused(Form::Stream, &tokenizer).unwrap();
    assert!(error.contains("--form encoder-decoder"), "{error}");
    let sentences =
        Some(Sentences { ends: Vec::new(), places: 8, question: false, blocks: Vec::new() });
    let error = refused_with(Form::EncoderDecoder, &tokenizer, sentences).unwrap();
    assert!(error.contains("attends to whole sentences"), "{error}");
    let bytes = Tokenizer::byte().unwrap().with_special_tokens(&["<sep>", "</s>"]).unwrap();
    let error = refused(Form::EncoderDecoder, &bytes).unwrap();
    assert!(error.contains("the byte tokeniser writes every word in parts"), "{error}");
}

#[test]
fn settings_of_other_tasks_and_searches_get_one_sentence() {
    let told = |settings: Settings| {
        Translate::learn(&settings, &[pair("a", "b")], "it").unwrap_err().to_string()
    };
    let both = Settings { question: QuestionPlace::Both, ..Settings::default() };
    assert!(told(both).contains("only a task of questions"));
    let symbols = Settings { symbols: true, ..Settings::default() };
    assert!(told(symbols).contains("only the task answer"));
    let own = SearchOptions::default;
    let search = |search: SearchOptions| told(Settings { search, ..Settings::default() });
    let size = |size| NonZeroUsize::new(size).unwrap();
    let three = SearchOptions { groups: size(3), ..own() };
    assert!(search(three).contains("groups = 3: the beam must be a multiple of it"));
    assert!(search(SearchOptions { diversity: 0.5, ..own() }).contains("ask for several"));
    let spread = SearchOptions { groups: size(5), diversity: f32::NAN, ..own() };
    assert!(search(spread).contains("0 or more"));
    assert!(search(SearchOptions { patience: 0.0, ..own() }).contains("above 0"));
    let many = NonZeroUsize::new(513).unwrap();
    let drawn = SearchOptions { sampler: Some(SamplerSettings::default()), ..own() };
    assert!(search(SearchOptions { hypotheses: many, ..drawn }).contains("at most 512"));
}

#[test]
fn the_beginning_of_a_text_is_a_summary() {
    let folder = TempDir::new().unwrap();
    let row = |i: usize| format!("word{i} two three. four five\tword{i} two\n");
    let table: String =
        std::iter::once("document\tsummary\n".to_owned()).chain((0..8).map(row)).collect();
    let files = Files { train: vec![write(&folder, "t.tsv", &table)], ..Files::default() };
    let examples = Examples::<Writing<Summary>>::read(&Settings::default(), &files, 1).unwrap();
    let task = examples.task.clone();
    let fit = |settings: &BaselineSettings| {
        let train = plain::labelled(&task, settings, &examples.train)?;
        let cpu = Cpu::new(1);
        let learning = Learning { classes: 0, train: &train, valid: &[], seed: 1, cpu: &cpu };
        let never = AtomicBool::new(false);
        let mut unheard = |_| Ok(());
        let mut watch = longhand_train::Watch::new(&never, &mut unheard);
        let baseline = Baseline::fit(settings, &learning, &mut watch).unwrap();
        let measured = plain::measured(&task, examples.train.clone()).unwrap();
        let score = plain::evaluate(&task, &baseline, &measured, &mut watch).unwrap().score();
        Ok::<_, TaskError>((baseline, score))
    };
    let mut settings = BaselineSettings::named("lead").unwrap();
    let (baseline, score) = fit(&settings).unwrap();
    assert_eq!((score.metrics["rouge1"], score.metrics["rougeL"]), (1.0, 1.0));
    // It has no probabilities.
    assert!(!score.metrics.contains_key("perplexity"));
    settings.set("unit", "sentences".into()).unwrap();
    let (sentences, score) = fit(&settings).unwrap();
    assert!((score.metrics["rouge1"] - 0.8).abs() < 1e-12, "{score:?}");
    assert_eq!(sentences.text(&["One. Two."]), Some("One."));
    // A folder of it answers as any other.
    for (name, content) in baseline.files() {
        fs_err::write(folder.path().join(name), content).unwrap();
    }
    let file: TaskFile = task.clone().into();
    fs_err::write(folder.path().join(TASK_FILE), file.to_json()).unwrap();
    let cpu = Arc::new(Cpu::new(1));
    let mut loaded = Predictor::<Writing<Summary>>::load(folder.path(), cpu).unwrap();
    let at = At { name: "it", example: 1 };
    let lines = ["one two three", " "].map(|line| loaded.task.parse(line, at).unwrap().remove(0));
    let answers = loaded.predict(&lines, at).unwrap();
    assert_eq!(answers[0][0].text(), "one two");
    assert!(answers[1].is_empty());
    // Other baselines and other tasks are refused.
    let majority = BaselineSettings::named("majority").unwrap();
    let error = fit(&majority).unwrap_err().to_string();
    assert!(error.contains("not what the task summarize asks for"), "{error}");
    let translate: Translate = learnt(&Settings::default(), &examples.train);
    let lead = BaselineSettings::named("lead").unwrap();
    let error = plain::labelled(&translate, &lead, &examples.train).unwrap_err().to_string();
    assert!(error.contains("lead writes a summary") && error.contains("translate"), "{error}");
}

#[test]
fn a_source_is_read_by_its_own_tokeniser() {
    let examples = [pair("ein Hund", "a dog"), pair("ein Rex", "a dog")];
    let settings =
        Settings { separate_vocabularies: true, form: Form::EncoderDecoder, ..Settings::default() };
    let mut task: Translate = learnt(&settings, &examples);
    assert_eq!(task.apart(&examples[0]).unwrap(), [vec!["ein Hund"], vec!["a dog"]]);
    let (sources, targets) = (of_words("ein Hund Katze"), of_words("a dog"));
    task.read_sources_with(sources.clone());
    let items = task.encode(&targets, &examples[0]).unwrap().items;
    let of = |tokenizer: &Tokenizer, token: &str| tokenizer.id(token).unwrap();
    assert_eq!(items[0].label.source, ["ein", "Hund"].map(|token| of(&sources, token)));
    assert_eq!(items[0].label.next, ["a", "dog", "</s>"].map(|token| of(&targets, token)));
    let config = task.body(small(Form::EncoderDecoder, targets.vocab_size()), &targets);
    assert_eq!(config.encoder.unwrap().vocab_size, Some(sources.vocab_size()));
    let folder = TempDir::new().unwrap();
    let mut opened: Translate = learnt(&settings, &examples);
    let error = opened.open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("source_tokenizer.json is not usable: it is missing"), "{error}");
    for (name, content) in task.files(&targets).unwrap() {
        fs_err::write(folder.path().join(name), content).unwrap();
    }
    assert!(opened != task);
    opened.open(folder.path()).unwrap();
    assert!(opened == task);
    // A run that begins with the folder reads sources as its model does.
    let unasked = Settings { separate_vocabularies: false, ..settings };
    let mut begun: Translate = learnt(&unasked, &examples);
    begun.begin_with(folder.path(), &targets).unwrap();
    assert!(begun == task);
    let other = TempDir::new().unwrap();
    let error = begun.begin_with(other.path(), &targets).unwrap_err().to_string();
    assert!(error.contains("separate_vocabularies = true: one tokeniser reads"), "{error}");
    // One tokeniser for both has no file.
    let task: Translate = learnt(&Settings::default(), &examples);
    assert!(task.files(&targets).unwrap().is_empty() && task.apart(&examples[0]).is_none());
}
