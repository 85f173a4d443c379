use super::*;

/// Two rows for each number, which have the same tokens but for words that the vocabulary lacks: in the
/// first one both texts have the same rare word, in the second one each has another.
fn pairs(numbers: std::ops::Range<usize>) -> String {
    let mut rows = String::from("label\ttext\tsecond\n");
    for number in numbers {
        // No two of these words begin with the same five letters.
        let rare = |place: usize| {
            let number = 3 * number + place;
            let letter = |value: usize| char::from(b'a' + (value % 26) as u8);
            let [a, b, c] = [number / 676, number / 26, number].map(letter);
            format!("{a}{b}{c}orted")
        };
        let before = "it is ".repeat(number % 3);
        for (label, first, second) in [("yes", rare(0), rare(0)), ("no", rare(1), rare(2))] {
            rows.push_str(&format!("{label}\t{before}{first} here\tit is {second} there\n"));
        }
    }
    rows
}

fn settings(matches: Option<bool>) -> Settings {
    Settings { pair_column: Some("second".into()), matches, ..Settings::default() }
}

/// A tokeniser of the frequent words of [`pairs`].
fn frequent_words(task: &Classify) -> Tokenizer {
    let text = std::iter::once(Ok("it is here there\n".to_owned()));
    let plain = Tokenizer::train(TokenizerKind::Word, None, text, &mut |_| {}).unwrap();
    plain.with_special_tokens(&task.special_tokens()).unwrap()
}

fn untrained(task: &Classify, tokenizer: &Tokenizer) -> Model {
    let config = Preset::StackedLstmClassifier.config(tokenizer.vocab_size());
    let head = task.head(&Settings::default(), None);
    start::fresh(task.body(start::with_head(config, head), tokenizer), tokenizer, 3).unwrap()
}

/// The accuracy on words that training lacks, with the task, its model and its tokeniser.
fn learnt(matches: Option<bool>) -> (f64, Classify, Model, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, &pairs(0..80), &pairs(80..110));
    let examples = Examples::read(&settings(matches), &files, 1).unwrap();
    let task = examples.task.clone();
    let tokenizer = frequent_words(&task);
    let data = Data::encode(examples, &tokenizer).unwrap();
    // The tokens of two rows are the same.
    let ids: Vec<&[u32]> = data.test.items().map(|item| &item.ids[..]).collect();
    assert!(ids.chunks(2).all(|two| two[0] == two[1]));
    let mut training = TrainSettings {
        batch: 16,
        budget: Budget::Epochs(12.0),
        evaluations: 3,
        ..TrainSettings::for_examples()
    };
    training.optimizer = OptimizerSettings::AdamW(Default::default());
    training.optimizer.set_learning_rate(1e-2);
    let (cpu, start) = (cpu(), untrained(&task, &tokenizer));
    let objective =
        TaskObjective::new(task.clone(), &training, &tokenizer, data.train, data.valid).unwrap();
    let trainer = Trainer::new(training, start, objective, cpu.clone()).unwrap();
    let model = trainer.run(&mut (), &AtomicBool::new(false)).unwrap().model;
    let never = AtomicBool::new(false);
    let mut unheard = |_| Ok(());
    let mut watch = longhand_train::Watch::new(&never, &mut unheard);
    let result = evaluate(&task, (&model, &tokenizer, None), &data.test, &cpu, &mut watch);
    let accuracy = result.unwrap().score().metrics["accuracy"];
    (accuracy, task, model, tokenizer)
}

#[test]
fn a_rare_word_of_both_texts_is_found_by_its_match_alone_and_a_saved_model_answers_alike() {
    let (accuracy, ..) = learnt(Some(false));
    assert!(accuracy < 0.7, "{accuracy} without matches");
    let (accuracy, task, model, tokenizer) = learnt(None);
    assert!(accuracy > 0.95, "{accuracy} with matches");

    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
    let file: TaskFile = task.clone().into();
    fs_err::write(folder.path().join(TASK_FILE), file.to_json()).unwrap();
    let mut kept = Predictor::new(task.clone(), model, tokenizer, cpu());
    let mut loaded = Predictor::load(folder.path(), cpu()).unwrap();
    assert_eq!(loaded.task, task);
    let texts = ["it is quite here\tit is quite there", "it is quite here\tit is rather there"];
    let texts = texts.map(str::to_owned);
    let answers = predict(&mut loaded, &texts, 1).unwrap();
    assert_eq!(answers, predict(&mut kept, &texts, 1).unwrap());
    let names = answers.iter().flatten().map(|answer| task.name(answer.label));
    assert_eq!(names.collect::<Vec<_>>(), ["yes", "no"]);
    for (text, answer) in texts.iter().zip(&answers) {
        let alone = predict(&mut loaded, std::slice::from_ref(text), 1).unwrap().remove(0);
        assert_alike(&alone.unwrap(), answer.as_ref().unwrap(), text);
    }
}

