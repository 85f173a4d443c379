//! Some slots of a state, lent to a decode step without copying their KV caches.

use longhand_kernel::Buffer;

use super::{State, StateError};

impl State {
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
        Ok(State { layout, positions, since_reset, tensors, lent: Some(slots.to_vec()) })
    }

    /// Takes back what [`State::lend`] gave for the same slots.
    pub fn take_back(&mut self, slots: &[usize], part: State) {
        for (i, &slot) in slots.iter().enumerate() {
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
}
