//! Dropout. The backward pass draws each mask again from its seed; no mask is kept.

use longhand_kernel::dropout::{self, Mask, Pattern};

use super::{Backward, Mode, Operation, Tape, Var};

/// Which elements of a value share one draw.
#[derive(Clone, Copy)]
enum Together {
    Nothing,
    /// A feature over the positions of a sequence.
    Positions,
    Sequence,
}

pub(super) struct Dropout {
    mask: Mask,
    together: Together,
    x: Var,
    pub(super) y: Var,
}

impl Tape {
    /// y = x with a share of its elements zero and the rest scaled up; x itself outside training.
    /// `locked` keeps one mask for each sequence over its positions.
    pub(crate) fn dropout(&mut self, x: Var, share: f32, locked: bool) -> Var {
        let together = if locked { Together::Positions } else { Together::Nothing };
        match self.draw(share) {
            Some(mask) => self.drop(x, mask, together),
            None => x,
        }
    }

    /// y = x with a share of the sequences zero, for the whole pass the same ones wherever it is
    /// called, and the others as they are; x itself outside training.
    pub(crate) fn drop_sequences(&mut self, x: Var, share: f32) -> Var {
        match self.mode {
            Mode::Train { seed } if share > 0.0 => {
                let mask = Mask::new(seed.wrapping_shl(16), share).unscaled();
                self.drop(x, mask, Together::Sequence)
            }
            _ => x,
        }
    }

    fn drop(&mut self, x: Var, mask: Mask, together: Together) -> Var {
        let mut data = self.cpu.buffers().take(self.data(x).len());
        dropout::forward(&self.cpu, mask, self.pattern(x, together), self.data(x), &mut data);
        let y = self.push(self.span(x), data, self.width(x), self.needs(x));
        self.record(y, Operation::Dropout(Dropout { mask, together, x, y }));
        y
    }

    /// The pass's next mask, if something is dropped at all.
    pub(super) fn draw(&mut self, share: f32) -> Option<Mask> {
        let Mode::Train { seed } = self.mode else { return None };
        if share == 0.0 {
            return None;
        }
        self.draws += 1;
        // Masks of one pass and of neighbouring passes get far seeds.
        Some(Mask::new(seed.wrapping_shl(16).wrapping_add(self.draws), share))
    }

    fn pattern(&self, x: Var, together: Together) -> Pattern<'static> {
        let (batch, width) = (self.sequence(x, false).batch, self.width(x));
        match together {
            Together::Nothing => Pattern::Elements,
            Together::Positions => Pattern::Locked { batch, width },
            Together::Sequence => Pattern::Sequences { batch, width },
        }
    }
}

impl Dropout {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut dx = pass.tape.open(self.x);
        if let Some(dx) = &mut dx {
            let pattern = pass.tape.pattern(self.x, self.together);
            dropout::backward(&pass.tape.cpu, self.mask, pattern, &dy, dx);
        }
        pass.tape.close(self.x, dx);
        pass.tape.cpu.buffers().give(dy);
    }
}
