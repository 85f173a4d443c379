//! Some slots of a state: lent to a decode step without copying their KV caches, or
//! copied to other slots.

use std::ops::Range;

use longhand_kernel::Buffer;

use super::{Declared, State, StateError};

impl State {
    /// Copies slots within the state, one copy `[from, to]` after the other: streams branch. Of a
    /// KV cache only what the stream has filled is copied, so that short streams branch cheaply.
    ///
    /// # Errors
    /// [`StateError::Slot`] if a slot does not exist. Nothing was copied then.
    pub fn branch(&mut self, copies: &[[usize; 2]]) -> Result<(), StateError> {
        copies.iter().flatten().try_for_each(|&slot| self.check_slot(slot))?;
        for &[from, to] in copies {
            let read = [self.positions[from], self.since_reset[from]];
            for (declared, words) in self.layout.tensors.iter().zip(&mut self.tensors) {
                let width = declared.words();
                declared.filled(read, |part| {
                    let source = from * width + part.start..from * width + part.end;
                    words.copy_within(source, to * width + part.start);
                });
            }
            [self.positions[to], self.since_reset[to]] = read;
            self.coverage[to] = self.coverage[from].clone();
        }
        Ok(())
    }

    /// Copies a slot of another state into a slot of this one, as [`State::branch`] does.
    ///
    /// # Errors
    /// [`StateError::Slot`] if a slot does not exist, [`StateError::Layout`] if the other state has
    /// another layout. Nothing was copied then.
    pub fn take_slot(&mut self, to: usize, other: &State, from: usize) -> Result<(), StateError> {
        if !self.has_layout(&other.layout) {
            return Err(StateError::Layout);
        }
        self.check_slot(to)?;
        other.check_slot(from)?;
        let read = [other.positions[from], other.since_reset[from]];
        let tensors = self.layout.tensors.iter().zip(&other.tensors);
        for ((declared, source), target) in tensors.zip(&mut self.tensors) {
            let width = declared.words();
            declared.filled(read, |part| {
                let source = &source[from * width + part.start..from * width + part.end];
                target[to * width + part.start..to * width + part.end].copy_from_slice(source);
            });
        }
        self.positions[to] = other.positions[from];
        self.since_reset[to] = other.since_reset[from];
        self.coverage[to].clone_from(&other.coverage[from]);
        Ok(())
    }

    /// A state of some slots, ascending, for passes that read one position of each stream and are
    /// not recorded. KV caches are moved, not copied: this state
    /// is incomplete until [`State::take_back`].
    ///
    /// # Errors
    /// [`StateError::Slot`] if a slot does not exist. Nothing was moved then.
    pub fn lend(&mut self, slots: &[usize]) -> Result<State, StateError> {
        slots.iter().try_for_each(|&slot| self.check_slot(slot))?;
        let pick = |values: &[u64]| slots.iter().map(|&slot| values[slot]).collect();
        let (positions, since_reset) = (pick(&self.positions), pick(&self.since_reset));
        let tensors = self.layout.tensors.iter().zip(&mut self.tensors).map(|(declared, words)| {
            if declared.cache {
                return std::mem::take(words);
            }
            let width = declared.words();
            let mut some = Buffer::zeros(slots.len() * width);
            for (to, &slot) in slots.iter().enumerate() {
                some[to * width..][..width].copy_from_slice(&words[slot * width..][..width]);
            }
            some
        });
        let (layout, tensors) = (self.layout.clone(), tensors.collect());
        let coverage = slots.iter().map(|&slot| std::mem::take(&mut self.coverage[slot])).collect();
        Ok(State { layout, positions, since_reset, tensors, lent: Some(slots.to_vec()), coverage })
    }

    /// Takes back what [`State::lend`] gave for the same slots.
    pub fn take_back(&mut self, slots: &[usize], mut part: State) {
        for (i, &slot) in slots.iter().enumerate() {
            self.coverage[slot] = std::mem::take(&mut part.coverage[i]);
            self.positions[slot] = part.positions[i];
            self.since_reset[slot] = part.since_reset[i];
        }
        let tensors = self.layout.tensors.iter().zip(&mut self.tensors).zip(part.tensors);
        for ((declared, words), some) in tensors {
            if declared.cache {
                *words = some;
                continue;
            }
            let width = declared.words();
            for (from, &slot) in slots.iter().enumerate() {
                words[slot * width..][..width].copy_from_slice(&some[from * width..][..width]);
            }
        }
    }

    /// The rows of the KV caches that the streams have, if those are of a larger state.
    pub(crate) fn lent(&self) -> Option<&[usize]> {
        self.lent.as_deref()
    }
}

