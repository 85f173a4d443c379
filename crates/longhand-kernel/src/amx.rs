//! Products on the tile registers of Intel's AMX: 16 rows by 16 columns of sums, and operands of 64
//! bytes along the inner size ("Intel 64 and IA-32 Architectures Software Developer's Manual",
//! volume 1, chapter 18).
//!
//! A lane holds neighbours along the inner size: two bf16 elements, as in
//! [`Pairs`](crate::operand::Pairs), or four bytes. Sixteen rows of lanes are a tile of A without
//! reordering, and sixteen lanes of a vector of columns one of B. The standard library has no stable
//! functions for these instructions, so that they are written as assembly.

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
use std::marker::PhantomData;

use crate::level::{InstructionSet, Level};
use crate::precision::Precision;

/// Rows of a tile, its columns, and the lanes along the inner size that one instruction multiplies.
pub(crate) const SIDE: usize = 16;

/// The tile registers of this thread, configured; given back when it is dropped.
pub(crate) struct Tiles {
    /// A thread has registers of its own.
    _own: PhantomData<*const ()>,
}

/// The left operand of a product: rows of lanes.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    /// The first lane of the first row.
    pub(crate) from: *const f32,
    /// Lanes from a row to the next one.
    pub(crate) stride: usize,
}

/// The right operand of a product: for each lane of the inner size, its columns side by side.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// The first column of the first lane.
    pub(crate) from: *const f32,
    /// Elements from a lane to the next one.
    pub(crate) stride: usize,
    /// Elements from sixteen columns to the next sixteen.
    pub(crate) next: usize,
}

/// The sums of a product of bf16 pairs.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    /// The first sum.
    pub(crate) to: *mut f32,
    /// Elements from a row to the next one.
    pub(crate) stride: usize,
}

/// The configuration of eight tiles (palette 1): how many rows each has, and their 64 bytes.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

impl Configuration {
    const fn of(rows: [u8; 8]) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = rows[tile];
            tile += 1;
        }
        Self(bytes)
    }

    /// Configures the registers of this thread, and clears them.
    ///
    /// # Safety
    /// The machine has tiles, and this process may use them.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(&self) {
        // SAFETY: as the caller promises; the configuration is 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const self.0, options(nostack)) };
    }
}

static WHOLE: Configuration = Configuration::of([SIDE as u8; 8]);

