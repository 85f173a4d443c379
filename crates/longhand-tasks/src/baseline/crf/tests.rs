use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use longhand_model::Cpu;

use super::super::{Baseline, BaselineSettings, Labelled, Right};
use super::*;

/// Sentences of words with a cell each. A word's tag is 0 where the next word's cell is X, and 1 and 2 in
/// turn elsewhere, beginning with 1 behind each tag 0.
fn sentences() -> Vec<(Vec<String>, Vec<u32>)> {
    let mut state = 7_u32;
    let mut draw = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut sentence = |length: u32| {
        let cells: Vec<bool> = (0..length).map(|_| draw(4) == 0).collect();
        let (mut texts, mut tags) = (Vec::new(), Vec::new());
        let mut last = 0;
        for place in 0..cells.len() {
            let cell = if cells[place] { "X" } else { "Y" };
            texts.push(format!("{}\t{cell}", ["the", "Old", "cat"][draw(3) as usize]));
            last = match (cells.get(place + 1), last) {
                (Some(true), _) => 0,
                (_, 1) => 2,
                _ => 1,
            };
            tags.push(last);
        }
        (texts, tags)
    };
    (0..120).map(|place| sentence(1 + place % 11)).collect()
}

fn labelled(sentences: &[(Vec<String>, Vec<u32>)]) -> Vec<Labelled<'_>> {
    let one = |(texts, tags): &'_ (Vec<String>, Vec<u32>)| {
        let texts = texts.iter().map(|text| text.clone().into()).collect();
        Labelled { texts, right: Right::Tags(tags.clone()) }
    };
    sentences.iter().map(one).collect()
}

fn fit(settings: &BaselineSettings, train: &[Labelled<'_>], valid: &[Labelled<'_>]) -> Baseline {
    let (cpu, never) = (Cpu::new(1), AtomicBool::new(false));
    let learning = Learning { classes: 3, train, valid, seed: 1, cpu: &cpu };
    Baseline::fit(settings, &learning, &mut Watch::new(&never, &mut |_| Ok(()))).unwrap()
}

