use crate::cpu::Cpu;
use crate::recurrence::{CellKind, Sizes, gate};
use crate::sequence::Sequence;
use crate::testing::memory::{self, Memory, seven_properties};

fn sizes(input: usize, hidden: usize, heads: usize) -> Sizes {
    Sizes { cell: CellKind::Rnn, input, hidden, heads }
}

seven_properties!(sizes(19, 37, 1), sizes(2, 3, 1), [(1, 1), (5, 1), (13, 5), (2, 53)]);

#[test]
fn awkward_sizes_equal_the_reference() {
    for (input, hidden, heads) in
        [(0, 3, 1), (3, 0, 1), (1, 1, 1), (5, 200, 1), (4, 512, 1), (5, 48, 3)]
    {
        memory::fast_equals_reference(&sizes(input, hidden, heads), &[(7, 4), (0, 2), (3, 0)]);
    }
}

#[test]
fn the_only_gate_is_the_output() {
    let (cpu, sizes, sequence) = (Cpu::new(2), sizes(3, 21, 1), Sequence::new(4, 5));
    let outcome = sizes.forward(&cpu, &sequence, &memory::inputs(&sizes, 4, 5, 1));
    let mut out = vec![0.0; outcome.y.len()];
    gate(&cpu, sizes, &sequence, &outcome.saved, 0, &mut out);
    assert_eq!(out, outcome.y);
}
