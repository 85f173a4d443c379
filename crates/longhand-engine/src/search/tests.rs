use std::sync::Arc;

use longhand_model::{
    Config, Cpu, Format, Input, Mode, Preset, Sequence, Source, SourceInput, State,
};
use longhand_text::{Tokenizer, TokenizerKind};

use super::*;
use crate::engine::Engine;
use crate::rules::{Constraint, Rules, RulesError};
use crate::sampler::SamplerSettings;
use crate::testing;

mod beside;
mod drawing;

const PRESETS: [Preset; 5] =
    [Preset::LonghandNano, Preset::Xlstm, Preset::TanhLstm, Preset::Transformer, Preset::Lstm];

fn tape() -> Tape {
    Tape::new(Arc::new(Cpu::new(2)))
}

fn packed(config: Config, seed: u64) -> Model {
    let mut model = Model::new(config, seed).unwrap();
    model.pack();
    model
}

/// A model whose predictions are far from uniform.
fn decided(preset: Preset, vocab_size: usize, seed: u64) -> Model {
    let mut model = Model::new(preset.config(vocab_size), seed).unwrap();
    let names = model.head_parameters();
    for parameter in model.weights.iter_mut() {
        if names.contains(&parameter.name) {
            parameter.data.iter_mut().for_each(|x| *x *= 20.0);
        }
    }
    model.pack();
    model
}

/// One stream that is read token by token.
#[derive(Clone)]
struct Stream {
    state: State,
    source: Option<Arc<Source>>,
    /// ln p of every token that may come next.
    next: Vec<f64>,
    /// The attention to the source of whatever comes next.
    attention: Vec<f32>,
    /// The sum over the tokens that were written.
    covered: Vec<f32>,
    /// What each of those attends to most.
    alignment: Vec<u32>,
}

impl Stream {
    /// All but the last token in pieces, as a session reads them, and the last one as a step.
    fn after(model: &Model, tape: &mut Tape, prompt: &Prompt<'_>) -> Self {
        let read =
            |ids: &[u32]| model.read_source(tape, ids, &Sequence::new(ids.len(), 1)).unwrap();
        let source = prompt.source.map(read).map(Arc::new);
        let covered = vec![0.0; source.as_ref().map_or(0, |source| source.time())];
        let (next, attention, alignment) = (Vec::new(), Vec::new(), Vec::new());
        let mut stream =
            Self { state: model.state(1), source, next, attention, covered, alignment };
        let (&last, before) = prompt.prefix.split_last().unwrap();
        before.chunks(crate::session::CHUNK).for_each(|chunk| stream.read(model, tape, chunk));
        stream.read(model, tape, &[last]);
        stream
    }

    fn read(&mut self, model: &Model, tape: &mut Tape, ids: &[u32]) {
        let (sequence, mut logits) = (Sequence::new(ids.len(), 1), Vec::new());
        let mut pass = tape.pass(Mode::Read);
        let source = self.source.as_deref();
        let input = Input { ids, source: source.map(SourceInput::Kept), ..Input::default() };
        let x = model.forward_input(&mut pass, input, &sequence, &mut self.state).unwrap();
        if let Some(source) = source {
            let mut weights = Vec::new();
            model.source_weights(&pass, source, &mut weights).unwrap();
            self.attention = weights.split_off(weights.len() - source.time());
        }
        model.logits(&mut pass, x, ids.len() - 1..ids.len(), &mut logits);
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
        self.next = logits.iter().map(|&x| f64::from(x) - f64::from(most) - sum.ln()).collect();
    }

    /// Writes what comes next.
    fn cover(&mut self) {
        self.covered.iter_mut().zip(&self.attention).for_each(|(sum, weight)| *sum += weight);
        let most = self.attention.iter().copied().fold(0.0, f32::max);
        let first = self.attention.iter().position(|&weight| weight == most);
        self.alignment.extend(first.map(|first| first as u32));
    }
}

/// A hypothesis of the plain search.
#[derive(Clone)]
struct Way {
    stream: Stream,
    ids: Vec<u32>,
    total: f64,
}

/// Its ids, its end, its score, and what its tokens attend to.
type Answer = (Vec<u32>, Option<u32>, f64, Vec<u32>);

