//! The product of one panel of weights with some rows of activations: checks, and the choice of a
//! form for the machine.

use super::forms;
use super::tile::Task;
#[cfg(target_arch = "x86_64")]
use super::tiles;
use super::{Format, GROUP, Operand, PANEL, Panels};
#[cfg(target_arch = "x86_64")]
use crate::level::InstructionSet;
use crate::level::Level;

/// The values that a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Addend<'a> {
    /// The value that `to` already holds.
    There,
    /// For every row, these values, one for each place.
    Row(&'a [f32]),
}

/// Zeros as an [`Addend`].
pub(crate) const NOTHING_ADDED: Addend = Addend::Row(&[0.0; PANEL]);

/// `to[i][place] = addend + Σ_k W[place][k] · x_i[k]` for `count` rows x and the first `places` of
/// a panel. Row i of the operand is `first + i · step`.
///
/// # Safety
/// `to` holds `count` rows of `places` elements, `to_stride` apart, which nothing else touches.
///
/// # Panics
/// If format or columns of operand and panels differ, or a row or place is out of range.
#[expect(clippy::too_many_arguments, reason = "the innermost call of every decoded token")]
pub(crate) unsafe fn add_product(
    level: Level,
    panels: &Panels,
    panel: usize,
    operand: &Operand,
    [first, step, count]: [usize; 3],
    addend: Addend,
    to: *mut f32,
    to_stride: usize,
    places: usize,
) {
    let columns = panels.shape()[1];
    assert!(operand.format() == panels.format() && operand.columns() == columns);
    assert!(places <= panels.width(panel));
    if count == 0 || places == 0 {
        return;
    }
    assert!(first + (count - 1) * step < operand.rows());
    let (addend, addend_stride) = match addend {
        Addend::There => (to.cast_const(), to_stride),
        Addend::Row(row) => {
            assert!(row.len() >= places, "a value for each place");
            (row.as_ptr(), 0)
        }
    };
    let groups = if panels.format() == Format::Int4 { columns.div_ceil(GROUP) } else { 1 };
    let (words, width) = (panels.words(panel).as_ptr(), panels.width(panel));
    let steps = panels.format().steps(columns);
    let task = Task {
        words,
        behind: words.wrapping_add(steps * width),
        scales: panels.scales(panel).as_ptr(),
        width,
        groups,
        steps: steps.checked_div(groups).unwrap_or(0),
        operand,
        rows: [first, step, count],
        addend,
        addend_stride,
        to,
        to_stride,
        places,
    };
    // SAFETY: the sizes are checked above, and the level by the processor.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if panels.format() == Format::Int8
            && level.set() == InstructionSet::Amx
            && tiles::run(level, &task)
        {
            return;
        }
        forms::run(level, panels.format(), &task);
    }
}
