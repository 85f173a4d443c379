use std::ops::Range;

use longhand_model::Preset;
use longhand_text::TokenizerKind;
use longhand_text::corpus::table::Example;
use longhand_train::Watch;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::classes::logits_of;
use crate::classify::{Classify, Settings};
use crate::network::Network;
use crate::plain;
use crate::predictor::Trained;
use crate::score::evaluate;
use crate::tag::Tagging;
use crate::task::{At, Reading};
use crate::{Predictor, start};

/// Votes on three classes, drawn so that both parts know something of the right one.
fn votes(count: usize) -> Vec<Votes> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let one = |place: usize| {
        let class = place % 3;
        let mut row = |signal: f32, spread: f32| -> Vec<f32> {
            let hit = |k: usize| if k == class { signal } else { 0.0 };
            (0..3).map(|k| hit(k) + spread * noise()).collect()
        };
        Votes { network: row(0.5, 3.0), baseline: row(2.0, 12.0), class }
    };
    (0..count).map(one).collect()
}

#[test]
fn the_derivatives_are_those_of_the_loss() {
    let votes = votes(20);
    let at = [0.7, 0.3];
    let sum = Sum::at(&votes, at);
    let step = 1e-5;
    for part in 0..2 {
        let moved = |by: f64| {
            let mut place = at;
            place[part] += by;
            Sum::at(&votes, place)
        };
        let (above, below) = (moved(step), moved(-step));
        let slope = (above.loss - below.loss) / (2.0 * step);
        assert!((slope - sum.gradient[part]).abs() < 1e-6, "{slope} {}", sum.gradient[part]);
        for other in 0..2 {
            let bend = (above.gradient[other] - below.gradient[other]) / (2.0 * step);
            assert!((bend - sum.curvature[part][other]).abs() < 1e-6, "{bend}");
        }
    }
}

#[test]
fn the_exponents_are_at_the_minimum() {
    let votes = votes(300);
    let Exponents { network, baseline } = Exponents::fit(&votes);
    let sum = Sum::at(&votes, [network, baseline]);
    assert!(sum.gradient.iter().all(|slope| slope.abs() < 1e-6), "{:?}", sum.gradient);
    assert!(network > 0.1 && baseline > 0.02, "both know something: {network} {baseline}");
    for alone in [[network, 0.0], [0.0, baseline], Exponents::ALONE] {
        assert!(Sum::at(&votes, alone).loss > sum.loss + 1.0, "{alone:?}");
    }
}

#[test]
fn a_part_that_knows_nothing_hardly_counts() {
    let mut votes = votes(300);
    for (place, votes) in votes.iter_mut().enumerate() {
        votes.baseline = vec![(place % 7) as f32; 3];
    }
    // A constant added to each logit changes no probability.
    assert!(Exponents::fit(&votes).baseline.abs() < 1e-9);
    let none = Exponents::fit(&[]);
    assert_eq!([none.network, none.baseline], Exponents::ALONE);
}

#[test]
fn logits_without_bounds_stay_finite() {
    let vote = |class: usize| Votes { network: vec![1e4, -1e4], baseline: vec![-1e4, 1e4], class };
    let Exponents { network, baseline } = Exponents::fit(&[vote(0), vote(1)]);
    assert!(network.is_finite() && baseline.is_finite(), "{network} {baseline}");
}

/// Networks of different seeds for a task, with CRFs that are not zero, and their tokeniser.
fn networks<T: Task>(task: &T, preset: Preset, texts: &[&str]) -> (Vec<Model>, Tokenizer) {
    let lines = texts.iter().map(|text| Ok(format!("{text}\n")));
    let tokenizer = Tokenizer::train(TokenizerKind::Word, None, lines, &mut |_| {}).unwrap();
    let config = preset.config(tokenizer.vocab_size());
    let head = task.head(&T::Settings::default(), None);
    let config = task.body(start::with_head(config, head), &tokenizer);
    let one = |seed: u64| {
        let mut model = start::fresh(config.clone(), &tokenizer, seed).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let of_crf =
            |name: &str| ["transitions", "start", "end"].iter().any(|end| name.ends_with(end));
        for parameter in model.weights.iter_mut() {
            let (is_crf, is_head) = (of_crf(&parameter.name), parameter.name.starts_with("head"));
            let spread = if is_crf { 1.0 } else { 0.5 };
            if is_crf || is_head {
                parameter.data.iter_mut().for_each(|x| *x = random.random_range(-spread..spread));
            }
        }
        model
    };
    ((1..=3).map(one).collect(), tokenizer)
}