/// A hypothesis of n tokens that does not go on.
fn answer(settings: &SearchSettings, way: &Way, end: Option<u32>, n: usize) -> Answer {
    let seen = way.stream.covered.iter().map(|&sum| f64::from(sum).clamp(1e-10, 1.0).ln());
    let covered = f64::from(settings.coverage_penalty) * seen.sum::<f64>();
    let score = way.total / settings.length_penalty.divisor(n) + covered;
    let alignment = if settings.align { way.stream.alignment.clone() } else { Vec::new() };
    (way.ids.clone(), end, score, alignment)
}

/// Beam search for one prompt as it is defined, without any shortcut: nothing is dropped before
/// the patience or the maximum ends it.
fn plain(
    model: &Model,
    tape: &mut Tape,
    prompt: &Prompt<'_>,
    settings: &SearchSettings,
) -> Vec<Answer> {
    let root = Way { stream: Stream::after(model, tape, prompt), ids: Vec::new(), total: 0.0 };
    let maximum = settings.maximum.after(prompt.source.unwrap_or(prompt.prefix).len());
    let most = settings.beam / settings.groups;
    let mut groups = vec![(vec![root], 0); settings.groups];
    let (mut ended, mut cut): (Vec<Answer>, Vec<Answer>) = (Vec::new(), Vec::new());
    for n in 0..maximum {
        let mut chosen: Vec<u32> = Vec::new();
        for (live, count) in &mut groups {
            let mut candidates = Vec::new();
            for (parent, way) in live.iter().enumerate() {
                let allowed = |id: u32| match prompt.forced.get(n) {
                    Some(&forced) => id == forced,
                    None => {
                        let repeats = settings.no_repeat > 0 && {
                            let ids = [&way.ids[..], &[id]].concat();
                            let (size, grams) =
                                (settings.no_repeat, ids.windows(settings.no_repeat));
                            grams.clone().filter(|gram| ids.ends_with(gram)).count() > 1
                                && ids.len() > size
                        };
                        !repeats
                            && !settings.forbidden.contains(&id)
                            && (n >= settings.minimum || !settings.ends.contains(&id))
                    }
                };
                for (id, &value) in (0..).zip(&way.stream.next) {
                    if allowed(id) {
                        let again = chosen.iter().filter(|&&other| other == id).count();
                        let total = way.total + value;
                        candidates.push((
                            total - f64::from(settings.diversity) * again as f64,
                            total,
                            parent,
                            id,
                        ));
                    }
                }
                if !(0..way.stream.next.len() as u32).any(allowed) {
                    cut.push(answer(settings, way, None, n));
                }
            }
            candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut next = Vec::new();
            for (rank, &(_, total, parent, id)) in candidates.iter().enumerate() {
                if next.len() == most {
                    break;
                }
                let mut way = live[parent].clone();
                way.total = total;
                if prompt.forced.len() <= n && settings.ends.contains(&id) {
                    if rank < most {
                        *count += 1;
                        chosen.push(id);
                        let aligned = way.stream.alignment.clone();
                        way.stream.cover();
                        way.stream.alignment = aligned;
                        ended.push(answer(settings, &way, Some(id), n + 1));
                    }
                    continue;
                }
                way.ids.push(id);
                way.stream.cover();
                way.stream.read(model, tape, &[id]);
                chosen.push(id);
                next.push(way);
            }
            *live =
                if *count as f32 >= settings.patience * most as f32 { Vec::new() } else { next };
        }
    }
    let left = groups.into_iter().flat_map(|(live, _)| live);
    cut.extend(left.map(|way| answer(settings, &way, None, maximum)));
    for list in [&mut ended, &mut cut] {
        list.sort_by(|a, b| b.2.total_cmp(&a.2));
    }
    ended.into_iter().chain(cut).take(settings.hypotheses).collect()
}

