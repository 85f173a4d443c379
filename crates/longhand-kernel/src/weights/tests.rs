use super::*;
use crate::call::Call;
use crate::cpu::Cpu;
use crate::loss::{self, IGNORE};
use crate::precision::{bf16, from_bf16};
use crate::recurrence::{
    self, CellKind, CellPanels, Input, Outputs, Sizes, input_order, recurrent_order,
};
use crate::sequence::Sequence;
use crate::testing::{close, levels, values, wide};

/// Sizes on both sides of every block: of steps, groups, sixteens and panels.
const SHAPES: [[usize; 2]; 9] =
    [[1, 1], [3, 2], [16, 31], [17, 32], [64, 33], [65, 7], [100, 130], [150, 64], [257, 67]];

#[test]
fn encoding_errs_by_at_most_what_the_format_says() {
    for [rows, columns] in SHAPES {
        let exact = values(rows * columns, 3);
        for format in Format::ALL {
            let coded = Rows::encode(format, [rows, columns], &exact);
            assert_eq!(coded.codes().len(), rows * format.row_bytes(columns));
            assert_eq!(coded.scales().len(), rows * format.scale_bytes(columns));
            let relative = match format {
                Format::F32 => 0.0,
                Format::Bf16 => 1.0 / 256.0,
                Format::Int8 => 0.5 / 126.0,
                // The best scale may cut the largest magnitude off.
                Format::Int4 => 0.28,
            };
            for (row, got) in coded.decode().chunks(columns).enumerate() {
                let exact = &exact[row * columns..][..columns];
                let most = exact.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                for (got, exact) in got.iter().zip(exact) {
                    assert!((got - exact).abs() <= relative * most, "{format:?}: {got} {exact}");
                }
            }
            let again = Rows::new(format, [rows, columns], coded.codes(), coded.scales());
            assert_eq!(again.as_ref(), Ok(&coded));
        }
    }
}

#[test]
fn zeros_and_tiny_values_are_encoded() {
    for format in Format::ALL {
        for value in [0.0, 1e-45, -1e-38, 3e38] {
            let row = Rows::encode(format, [2, 40], &[value; 80]);
            let decoded = row.decode();
            assert!(decoded.iter().all(|x| x.is_finite()), "{format:?} of {value}");
            if value == 3e38 {
                assert!(decoded.iter().all(|x| (x / value - 1.0).abs() < 0.1), "{format:?}");
            }
        }
    }
}

#[test]
fn bytes_that_are_no_matrix_are_refused() {
    for format in Format::ALL {
        let good = Rows::encode(format, [5, 70], &values(350, 1));
        let (codes, scales) = (good.codes().to_vec(), good.scales().to_vec());
        let refuse =
            |shape, codes: &[u8], scales: &[u8]| Rows::new(format, shape, codes, scales).err();
        assert_eq!(refuse([5, 70], &codes, &scales), None);
        assert_eq!(refuse([5, 70], &codes[1..], &scales), Some(RowsError::Length));
        assert_eq!(refuse([6, 70], &codes, &scales), Some(RowsError::Length));
        assert_eq!(refuse([usize::MAX, 70], &codes, &scales), Some(RowsError::Length));
        assert_eq!(refuse([5, 70], &codes, &[&scales[..], &[0]].concat()), Some(RowsError::Length));
        let whole = if scales.is_empty() { &codes } else { &scales };
        for index in [0, 3, 4] {
            let (width, bits) = match format {
                Format::F32 | Format::Int8 => (4, f32::INFINITY.to_le_bytes().to_vec()),
                Format::Bf16 | Format::Int4 => (2, bf16(f32::NAN).to_le_bytes().to_vec()),
            };
            let mut bad = whole.clone();
            bad[index * width..(index + 1) * width].copy_from_slice(&bits);
            let (codes, scales) = if scales.is_empty() { (&bad, &scales) } else { (&codes, &bad) };
            assert_eq!(refuse([5, 70], codes, scales), Some(RowsError::NotFinite(index)));
        }
    }
}