impl Tiles {
    /// Configures the registers of this thread; none where the level has no tiles for operands of
    /// this precision. A thread has one set of registers: it drops the value before it makes another.
    pub(crate) fn of(level: Level, precision: Precision) -> Option<Self> {
        if (level.set(), precision) != (InstructionSet::Amx, Precision::Bf16) {
            return None;
        }
        // SAFETY: only detection makes a level, so that the machine has tiles and this process may
        // use them.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            WHOLE.load()
        };
        Some(Self { _own: PhantomData })
    }

    /// `sums (+)= left · columns` for R × 16 rows and W × 16 columns, over `steps` × 16 lanes. R and W
    /// are 1 or 2.
    ///
    /// # Safety
    /// All of these elements can be read, and the sums written.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) unsafe fn multiply<const R: usize, const W: usize>(
        &self,
        steps: usize,
        left: Left,
        columns: Columns,
        sums: Sums,
        add: bool,
    ) {
        const { assert!(R == 1 || R == 2) };
        const { assert!(W == 1 || W == 2) };
        let (a_row, b_row) = (left.stride * size_of::<f32>(), columns.stride * size_of::<f32>());
        macro_rules! product {
            ([$($load:literal)+] [$($zero:literal)+] [$($step:literal)+] [$($store:literal)+]) => {
                asm!(
                    "test {add:e}, {add:e}",
                    "jz 3f",
                    $($load,)+
                    "jmp 4f",
                    "3:",
                    $($zero,)+
                    "4:",
                    "test {steps}, {steps}",
                    "jz 5f",
                    "2:",
                    $($step,)+
                    "add {a}, 64",
                    "add {a_below}, 64",
                    "add {b}, {b_step}",
                    "add {b_right}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    "5:",
                    $($store,)+
                    add = in(reg) u32::from(add),
                    steps = inout(reg) steps => _,
                    a = inout(reg) left.from => _,
                    a_below = inout(reg) left.from.wrapping_add(SIDE * left.stride) => _,
                    a_row = in(reg) a_row,
                    b = inout(reg) columns.from => _,
                    b_right = inout(reg) columns.from.wrapping_add(columns.next) => _,
                    b_row = in(reg) b_row,
                    b_step = in(reg) SIDE * b_row,
                    c = in(reg) sums.to,
                    c_below = in(reg) sums.to.wrapping_add(SIDE * sums.stride),
                    c_row = in(reg) sums.stride * size_of::<f32>(),
                    options(nostack),
                )
            };
        }
        // SAFETY: the registers are configured, and the caller promised the memory.
        unsafe {
            match (R, W) {
                (1, 1) => product!(
                    ["tileloadd tmm0, [{c} + {c_row}]"]
                    ["tilezero tmm0"]
                    [
                        "tileloadd tmm4, [{a} + {a_row}]"
                        "tileloadd tmm6, [{b} + {b_row}]"
                        "tdpbf16ps tmm0, tmm4, tmm6"
                    ]
                    ["tilestored [{c} + {c_row}], tmm0" "/* {c_below} */"]
                ),
                (1, _) => product!(
                    ["tileloadd tmm0, [{c} + {c_row}]" "tileloadd tmm1, [{c} + {c_row} + 64]"]
                    ["tilezero tmm0" "tilezero tmm1"]
                    [
                        "tileloadd tmm4, [{a} + {a_row}]"
                        "tileloadd tmm6, [{b} + {b_row}]"
                        "tileloadd tmm7, [{b_right} + {b_row}]"
                        "tdpbf16ps tmm0, tmm4, tmm6"
                        "tdpbf16ps tmm1, tmm4, tmm7"
                    ]
                    [
                        "tilestored [{c} + {c_row}], tmm0"
                        "tilestored [{c} + {c_row} + 64], tmm1"
                        "/* {c_below} */"
                    ]
                ),
                (_, 1) => product!(
                    ["tileloadd tmm0, [{c} + {c_row}]" "tileloadd tmm2, [{c_below} + {c_row}]"]
                    ["tilezero tmm0" "tilezero tmm2"]
                    [
                        "tileloadd tmm4, [{a} + {a_row}]"
                        "tileloadd tmm6, [{b} + {b_row}]"
                        "tileloadd tmm5, [{a_below} + {a_row}]"
                        "tdpbf16ps tmm0, tmm4, tmm6"
                        "tdpbf16ps tmm2, tmm5, tmm6"
                    ]
                    [
                        "tilestored [{c} + {c_row}], tmm0"
                        "tilestored [{c_below} + {c_row}], tmm2"
                    ]
                ),
                _ => product!(
                    [
                        "tileloadd tmm0, [{c} + {c_row}]"
                        "tileloadd tmm1, [{c} + {c_row} + 64]"
                        "tileloadd tmm2, [{c_below} + {c_row}]"
                        "tileloadd tmm3, [{c_below} + {c_row} + 64]"
                    ]
                    ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"]
                    [
                        "tileloadd tmm4, [{a} + {a_row}]"
                        "tileloadd tmm6, [{b} + {b_row}]"
                        "tileloadd tmm7, [{b_right} + {b_row}]"
                        "tdpbf16ps tmm0, tmm4, tmm6"
                        "tileloadd tmm5, [{a_below} + {a_row}]"
                        "tdpbf16ps tmm1, tmm4, tmm7"
                        "tdpbf16ps tmm2, tmm5, tmm6"
                        "tdpbf16ps tmm3, tmm5, tmm7"
                    ]
                    [
                        "tilestored [{c} + {c_row}], tmm0"
                        "tilestored [{c} + {c_row} + 64], tmm1"
                        "tilestored [{c_below} + {c_row}], tmm2"
                        "tilestored [{c_below} + {c_row} + 64], tmm3"
                    ]
                ),
            }
        }
    }
}

/// Tile registers of this thread for products of bytes, configured for some rows of the left operand;
/// given back when it is dropped.
#[cfg(target_arch = "x86_64")]
pub(crate) struct ByteTiles {
    _registers: Tiles,
}

#[cfg(target_arch = "x86_64")]
impl ByteTiles {
    /// Configures the registers for `rows` rows, 1 to 16; none where the level has no tiles. A thread
    /// has one set of registers: it drops the value before it makes another.
    pub(crate) fn of(level: Level, rows: usize) -> Option<Self> {
        if level.set() != InstructionSet::Amx {
            return None;
        }
        let tiles = Self { _registers: Tiles { _own: PhantomData } };
        tiles.set_rows(rows);
        Some(tiles)
    }