fn together(models: &[Model]) -> (Model, Option<Ensemble>) {
    let ensemble = Ensemble::of_members(&models[0], models[1..].to_vec());
    (models[0].clone(), ensemble)
}

/// What a predictor answers, and the loss of the answers to `examples`.
fn answered<T: crate::Listed>(
    task: &T,
    (model, ensemble): (Model, Option<Ensemble>),
    tokenizer: &Tokenizer,
    examples: &[T::Example],
) -> (Vec<Vec<T::Answer>>, f64) {
    let cpu = Arc::new(Cpu::new(1));
    let network = Network { model, tokenizer: tokenizer.clone(), ensemble };
    let known = Measured::encode(task, examples.to_vec(), tokenizer).unwrap();
    let (stop, mut unheard) = (std::sync::atomic::AtomicBool::new(false), |_| Ok(()));
    let answering = (&network.model, tokenizer, network.ensemble.as_ref());
    let watch = &mut Watch::new(&stop, &mut unheard);
    let loss = evaluate(task, answering, &known, &cpu, watch).unwrap().loss;
    let trained = Trained::Network(Box::new(network));
    let mut predictor = Predictor::checked(Path::new("it"), task.clone(), trained, cpu).unwrap();
    let at = At { name: "it", example: 1 };
    let all = predictor.predict(examples, at).unwrap();
    (all, loss)
}

const TEXTS: [&str; 4] = ["it is high there", "it is low", "low and dark it is there", "high"];

fn classifier() -> (Classify, Vec<Example>) {
    let example = |(text, label): (&&str, &str)| Example {
        label: Some(label.into()),
        text: (*text).into(),
        second: None,
    };
    let examples: Vec<Example> =
        TEXTS.iter().zip(["up", "down", "down", "up"]).map(example).collect();
    (Classify::learn(&Settings::default(), &examples, "texts").unwrap(), examples)
}

