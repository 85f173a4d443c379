use std::sync::atomic::AtomicBool;

use longhand_model::Cpu;

use super::*;

/// Texts of `classes` kinds, told apart by the order of two words alone where `ordered`.
fn texts(classes: usize, ordered: bool) -> Vec<(String, u32)> {
    let text = |place: usize| {
        let class = place % classes;
        let noise = ["the film", "a story of", "and then, again"][place % 3];
        let text = match (ordered, class) {
            (true, 0) => format!("{noise} not good"),
            (true, _) => format!("{noise} good not"),
            (false, class) => format!("{noise} word{class} . {noise}"),
        };
        (text, class as u32)
    };
    (0..60 * classes).map(text).collect()
}

/// Examples whose right answer is made of the class.
fn labelled<'a>(
    texts: &'a [(String, u32)],
    right: impl Fn(u32) -> Right<'static>,
) -> Vec<Labelled<'a>> {
    let one = |(text, class): &'a (String, u32)| {
        let texts = vec![text.as_str().into()];
        Labelled { texts, right: right(*class) }
    };
    texts.iter().map(one).collect()
}

fn fit(settings: &BaselineSettings, classes: usize, texts: &[(String, u32)]) -> Baseline {
    let right = |class| match settings {
        BaselineSettings::Lead(_) => Right::Text("a b c"),
        BaselineSettings::Crf(_) => Right::Tags(vec![class]),
        _ => Right::Class(class),
    };
    let all = labelled(texts, right);
    let (train, valid) = all.split_at(all.len() * 3 / 4);
    fit_to(settings, classes, train, valid)
}