#[track_caller]
fn same(what: &str, found: &[Hypothesis], expected: &[Answer]) {
    let texts = |all: &[Answer]| -> Vec<_> {
        all.iter().map(|(ids, end, _, aligned)| (ids.clone(), *end, aligned.clone())).collect()
    };
    let answer = |it: &Hypothesis| (it.ids.clone(), it.end, it.score, it.alignment.clone());
    let got: Vec<Answer> = found.iter().map(answer).collect();
    assert_eq!(texts(&got), texts(expected), "{what}");
    for (found, &(.., score, _)) in found.iter().zip(expected) {
        assert!(
            (found.score - score).abs() < 1e-5 * (1.0 + score.abs()),
            "{what}: {} for {score}",
            found.score
        );
        let sum: f64 = found.log_probabilities.iter().map(|&x| f64::from(x)).sum();
        assert!((sum - found.log_probability).abs() < 1e-9);
        assert_eq!(
            found.log_probabilities.len(),
            found.ids.len() + usize::from(found.is_finished())
        );
    }
}

/// Prompts of different lengths, some with the same beginning.
fn prefixes(vocab_size: u32, lengths: &[usize]) -> Vec<Vec<u32>> {
    let text = |(i, &length): (usize, &usize)| {
        let shared = if i % 2 == 0 { 0 } else { i as u32 };
        (0..length as u32)
            .map(|t| (t * t + 3 * t + if t < 260 { 0 } else { shared }) % vocab_size)
            .collect()
    };
    lengths.iter().enumerate().map(text).collect()
}

fn prompts(prefixes: &[Vec<u32>]) -> Vec<Prompt<'_>> {
    prefixes.iter().map(|prefix| Prompt { prefix, ..Prompt::default() }).collect()
}

/// Up to 7 tokens, with three ends.
fn short() -> SearchSettings {
    let maximum = MostTokens { tokens: 7, per_token: 0.0 };
    SearchSettings { maximum, ends: vec![3, 9, 11], ..SearchSettings::default() }
}

#[test]
fn a_beam_of_one_is_greedy() {
    for preset in PRESETS {
        let (model, mut tape) = (decided(preset, 33, 1), tape());
        let prefixes = prefixes(33, &[1, 2, 5, 17, 258, 300]);
        let maximum = MostTokens { tokens: 12, per_token: 0.0 };
        let length_penalty = LengthPenalty::Gnmt(1.0);
        let settings =
            SearchSettings { maximum, length_penalty, ..SearchSettings { beam: 1, ..short() } };
        let found = search(&model, &mut tape, &prompts(&prefixes), &settings).unwrap();
        for (prefix, found) in prefixes.iter().zip(&found) {
            let mut stream =
                Stream::after(&model, &mut tape, &Prompt { prefix, ..Prompt::default() });
            let (mut ids, mut end) = (Vec::new(), None);
            while ids.len() < 12 && end.is_none() {
                let best = (0..33)
                    .max_by(|&a, &b| stream.next[a].total_cmp(&stream.next[b]).then(b.cmp(&a)))
                    .unwrap() as u32;
                if settings.ends.contains(&best) {
                    end = Some(best);
                } else {
                    ids.push(best);
                    stream.read(&model, &mut tape, &[best]);
                }
            }
            assert_eq!((&found[0].ids, found[0].end), (&ids, end), "{preset}");
        }
    }
}

