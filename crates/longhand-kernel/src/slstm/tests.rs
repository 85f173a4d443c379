use crate::cpu::Cpu;
use crate::recurrence::{CellKind, Sizes};
use crate::sequence::Sequence;
use crate::testing::memory::{self, Memory, seven_properties};

fn sizes(input: usize, hidden: usize, heads: usize) -> Sizes {
    Sizes { cell: CellKind::Slstm, input, hidden, heads }
}

seven_properties!(sizes(19, 42, 2), sizes(2, 4, 2), [(1, 1), (5, 1), (13, 5), (2, 53)]);

#[test]
fn heads_of_awkward_sizes_equal_the_reference() {
    for (hidden, heads) in [(3, 3), (5, 1), (48, 3), (128, 1), (0, 1)] {
        memory::fast_equals_reference(&sizes(5, hidden, heads), &[(7, 4), (0, 2), (3, 0)]);
    }
}

#[test]
fn outputs_do_not_change_with_the_stabiliser() {
    let sizes = sizes(3, 8, 2);
    let (cpu, sequence) = (Cpu::new(1), Sequence::new(30, 2));
    let mut inputs = memory::inputs(&sizes, 30, 2, 1);
    let before = sizes.forward(&cpu, &sequence, &inputs);
    let factor = (-3.0f32).exp();
    for s in [1, 2] {
        inputs.state[s].iter_mut().for_each(|x| *x *= factor);
    }
    inputs.state[3].iter_mut().for_each(|m| *m += 3.0);
    let after = sizes.forward(&cpu, &sequence, &inputs);
    crate::testing::close("y", &after.y, &crate::testing::wide(&before.y), 1e-5);
}