#[test]
fn panels_give_back_the_rows_they_were_made_of() {
    for shape @ [rows, columns] in SHAPES {
        for format in Format::ALL {
            let coded = Rows::encode(format, shape, &values(rows * columns, 5));
            assert_eq!(Panels::new(&coded).to_rows(), coded, "{format:?} {shape:?}");
        }
    }
    for (gates, heads, units) in [(4, 1, 20), (4, 3, 5), (1, 1, 40), (4, 2, 32)] {
        let rows = gates * heads * units;
        for order in [input_order(gates, heads, units), recurrent_order(gates, heads, units)] {
            for format in Format::ALL {
                let coded = Rows::encode(format, [rows, 9], &values(rows * 9, 5));
                assert_eq!(Panels::in_order(&coded, order.clone()).to_rows(), coded);
            }
        }
    }
}

/// The product of a format in double precision: weights as encoded, activations
/// rounded as the format does.
fn exact_linear(coded: &Rows, x: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
    let [rows, columns] = coded.shape();
    let weights = wide(&coded.decode());
    let mut y = Vec::new();
    for x in x.chunks(columns) {
        let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let scale = f64::from(most / 127.0);
        let rounded: Vec<f64> = x
            .iter()
            .map(|&x| match coded.format() {
                Format::F32 => f64::from(x),
                Format::Bf16 => f64::from(from_bf16(bf16(x))),
                _ if most == 0.0 => 0.0,
                _ => f64::from((x * (127.0 / most)).round_ties_even()) * scale,
            })
            .collect();
        for row in 0..rows {
            let weights = &weights[row * columns..][..columns];
            let sum: f64 = weights.iter().zip(&rounded).map(|(w, x)| w * x).sum();
            y.push(sum + bias.map_or(0.0, |bias| f64::from(bias[row])));
        }
    }
    y
}

