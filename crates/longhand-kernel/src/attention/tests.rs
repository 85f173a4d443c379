use super::reference::Carried;
use super::*;
use crate::call::Call;
use crate::cpu::Cpu;
use crate::level::Level;
use crate::precision::Precision;
use crate::sequence::Sequence;
use crate::testing::{check_gradient, close, levels, values, wide};

fn sizes(heads: usize, groups: usize, width: usize, window: usize) -> Sizes {
    let rotary = width.is_multiple_of(2).then(Rotary::default);
    let cache = Precision::F32;
    Sizes { heads, groups, width, mask: Mask::Window(window), rotary, cache }
}

fn full(sizes: Sizes) -> Sizes {
    Sizes { mask: Mask::Full, ..sizes }
}

/// The same with a cache in bf16.
fn short(sizes: Sizes) -> Sizes {
    Sizes { cache: Precision::Bf16, ..sizes }
}

/// Lends an owned state in the format of the fast form.
fn lend(sizes: Sizes, carried: &mut Carried<f32>, to: impl FnOnce(State)) {
    let Carried { keys, values, position, filled } = carried;
    let batch = position.len();
    let mut words = [&*keys, &*values].map(|values| {
        let mut words = vec![f32::NAN; batch * sizes.ring_len()];
        cache::encode(Level::detect(), sizes.cache, sizes.width, values, &mut words);
        words
    });
    let [held_keys, held_values] = &mut words;
    to(State { keys: held_keys, values: held_values, rows: None, position, filled });
    for (words, values) in words.iter().zip([keys, values]) {
        cache::decode(Level::detect(), sizes.cache, sizes.width, words, values);
    }
}

fn widen(carried: &Carried<f32>) -> Carried<f64> {
    Carried {
        keys: wide(&carried.keys),
        values: wide(&carried.values),
        position: carried.position.clone(),
        filled: carried.filled.clone(),
    }
}

/// A state somewhere inside a stream, its rings full of values.
fn somewhere(sizes: Sizes, batch: usize, seed: u64) -> Carried<f32> {
    let window = sizes.window().max(1) as u64;
    let held = |seed: u64| -> Vec<f32> {
        values(batch * sizes.ring_values(), seed).iter().map(|&x| sizes.cache.round(x)).collect()
    };
    Carried {
        keys: held(seed),
        values: held(seed + 1),
        position: (0..batch as u64).map(|b| 1_000_003 + 5 * b).collect(),
        filled: (0..batch as u64).map(|b| (window - (b + seed) % window) as u32).collect(),
    }
}

/// y and what forward saved; the state is advanced.
fn read(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[f32],
    carried: Option<&mut Carried<f32>>,
) -> (Vec<f32>, Vec<f32>) {
    let mut y = vec![f32::NAN; sequence.rows() * sizes.heads * sizes.width];
    let mut saved = vec![f32::NAN; saved_len(sizes, sequence)];
    let call = Call::new(cpu, sizes, sequence);
    match carried {
        Some(carried) => lend(sizes, carried, |state| {
            forward(call, qkv, Some(state), &mut y, &mut saved);
        }),
        None => forward(call, qkv, None, &mut y, &mut saved),
    }
    (y, saved)
}

/// y of one position; the state is advanced.
fn read_one(
    cpu: &Cpu,
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[f32],
    carried: &mut Carried<f32>,
) -> Vec<f32> {
    let mut y = vec![f32::NAN; sequence.batch * sizes.heads * sizes.width];
    let mut angles = Angles::default();
    let call = Call::new(cpu, sizes, sequence);
    lend(sizes, carried, |state| step(call, qkv, state, &mut angles, &mut y));
    y
}

/// The best processor of this machine in every precision.
fn precisions(threads: usize) -> impl Iterator<Item = Cpu> {
    Precision::ALL.into_iter().map(move |precision| Cpu::with_precision(threads, precision))
}

/// Every instruction set in every precision.
pub(super) fn everything(threads: usize) -> impl Iterator<Item = Cpu> {
    levels().flat_map(move |level| {
        Precision::ALL.into_iter().map(move |precision| Cpu::with(threads, level, precision))
    })
}

fn rows_of(x: &[f32], row: usize, rows: std::ops::Range<usize>) -> &[f32] {
    &x[rows.start * row..rows.end * row]
}