#[test]
fn the_joint_probabilities_are_the_normed_geometric_mean() {
    let (task, examples) = classifier();
    let (models, tokenizer) = networks(&task, Preset::StackedLstmClassifier, &TEXTS);
    let alone: Vec<_> = models
        .iter()
        .map(|model| answered(&task, (model.clone(), None), &tokenizer, &examples).0)
        .collect();
    let (joint, loss) = answered(&task, together(&models), &tokenizer, &examples);
    let mut nats = 0.0;
    for (place, joint) in joint.iter().enumerate() {
        let mean = |label: usize| {
            let logs = alone.iter().map(|all| f64::from(all[place][0].probabilities[label]).ln());
            (logs.sum::<f64>() / 3.0).exp()
        };
        let means = [mean(0), mean(1)];
        for label in 0..2 {
            let expected = means[label] / (means[0] + means[1]);
            let got = f64::from(joint[0].probabilities[label]);
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        let right = task.labels.id(examples[place].label.as_deref().unwrap()).unwrap() as usize;
        nats -= (means[right] / (means[0] + means[1])).ln() / 4.0;
    }
    assert!((loss - nats).abs() < 1e-5, "{loss} {nats}");
    assert_ne!(joint, alone[0]);
}

#[test]
fn the_loss_is_that_of_calibrated_probabilities() {
    let (mut task, examples) = classifier();
    let (models, tokenizer) = networks(&task, Preset::StackedLstmClassifier, &TEXTS);
    let plain = answered(&task, (models[0].clone(), None), &tokenizer, &examples).1;
    task.temperature = 2.5;
    for network in [(models[0].clone(), None), together(&models)] {
        let (answers, loss) = answered(&task, network, &tokenizer, &examples);
        let nats = examples.iter().zip(&answers).map(|(example, answers)| {
            let right = task.labels.id(example.label.as_deref().unwrap()).unwrap() as usize;
            -f64::from(answers[0].probabilities[right]).ln()
        });
        let expected = nats.sum::<f64>() / 4.0;
        assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
        assert!((loss - plain).abs() > 1e-4, "the temperature counts");
    }
}

#[test]
fn the_joint_logits_are_the_mean() {
    let (task, examples) = classifier();
    let (models, tokenizer) = networks(&task, Preset::StackedLstmClassifier, &TEXTS);
    let known = Measured::encode(&task, examples, &tokenizer).unwrap();
    let items: Vec<_> = known.items().collect();
    let cpu = Arc::new(Cpu::new(1));
    let read = |models: &[&Model]| {
        let mut all = Vec::new();
        let mut tapes = tapes(models.len(), &cpu);
        let take = |taken: Taken<'_, '_, Classify>| -> Result<(), TaskError> {
            all.extend_from_slice(taken.logits);
            Ok(())
        };
        in_batches(&task, (models, &mut tapes), &items, padding(&tokenizer), take).unwrap();
        all
    };
    let alone: Vec<Vec<f32>> = models.iter().map(|model| read(&[model])).collect();
    let joint = read(&models.iter().collect::<Vec<_>>());
    assert_eq!(joint.len(), 8);
    for (place, joint) in joint.into_iter().enumerate() {
        assert_eq!(joint, (alone[0][place] + alone[1][place] + alone[2][place]) / 3.0);
    }
}

#[test]
fn one_network_is_no_ensemble_and_an_example_is_the_same_alone_and_in_a_batch() {
    let (task, examples) = classifier();
    let (models, tokenizer) = networks(&task, Preset::StackedLstmClassifier, &TEXTS);
    assert!(Ensemble::of_members(&models[0], Vec::new()).is_none());
    let (joint, _) = answered(&task, together(&models), &tokenizer, &examples);
    for (example, joint) in examples.iter().zip(joint) {
        let (alone, _) =
            answered(&task, together(&models), &tokenizer, std::slice::from_ref(example));
        // A product of few rows may sum in another order.
        for (alone, joint) in alone[0].iter().zip(&joint) {
            assert_eq!(alone.label, joint.label);
            for (p, q) in alone.probabilities.iter().zip(&joint.probabilities) {
                assert!((p - q).abs() < 1e-6, "{alone:?} {joint:?}");
            }
        }
    }
}

/// Every sequence of three tags.
fn paths(tags: Range<u32>) -> impl Iterator<Item = [u32; 3]> {
    let each = move |a: u32, tags: Range<u32>| {
        tags.clone().flat_map(move |b| tags.clone().map(move |c| [a, b, c]))
    };
    tags.clone().flat_map(move |a| each(a, tags.clone()))
}

#[test]
fn paths_of_tags_have_the_mean_of_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.conll");
    fs_err::write(&path, "the DT\ncat NN\nsat VB\n\na DT\ndog NN\n").unwrap();
    let settings = crate::tag::Settings::default();
    let examples = Tagging::read(&settings, &path, &Reading::default()).unwrap().examples;
    let task = Tagging::learn(&settings, &examples, "it").unwrap();
    let (models, tokenizer) = networks(&task, Preset::Tagger, &["the cat sat", "a dog"]);
    let sentence = &examples[..1];
    let (joint, loss) = answered(&task, together(&models), &tokenizer, sentence);

    // The scores of all paths, by each network's logits and the scores of its CRF.
    let known = Measured::encode(&task, sentence.to_vec(), &tokenizer).unwrap();
    let items: Vec<_> = known.items().collect();
    let cpu = Arc::new(Cpu::new(1));
    let mut scores = vec![0.0; 27];
    for model in &models {
        let named = |end: &str| {
            let found = model.weights.iter().find(|parameter| parameter.name.ends_with(end));
            found.unwrap().data.clone()
        };
        let [transitions, start, end] = [".transitions", ".start", ".end"].map(named);
        let add = |taken: Taken<'_, '_, Tagging>| -> Result<(), TaskError> {
            for (path, score) in paths(0..3).zip(&mut scores) {
                let [a, b, c] = path.map(|tag| tag as usize);
                let logits = taken.logits[a] + taken.logits[3 + b] + taken.logits[6 + c];
                let pairs = transitions[3 * a + b] + transitions[3 * b + c];
                *score += f64::from(logits + pairs + start[a] + end[c]) / 3.0;
            }
            Ok(())
        };
        let mut tapes = tapes(1, &cpu);
        in_batches(&task, (&[model], &mut tapes), &items, padding(&tokenizer), add).unwrap();
    }
    let total: f64 = scores.iter().map(|score| score.exp()).sum();
    let best = (0..27).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
    let answer = &joint[0][0];
    let best = paths(0..3).nth(best).unwrap();
    assert_eq!(answer.tags, best);
    for (place, &tag) in best.iter().enumerate() {
        let through = paths(0..3).zip(&scores).filter(|(path, _)| path[place] == tag);
        let expected = through.map(|(_, score)| score.exp()).sum::<f64>() / total;
        let got = f64::from(answer.probabilities[place]);
        assert!((got - expected).abs() < 1e-5, "{got} {expected}");
    }
    let right = paths(0..3).zip(&scores).find(|(path, _)| path == &[0, 1, 2]).unwrap().1;
    // The loss is of a path, or of each of its words.
    let expected = total.ln() - right;
    let per = expected / loss;
    assert!((per - 1.0).abs() < 1e-4 || (per - 3.0).abs() < 1e-4, "{loss} {expected}");
}