fn fit_to(
    settings: &BaselineSettings,
    classes: usize,
    train: &[Labelled<'_>],
    valid: &[Labelled<'_>],
) -> Baseline {
    let (cpu, never) = (Cpu::new(2), AtomicBool::new(false));
    let learning = Learning { classes, train, valid, seed: 1, cpu: &cpu };
    Baseline::fit(settings, &learning, &mut Watch::new(&never, &mut |_| Ok(()))).unwrap()
}

fn right(baseline: &Baseline, texts: &[(String, u32)]) -> f64 {
    let is_right = |(text, class): &&(String, u32)| {
        learning::largest(&baseline.logits(&[text])) == *class as usize
    };
    texts.iter().filter(is_right).count() as f64 / texts.len() as f64
}

fn trained() -> impl Iterator<Item = BaselineSettings> {
    ["nb-lr", "ngram-linear"].into_iter().filter_map(BaselineSettings::named)
}

#[test]
fn what_tells_classes_apart_is_learnt() {
    for settings in trained() {
        for (classes, ordered) in [(2, false), (5, false), (2, true)] {
            let texts = texts(classes, ordered);
            let baseline = fit(&settings, classes, &texts);
            assert_eq!(baseline.classes(), classes);
            assert_eq!(right(&baseline, &texts), 1.0, "{settings:?} {classes} {ordered}");
            assert_eq!(fit(&settings, classes, &texts), baseline, "the same each time");
        }
        // Words alone do not tell orders apart.
        let mut single = settings.clone();
        single.set("ngrams", 1.into()).unwrap();
        assert!(right(&fit(&single, 2, &texts(2, true)), &texts(2, true)) < 0.9);
    }
    let mut spelled = BaselineSettings::named("ngram-linear").unwrap();
    spelled.set("characters", serde_json::json!([2, 4])).unwrap();
    assert_eq!(right(&fit(&spelled, 3, &texts(3, false)), &texts(3, false)), 1.0);
}

/// Whether two texts share a word is learnt from other words than those that it is asked of. Both texts
/// together have the same words in either class.
#[test]
fn what_two_texts_share_is_learnt_of_any_words() {
    let pairs = |numbers: std::ops::Range<usize>| -> Vec<([String; 2], u32)> {
        let pair = |number: usize| {
            let [a, b, c] = ["a", "b", "c"].map(|kind| format!("{kind}{number}"));
            let first = format!("{a} {b}");
            [([first.clone(), c.clone()], 0), ([first, format!("{a} {c}")], 1)]
        };
        numbers.flat_map(pair).collect()
    };
    let (train, test) = (pairs(0..60), pairs(60..80));
    let labelled = |(texts, class): &([String; 2], u32)| {
        let texts = texts.iter().map(|text| text.clone().into()).collect();
        Labelled { texts, right: Right::Class(*class) }
    };
    let train: Vec<Labelled<'_>> = train.iter().map(labelled).collect();
    for settings in trained() {
        let baseline = fit_to(&settings, 2, &train, &[]);
        let is_right = |([first, second], class): &&([String; 2], u32)| {
            learning::largest(&baseline.logits(&[first, second])) == *class as usize
        };
        let right = test.iter().filter(is_right).count();
        assert!(right >= 38, "{settings:?}: {right} of {}", test.len());
    }
}

#[test]
fn the_majority_is_the_commonest_class_and_its_share() {
    let mut texts = texts(3, false);
    texts.retain(|(_, class)| *class != 1);
    texts.extend(vec![("more".to_owned(), 2); 120]);
    let settings = BaselineSettings::named("majority").unwrap();
    let baseline = fit_to(&settings, 3, &labelled(&texts, Right::Class), &[]);
    // 60, 0 and 180 examples, one more of each.
    let expected = [61.0_f32, 1.0, 181.0].map(|count| (count / 243.0).ln());
    for (found, expected) in baseline.logits(&["anything"]).iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

/// Of 180 texts a third has no label, a third label 0 and a third labels 0 and 1.
#[test]
fn the_majority_of_labels_is_the_odds_of_each() {
    let texts = texts(3, false);
    let settings = BaselineSettings::named("majority").unwrap();
    let right = |class| Right::Labels((0..class).collect());
    let baseline = fit_to(&settings, 3, &labelled(&texts, right), &[]);
    assert_eq!((baseline.form(), baseline.classes()), (Form::Labels, 3));
    // The examples with and without each label, one more of both.
    let expected = [121.0_f32 / 61.0, 61.0 / 121.0, 1.0 / 181.0];
    for (found, expected) in baseline.logits(&["anything"]).iter().zip(expected) {
        assert!((found - expected.ln()).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn a_folder_gives_the_same_answers_and_a_damaged_one_is_refused() {
    for name in BaselineSettings::NAMES {
        let mut settings = BaselineSettings::named(name).unwrap();
        if name == "ngram-linear" {
            settings.set("width", 20.into()).unwrap();
        }
        let baseline = fit(&settings, 3, &texts(3, false));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Baseline::load(folder.path()).unwrap(), None);
        for (name, content) in baseline.files() {
            fs_err::write(folder.path().join(name), content).unwrap();
        }
        assert_eq!(Baseline::load(folder.path()).unwrap(), Some(baseline));

        let path = folder.path().join(WEIGHTS_FILE);
        let bytes = fs_err::read(&path).unwrap();
        for place in (8..bytes.len()).step_by(bytes.len() / 50 + 1).chain([bytes.len() - 1]) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            fs_err::write(&path, damaged).unwrap();
            let error = Baseline::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(WEIGHTS_FILE), "{name}, byte {place}: {error}");
        }
        fs_err::write(&path, &bytes).unwrap();
        // Settings that the weights were not trained with.
        let json = fs_err::read_to_string(folder.path().join(BASELINE_FILE)).unwrap();
        let other = match name {
            "majority" => json.replace("majority", "nb-lr"),
            "lead" => json.replace("words", "sentences"),
            "crf" => json.replace("\"window\": 2", "\"window\": 1"),
            _ => json.replace("\"case\": false", "\"case\": true"),
        };
        assert_ne!(json, other);
        fs_err::write(folder.path().join(BASELINE_FILE), other).unwrap();
        let error = Baseline::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("its settings are others"), "{error}");
        fs_err::write(folder.path().join(BASELINE_FILE), "{}").unwrap();
        let error = Baseline::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains(BASELINE_FILE), "{error}");
    }
}

#[test]
fn the_majority_of_labels_and_of_tags_is_read_again() {
    let texts = texts(3, false);
    let settings = BaselineSettings::named("majority").unwrap();
    let read = |bytes: &[u8]| Baseline::from_bytes(&settings, bytes, Path::new("weights"));
    for form in [Form::Labels, Form::Tags] {
        let right = |class| match form {
            Form::Tags => Right::Tags(vec![class]),
            _ => Right::Labels(vec![class]),
        };
        let baseline = fit_to(&settings, 3, &labelled(&texts, right), &[]);
        assert_eq!(baseline.form(), form);
        assert_eq!(read(&baseline.to_bytes()).unwrap(), baseline);
        assert_eq!(baseline.logits(&["a", "b"]).len(), if form == Form::Tags { 6 } else { 3 });
    }
    // A word that has a tag beyond those of the shares.
    let mut tensors = Tensors::default();
    tensors.add("tag_shares", &[2], vec![-0.7, -0.7]);
    tensors.add_keys("words", &[7]);
    tensors.add("tags", &[1], vec![2.0]);
    tensors.add("counts", &[1], vec![1.0]);
    let error = read(&tensors.to_bytes(&line(&settings))).unwrap_err().to_string();
    assert!(error.contains("`tags` has a number that is no tag"), "{error}");
}

#[test]
fn settings_out_of_their_bounds_are_refused() {
    for (name, key, value) in [
        ("majority", "ngrams", serde_json::json!(2)),
        ("nb-lr", "ngrams", 0.into()),
        ("nb-lr", "ngrams", 17.into()),
        ("nb-lr", "cost", (-1).into()),
        ("nb-lr", "smoothing", 0.into()),
        ("nb-lr", "interpolation", 1.5.into()),
        ("nb-lr", "colour", "red".into()),
        ("ngram-linear", "characters", serde_json::json!([3, 2])),
        ("ngram-linear", "buckets", 0.into()),
        ("ngram-linear", "width", 5000.into()),
        ("ngram-linear", "learning_rate", 0.into()),
        ("crf", "window", 17.into()),
        ("crf", "window", (-1).into()),
        ("crf", "epochs", 0.into()),
        ("crf", "learning_rate", 0.into()),
        ("crf", "learning_rate", 11.into()),
        ("crf", "l2", (-0.1).into()),
        ("crf", "cutoff", 0.into()),
        ("crf", "ngrams", 2.into()),
        ("lead", "size", 0.into()),
        ("lead", "unit", "lines".into()),
        ("lead", "ngrams", 2.into()),
    ] {
        let mut settings = BaselineSettings::named(name).unwrap();
        let error = settings.set(key, value).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(key), "{error}");
        assert_eq!(settings, BaselineSettings::named(name).unwrap());
    }
    assert_eq!(BaselineSettings::named("oracle"), None);
}
