//! Instruction sets, and the proof that this machine has one.

mod amx;

/// The name of an instruction set. This machine may lack it: [`Level::of`] answers that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// [`InstructionSet::Avx512Bf16`] with matrix products of bf16 and int8 tiles.
    Amx,
    /// [`InstructionSet::Avx512`] with dot products of bf16 pairs.
    Avx512Bf16,
    /// 512-bit vectors with masks.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Plain Rust, which runs on every machine.
    Portable,
}

/// An instruction set that this machine has.
///
/// The vector code of this crate asks for a `Level`, and only detection makes one. Safe code
/// therefore cannot run instructions that the machine lacks:
///
/// ```compile_fail
/// use longhand_kernel::{InstructionSet, Level};
/// let forged = Level(InstructionSet::Avx512);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(InstructionSet);

impl InstructionSet {
    /// Every instruction set, best first.
    pub const ALL: [InstructionSet; 5] = [
        InstructionSet::Amx,
        InstructionSet::Avx512Bf16,
        InstructionSet::Avx512,
        InstructionSet::Avx2,
        InstructionSet::Portable,
    ];

    /// The name in flags and reports, such as `avx512-bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            InstructionSet::Amx => "amx-bf16",
            InstructionSet::Avx512Bf16 => "avx512-bf16",
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Portable => "portable",
        }
    }

    /// Whether the machine has every instruction of the set.
    fn detected(self) -> bool {
        match self {
            InstructionSet::Amx => InstructionSet::Avx512Bf16.detected() && amx::detected(),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 => {
                InstructionSet::Avx512.detected() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && InstructionSet::Avx2.detected()
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
            }
            #[cfg(not(target_arch = "x86_64"))]
            InstructionSet::Avx512Bf16 | InstructionSet::Avx512 | InstructionSet::Avx2 => false,
            InstructionSet::Portable => true,
        }
    }
}

impl Level {
    /// The best instruction set of this machine.
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self(InstructionSet::Portable))
    }

    /// A chosen instruction set, or `None` where this machine lacks it.
    pub fn of(set: InstructionSet) -> Option<Self> {
        set.detected().then_some(Self(set))
    }

    /// Every instruction set of this machine, best first.
    pub fn available() -> impl Iterator<Item = Self> {
        InstructionSet::ALL.into_iter().filter_map(Self::of)
    }

    /// The instruction set that the machine was found to have.
    pub fn set(self) -> InstructionSet {
        self.0
    }

    /// `f32` values in one vector: 8 or 16.
    pub fn lanes(self) -> usize {
        match self.0 {
            InstructionSet::Amx | InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => 16,
            InstructionSet::Avx2 | InstructionSet::Portable => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_exists_for_exactly_the_instruction_sets_of_this_machine() {
        for set in InstructionSet::ALL {
            assert_eq!(Level::of(set).map(Level::set), set.detected().then_some(set));
            assert_eq!(Level::available().any(|level| level.set() == set), set.detected());
        }
        assert!(Level::of(InstructionSet::Portable).is_some());
        assert_eq!(Level::available().next(), Some(Level::detect()));
    }

    /// A level implies every weaker one, since vector code of one calls that of another.
    #[test]
    fn the_levels_of_a_machine_are_a_tail_of_the_list() {
        let found: Vec<bool> = InstructionSet::ALL.map(InstructionSet::detected).to_vec();
        assert!(found.is_sorted(), "{found:?}");
    }
}
