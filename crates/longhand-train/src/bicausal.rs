//! Learning to predict the next token and the previous one, each by a stack of its own.

use longhand_model::{Model, ModelError, Pass, Sequence};
use longhand_text::batch::PassageBatch;

use crate::passages::{Asked, PassageReader, Right};

/// A forward and a backward language model trained together (Peters et al., "Deep contextualized
/// word representations", 2018, section 3.1). Each passage is read in both directions, and the
/// losses of both are summed.
#[derive(Clone, Copy, Debug)]
pub struct Bicausal;

impl PassageReader for Bicausal {
    fn read(
        &self,
        model: &Model,
        pass: &mut Pass<'_>,
        batch: &PassageBatch,
        _seed: u64,
    ) -> Result<Vec<Asked>, ModelError> {
        let lengths = Some(&batch.lengths[..]);
        let sequence = Sequence { lengths, ..Sequence::new(batch.time, batch.batch) };
        let mut state = model.state(batch.batch);
        let [forward, backward] = model.forward_both(pass, &batch.ids, &sequence, &mut state)?;
        Ok(vec![
            Asked { x: forward, right: Right::Tokens(batch.shifted(1)) },
            Asked { x: backward, right: Right::Tokens(batch.shifted(-1)) },
        ])
    }
}