#[test]
fn a_search_follows_its_definition() {
    let (none, gnmt, power) =
        (LengthPenalty::None, LengthPenalty::Gnmt(0.6), LengthPenalty::Power(1.0));
    let cases = [
        SearchSettings { hypotheses: 5, ..short() },
        SearchSettings { length_penalty: gnmt, hypotheses: 3, ..short() },
        SearchSettings { length_penalty: power, patience: f32::INFINITY, ..short() },
        SearchSettings { length_penalty: power, patience: f32::INFINITY, hypotheses: 4, ..short() },
        SearchSettings { length_penalty: gnmt, patience: 2.0, beam: 3, ..short() },
        SearchSettings { beam: 6, hypotheses: 6, groups: 3, diversity: 0.5, ..short() },
        SearchSettings {
            beam: 6,
            groups: 2,
            diversity: 2.0,
            patience: f32::INFINITY,
            length_penalty: power,
            ..short()
        },
        SearchSettings {
            beam: 4,
            groups: 4,
            diversity: 1.0,
            hypotheses: 4,
            no_repeat: 1,
            ..short()
        },
        SearchSettings {
            no_repeat: 2,
            minimum: 4,
            forbidden: vec![0, 1, 30],
            hypotheses: 5,
            ..short()
        },
        SearchSettings {
            no_repeat: 3,
            ends: Vec::new(),
            length_penalty: none,
            hypotheses: 2,
            ..short()
        },
        SearchSettings { beam: 40, hypotheses: 40, rows: 3, ..short() },
    ];
    for (c, settings) in cases.iter().enumerate() {
        let preset = PRESETS[c % PRESETS.len()];
        let (model, mut tape) = (decided(preset, 13, 2), tape());
        let prefixes = prefixes(13, &[1, 6, 3, 30]);
        let mut prompts = prompts(&prefixes);
        (prompts[1].forced, prompts[2].forced) = (&[3, 5], &[12]);
        let settings = SearchSettings {
            forbidden: settings.forbidden.iter().copied().filter(|&id| id < 13).collect(),
            ..settings.clone()
        };
        let found = search(&model, &mut tape, &prompts, &settings).unwrap();
        for (prompt, found) in prompts.iter().zip(&found) {
            let expected = plain(&model, &mut tape, prompt, &settings);
            same(&format!("case {c}, {preset}"), found, &expected);
        }
    }
}

/// Every sequence of a tiny vocabulary, up to a length, with its score.
fn all(model: &Model, tape: &mut Tape, prefix: &[u32], settings: &SearchSettings) -> Vec<Answer> {
    let (maximum, end) = (settings.maximum.tokens, settings.ends[0]);
    let mut ways = vec![Way {
        stream: Stream::after(model, tape, &Prompt { prefix, ..Prompt::default() }),
        ids: Vec::new(),
        total: 0.0,
    }];
    let mut ended = Vec::new();
    for n in 0..maximum {
        let mut next = Vec::new();
        for way in ways {
            for id in 0..4 {
                let mut way = way.clone();
                way.total += way.stream.next[id as usize];
                if id == end {
                    ended.push(answer(settings, &way, Some(id), n + 1));
                } else {
                    way.ids.push(id);
                    way.stream.read(model, tape, &[id]);
                    next.push(way);
                }
            }
        }
        ways = next;
    }
    ended.sort_by(|a, b| b.2.total_cmp(&a.2));
    ended.truncate(settings.hypotheses);
    ended
}

#[test]
fn a_wide_beam_finds_what_searching_all_sequences_does() {
    for preset in PRESETS {
        let (model, mut tape) = (decided(preset, 4, 5), tape());
        for length_penalty in
            [LengthPenalty::None, LengthPenalty::Gnmt(1.0), LengthPenalty::Power(1.0)]
        {
            let settings = SearchSettings {
                beam: 256,
                hypotheses: 20,
                length_penalty,
                maximum: MostTokens { tokens: 4, per_token: 0.0 },
                ends: vec![2],
                ..SearchSettings::default()
            };
            let prefix = [1, 3, 0];
            let prompt = Prompt { prefix: &prefix, ..Prompt::default() };
            let found = search(&model, &mut tape, &[prompt], &settings).unwrap();
            same(&format!("{preset}"), &found[0], &all(&model, &mut tape, &prefix, &settings));
        }
    }
}

/// Prompts leave and join, are read side by side and share their beginnings; none changes a bit
/// of another one's result.
#[test]
fn a_result_does_not_depend_on_the_other_prompts() {
    for (p, preset) in PRESETS.into_iter().enumerate() {
        for format in [Format::F32, Format::Int8] {
            let mut config = preset.config(40);
            config.weights = format;
            let (model, mut tape) = (packed(config, 3), tape());
            let lengths =
                [1, 2, 3, 4, 6, 7, 8, 9, 9, 12, 1, 255, 256, 257, 258, 300, 513, 514, 600, 600];
            let prefixes = prefixes(40, &lengths);
            let prompts = prompts(&prefixes);
            let ends = (10..20).collect();
            let maximum = MostTokens { tokens: 4, per_token: 0.05 };
            let settings = SearchSettings {
                hypotheses: 3,
                ends,
                maximum,
                rows: [30, 7, 500][p % 3],
                ..short()
            };
            let found = search(&model, &mut tape, &prompts, &settings).unwrap();
            for (prompt, found) in prompts.iter().zip(&found) {
                let alone = search(&model, &mut tape, &[*prompt], &settings).unwrap();
                assert!(alone[0] == *found, "{preset} {format:?} {}", prompt.prefix.len());
            }
        }
    }
}