/// A tagger of examples in columns, networks for it, and a conditional random field that learnt them.
fn tagger(
    settings: &crate::tag::Settings,
    lines: &str,
) -> (Tagging, Vec<crate::tag::Example>, Vec<Model>, Tokenizer, Baseline) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.conll");
    fs_err::write(&path, lines).unwrap();
    let examples = Tagging::read(settings, &path, &Reading::default()).unwrap().examples;
    let task = Tagging::learn(settings, &examples, "it").unwrap();
    let texts: Vec<String> =
        examples.iter().map(|example| Tagging::texts(example).join(" ")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (models, tokenizer) = networks(&task, Preset::Tagger, &texts);
    let field = BaselineSettings::named("crf").unwrap();
    let (cpu, never) = (Cpu::new(1), std::sync::atomic::AtomicBool::new(false));
    let train = plain::labelled(&task, &field, &examples).unwrap();
    let classes = task.counts(&[]).len();
    let learning =
        crate::baseline::Learning { classes, train: &train, valid: &[], seed: 1, cpu: &cpu };
    let baseline =
        Baseline::fit(&field, &learning, &mut Watch::new(&never, &mut |_| Ok(()))).unwrap();
    (task, examples, models, tokenizer, baseline)
}

const SENTENCES: &str = "the N DT\ncat N NN\nsat N VB\nthere N RB\non N IN\n\nsat N VB\n\n\
    a N DT\ndog N NN\nsat N VB\n\n";
const TWO_PREDICATES: &str = "Bush\tN\t_\tA0\t_\nnominated\tV\tx\tV\t_\nher\tN\t_\tA1\tA0\n\
    to\tP\t_\t_\t_\ngo\tV\tx\tA2\tV\n\nBush\tN\t_\tA0\nwent\tV\tx\tV\n";

/// Windows of two words, and predicates, are sequences of their own.
#[test]
fn each_word_of_each_sequence_gets_the_row_of_a_baseline_that_is_its_own() {
    let windows = crate::tag::Settings {
        longest: 2.try_into().unwrap(),
        feature_columns: vec!["1".into()],
        ..Default::default()
    };
    let roles = crate::tag::Settings {
        predicate_column: Some("2".into()),
        longest: 3.try_into().unwrap(),
        ..windows.clone()
    };
    for (settings, lines, sequences) in
        [(windows, SENTENCES, 3 + 1 + 2), (roles, TWO_PREDICATES, 2 * 2 + 1)]
    {
        let (task, examples, models, tokenizer, baseline) = tagger(&settings, lines);
        let known = Measured::encode(&task, examples, &tokenizer).unwrap();
        let items: Vec<_> = known.items().collect();
        assert_eq!(items.len(), sequences);
        let opinions = Opinions::of(&task, &baseline, known.by_examples()).unwrap();
        let width = baseline.classes();
        let mut found = vec![Vec::new(); items.len()];
        let take = |taken: Taken<'_, '_, Tagging>| -> Result<(), TaskError> {
            let Taken { logits, batch, .. } = taken;
            let before = logits.clone();
            let exponents = Exponents { network: 2.0, baseline: 0.5 };
            opinions.join(&task, exponents, logits, batch);
            for (row, (x, z)) in before.chunks(width).zip(logits.chunks(width)).enumerate() {
                let (t, place) = (row / batch.batch, batch.examples[row % batch.batch]);
                if t < items[place].label.tags.len() {
                    found[place].extend(x.iter().zip(z).map(|(x, z)| 2.0 * (z - 2.0 * x)));
                } else {
                    assert_eq!(x, z, "padding is left as it is");
                }
            }
            Ok(())
        };
        let mut tapes = tapes(1, &Arc::new(Cpu::new(1)));
        in_batches(&task, (&[&models[0]], &mut tapes), &items, padding(&tokenizer), take).unwrap();
        // The sequences of an example follow one another, and so do what is said of their words.
        let examples = known.examples.iter();
        let expected: Vec<f32> =
            examples.flat_map(|known| logits_of(&task, &baseline, &known.example)).collect();
        let found = found.concat();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
        let mut rows: Vec<&[f32]> = expected.chunks(width).collect();
        rows.dedup();
        assert!(rows.len() > expected.len() / width / 2, "rows differ, so that places count");
    }
}