/// Resets, lengths and both directions over one sequence.
fn variants<'a>(
    time: usize,
    batch: usize,
    resets: &'a [bool],
    lengths: &'a [u32],
) -> Vec<Sequence<'a>> {
    let plain = Sequence::new(time, batch);
    vec![
        plain,
        Sequence { resets: Some(resets), ..plain },
        Sequence { lengths: Some(lengths), ..plain },
        Sequence { resets: Some(resets), lengths: Some(lengths), reverse: true, ..plain },
    ]
}

fn some_resets(time: usize, batch: usize) -> Vec<bool> {
    (0..time * batch).map(|i| i % 7 == 3 || i % 11 == 10).collect()
}

fn some_lengths(time: usize, batch: usize) -> Vec<u32> {
    (0..batch).map(|b| [time, time / 2, 0, time.saturating_sub(1)][b % 4] as u32).collect()
}

#[test]
fn reference_gradients_are_central_differences() {
    let (time, batch) = (5, 2);
    let (resets, lengths) = (some_resets(time, batch), [5, 4]);
    for sizes in [sizes(2, 1, 4, 3), sizes(2, 2, 3, 8), full(sizes(1, 1, 4, 1))] {
        for sequence in variants(time, batch, &resets, &lengths) {
            let qkv = wide(&values(sequence.rows() * sizes.row(), 1));
            let dy = wide(&values(sequence.rows() * sizes.heads * sizes.width, 2));
            let state = widen(&somewhere(sizes, batch, 3));
            let loss = |qkv: &[f64], keys: &[f64], values: &[f64]| -> f64 {
                let mut state =
                    Carried { keys: keys.to_vec(), values: values.to_vec(), ..state.clone() };
                let y = reference::forward(sizes, &sequence, qkv, &mut state);
                y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
            };
            let (d_qkv, d_keys, d_values) =
                reference::backward(sizes, &sequence, &qkv, &state, &dy);
            check_gradient("d_qkv", &qkv, &d_qkv, |x| loss(x, &state.keys, &state.values));
            check_gradient("d_keys", &state.keys, &d_keys, |x| loss(&qkv, x, &state.values));
            check_gradient("d_values", &state.values, &d_values, |x| loss(&qkv, &state.keys, x));
        }
    }
}

/// The tolerance in `f32`; in bf16, that of two roundings of every operand to 8 bits.
pub(super) fn tolerance(cpu: &Cpu, f32: f64) -> f64 {
    within(cpu.precision(), f32)
}

fn within(precision: Precision, f32: f64) -> f64 {
    match precision {
        Precision::F32 => f32,
        Precision::Bf16 => 0.02,
    }
}

/// Output, next state and every gradient against the reference in double precision.
fn check(cpu: &Cpu, sizes: Sizes, sequence: &Sequence) {
    let batch = sequence.batch;
    let qkv = values(sequence.rows() * sizes.row(), 4);
    let dy = values(sequence.rows() * sizes.heads * sizes.width, 5);
    let before = somewhere(sizes, batch, 6);
    let mut after = before.clone();
    let carries = sizes.mask != Mask::Full;
    let (y, saved) = read(cpu, sizes, sequence, &qkv, carries.then_some(&mut after));

    let mut exact = widen(&before);
    let exact_y = reference::forward(sizes, sequence, &wide(&qkv), &mut exact);
    // Two forms of a key may differ in the last place, and then round to neighbours.
    let keys = within(sizes.cache, 1e-6);
    close("y", &y, &exact_y, tolerance(cpu, 3e-6).max(keys));
    close("keys", &after.keys, &exact.keys, keys);
    close("values", &after.values, &exact.values, 0.0);
    if carries {
        assert_eq!((&after.position, &after.filled), (&exact.position, &exact.filled));
    }

    let mut d_qkv = vec![1.0; qkv.len()];
    let (mut d_keys, mut d_values) = (vec![2.0; before.keys.len()], vec![3.0; before.keys.len()]);
    let d_carried = Some((&mut d_keys[..], &mut d_values[..]));
    backward(Call::new(cpu, sizes, sequence), &qkv, &saved, &dy, &mut d_qkv, d_carried);
    let (exact_qkv, exact_keys, exact_values) =
        reference::backward(sizes, sequence, &wide(&qkv), &widen(&before), &wide(&dy));
    let plus = |values: &[f64], start: f64| values.iter().map(|x| x + start).collect::<Vec<_>>();
    let most = tolerance(cpu, 1e-5).max(keys);
    close("d_qkv", &d_qkv, &plus(&exact_qkv, 1.0), most);
    close("d_keys", &d_keys, &plus(&exact_keys, 2.0), most);
    close("d_values", &d_values, &plus(&exact_values, 3.0), most);

    let mut alone = vec![1.0; qkv.len()];
    backward(Call::new(cpu, sizes, sequence), &qkv, &saved, &dy, &mut alone, None);
    assert_eq!(alone, d_qkv, "the gradient of the cache changes nothing else");
}