    /// Configures them for another number of rows, 1 to 16.
    pub(crate) fn set_rows(&self, rows: usize) {
        assert!((1..=SIDE).contains(&rows), "{rows} rows of a tile");
        let (sums, whole) = (rows as u8, SIDE as u8);
        let configuration = Configuration::of([sums, sums, sums, sums, sums, whole, whole, whole]);
        // SAFETY: `of` has asked the level, which only detection makes.
        unsafe { configuration.load() };
    }

    /// `sums = left · columns` for the configured rows and W × 16 adjacent columns, over `steps` × 16
    /// lanes of four bytes: signed ones on the left, unsigned ones on the right. W is 1 or 4. The sums
    /// of a row begin 64 elements behind those of the row before.
    ///
    /// # Safety
    /// All of these elements can be read, and the sums written.
    #[inline(always)]
    pub(crate) unsafe fn multiply<const W: usize>(
        &self,
        steps: usize,
        left: Left,
        columns: Columns,
        sums: *mut i32,
    ) {
        const { assert!(W == 1 || W == 4) };
        let (a_row, b_row) = (left.stride * size_of::<f32>(), columns.stride * size_of::<f32>());
        macro_rules! product {
            ([$($zero:literal)+] [$($step:literal)+] [$($store:literal)+]) => {
                asm!(
                    $($zero,)+
                    "test {steps}, {steps}",
                    "jz 5f",
                    "2:",
                    "tileloadd tmm4, [{a} + {a_row}]",
                    $($step,)+
                    "add {a}, 64",
                    "add {b}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    "5:",
                    $($store,)+
                    steps = inout(reg) steps => _,
                    a = inout(reg) left.from => _,
                    a_row = in(reg) a_row,
                    b = inout(reg) columns.from => _,
                    b_row = in(reg) b_row,
                    b_step = in(reg) SIDE * b_row,
                    c = in(reg) sums,
                    c_row = in(reg) 4 * SIDE * size_of::<i32>(),
                    options(nostack),
                )
            };
        }
        // SAFETY: the registers are configured, and the caller promised the memory.
        unsafe {
            if W == 1 {
                product!(
                    ["tilezero tmm0"]
                    ["tileloadd tmm5, [{b} + {b_row}]" "tdpbsud tmm0, tmm4, tmm5"]
                    ["tilestored [{c} + {c_row}], tmm0"]
                );
            } else {
                product!(
                    ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"]
                    [
                        "tileloadd tmm5, [{b} + {b_row}]"
                        "tdpbsud tmm0, tmm4, tmm5"
                        "tileloadd tmm6, [{b} + {b_row} + 64]"
                        "tdpbsud tmm1, tmm4, tmm6"
                        "tileloadd tmm7, [{b} + {b_row} + 128]"
                        "tdpbsud tmm2, tmm4, tmm7"
                        "tileloadd tmm5, [{b} + {b_row} + 192]"
                        "tdpbsud tmm3, tmm4, tmm5"
                    ]
                    [
                        "tilestored [{c} + {c_row}], tmm0"
                        "tilestored [{c} + {c_row} + 64], tmm1"
                        "tilestored [{c} + {c_row} + 128], tmm2"
                        "tilestored [{c} + {c_row} + 192], tmm3"
                    ]
                );
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Tiles {
    /// Never called: no machine of another kind has tiles.
    pub(crate) unsafe fn multiply<const R: usize, const W: usize>(
        &self,
        _steps: usize,
        _left: Left,
        _columns: Columns,
        _sums: Sums,
        _add: bool,
    ) {
        unreachable!("tiles without AMX")
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the registers were configured by this thread. Released, they are no longer saved
        // when the thread is switched.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!("tilerelease", options(nomem, nostack))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// bf16 pairs in which every element is a small whole number, so that sums are exact.
    fn pair(first: i32, second: i32) -> f32 {
        let bits = |x: i32| (x as f32).to_bits() >> 16;
        f32::from_bits(bits(first) | bits(second) << 16)
    }

    fn element(i: usize, k: usize) -> i32 {
        (i * 7 + k * 3) as i32 % 5 - 2
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_give_exact_sums_of_whole_numbers_and_touch_nothing_else() {
        let Some(level) = Level::of(InstructionSet::Amx) else {
            eprintln!("skipped: this machine has no AMX");
            return;
        };
        let tiles = Tiles::of(level, Precision::Bf16).unwrap();
        check::<1, 1>(&tiles);
        check::<1, 2>(&tiles);
        check::<2, 1>(&tiles);
        check::<2, 2>(&tiles);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn bytes_of_either_sign_give_exact_sums_and_touch_nothing_else() {
        let Some(level) = Level::of(InstructionSet::Amx) else {
            eprintln!("skipped: this machine has no AMX");
            return;
        };
        let tiles = ByteTiles::of(level, 1).unwrap();
        for rows in [1, 5, 16] {
            tiles.set_rows(rows);
            check_bytes::<1>(&tiles, rows);
            check_bytes::<4>(&tiles, rows);
        }
    }

    /// Signed bytes by unsigned ones, the extremes among them.
    #[cfg(target_arch = "x86_64")]
    fn check_bytes<const W: usize>(tiles: &ByteTiles, rows: usize) {
        const ROW: usize = 4 * SIDE;
        let lane =
            |byte: &dyn Fn(usize) -> u8| f32::from_bits(u32::from_le_bytes([0, 1, 2, 3].map(byte)));
        let signed = |i: usize, k: usize| ((i * 37 + k * 11) % 255) as i32 - 127;
        let unsigned = |j: usize, k: usize| ((j * 29 + k * 7) % 256) as i32;
        for steps in [0, 1, 3] {
            let (columns, lanes) = (W * SIDE, steps * SIDE);
            let (a_stride, b_stride) = (lanes + 5, columns + 16);
            let a: Vec<f32> = (0..rows * a_stride)
                .map(|at| lane(&|q| signed(at / a_stride, 4 * (at % a_stride) + q) as u8))
                .collect();
            let b: Vec<f32> = (0..lanes * b_stride)
                .map(|at| lane(&|q| unsigned(at % b_stride, 4 * (at / b_stride) + q) as u8))
                .collect();
            let mut sums = vec![-7; SIDE * ROW];
            let left = Left { from: a.as_ptr(), stride: a_stride };
            let right = Columns { from: b.as_ptr(), stride: b_stride, next: SIDE };
            // SAFETY: the vectors hold all of these elements.
            unsafe { tiles.multiply::<W>(steps, left, right, sums.as_mut_ptr()) };
            for (at, &got) in sums.iter().enumerate() {
                let (i, j) = (at / ROW, at % ROW);
                let sum = (0..4 * lanes).map(|k| signed(i, k) * unsigned(j, k)).sum();
                let wanted = if i < rows && j < columns { sum } else { -7 };
                assert_eq!(got, wanted, "row {i} of {rows}, column {j}, {steps} steps, W {W}");
            }
        }
    }

    fn check<const R: usize, const W: usize>(tiles: &Tiles) {
        for steps in [0, 1, 3] {
            let (rows, columns, lanes) = (R * SIDE, W * SIDE, steps * SIDE);
            let (a_stride, b_stride, stride) = (lanes + 5, columns + 16, columns + 3);
            let a: Vec<f32> = (0..rows * a_stride)
                .map(|at| (at / a_stride, at % a_stride))
                .map(|(i, l)| pair(element(i, 2 * l), element(i, 2 * l + 1)))
                .collect();
            let b: Vec<f32> = (0..lanes * b_stride)
                .map(|at| (at % b_stride, at / b_stride))
                .map(|(j, l)| pair(element(j + 40, 2 * l), element(j + 40, 2 * l + 1)))
                .collect();
            for add in [false, true] {
                let mut c = vec![3.0; rows * stride];
                let left = Left { from: a.as_ptr(), stride: a_stride };
                let right = Columns { from: b.as_ptr(), stride: b_stride, next: SIDE };
                let sums = Sums { to: c.as_mut_ptr(), stride };
                // SAFETY: the vectors hold all of these elements.
                unsafe { tiles.multiply::<R, W>(steps, left, right, sums, add) };
                for (at, &got) in c.iter().enumerate() {
                    let (i, j) = (at / stride, at % stride);
                    let product = |k| element(i, k) * element(j + 40, k);
                    let sum = (0..2 * lanes).map(product).sum::<i32>() as f32;
                    let old = if add { 3.0 } else { 0.0 };
                    let wanted = if j < columns { old + sum } else { 3.0 };
                    assert_eq!(got, wanted, "row {i}, column {j}, {steps} steps, {R} × {W}");
                }
            }
        }
    }
}