/// The share of the words that get their right tags, and the mean of −ln p of these.
fn measured(baseline: &Baseline, examples: &[Labelled<'_>]) -> (f64, f64) {
    let (mut right, mut nats, mut count) = (0, 0.0, 0);
    for example in examples {
        let Right::Tags(tags) = &example.right else { continue };
        let logits = baseline.logits(&example.read());
        assert_eq!(logits.len(), 3 * tags.len());
        for (row, &tag) in logits.chunks(3).zip(tags) {
            right += usize::from(super::super::learning::largest(row) == tag as usize);
            nats -= f64::from(row[tag as usize]);
            count += 1;
        }
    }
    (right as f64 / count as f64, nats / count as f64)
}

#[test]
fn tags_that_follow_from_neighbours_and_from_one_another_are_learnt() {
    let all = sentences();
    let all = labelled(&all);
    let (train, test) = all.split_at(90);
    let settings = BaselineSettings::named("crf").unwrap();
    let baseline = fit(&settings, train, &[]);
    assert_eq!((baseline.form(), baseline.classes()), (super::super::Form::Tags, 3));
    assert_eq!(measured(&baseline, train).0, 1.0);
    let (right, nats) = measured(&baseline, test);
    assert!(right > 0.97 && nats < 0.2, "{right} {nats}");
    assert_eq!(fit(&settings, train, &[]), baseline, "the same each time");
    // By itself no word tells its tag.
    let majority = fit(&BaselineSettings::named("majority").unwrap(), train, &[]);
    assert!(measured(&majority, train).0 < 0.7);
    // The neighbour's cell is beyond a window of none.
    let mut alone = settings.clone();
    alone.set("window", 0.into()).unwrap();
    assert!(measured(&fit(&alone, train, &[]), train).0 < 0.97);
}

#[test]
fn the_held_out_sentences_choose_the_pass_and_a_strong_regulariser_leaves_little() {
    let all = sentences();
    let all = labelled(&all);
    let (train, valid) = all.split_at(90);
    let settings = |key: &str, value: serde_json::Value| {
        let mut settings = BaselineSettings::named("crf").unwrap();
        settings.set(key, value).unwrap();
        settings
    };
    // Wrong tags that are held out: each pass beyond the first one makes them less probable.
    let wrong: Vec<Labelled<'_>> = valid
        .iter()
        .map(|example| {
            let Right::Tags(tags) = &example.right else { panic!() };
            let tags = tags.iter().map(|tag| (tag + 1) % 3).collect();
            Labelled { texts: example.texts.clone(), right: Right::Tags(tags) }
        })
        .collect();
    let chosen = fit(&settings("epochs", 20.into()), train, &wrong);
    let first = fit(&settings("epochs", 1.into()), train, &[]);
    let last = fit(&settings("epochs", 20.into()), train, &[]);
    let weights = |baseline: &Baseline| {
        let Baseline::Crf(_, model) = baseline else { panic!() };
        model.weights.clone()
    };
    assert_eq!(weights(&chosen), weights(&first));
    assert!(weights(&chosen) != weights(&last));

    let size = |baseline: &Baseline| -> f32 {
        weights(baseline).features.iter().map(|weight| weight * weight).sum()
    };
    let strong = fit(&settings("l2", 900.0.into()), train, &[]);
    assert!(size(&strong) < 0.1 * size(&last), "{} {}", size(&strong), size(&last));
    // A feature that is seldom enough has no weights.
    let Baseline::Crf(_, common) = fit(&settings("cutoff", 40.into()), train, &[]) else {
        panic!()
    };
    let Baseline::Crf(_, every) = last else { panic!() };
    assert!(common.index.len() > 10 && common.index.len() < every.index.len());
    assert!(common.index.keys().iter().all(|&key| every.index.get(key).is_some()));
}

/// The probability of each tag of each word, summed over all paths.
fn enumerated(model: &Crf, words: &[&str]) -> Vec<f64> {
    let (count, tags) = (words.len(), model.tags());
    let mut rows: Vec<Vec<u32>> = Vec::new();
    model.templates.each(words, |keys| {
        rows.push(keys.iter().filter_map(|&key| model.index.get(key)).collect());
    });
    let Weights { features, transitions, start, end } = &model.weights;
    let emission = |word: usize, tag: usize| -> f64 {
        rows[word].iter().map(|&row| f64::from(features[row as usize * tags + tag])).sum()
    };
    let mut shares = vec![0.0; count * tags];
    let mut all = 0.0;
    for number in 0..tags.pow(count as u32) {
        let path: Vec<usize> = (0..count).map(|t| number / tags.pow(t as u32) % tags).collect();
        let mut score = f64::from(start[path[0]]) + f64::from(end[path[count - 1]]);
        score += (0..count).map(|t| emission(t, path[t])).sum::<f64>();
        score += path.windows(2).map(|p| f64::from(transitions[p[0] * tags + p[1]])).sum::<f64>();
        let weight = score.exp();
        all += weight;
        path.iter().enumerate().for_each(|(t, tag)| shares[t * tags + tag] += weight);
    }
    shares.iter().map(|share| share / all).collect()
}

#[test]
fn logits_are_the_logarithms_of_marginals() {
    let all = sentences();
    let mut settings = BaselineSettings::named("crf").unwrap();
    settings.set("epochs", 2.into()).unwrap();
    let baseline = fit(&settings, &labelled(&all), &[]);
    let Baseline::Crf(_, model) = &baseline else { panic!() };
    for words in [&["the\tX"][..], &["cat\tY", "Old\tX", "new\tZ", "the\tY", "cat\tX", "x"]] {
        let logits = baseline.logits(words);
        for row in logits.chunks(3) {
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{row:?}");
        }
        for (logit, share) in logits.iter().zip(enumerated(model, words)) {
            assert!((f64::from(logit.exp()) - share).abs() < 1e-5, "{logit} {share}");
        }
    }
    assert!(baseline.logits(&[]).is_empty());
}

#[test]
fn scores_of_any_size_give_finite_logits() {
    let mut model = Crf {
        templates: Templates { window: 0 },
        index: Index::default(),
        weights: Weights {
            features: Vec::new(),
            transitions: vec![0.0, 1e4, -1e4, 0.0],
            start: vec![1e4, -1e4],
            end: vec![0.0; 2],
        },
    };
    let logits = model.logits(&["a", "b"]);
    assert!(logits.iter().all(|x| x.is_finite() && *x <= 0.0), "{logits:?}");
    assert!(logits[0] > -1e-6 && (logits[1] - LEAST.ln()).abs() < 1e-4, "{logits:?}");
    // A feature of one word moves its tag.
    model.templates.each(&["b"], |keys| model.index = Index::of(keys[..1].to_vec()).unwrap());
    model.weights.features = vec![5e4, -5e4];
    let moved = model.logits(&["a", "b"]);
    assert!(logits[3] > logits[2] && moved[2] > moved[3], "{logits:?} {moved:?}");
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let all = sentences();
    let settings = BaselineSettings::named("crf").unwrap();
    let baseline = fit(&settings, &labelled(&all[..20]), &[]);
    let read = |bytes: &[u8]| Baseline::from_bytes(&settings, bytes, Path::new("weights"));
    assert_eq!(read(&baseline.to_bytes()).unwrap(), baseline);
    let Baseline::Crf(_, model) = &baseline else { panic!() };
    let features = model.index.len();
    let twice = {
        let mut keys = model.index.keys().to_vec();
        keys[1] = keys[0];
        keys
    };
    type Change = Box<dyn Fn(&mut Tensors)>;
    let cases: BTreeMap<&str, Change> = BTreeMap::from([
        (
            "`end` has another form",
            Box::new(|t: &mut Tensors| t.add("end", &[2], vec![0.0; 2])) as Change,
        ),
        (
            "`transitions` has another form",
            Box::new(|t: &mut Tensors| t.add("transitions", &[2, 3], vec![0.0; 6])),
        ),
        (
            "`weight` has another form",
            Box::new(move |t: &mut Tensors| t.add("weight", &[features, 1], vec![0.0; features])),
        ),
        (
            "`start` is not finite",
            Box::new(|t: &mut Tensors| t.add("start", &[3], vec![0.0, f32::NAN, 0.0])),
        ),
        (
            "`features` has a feature twice",
            Box::new(move |t: &mut Tensors| t.add_keys("features", &twice)),
        ),
    ]);
    for (words, change) in cases {
        let mut tensors = Tensors::default();
        model.write(&mut tensors);
        change(&mut tensors);
        let bytes = tensors.to_bytes(&super::super::line(&settings));
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    }
}