#[test]
fn every_level_equals_the_reference() {
    let windows = [sizes(1, 1, 5, 1), sizes(4, 2, 8, 7), sizes(2, 1, 40, 16), sizes(5, 5, 32, 64)];
    for cpu in everything(2) {
        for window in windows {
            let mut variants_of = vec![window, full(window), Sizes { rotary: None, ..window }];
            if window.width.is_multiple_of(2) {
                variants_of.extend([short(window), Sizes { rotary: None, ..short(window) }]);
            }
            for sizes in variants_of {
                for (time, batch) in [(0, 2), (1, 1), (7, 4), (16, 2), (17, 3), (70, 2)] {
                    let resets = some_resets(time, batch);
                    let lengths = some_lengths(time, batch);
                    for sequence in variants(time, batch, &resets, &lengths) {
                        check(&cpu, sizes, &sequence);
                    }
                }
            }
        }
    }
}

#[test]
fn long_sequences_equal_the_reference() {
    for cpu in precisions(3) {
        let resets = some_resets(300, 1);
        let reset = Sequence { resets: Some(&resets), ..Sequence::new(300, 1) };
        for sequence in [Sequence::new(300, 1), reset] {
            check(&cpu, sizes(2, 1, 130, 33), &sequence);
            check(&cpu, short(sizes(2, 1, 130, 33)), &sequence);
            check(&cpu, sizes(1, 1, 64, 500), &sequence);
            check(&cpu, full(sizes(2, 2, 20, 1)), &sequence);
        }
    }
}

/// Property (a): chunks and steps equal the whole.
#[test]
fn any_split_and_any_step_give_the_same() {
    for cpu in precisions(2) {
        let (time, batch) = (75, 3);
        let resets = some_resets(time, batch);
        let none = vec![false; time * batch];
        let windows = [sizes(4, 2, 6, 9), sizes(2, 2, 40, 64), sizes(3, 1, 5, 1)];
        for sizes in windows.into_iter().chain([short(windows[0]), short(windows[1])]) {
            let keys = within(sizes.cache, 1e-6);
            for resets in [&resets, &none] {
                let row = sizes.row();
                let qkv = values(time * batch * row, 7);
                let whole = Sequence { resets: Some(resets), ..Sequence::new(time, batch) };
                let start = somewhere(sizes, batch, 8);
                let mut at_end = start.clone();
                let (y, _) = read(&cpu, sizes, &whole, &qkv, Some(&mut at_end));
                for pieces in [vec![1, 74], vec![40, 35], vec![16, 16, 43], vec![1; 75]] {
                    let mut carried = start.clone();
                    let mut stepped = start.clone();
                    let (mut got, mut got_stepped, mut t) = (Vec::new(), Vec::new(), 0);
                    for &len in &pieces {
                        let rows = t * batch..(t + len) * batch;
                        let piece = Sequence {
                            resets: Some(&resets[rows.clone()]),
                            ..Sequence::new(len, batch)
                        };
                        let qkv = rows_of(&qkv, row, rows);
                        got.extend(read(&cpu, sizes, &piece, qkv, Some(&mut carried)).0);
                        if len == 1 {
                            got_stepped.extend(read_one(&cpu, sizes, &piece, qkv, &mut stepped));
                        } else {
                            got_stepped
                                .extend(read(&cpu, sizes, &piece, qkv, Some(&mut stepped)).0);
                        }
                        t += len;
                    }
                    for (got, carried) in [(&got, &carried), (&got_stepped, &stepped)] {
                        close("y", got, &wide(&y), tolerance(&cpu, 2e-6).max(keys));
                        close("keys", &carried.keys, &wide(&at_end.keys), keys);
                        assert_eq!(carried.values, at_end.values);
                        assert_eq!(carried.position, at_end.position);
                        assert_eq!(carried.filled, at_end.filled);
                    }
                }
            }
        }
    }
}

