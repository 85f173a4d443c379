//! Gates out of the saved buffer of a forward pass, for plots.

use super::Shape;
use crate::sequence::Sequence;

/// `out [R, N]` = the value that the forward pass saved of one gate of every unit, at each of the R
/// real positions. `lanes` is the vector length of that pass.
pub(crate) fn gate(
    shape: Shape,
    sequence: &Sequence,
    lanes: usize,
    saved: &[f32],
    gate: usize,
    out: &mut [f32],
) {
    assert_eq!(saved.len(), shape.saved_len(sequence), "saved is as long as `saved_len` says");
    assert_eq!(out.len(), sequence.real_rows().count() * shape.hidden(), "a gate is [R, N]");
    assert!(gate < shape.gates, "no such gate");
    let stride = shape.gate_stride();
    for index in 0..shape.padded_hidden() / lanes {
        let block = shape.block(index, lanes);
        if block.count == 0 {
            continue;
        }
        for (place, row) in sequence.real_rows().enumerate() {
            let from = row * stride + (index * shape.gates + gate) * lanes;
            let to = place * shape.hidden() + block.head * shape.units + block.first;
            out[to..to + block.count].copy_from_slice(&saved[from..from + block.count]);
        }
    }
}