#[test]
fn forced_tokens_have_the_log_probabilities_that_the_search_reports() {
    for preset in PRESETS {
        let (model, mut tape) = (decided(preset, 33, 4), tape());
        let prefixes = prefixes(33, &[4, 1, 9, 270]);
        let settings = SearchSettings { hypotheses: 5, ..short() };
        let found = search(&model, &mut tape, &prompts(&prefixes), &settings).unwrap();
        let mut expected = Vec::new();
        let mut texts = Vec::new();
        for (prefix, hypotheses) in prefixes.iter().zip(&found) {
            for hypothesis in hypotheses {
                texts.push((prefix, [&hypothesis.ids[..], hypothesis.end.as_slice()].concat()));
                expected.push(hypothesis.log_probabilities.clone());
            }
        }
        texts.push((&prefixes[0], Vec::new()));
        expected.push(Vec::new());
        let prompt =
            |(prefix, forced): &(&'_ Vec<u32>, Vec<u32>)| (prefix.to_vec(), forced.clone());
        let texts: Vec<_> = texts.iter().map(prompt).collect();
        let prompts: Vec<Prompt<'_>> =
            texts.iter().map(|(prefix, forced)| Prompt { source: None, prefix, forced }).collect();
        assert!(log_probabilities(&model, &mut tape, &prompts).unwrap() == expected, "{preset}");
    }
}

/// Sources of different lengths, some longer than an encoder's window.
fn sources(vocab_size: u32, count: usize) -> Vec<Vec<u32>> {
    let text = |i: usize| {
        let length = [7, 1, 12, 3, 90, 5, 2, 8, 71][i % 9] as u32;
        (0..length).map(|t| (t * t + 5 * t + i as u32) % vocab_size).collect()
    };
    (0..count).map(text).collect()
}

fn with_sources<'a>(sources: &'a [Vec<u32>], prefixes: &'a [Vec<u32>]) -> Vec<Prompt<'a>> {
    let pairs = sources.iter().zip(prefixes);
    pairs.map(|(source, prefix)| Prompt { source: Some(source), prefix, forced: &[] }).collect()
}

#[test]
fn a_search_from_sources_follows_its_definition() {
    let gnmt = LengthPenalty::Gnmt(0.6);
    let cases = [
        SearchSettings { align: true, hypotheses: 5, ..short() },
        SearchSettings { coverage_penalty: 0.3, length_penalty: gnmt, hypotheses: 3, ..short() },
        SearchSettings {
            coverage_penalty: 2.0,
            align: true,
            patience: f32::INFINITY,
            rows: 10,
            ..short()
        },
        SearchSettings { beam: 4, groups: 2, diversity: 1.0, hypotheses: 4, rows: 8, ..short() },
        SearchSettings { maximum: MostTokens { tokens: 1, per_token: 0.3 }, ..short() },
    ];
    let (model, mut tape) = (decided(Preset::EncoderDecoderNano, 13, 2), tape());
    let (sources, prefixes) = (sources(13, 6), prefixes(13, &[1, 1, 4, 1, 9, 2]));
    let mut prompts = with_sources(&sources, &prefixes);
    prompts[3].forced = &[3, 5];
    for (c, settings) in cases.iter().enumerate() {
        let found = search(&model, &mut tape, &prompts, settings).unwrap();
        for (prompt, found) in prompts.iter().zip(&found) {
            let expected = plain(&model, &mut tape, prompt, settings);
            same(&format!("case {c}"), found, &expected);
        }
    }
}

#[test]
fn a_result_does_not_depend_on_the_sources_of_other_prompts() {
    for format in [Format::F32, Format::Int8] {
        let mut config = Preset::EncoderDecoderNano.config(40);
        config.weights = format;
        let (model, mut tape) = (packed(config, 3), tape());
        let (sources, prefixes) = (sources(40, 23), prefixes(40, &[1, 1, 3, 1, 2].repeat(5)));
        let prompts = with_sources(&sources, &prefixes);
        let ends: Vec<u32> = (10..20).collect();
        for rows in [20, 500] {
            let settings = SearchSettings {
                hypotheses: 3,
                ends: ends.clone(),
                align: true,
                coverage_penalty: 0.1,
                rows,
                ..short()
            };
            let found = search(&model, &mut tape, &prompts, &settings).unwrap();
            let mut expected = Vec::new();
            for (prompt, found) in prompts.iter().zip(&found) {
                let alone = search(&model, &mut tape, &[*prompt], &settings).unwrap();
                assert!(alone[0] == *found, "{format:?} {:?}", prompt.source.map(<[u32]>::len));
                let best = &found[0];
                let forced = [&best.ids[..], best.end.as_slice()].concat();
                let forced = Prompt { forced: &forced, ..*prompt };
                let again = log_probabilities(&model, &mut tape, &[forced]).unwrap();
                assert!(again[0] == best.log_probabilities);
                expected.push(again[0].clone());
            }
            assert_eq!(expected.len(), 23);
        }
    }
}

#[test]
fn prompts_and_models_without_their_sources_are_named() {
    let (model, mut tape) = (packed(Preset::EncoderDecoderNano.config(20), 1), tape());
    let good = Prompt { source: Some(&[1]), prefix: &[1], forced: &[] };
    let cases: [(Prompt<'_>, &str); 3] = [
        (Prompt { source: None, ..good }, "prompt 1 has no source"),
        (Prompt { source: Some(&[]), ..good }, "prompt 1 has no source"),
        (Prompt { source: Some(&[20]), ..good }, "token id 20"),
    ];
    for (prompt, what) in cases {
        let found = search(&model, &mut tape, &[good, prompt], &SearchSettings::default());
        let error = found.unwrap_err().to_string();
        assert!(error.contains(what) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_session_is_continued_as_its_text_is() {
    let engine = testing::engine(Preset::LonghandNano, 1);
    let mut reader = engine.reader(&testing::cpu());
    let text = testing::ids(50, 7);
    let mut session = engine.session(SamplerSettings::default()).unwrap();
    let settings = SearchSettings { ends: (0..100).collect(), hypotheses: 5, ..short() };
    assert!(matches!(session.search(&mut reader, &settings), Err(EngineError::NothingRead)));
    session.read(&mut reader, &text[..49]).unwrap();
    session.step(&mut reader, text[49]).unwrap();
    let prompt = Prompt { prefix: &text, ..Prompt::default() };
    let expected = reader.search(&[prompt], &settings).unwrap();
    assert!(session.search(&mut reader, &settings).unwrap() == expected[0]);
    assert_eq!(session.position(), 50);
    let forced = Prompt { forced: &expected[0][0].ids, ..prompt };
    let again = reader.log_probabilities(&[forced]).unwrap();
    assert!(again[0][..] == expected[0][0].log_probabilities[..again[0].len()]);
}

#[test]
fn a_hypothesis_without_any_token_left_is_cut() {
    let (model, mut tape) = (decided(Preset::Lstm, 4, 1), tape());
    let prompt = Prompt { prefix: &[1], ..Prompt::default() };
    let settings =
        SearchSettings { no_repeat: 1, beam: 2, hypotheses: 2, ..SearchSettings::default() };
    let found = search(&model, &mut tape, &[prompt], &settings).unwrap();
    for hypothesis in &found[0] {
        let mut ids = hypothesis.ids.clone();
        ids.sort_unstable();
        assert_eq!((ids, hypothesis.end), (vec![0, 1, 2, 3], None));
    }
    let nothing = SearchSettings { forbidden: vec![0, 1, 2, 3], ..settings };
    let found = search(&model, &mut tape, &[prompt], &nothing).unwrap();
    assert_eq!((found[0].len(), found[0][0].ids.len(), found[0][0].score), (1, 0, 0.0));
    assert!(search(&model, &mut tape, &[], &nothing).unwrap().is_empty());
}

#[test]
fn bad_settings_and_prompts_are_named() {
    let (model, mut tape) = (packed(Preset::Lstm.config(20), 1), tape());
    let good = Prompt { prefix: &[1], ..Prompt::default() };
    let of = |edit: &dyn Fn(&mut SearchSettings)| {
        let mut settings = SearchSettings::default();
        edit(&mut settings);
        settings
    };
    let cases: [(SearchSettings, &str); 14] = [
        (of(&|it| it.beam = 0), "the beam is 0"),
        (of(&|it| it.hypotheses = 6), "hypotheses is 6"),
        (of(&|it| it.length_penalty = LengthPenalty::Gnmt(-1.0)), "length penalty is -1"),
        (of(&|it| it.length_penalty = LengthPenalty::Power(f32::NAN)), "length penalty is NaN"),
        (of(&|it| it.coverage_penalty = -0.5), "coverage penalty is -0.5"),
        (of(&|it| it.groups = 2), "groups is 2"),
        (of(&|it| it.diversity = 0.5), "diversity is 0.5"),
        (of(&|it| (it.groups, it.diversity) = (5, f32::INFINITY)), "diversity is inf"),
        (of(&|it| it.maximum.tokens = 0), "maximum is 0"),
        (of(&|it| it.maximum.per_token = -1.0), "each token is -1"),
        (of(&|it| it.minimum = 256), "minimum is 256"),
        (of(&|it| it.patience = 0.0), "patience is 0"),
        (of(&|it| it.ends = vec![19, 20]), "an end token is 20"),
        (of(&|it| it.rows = 0), "rows is 0"),
    ];
    for (settings, what) in cases {
        let error = search(&model, &mut tape, &[good], &settings).unwrap_err().to_string();
        assert!(error.contains(what) && error.lines().count() == 1, "{error}");
    }
    let settings = SearchSettings {
        maximum: MostTokens { tokens: 2, per_token: 0.0 },
        ..SearchSettings::default()
    };
    let cases: [(Prompt<'_>, &str); 4] = [
        (Prompt::default(), "prompt 1 is empty"),
        (Prompt { forced: &[1, 2, 3], ..good }, "3 tokens are forced on prompt 1"),
        (Prompt { forced: &[20], ..good }, "token id 20"),
        (Prompt { source: Some(&[1]), ..good }, "the model has no encoder"),
    ];
    for (prompt, what) in cases {
        let error = search(&model, &mut tape, &[good, prompt], &settings).unwrap_err().to_string();
        assert!(error.contains(what) && error.lines().count() == 1, "{error}");
    }
    let classifier = Model::new(Preset::StackedLstmClassifier.config(20), 1).unwrap();
    let error = search(&classifier, &mut tape, &[good], &settings).unwrap_err();
    assert_eq!(error.to_string(), "the model is a classifier, not a language model");
}

#[test]
fn logits_that_are_no_numbers_are_named() {
    let mut model = Model::new(Preset::Lstm.config(20), 1).unwrap();
    model.weights.iter_mut().next().unwrap().data.fill(f32::NAN);
    let prompt = Prompt { prefix: &[1], ..Prompt::default() };
    let error = search(&model, &mut tape(), &[prompt], &SearchSettings::default()).unwrap_err();
    assert!(matches!(error, EngineError::Sampler(_)), "{error}");
}

/// A model of random weights whose tokens are the words of a text.
fn words(text: &str, seed: u64) -> Arc<Engine> {
    let texts = std::iter::repeat_with(|| Ok(text.to_owned())).take(3);
    let tokenizer = Tokenizer::train(TokenizerKind::Word, None, texts, &mut |_| {}).unwrap();
    let model = Model::new(Preset::LonghandNano.config(tokenizer.vocab_size()), seed).unwrap();
    Engine::new(model, tokenizer).unwrap()
}

/// Settings with the constraint of a regular expression.
fn following(engine: &Arc<Engine>, regex: &str, beam: usize) -> SearchSettings {
    let rules = Arc::new(Rules::regex(regex).unwrap());
    let ends: Vec<u32> = engine.tokenizer().document_end_id().into_iter().collect();
    let constraint = Constraint::new(&rules, engine.vocabulary().unwrap(), &ends).unwrap();
    let maximum = MostTokens { tokens: 9, per_token: 0.0 };
    SearchSettings {
        beam,
        maximum,
        ends,
        constraint: Some(constraint),
        ..SearchSettings::default()
    }
}

/// Ten of the eleven words that may come first have no word behind them, so that among the candidates
/// that a narrow beam looks for there may be dead ends alone.
#[test]
fn a_beam_looks_past_dead_ends() {
    for seed in 0..6 {
        let engine = words("ba be bi bo bu da de di do du a cat", seed);
        let mut reader = engine.reader(&testing::cpu());
        let mut session = engine.session(SamplerSettings::default()).unwrap();
        session.read_text(&mut reader, "a cat").unwrap();
        let prefix = engine.tokenizer().encode("a cat").unwrap();
        let prompt = Prompt { prefix: &prefix, ..Prompt::default() };
        for beam in [1, 2, 3] {
            let settings = following(&engine, "([bd][aeiou] zip|a cat)", beam);
            let found = session.search(&mut reader, &settings).unwrap();
            let text = engine.tokenizer().decode(&found[0].ids).unwrap();
            assert_eq!((text.trim(), found[0].matches), ("a cat", Some(true)), "{seed} {beam}");
            // The same from a pass of the search itself, and with the probabilities of the model.
            let again = reader.search(&[prompt], &settings).unwrap();
            assert_eq!(again[0][0].ids, found[0].ids);
            let forced = [&found[0].ids[..], found[0].end.as_slice()].concat();
            let forced = Prompt { forced: &forced, ..prompt };
            let expected = &reader.log_probabilities(&[forced]).unwrap()[0];
            for found in [&found[0], &again[0][0]] {
                assert_eq!(found.log_probabilities.len(), expected.len());
                let pairs = found.log_probabilities.iter().zip(expected);
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4), "{seed} {beam}");
            }
        }
    }
}

#[test]
fn a_search_that_ends_without_a_hypothesis_names_its_prompt() {
    let engine = words("ba be bi bo bu da de di do du a cat", 1);
    let mut reader = engine.reader(&testing::cpu());
    let mut session = engine.session(SamplerSettings::default()).unwrap();
    session.read_text(&mut reader, "a cat").unwrap();
    let prefix = engine.tokenizer().encode("a cat").unwrap();
    let prompt = Prompt { prefix: &prefix, ..Prompt::default() };
    // The second one goes on with ` do`, and comes to its end there.
    for (regex, beam) in [("[bd][aeiou] zip", 1), ("[bd][aeiou] dog", 4)] {
        let settings = following(&engine, regex, beam);
        let error = session.search(&mut reader, &settings).unwrap_err();
        assert!(matches!(error, EngineError::Rules(RulesError::DeadEnd { .. })), "{error}");
        let error = reader.search(&[prompt], &settings).unwrap_err().to_string();
        let told =
            "prompt 0 has no hypothesis that follows the rules: no token of the model can go on";
        assert!(error.starts_with(told), "{error}");
        // A token that is forced on the hypothesis against the rules.
        let cat = [engine.tokenizer().id("cat").unwrap()];
        let error = reader.search(&[Prompt { forced: &cat, ..prompt }], &settings).unwrap_err();
        assert!(error.to_string().contains("the rules forbid the token"), "{error}");
    }
}

#[test]
fn a_match_that_could_only_go_on_to_a_dead_end_is_taken_as_it_is() {
    let engine = words("do a cat", 1);
    let mut reader = engine.reader(&testing::cpu());
    let mut session = engine.session(SamplerSettings::default()).unwrap();
    session.read_text(&mut reader, "a cat").unwrap();
    let rules = Arc::new(Rules::regex("a cat( dog)?").unwrap());
    let constraint = Constraint::new(&rules, engine.vocabulary().unwrap(), &[]).unwrap();
    let settings = SearchSettings { constraint: Some(constraint), beam: 2, ..short() };
    let settings = SearchSettings { ends: Vec::new(), ..settings };
    let found = session.search(&mut reader, &settings).unwrap();
    let text = engine.tokenizer().decode(&found[0].ids).unwrap();
    assert_eq!((text.trim(), found[0].matches), ("a cat", Some(true)));
}