/// Property (c): causality, bit for bit.
#[test]
fn a_later_position_changes_nothing_before_it() {
    for cpu in precisions(1) {
        let sizes = sizes(2, 1, 8, 6);
        let sequence = Sequence::new(40, 2);
        let qkv = values(sequence.rows() * sizes.row(), 9);
        let (y, _) = read(&cpu, sizes, &sequence, &qkv, None);
        for t in 0..40 {
            let mut other = qkv.clone();
            other[t * 2 * sizes.row()..].iter_mut().for_each(|x| *x = 3.0 - *x);
            let (other, _) = read(&cpu, sizes, &sequence, &other, None);
            let before = t * 2 * sizes.heads * sizes.width;
            assert_eq!(y[..before], other[..before]);
            assert_ne!(y[before..], other[before..]);
        }
    }
}

/// Property (d): each document is as if alone, whatever comes before it and is in the cache.
#[test]
fn packed_documents_are_as_if_each_stood_alone() {
    for cpu in precisions(2) {
        for sizes in [sizes(2, 1, 8, 6), full(sizes(2, 1, 8, 6))] {
            let (row, y_row) = (sizes.row(), sizes.heads * sizes.width);
            let qkv = values(50 * row, 10);
            let dy = values(50 * y_row, 11);
            let mut resets = vec![false; 50];
            for start in [0, 21, 22] {
                resets[start] = true;
            }
            let packed = Sequence { resets: Some(&resets), ..Sequence::new(50, 1) };
            let carries = sizes.mask != Mask::Full;
            let mut carried = somewhere(sizes, 1, 12);
            let (y, saved) = read(&cpu, sizes, &packed, &qkv, carries.then_some(&mut carried));
            let mut d_qkv = vec![0.0; qkv.len()];
            backward(Call::new(&cpu, sizes, &packed), &qkv, &saved, &dy, &mut d_qkv, None);
            for document in [0..21, 21..22, 22..50] {
                let alone = Sequence::new(document.len(), 1);
                let qkv = rows_of(&qkv, row, document.clone());
                let (y_alone, saved) = read(&cpu, sizes, &alone, qkv, None);
                close(
                    "y",
                    rows_of(&y, y_row, document.clone()),
                    &wide(&y_alone),
                    tolerance(&cpu, 2e-6),
                );
                let mut d_alone = vec![0.0; qkv.len()];
                let dy = rows_of(&dy, y_row, document.clone());
                backward(Call::new(&cpu, sizes, &alone), qkv, &saved, dy, &mut d_alone, None);
                close(
                    "d_qkv",
                    rows_of(&d_qkv, row, document),
                    &wide(&d_alone),
                    tolerance(&cpu, 1e-5),
                );
            }
        }
    }
}

/// Property (e), bit for bit.
#[test]
fn a_sequence_is_the_same_alone_and_in_a_batch() {
    for cpu in precisions(2) {
        for sizes in [sizes(4, 2, 10, 20), full(sizes(4, 2, 10, 20))] {
            let (time, batch) = (35, 4);
            let lengths = some_lengths(time, batch);
            let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(time, batch) };
            let qkv = values(sequence.rows() * sizes.row(), 13);
            let dy = values(sequence.rows() * sizes.heads * sizes.width, 14);
            let (y, saved) = read(&cpu, sizes, &sequence, &qkv, None);
            let mut d_qkv = vec![0.0; qkv.len()];
            backward(Call::new(&cpu, sizes, &sequence), &qkv, &saved, &dy, &mut d_qkv, None);
            let pick = |x: &[f32], row: usize, b: usize| -> Vec<f32> {
                x.chunks(row).skip(b).step_by(batch).flatten().copied().collect()
            };
            let y_row = sizes.heads * sizes.width;
            for b in 0..batch {
                let alone =
                    Sequence { lengths: Some(&lengths[b..b + 1]), ..Sequence::new(time, 1) };
                let qkv = pick(&qkv, sizes.row(), b);
                let (y_alone, saved) = read(&cpu, sizes, &alone, &qkv, None);
                assert_eq!(pick(&y, y_row, b), y_alone);
                let mut d_alone = vec![0.0; qkv.len()];
                let dy = pick(&dy, y_row, b);
                backward(Call::new(&cpu, sizes, &alone), &qkv, &saved, &dy, &mut d_alone, None);
                assert_eq!(pick(&d_qkv, sizes.row(), b), d_alone);
            }
        }
    }
}

