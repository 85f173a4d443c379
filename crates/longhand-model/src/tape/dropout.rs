//! Dropout: masks are drawn again on the way back from their seeds, not kept.

use longhand_kernel::dropout::{self, Mask, Pattern};

use super::{Backward, Mode, Operation, Tape, Var};

pub(super) struct Dropout {
    mask: Mask,
    locked: bool,
    x: Var,
    pub(super) y: Var,
}

impl Tape {
    /// y = x with a share of its elements zero and the rest scaled up; x itself outside training.
    /// `locked` keeps one mask for each sequence over its positions.
    pub(crate) fn dropout(&mut self, x: Var, share: f32, locked: bool) -> Var {
        let Some(mask) = self.draw(share) else { return x };
        let mut data = self.buffers.take(self.data(x).len());
        dropout::forward(&self.cpu, mask, self.pattern(x, locked), self.data(x), &mut data);
        let y = self.push(data, self.width(x), self.needs(x));
        self.record(y, Operation::Dropout(Dropout { mask, locked, x, y }));
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

    fn pattern(&self, x: Var, locked: bool) -> Pattern<'static> {
        let (batch, width) = (self.span.batch, self.width(x));
        if locked { Pattern::Locked { batch, width } } else { Pattern::Elements }
    }
}

impl Dropout {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut dx = pass.tape.open(self.x);
        if let Some(dx) = &mut dx {
            let pattern = pass.tape.pattern(self.x, self.locked);
            dropout::backward(&pass.tape.cpu, self.mask, pattern, &dy, dx);
        }
        pass.tape.close(self.x, dx);
        pass.tape.buffers.give(dy);
    }
}