#[test]
fn a_baseline_that_counts_alone_gives_its_own_tags() {
    let settings =
        crate::tag::Settings { longest: 2.try_into().unwrap(), ..crate::tag::Settings::default() };
    let (task, examples, models, tokenizer, baseline) = tagger(&settings, SENTENCES);
    let alone: Vec<Vec<u32>> = plain::predict(&task, &baseline, &examples)
        .unwrap()
        .into_iter()
        .map(|answers| answers[0].tags.clone())
        .collect();
    let exponents = Exponents { network: 0.0, baseline: 100.0 };
    let beside = Some(Beside { baseline, exponents });
    let ensemble = Some(Ensemble { members: models[1..].to_vec(), beside });
    let answers = answered(&task, (models[0].clone(), ensemble), &tokenizer, &examples).0;
    let joint = answers.iter().map(|answers| -> Vec<u32> {
        answers.iter().flat_map(|answer| answer.tags.clone()).collect()
    });
    assert_eq!(joint.collect::<Vec<_>>(), alone);
}

#[test]
fn the_exponent_beside_taggers_is_at_the_minimum() {
    let (task, examples, models, tokenizer, baseline) = tagger(&Default::default(), SENTENCES);
    let known = Measured::encode(&task, examples.clone(), &tokenizer).unwrap();
    let cpu = Arc::new(Cpu::new(1));
    let (first, ensemble) = together(&models);
    let fitted =
        Ensemble::fit(&task, baseline.clone(), (&first, &tokenizer, ensemble), &known, &cpu);
    let fitted = fitted.unwrap().exponents().unwrap();
    assert!(fitted.network == 1.0 && fitted.baseline > 0.3, "{fitted:?}");
    let words = examples.iter().map(|example| Tagging::texts(example).len()).sum::<usize>();
    let sum = |b: f64| {
        let exponents = Exponents { network: 1.0, baseline: b };
        let beside = Some(Beside { baseline: baseline.clone(), exponents });
        let ensemble = Some(Ensemble { members: together(&models).1.unwrap().members, beside });
        let loss = answered(&task, (first.clone(), ensemble), &tokenizer, &examples).1;
        words as f64 * loss + 0.5 * b * b
    };
    let least = sum(fitted.baseline);
    for change in [-fitted.baseline, -0.1, 0.1, 1.0] {
        let other = sum(fitted.baseline + change);
        assert!(other > least, "{fitted:?} {change}: {other} {least}");
    }
}

#[test]
fn a_baseline_of_another_form_is_refused_beside_a_network() {
    let (task, examples, models, tokenizer, baseline) = tagger(&Default::default(), SENTENCES);
    let exponents = Exponents { network: 1.0, baseline: 1.0 };
    let check = |model: &Model, tokenizer: &Tokenizer, baseline: Baseline| {
        let beside = Some(Beside { baseline, exponents });
        let ensemble = Some(Ensemble { members: Vec::new(), beside });
        let (model, tokenizer) = (model.clone(), tokenizer.clone());
        let network = Network { model, tokenizer, ensemble };
        network.check(Path::new("it")).map_err(|error| error.to_string())
    };
    assert!(check(&models[0], &tokenizer, baseline).is_ok());
    // As many classes of texts as there are tags.
    let settings = BaselineSettings::named("majority").unwrap();
    let (cpu, never) = (Cpu::new(1), std::sync::atomic::AtomicBool::new(false));
    let classes = task.counts(&[]).len();
    let learning =
        crate::baseline::Learning { classes, train: &[], valid: &[], seed: 1, cpu: &cpu };
    let of_texts =
        Baseline::fit(&settings, &learning, &mut Watch::new(&never, &mut |_| Ok(()))).unwrap();
    let error = check(&models[0], &tokenizer, of_texts.clone()).unwrap_err();
    assert!(error.contains("it gives each text a class, the model each word a tag"), "{error}");
    let known = Measured::encode(&task, examples, &tokenizer).unwrap();
    assert!(Opinions::of(&task, &of_texts, known.by_examples()).is_err());
}