/// Property (f): extreme inputs stay finite.
#[test]
fn saturated_inputs_stay_finite() {
    for cpu in everything(1) {
        for sizes in [sizes(2, 1, 8, 6), full(sizes(2, 1, 8, 6))] {
            let sequence = Sequence::new(33, 2);
            let large = |len: usize, seed: u64| -> Vec<f32> {
                values(len, seed).iter().map(|x| x.signum() * 1e4).collect()
            };
            let qkv = large(sequence.rows() * sizes.row(), 15);
            let dy = large(sequence.rows() * sizes.heads * sizes.width, 16);
            let (y, saved) = read(&cpu, sizes, &sequence, &qkv, None);
            let mut d_qkv = vec![0.0; qkv.len()];
            backward(Call::new(&cpu, sizes, &sequence), &qkv, &saved, &dy, &mut d_qkv, None);
            assert!(y.iter().chain(&d_qkv).all(|x| x.is_finite()));
            if sizes.mask != Mask::Full {
                let mut carried = Carried::empty(sizes, 1);
                for qkv in qkv.chunks(sizes.row()) {
                    let y = read_one(&cpu, sizes, &Sequence::new(1, 1), qkv, &mut carried);
                    assert!(y.iter().all(|x| x.is_finite()));
                }
            }
        }
    }
}

/// Property (g): the state is all there is, for another processor with another past as well.
#[test]
fn a_copied_state_goes_on_bit_for_bit() {
    for (cpu, other) in precisions(2).zip(precisions(2)) {
        for sizes in [sizes(4, 2, 8, 16), short(sizes(4, 2, 8, 16))] {
            let mut carried = Carried::empty(sizes, 2);
            let piece = Sequence::new(21, 2);
            for round in 0..4 {
                let qkv = values(piece.rows() * sizes.row(), 20 + round);
                let elsewhere: Vec<f32> = qkv.iter().map(|x| 1.0 - 3.0 * x).collect();
                read(&other, sizes, &piece, &elsewhere, None);
                let mut copy = carried.clone();
                let (y, _) = read(&cpu, sizes, &piece, &qkv, Some(&mut carried));
                let (again, _) = read(&other, sizes, &piece, &qkv, Some(&mut copy));
                assert_eq!(y, again);
                assert_eq!(carried, copy);
            }
        }
    }
}

#[test]
fn a_run_repeats_bit_for_bit() {
    let cpu = Cpu::new(3);
    let sizes = sizes(5, 5, 32, 64);
    let sequence = Sequence::new(64, 4);
    let qkv = values(sequence.rows() * sizes.row(), 21);
    let dy = values(sequence.rows() * sizes.heads * sizes.width, 22);
    let run = || {
        let mut carried = somewhere(sizes, 4, 23);
        let (y, saved) = read(&cpu, sizes, &sequence, &qkv, Some(&mut carried));
        let mut d_qkv = vec![0.0; qkv.len()];
        backward(Call::new(&cpu, sizes, &sequence), &qkv, &saved, &dy, &mut d_qkv, None);
        (y, d_qkv)
    };
    let once = run();
    assert!((0..5).all(|_| run() == once));
}

#[test]
#[should_panic(expected = "read them in chunks")]
fn more_keys_than_can_be_told_apart_are_refused() {
    saved_len(full(sizes(1, 1, 1, 1)), &Sequence::new(1 << 24, 1));
}