fn example(text: &str, second: &str, label: &str) -> Example {
    Example { label: Some(label.into()), text: text.into(), second: Some(second.into()) }
}

#[test]
fn each_token_has_the_row_of_its_word_whatever_the_tokeniser_and_beside_its_characters() {
    let examples = [
        example("Zürich lies at the lake", "the lake at which Zürich lies", "yes"),
        example("苏黎世在哪儿", "苏黎世有多大？", "no"),
    ];
    let reader = crate::characters::CharacterSettings::Lstm(Default::default());
    let both = Settings { characters: Some(reader), ..settings(None) };
    let task = Classify::learn(&both, &examples, "texts").unwrap();
    let plain = Classify::learn(&settings(Some(false)), &examples, "texts").unwrap();
    assert!(task.frequent.is_some() && plain.frequent.is_none());
    for kind in TokenizerKind::ALL {
        let lines = examples.iter().flat_map(texts).map(|text| Ok(format!("{text}\n")));
        let tokenizer = Tokenizer::train(kind, None, lines, &mut |_| {}).unwrap();
        let tokenizer = tokenizer.with_special_tokens(&task.special_tokens()).unwrap();
        let config = untrained(&task, &tokenizer).config().clone();
        for example in &examples {
            let encoded = task.encode(&tokenizer, example).unwrap();
            let [LabelledIds { ids, label }] = &encoded.items[..] else { panic!("{kind}") };
            assert_eq!(*ids, plain.encode(&tokenizer, example).unwrap().items[0].ids, "{kind}");
            assert_eq!(label.characters.ranges.len(), ids.len(), "{kind}");
            assert_eq!(label.features.len(), config.features.len() * ids.len(), "{kind}");
            let columns = label.features.chunks(ids.len());
            for (values, &rows) in columns.clone().zip(&config.features) {
                assert!(values.iter().all(|&value| (value as usize) < rows), "{kind}");
            }
            let [parts, likeness] = [0, 1].map(|table| columns.clone().nth(table).unwrap());
            let separator = parts.iter().position(|&part| part == 1).unwrap();
            let (first, second) = likeness.split_at(separator);
            assert_eq!(second[0], 0, "{kind}");
            // Both texts name Zürich.
            assert!([first, second].iter().all(|side| side.iter().any(|&like| like > 0)), "{kind}");
        }
    }
}

#[test]
fn a_task_without_matches_reads_pairs_as_before() {
    let earlier = r#"{"labels":["no","yes"],"longest":1024,"pair":true}"#;
    let task: Classify = serde_json::from_str(earlier).unwrap();
    assert_eq!(serde_json::to_string(&task).unwrap(), earlier);
    let tokenizer = frequent_words(&task);
    let model = untrained(&task, &tokenizer);
    assert!(model.config().features.is_empty());
    let example = example("it is here", "it is", "yes");
    let items = task.encode(&tokenizer, &example).unwrap().items;
    assert!(items[0].label.features.is_empty() && items[0].ids.len() == 6);
    let mut predictor = Predictor::new(task, model, tokenizer, cpu());
    let answers = predict(&mut predictor, &["it is here\tit is".to_owned()], 1).unwrap();
    assert!(answers[0].is_some());
}

#[test]
fn matches_need_a_second_text() {
    let examples = [example("a", "b", "no"), example("a", "a", "yes")];
    let learn = |settings: Settings| Classify::learn(&settings, &examples, "texts");
    let single = Settings { matches: Some(true), ..Settings::default() };
    let error = learn(single).unwrap_err().to_string();
    assert!(error.contains("cannot have matches = true: a single text matches nothing"), "{error}");
    assert!(learn(Settings::default()).unwrap().frequent.is_none());
    let task = learn(settings(Some(true))).unwrap();
    assert_eq!(task, learn(settings(None)).unwrap());
    // `a` is in two pairs.
    let json = serde_json::to_string(&task).unwrap();
    assert!(json.contains(r#""frequent":["a"]"#), "{json}");
}