impl Declared {
    /// The words of a stream that mean something after `[position, since_reset]` tokens, part by
    /// part: all of them, or the slots of a KV cache's rings that hold one of the last tokens.
    fn filled(&self, [position, since_reset]: [u64; 2], mut each: impl FnMut(Range<usize>)) {
        let all = self.words();
        let (true, &[rings, window, _]) = (self.cache, &self.shape[..]) else {
            return each(0..all);
        };
        let count = usize::try_from(since_reset).map_or(window, |since| since.min(window));
        if rings == 0 || window == 0 || count == 0 {
            return;
        }
        let slot = all / rings / window;
        let newest = (position.saturating_sub(1) % window as u64) as usize;
        let oldest = (newest + window + 1 - count) % window;
        let end = (oldest + count).min(window);
        for part in [oldest..end, 0..count - (end - oldest)] {
            for ring in 0..rings {
                let start = (ring * window + part.start) * slot;
                if !part.is_empty() {
                    each(start..start + part.len() * slot);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use longhand_kernel::{Cpu, Sequence};

    use crate::{Mode, Model, ModelError, Preset, State, StateError, Tape};

    /// Bits of every tensor of one row, and its counters.
    fn row(state: &State, slot: usize) -> (Vec<Vec<u32>>, [u64; 2]) {
        let one = state.extract(slot).unwrap();
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect();
        let tensors = one.tensors().map(|tensor| bits(&tensor.values())).collect();
        (tensors, [one.positions()[0], one.since_reset()[0]])
    }

    #[test]
    fn lent_rows_advance_as_each_does_alone_and_the_others_stay() {
        for preset in [Preset::LonghandNano, Preset::Xlstm, Preset::TanhLstm] {
            let mut model = Model::new(preset.config(33), 1).unwrap();
            model.pack();
            let mut tape = Tape::new(Cpu::new(2).into());
            let mut state = model.state(5);
            let ids: Vec<u32> = (0..5 * 9).map(|i| i * 7 % 33).collect();
            let lengths = [9, 3, 0, 7, 9];
            let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(9, 5) };
            model.forward(&mut tape.pass(Mode::Read), &ids, &sequence, &mut state).unwrap();
            let before: Vec<_> = (0..5).map(|slot| row(&state, slot)).collect();
            let mut expected = before.clone();
            for (slot, id) in [(1, 5), (3, 6)] {
                let mut one = state.extract(slot).unwrap();
                let single = Sequence::new(1, 1);
                model.forward(&mut tape.pass(Mode::Read), &[id], &single, &mut one).unwrap();
                expected[slot] = row(&one, 0);
            }
            let mut part = state.lend(&[1, 3]).unwrap();
            // Several positions, or gradients, need a state of their own.
            {
                let (long, pass) = (Sequence::new(2, 2), &mut tape.pass(Mode::Read));
                let refused = model.forward(pass, &[1; 4], &long, &mut part);
                assert_eq!(refused.err(), Some(ModelError::Lent));
            }
            let pair = Sequence::new(1, 2);
            model.forward(&mut tape.pass(Mode::Read), &[5, 6], &pair, &mut part).unwrap();
            state.take_back(&[1, 3], part);
            assert_eq!(state.lend(&[1, 5]).err(), Some(StateError::Slot { slot: 5, slots: 5 }));
            let after: Vec<_> = (0..5).map(|slot| row(&state, slot)).collect();
            assert!(after == expected, "{preset}");
            // Out and in again, elsewhere.
            let moved = state.extract(1).unwrap();
            state.insert(2, &moved).unwrap();
            assert!(row(&state, 2) == row(&state, 1));
        }
    }

    /// Branches go on as the streams that they were copied from, whatever the slots held before:
    /// short streams, and ones that have filled the window several times.
    #[test]
    fn branched_slots_go_on_as_the_ones_they_were_copied_from() {
        for preset in [Preset::LonghandNano, Preset::Xlstm, Preset::TanhLstm, Preset::Transformer] {
            let mut model = Model::new(preset.config(33), 1).unwrap();
            model.pack();
            let mut tape = Tape::new(Cpu::new(2).into());
            let ids =
                |count: usize| -> Vec<u32> { (0..count as u32).map(|i| i * 7 % 33).collect() };
            let mut state = model.state(4);
            for lengths in [[3, 9, 0, 5], [300, 1, 2, 300], [300, 0, 2, 77]] {
                let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(300, 4) };
                let pass = &mut tape.pass(Mode::Read);
                model.forward(pass, &ids(1200), &sequence, &mut state).unwrap();
                let mut other = model.state(3);
                model
                    .forward(
                        &mut tape.pass(Mode::Read),
                        &ids(60),
                        &Sequence::new(20, 3),
                        &mut other,
                    )
                    .unwrap();
                let whole = state.clone();
                state.branch(&[[0, 2], [2, 1], [3, 0]]).unwrap();
                other.take_slot(1, &whole, 3).unwrap();
                // Copied as a whole.
                let mut expected = whole.select(&[3, 0, 0, 3]).unwrap();
                let next = Sequence::new(1, 4);
                for step in 0..3 {
                    let mut rows = [Vec::new(), Vec::new(), Vec::new()];
                    let lone = &mut other.extract(1).unwrap();
                    let passes = [(&mut state, 4), (&mut expected, 4), (lone, 1)];
                    for ((state, batch), rows) in passes.into_iter().zip(&mut rows) {
                        let pass = &mut tape.pass(Mode::Read);
                        let sequence = Sequence { batch, ..next };
                        let ids = vec![step; batch];
                        let x = model.forward(pass, &ids, &sequence, state).unwrap();
                        model.logits(pass, x, 0..batch, rows);
                    }
                    assert!(rows[0] == rows[1], "{preset}");
                    assert!(rows[0][3 * 33..] == rows[2][..], "{preset}");
                    other.insert(1, &expected.extract(3).unwrap()).unwrap();
                    assert_eq!(state.positions(), expected.positions());
                    assert_eq!(state.since_reset(), expected.since_reset());
                }
            }
            let slots = StateError::Slot { slot: 4, slots: 4 };
            assert_eq!(state.branch(&[[0, 1], [1, 4]]), Err(slots));
            let foreign = Model::new(Preset::Lstm.config(33), 1).unwrap().state(1);
            assert_eq!(state.take_slot(0, &foreign, 0), Err(StateError::Layout));
        }
    }
}