#[test]
fn padded_streams_step_without_moving() {
    let cpu = Cpu::new(1);
    let sizes = sizes(2, 1, 8, 4);
    let lengths = [1, 0];
    let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(1, 2) };
    let qkv = values(2 * sizes.row(), 24);
    let before = somewhere(sizes, 2, 25);
    let (mut stepped, mut read_on) = (before.clone(), before.clone());
    let y = read_one(&cpu, sizes, &sequence, &qkv, &mut stepped);
    let (exact, _) = read(&cpu, sizes, &sequence, &qkv, Some(&mut read_on));
    close("y", &y, &wide(&exact), 1e-6);
    assert_eq!(y[sizes.heads * sizes.width..], vec![0.0; sizes.heads * sizes.width]);
    assert_eq!(stepped.position, [before.position[0] + 1, before.position[1]]);
    assert_eq!(stepped.filled, read_on.filled);
    let half = sizes.ring_values();
    assert_eq!(stepped.keys[half..], before.keys[half..]);
}

#[test]
fn weights_are_those_that_make_the_output() {
    let cpu = Cpu::new(1);
    let sizes = Sizes { rotary: None, ..sizes(2, 1, 8, 6) };
    let sequence = Sequence::new(20, 2);
    let qkv = values(sequence.rows() * sizes.row(), 26);
    let before = somewhere(sizes, 2, 27);
    let (y, saved) = read(&cpu, sizes, &sequence, &qkv, Some(&mut before.clone()));
    for (b, head, t) in [(0, 0, 0), (1, 1, 3), (0, 1, 19)] {
        let weights = weights(sizes, &sequence, &qkv, &saved, b, head, t);
        assert!((weights.values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(weights.first + weights.values.len() as i64, t as i64 + 1);
        let mut exact = vec![0.0; 8];
        for (i, weight) in weights.values.iter().enumerate() {
            let at = weights.first + i as i64;
            let value = if at < 0 {
                let slot = (before.position[b] as i64 + at) as usize % 6;
                &before.values[(b * 6 + slot) * 8..][..8]
            } else {
                &qkv[(at as usize * 2 + b) * sizes.row() + 24..][..8]
            };
            exact.iter_mut().zip(value).for_each(|(y, v)| *y += f64::from(weight * v));
        }
        close("y", &y[((t * 2 + b) * 2 + head) * 8..][..8], &exact, 1e-5);
    }
}

#[test]
fn steps_of_every_level_equal_the_reference() {
    for cpu in everything(2) {
        // Heads of one to four vectors in each half, and of more, which are read in pieces.
        let shapes = [(4, 2, 8, 7), (2, 1, 40, 16), (3, 3, 5, 4), (2, 2, 66, 9), (2, 1, 96, 6)];
        for (heads, groups, width, window) in shapes.into_iter().chain([(2, 1, 130, 5)]) {
            let sizes = sizes(heads, groups, width, window);
            let short = sizes.width.is_multiple_of(2).then(|| short(sizes));
            for sizes in [Some(sizes), short].into_iter().flatten() {
                let one = Sequence::new(1, 3);
                let mut carried = somewhere(sizes, 3, 28);
                let mut exact = widen(&carried);
                for round in 0..20 {
                    let qkv = values(3 * sizes.row(), 29 + round);
                    let y = read_one(&cpu, sizes, &one, &qkv, &mut carried);
                    let exact_y = reference::forward(sizes, &one, &wide(&qkv), &mut exact);
                    close("y", &y, &exact_y, within(sizes.cache, 3e-6));
                    close("keys", &carried.keys, &exact.keys, within(sizes.cache, 1e-6));
                    close("values", &carried.values, &exact.values, 0.0);
                }
            }
        }
    }
}

/// Where keys are not rotated, nothing but the order of sums tells a chunk from its steps: what is
/// held is rounded before anything reads it.
#[test]
fn a_short_cache_is_rounded_in_chunks_as_in_steps() {
    let cpu = Cpu::new(2);
    let sizes = Sizes { rotary: None, ..short(sizes(4, 2, 40, 16)) };
    let (time, batch) = (37, 2);
    let qkv = values(time * batch * sizes.row(), 50);
    let start = somewhere(sizes, batch, 51);
    let (mut chunked, mut stepped) = (start.clone(), start);
    let (y, _) = read(&cpu, sizes, &Sequence::new(time, batch), &qkv, Some(&mut chunked));
    let mut got = Vec::new();
    for qkv in qkv.chunks(batch * sizes.row()) {
        got.extend(read_one(&cpu, sizes, &Sequence::new(1, batch), qkv, &mut stepped));
    }
    close("y", &got, &wide(&y), 3e-6);
    assert_eq!(chunked, stepped);
}
