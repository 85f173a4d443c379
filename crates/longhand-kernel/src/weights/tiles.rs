//! Products of int8 in the tile registers of AMX. Their sums are exact, so that they are those of the
//! vectors.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::dot::Dot;
use super::forms::Int8Vnni;
use super::tile::Task;
use super::{LANES, PANEL};
use crate::amx::{ByteTiles, Columns, Left, SIDE};
use crate::level::Level;

/// With fewer rows than this, vectors are faster.
const FEWEST_ROWS: usize = 4;

/// Room for the sums of a tile's rows and a panel's places.
#[repr(C, align(64))]
struct Room([MaybeUninit<i32>; SIDE * PANEL]);

/// Runs a task of int8 in tiles; false, and nothing done, where the rows are too few.
///
/// # Safety
/// The level has tiles, the task was checked, and behind its words there are as many as make its steps
/// whole tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn run(level: Level, task: &Task) -> bool {
    let [first, step, count] = task.rows;
    if count < FEWEST_ROWS {
        return false;
    }
    // Cuts of nearly equal height.
    let cuts = count.div_ceil(SIDE);
    let Some(tiles) = ByteTiles::of(level, count / cuts) else { return false };
    let (mut from, mut height) = (0, count / cuts);
    let mut room = Room([const { MaybeUninit::uninit() }; SIDE * PANEL]);
    let sums: *mut i32 = room.0.as_mut_ptr().cast();
    for cut in 1..=cuts {
        let to = count * cut / cuts;
        if to - from != height {
            height = to - from;
            tiles.set_rows(height);
        }
        let codes = task.operand.row(first + from * step).codes;
        let left = Left { from: codes.cast(), stride: task.operand.stride() * step };
        // SAFETY: the rows are the operand's, the words and the room hold whole tiles.
        unsafe {
            multiply(&tiles, task, left, sums);
            for row in 0..height {
                finish(task, from + row, sums.add(row * PANEL));
            }
        }
        from = to;
    }
    true
}

/// The sums of a cut's rows and all places of the panel.
unsafe fn multiply(tiles: &ByteTiles, task: &Task, left: Left, sums: *mut i32) {
    let steps = task.steps.div_ceil(SIDE);
    let columns = |place: usize| {
        let from = task.words.wrapping_add(place);
        Columns { from, stride: task.width, next: LANES }
    };
    // SAFETY: as the caller promises.
    unsafe {
        if task.width == PANEL {
            return tiles.multiply::<4>(steps, left, columns(0), sums);
        }
        for place in (0..task.width).step_by(LANES) {
            tiles.multiply::<1>(steps, left, columns(place), sums.add(place));
        }
    }
}

/// What one row's sums become: as behind the vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn finish(task: &Task, row: usize, sums: *const i32) {
    let [first, step, _] = task.rows;
    let x = task.operand.row(first + row * step);
    // SAFETY: the row is one of the task's; there are sums and scales for all places of the panel.
    unsafe {
        let (correction, scale) = (Int8Vnni::start(x.correction(0)), x.scale());
        let to = task.to.add(row * task.to_stride);
        let addend = task.addend.add(row * task.addend_stride);
        for at in (0..task.places).step_by(LANES) {
            let sums = _mm512_add_epi32(_mm512_loadu_si512(sums.add(at).cast()), correction);
            let total = Int8Vnni::floats(sums, task.scales.add(at)).scale(scale);
            total.store_sum(addend.add(at), to.add(at), task.places - at);
        }
    }
}