#[test]
fn every_form_of_a_product_follows_double_precision() {
    for [output, input] in SHAPES {
        let (w, bias) = (values(output * input, 1), values(output, 2));
        for format in Format::ALL {
            let coded = Rows::encode(format, [output, input], &w);
            let panels = Panels::new(&coded);
            for rows in [1, 2, 5, 6, 7, 13, 64, 256] {
                let x = values(rows * input, rows as u64);
                let exact = exact_linear(&coded, &x, Some(&bias));
                let mut first: Option<Vec<f32>> = None;
                for level in levels() {
                    for threads in [1, 3] {
                        let cpu = Cpu::with_level(threads, level);
                        let mut y = vec![7.0; rows * output];
                        linear(&cpu, rows, &[&x], &panels, Some(&bias), &mut y);
                        let name = format!("{format:?} {level:?} {output}×{input}, {rows} rows");
                        close(&name, &y, &exact, 3e-6 * (input as f64).sqrt());
                        if matches!(format, Format::Int8 | Format::Int4) {
                            // Their sums are integers: only the last scaling may differ.
                            let first = first.get_or_insert_with(|| y.clone());
                            close(&name, &y, &wide(first), 1e-6);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_alone_and_among_others() {
    let (rows, output, input) = (23, 130, 75);
    let x = values(rows * input, 4);
    for format in Format::ALL {
        let panels =
            Panels::new(&Rows::encode(format, [output, input], &values(output * input, 3)));
        for level in levels() {
            let cpu = Cpu::with_level(2, level);
            let mut all = vec![0.0; rows * output];
            linear(&cpu, rows, &[&x], &panels, None, &mut all);
            for (row, expected) in all.chunks(output).enumerate() {
                let mut alone = vec![0.0; output];
                linear(&cpu, 1, &[&x[row * input..][..input]], &panels, None, &mut alone);
                assert_eq!(alone, expected, "{format:?} {level:?} row {row}");
            }
        }
    }
}

#[test]
fn inputs_side_by_side_are_one_input() {
    let (rows, output, first, second) = (9, 40, 21, 34);
    let (a, b) = (values(rows * first, 1), values(rows * second, 2));
    let joined: Vec<f32> = (a.chunks(first).zip(b.chunks(second)))
        .flat_map(|(a, b)| a.iter().chain(b).copied())
        .collect();
    let cpu = Cpu::new(2);
    let w = values(output * (first + second), 3);
    for format in Format::ALL {
        let panels = Panels::new(&Rows::encode(format, [output, first + second], &w));
        let (mut one, mut two) = (vec![0.0; rows * output], vec![0.0; rows * output]);
        linear(&cpu, rows, &[&joined], &panels, None, &mut one);
        linear(&cpu, rows, &[&a, &b], &panels, None, &mut two);
        assert_eq!(one, two);
        linear(&cpu, 0, &[&[], &[]], &panels, None, &mut []);
    }
}

#[test]
fn extremes_stay_finite_and_what_is_no_number_is_not_hidden() {
    let (output, input) = (20, 50);
    let cpu = Cpu::new(1);
    for format in Format::ALL {
        let w = values(output * input, 3);
        let panels = Panels::new(&Rows::encode(format, [output, input], &w));
        let run = |x: &[f32]| {
            let mut y = vec![0.0; output];
            linear(&cpu, 1, &[x], &panels, None, &mut y);
            y
        };
        for value in [0.0, 1e4, -1e4, 1e-40] {
            assert!(run(&vec![value; input]).iter().all(|y| y.is_finite()), "{format:?} {value}");
        }
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = values(input, 1);
            x[37] = bad;
            assert!(run(&x).iter().all(|y| !y.is_finite()), "{format:?} hides {bad}");
        }
    }
}

#[test]
fn the_widest_integer_sums_do_not_overflow() {
    let columns = MOST_INT8_COLUMNS;
    let cpu = Cpu::new(1);
    for format in [Format::Int8, Format::Int4] {
        for sign in [1.0, -1.0] {
            let panels = Panels::new(&Rows::encode(format, [1, columns], &vec![sign; columns]));
            let mut y = [0.0];
            linear(&cpu, 1, &[&vec![1.0; columns]], &panels, None, &mut y);
            let exact = f64::from(sign) * columns as f64;
            assert!((f64::from(y[0]) / exact - 1.0).abs() < 0.05, "{format:?} {sign}: {}", y[0]);
        }
    }
}

#[test]
fn the_loss_is_that_of_the_decoded_weights() {
    let (rows, width, vocabulary) = (150, 24, 70);
    let (x, bias) = (values(rows * width, 1), values(vocabulary, 2));
    let mut targets: Vec<u32> = (0..rows as u32).map(|r| r * 7 % vocabulary as u32).collect();
    targets[3] = IGNORE;
    targets[64..128].fill(IGNORE);
    let cpu = Cpu::new(2);
    // f32 alone leaves the activations as they are.
    let coded = Rows::encode(Format::F32, [vocabulary, width], &values(vocabulary * width, 3));
    let (panels, decoded) = (Panels::new(&coded), coded.decode());
    for smoothing in [0.0, 0.1] {
        let (mut got, mut expected) = (vec![0.0; rows], vec![0.0; rows]);
        let bias = Some(&bias[..]);
        let kept = Some(&mut got[..]);
        let total = cross_entropy(&cpu, &x, &panels, bias, &targets, smoothing, kept);
        let size = loss::Size { rows, width, vocabulary };
        let kept = Some(&mut expected[..]);
        let layer = loss::Layer { x: &x, weight: &decoded, bias };
        let asked = loss::Targets { ids: &targets, smoothing };
        let exact = loss::cross_entropy(&cpu, size, layer, asked, kept, None);
        close("losses", &got, &wide(&expected), 1e-5);
        assert!((total.nats - exact.nats).abs() < 1e-3, "{total:?} {exact:?}");
        assert_eq!((total.count, total.correct), (exact.count, exact.correct));
    }
}

#[test]
fn a_memo_gives_what_would_be_computed() {
    // The large one does not fit: 32 MiB are 1,024 rows of 8,192 places.
    for (vocabulary, output, input) in [(40, 50, 9), (1100, 8192, 3)] {
        let cpu = Cpu::new(2);
        let tokens = values(vocabulary * input, 6);
        for format in [Format::F32, Format::Int8] {
            let coded = Rows::encode(format, [output, input], &values(output * input, 2));
            let panels = Panels::new(&coded);
            let mut memo = Memo::new(&panels, vocabulary);
            // Two thirds of the tokens in a call, half of those twice, and all of them in two calls.
            let (rows, distinct) = (vocabulary, 2 * vocabulary / 3);
            for call in 0..4 {
                let id = |r: usize| (7 * (r % distinct) + call * vocabulary / 2) % vocabulary;
                let ids: Vec<u32> = (0..rows).map(|r| id(r) as u32).collect();
                let x: Vec<f32> = (ids.iter())
                    .flat_map(|&id| tokens[id as usize * input..][..input].to_vec())
                    .collect();
                let (mut got, mut expected) = (vec![0.0; rows * output], vec![0.0; rows * output]);
                memo.look_up(&cpu, &panels, &ids, &x);
                gather(&cpu, memo.rows(), output, &mut got);
                linear(&cpu, rows, &[&x], &panels, None, &mut expected);
                assert!(got == expected, "{format:?} call {call}");
            }
        }
    }
}

const CELLS: [Sizes; 3] = [
    Sizes { cell: CellKind::Lstm, input: 19, hidden: 37, heads: 1 },
    Sizes { cell: CellKind::Rnn, input: 19, hidden: 85, heads: 1 },
    Sizes { cell: CellKind::Slstm, input: 19, hidden: 54, heads: 3 },
];

/// The weights of a recurrence, and whether the input's part of the gates is known.
type Recurrent = (Rows<'static>, Rows<'static>, Vec<f32>, bool);

fn recurrent(sizes: Sizes, format: Format) -> Recurrent {
    let (rows, units) = (sizes.cell.gates() * sizes.hidden, sizes.hidden / sizes.heads);
    let scaled = |len, seed, factor: f32| -> Vec<f32> {
        values(len, seed).iter().map(|x| x * factor).collect()
    };
    (
        Rows::encode(format, [rows, sizes.input], &scaled(rows * sizes.input, 1, 0.5)),
        Rows::encode(format, [rows, units], &scaled(rows * units, 2, 0.3)),
        values(rows, 3),
        false,
    )
}

/// How a recurrence is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Plainly, with decoded weights.
    Plain,
    /// With packed weights, and nothing kept.
    Packed,
    /// With packed weights, and gates and states kept.
    PackedKept,
}

/// Reads some positions: outputs, and the last state in the place of the first.
fn run(
    sizes: Sizes,
    cpu: &Cpu,
    (input, recurrent, bias, known): &Recurrent,
    form: Form,
    sequence: &Sequence,
    x: &[f32],
    state: &mut [Vec<f32>],
) -> Vec<f32> {
    let (gates, heads, units) = (sizes.cell.gates(), sizes.heads, sizes.hidden / sizes.heads);
    let one = Panels::in_order(input, input_order(gates, heads, units));
    let two = Panels::in_order(recurrent, recurrent_order(gates, heads, units));
    let ids: Vec<u32> = (0..sequence.rows() as u32).collect();
    let mut memo = Memo::new(&one, ids.len());
    if *known {
        memo.look_up(cpu, &one, &ids, x);
    }
    let biases: [&[f32]; 2] = [bias, &[]];
    let projected = known.then(|| memo.rows());
    let panels = CellPanels { input: &one, recurrent: &two, biases, projected };
    let (w, u) = (input.decode(), recurrent.decode());
    let weights = recurrence::Weights { input: &w, recurrent: &u, biases };
    let mut y = vec![9.0; sequence.rows() * sizes.hidden];
    let saved = &mut vec![f32::NAN; recurrence::saved_len(sizes, sequence)];
    let saved = (form != Form::Packed).then_some(&mut saved[..]);
    let before = state.to_vec();
    let before: Vec<&[f32]> = before.iter().map(|state| &state[..]).collect();
    let after = &mut state.iter_mut().map(|state| &mut state[..]).collect::<Vec<_>>();
    let call = Call::new(cpu, sizes, sequence);
    let outputs = Outputs { y: &mut y, next: after, saved };
    match form {
        Form::Packed | Form::PackedKept => {
            recurrence::forward_packed(call, panels, x, &before, outputs);
        }
        Form::Plain => recurrence::forward(call, weights, Input::Rows(x), &before, outputs),
    }
    y
}

fn empty(sizes: Sizes, batch: usize) -> Vec<Vec<f32>> {
    vec![vec![0.0; batch * sizes.hidden]; sizes.cell.states().len()]
}

#[test]
fn packed_recurrences_follow_the_plain_ones() {
    let (time, batch) = (11, 5);
    let resets: Vec<bool> = (0..time * batch).map(|row| row % 17 == 3).collect();
    let lengths = [11, 4, 0, 7, 10];
    for sizes in CELLS {
        let name = sizes.cell.name();
        let x = values(time * batch * sizes.input, 8);
        for format in Format::ALL {
            let weights = recurrent(sizes, format);
            // Rounded activations: a code's half for each of the products.
            let tolerance = match format {
                Format::F32 => 2e-5,
                Format::Bf16 => 0.03,
                Format::Int8 | Format::Int4 => 0.06,
            };
            for level in levels() {
                let cpu = Cpu::with_level(2, level);
                for reverse in [false, true] {
                    for (resets, lengths) in [
                        (None, None),
                        (Some(&resets[..]), None),
                        (Some(&resets[..]), Some(&lengths[..])),
                    ] {
                        let sequence = Sequence { time, batch, resets, lengths, reverse };
                        let (mut got, mut exact) = (empty(sizes, batch), empty(sizes, batch));
                        let y = run(sizes, &cpu, &weights, Form::Packed, &sequence, &x, &mut got);
                        let mut kept = empty(sizes, batch);
                        let keeping = Form::PackedKept;
                        let y_kept = run(sizes, &cpu, &weights, keeping, &sequence, &x, &mut kept);
                        assert_eq!((&y_kept, &kept), (&y, &got), "{name} {format:?} {level:?}");
                        let plain =
                            run(sizes, &cpu, &weights, Form::Plain, &sequence, &x, &mut exact);
                        close(
                            &format!("{name} {format:?} {level:?}"),
                            &y,
                            &wide(&plain),
                            tolerance,
                        );
                        for (got, exact) in got.iter().zip(&exact) {
                            close(name, got, &wide(exact), 4.0 * tolerance);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn packed_recurrences_are_bit_identical_however_they_are_read() {
    let (time, batch) = (9, 7);
    for sizes in CELLS {
        let name = sizes.cell.name();
        let x = values(time * batch * sizes.input, 8);
        let row = batch * sizes.input;
        for format in Format::ALL {
            let weights = recurrent(sizes, format);
            for level in levels() {
                let read_with = |weights: &_, threads: usize, cuts: &[usize]| {
                    let cpu = Cpu::with_level(threads, level);
                    let (mut state, mut y, mut from) = (empty(sizes, batch), Vec::new(), 0);
                    for &to in cuts {
                        let sequence = Sequence::new(to - from, batch);
                        let x = &x[from * row..to * row];
                        y.extend(run(sizes, &cpu, weights, Form::Packed, &sequence, x, &mut state));
                        from = to;
                    }
                    (y, state)
                };
                let read = |threads: usize, cuts: &[usize]| read_with(&weights, threads, cuts);
                let whole = read(1, &[time]);
                assert_eq!(read(3, &[time]), whole, "{name} {format:?} {level:?}: threads");
                assert_eq!(read(2, &[2, 3, time]), whole, "{name} {format:?} {level:?}: chunks");
                let mut known = weights.clone();
                known.3 = true;
                assert_eq!(read_with(&known, 2, &[4, time]), whole, "{name} {format:?}: known");
                let steps: Vec<usize> = (1..=time).collect();
                assert_eq!(read(2, &steps), whole, "{name} {format:?} {level:?}: steps");
            }
        }
    }
}
