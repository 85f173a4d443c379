//! Linear layers over packed weights.

use super::{Addend, Format, NOTHING_ADDED, Operand, PANEL, Panels, add_product};
use crate::cpu::{Cpu, Shards, Worker};

/// Work below which a second thread costs more than it gains, in bytes of weights
/// for each [`ROWS_PER_READING`] rows.
const SERIAL_WORK: usize = 1 << 16;
/// Rows that together cost as much as reading the weights once.
const ROWS_PER_READING: usize = 4;

/// y [R, output] = [x₁ | x₂ | …]·Wᵀ + b over one input or several side by side; each x is
/// [R, its columns]. int8 and int4 weights quantise each row of [x₁ | x₂ | …] with one scale.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn linear(
    cpu: &Cpu,
    rows: usize,
    inputs: &[&[f32]],
    weight: &Panels,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let [output, input] = weight.shape();
    let given: usize = inputs.iter().map(|x| x.len()).sum();
    assert_eq!(given, rows * input, "the inputs of a linear layer");
    assert_eq!(y.len(), rows * output, "the output of a linear layer");
    assert!(bias.is_none_or(|bias| bias.len() == output), "the bias of a linear layer");
    assert!(weight.in_row_order(), "the rows of a linear layer's weight are in order");
    if y.is_empty() {
        return;
    }
    let operand = Operand::of_rows(cpu, weight.format(), rows, inputs);
    whole(cpu, rows, &operand, weight, output, bias, y);
    operand.give(cpu);
}

/// y [R, columns] = the first `columns` places of x·Wᵀ, + b.
pub(super) fn whole(
    cpu: &Cpu,
    rows: usize,
    operand: &Operand,
    weight: &Panels,
    output: usize,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let input = weight.shape()[1];
    let shards = Shards::new(y);
    let part =
        |worker: &mut Worker, panels: std::ops::Range<usize>, rows: std::ops::Range<usize>| {
            for panel in panels {
                let columns = panel * PANEL..output.min((panel + 1) * PANEL);
                let addend = bias.map_or(NOTHING_ADDED, |bias| Addend::Row(&bias[columns.clone()]));
                // SAFETY: each part of the result belongs to one thread; rows are `output` long.
                unsafe {
                    let to = shards.pointer().add(rows.start * output + columns.start);
                    let (level, rows) = (worker.level, [rows.start, 1, rows.len()]);
                    let places = columns.len();
                    add_product(level, weight, panel, operand, rows, addend, to, output, places);
                }
            }
        };
    let panels = weight.count();
    if cpu.threads() == 1 || !pays(weight.format(), output * input, rows) {
        cpu.for_each(1, |worker, _| part(worker, 0..panels, 0..rows));
    } else if panels < 4 * cpu.threads() && rows >= 16 * cpu.threads() {
        cpu.run(|worker| part(worker, 0..panels, worker.share(rows, 1)));
    } else {
        cpu.run(|worker| part(worker, worker.share(panels, 1), 0..rows));
    }
}

/// Whether a product of `weights` weights with `rows` rows is worth several threads.
pub(crate) fn pays(format: Format, weights: usize, rows: usize) -> bool {
    let bytes = weights.saturating_mul(format.row_bytes(8)) / 8;
    bytes.saturating_mul(1 + rows / ROWS_PER_READING) >= SERIAL_WORK
}