#[test]
fn several_networks_are_explained_by_their_mean() {
    let (task, examples) = classifier();
    let (models, tokenizer) = networks(&task, Preset::StackedLstmClassifier, &TEXTS);
    let explained = |(model, ensemble): (Model, Option<Ensemble>)| {
        let network = Network { model, tokenizer: tokenizer.clone(), ensemble };
        let mut explainer = crate::Explainer::new(network, Arc::new(Cpu::new(1))).unwrap();
        let answer = crate::classify::Prediction { label: 1, probabilities: vec![0.5, 0.5] };
        explainer.explain(&task, &examples[0], &[answer]).unwrap().remove(0)
    };
    let alone: Vec<_> = models.iter().map(|model| explained((model.clone(), None))).collect();
    let joint = explained(together(&models));
    let mean = |of: &dyn Fn(&crate::Explanation) -> f64| alone.iter().map(of).sum::<f64>() / 3.0;
    for place in 0..joint.tokens.len() {
        let expected = mean(&|found| found.tokens[place].share);
        assert!((joint.tokens[place].share - expected).abs() < 1e-12);
    }
    assert!((joint.log_probability - mean(&|found| found.log_probability)).abs() < 1e-12);
    assert!((joint.long_memory - mean(&|found| found.long_memory)).abs() < 1e-12);
    let sum: f64 = joint.tokens.iter().map(|token| token.share).sum();
    let whole = joint.log_probability - joint.without_tokens;
    assert!((sum - whole - joint.completeness_error).abs() < 1e-12);
}

#[test]
fn a_folder_says_which_networks_answer_together_and_lacks_none() {
    let (task, _) = classifier();
    let (models, _) = networks(&task, Preset::StackedLstmClassifier, &TEXTS);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    assert_eq!(Ensemble::count(at).unwrap(), 1);
    assert!(Ensemble::load(at, &models[0]).unwrap().is_none());
    let (first, ensemble) = together(&models);
    let [(ENSEMBLE_FILE, json)] = &ensemble.unwrap().files()[..] else { panic!() };
    assert_eq!(String::from_utf8_lossy(json), "{\n  \"members\": 3\n}\n");
    fs_err::write(at.join(ENSEMBLE_FILE), json).unwrap();
    for (number, model) in (2..).zip(&models[1..]) {
        fs_err::create_dir(member_folder(at, number)).unwrap();
        model.save(&member_folder(at, number)).unwrap();
    }
    assert_eq!(Ensemble::count(at).unwrap(), 3);
    assert_eq!(Ensemble::load(at, &first).unwrap().unwrap().members().len(), 2);

    let refused = |words: &str| {
        let error = Ensemble::load(at, &first).err().unwrap().to_string();
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    };
    fs_err::remove_dir_all(member_folder(at, 3)).unwrap();
    refused("member-03 is missing, a network that answers together with");
    let config = Preset::LonghandNano.config(models[0].config().vocab_size);
    fs_err::create_dir(member_folder(at, 3)).unwrap();
    Model::new(config, 1).unwrap().save(&member_folder(at, 3)).unwrap();
    refused("holds a network of another configuration");
    for (json, words) in [
        ("{\"members\": 0}", "is not usable"),
        ("{\"members\": 65}", "it names 65 networks, more than 64"),
        ("{\"exponents\": {\"network\": 1, \"baseline\": 1}}", "it has exponents and no baseline"),
        ("{\"members\": 2, \"colour\": 1}", "is not usable"),
    ] {
        fs_err::write(at.join(ENSEMBLE_FILE), json).unwrap();
        refused(words);
    }
}
