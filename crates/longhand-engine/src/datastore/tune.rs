//! λ and the temperature of a mixture, found on held-out text.

use longhand_model::{Cpu, IGNORE};

use super::mix::{Shares, vote};
use super::mixture::Mixture;
use super::neighbours::Neighbours;
use crate::datastore_error::DatastoreError;

/// Temperatures that are tried: the spread of the datastore times powers of √2.
const HALVINGS: std::ops::RangeInclusive<i32> = -18..=8;
/// λ is tried at multiples of one over this number.
const STEPS: usize = 50;

/// Sums the losses of held-out text for many mixtures at once, so that the text is read once and
/// nothing of it is kept.
pub struct Tuner {
    temperatures: Vec<f64>,
    /// Σ −ln p for each temperature and each λ below 1.
    nats: Vec<[f64; STEPS]>,
    alone: f64,
    tokens: u64,
}

/// The best mixture that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// The best of the mixtures.
    pub mixture: Mixture,
    /// Its mean loss on the held-out text, in nats.
    pub loss: f64,
    /// The model's own mean loss, in nats.
    pub alone: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
}

impl Tuner {
    /// A tuner that has read nothing yet.
    pub fn new(neighbours: &Neighbours) -> Self {
        // Keys that are all equal have a spread of 0.
        let spread = neighbours.store().header().spread.max(1e-6);
        let temperatures: Vec<f64> =
            HALVINGS.map(|power| spread * 2.0_f64.powf(f64::from(power) / 2.0)).collect();
        let nats = vec![[0.0; STEPS]; temperatures.len()];
        Self { temperatures, nats, alone: 0.0, tokens: 0 }
    }

    /// Takes in rows of held-out text: their hidden states `[R, D]`, the tokens that followed
    /// `[R]`, where [`IGNORE`] leaves a row out, and the model's own losses of them, in nats.
    ///
    /// # Errors
    /// As [`Neighbours::mix_losses`], for the rows and the datastore.
    pub fn add(
        &mut self,
        cpu: &Cpu,
        neighbours: &mut Neighbours,
        hidden: &[f32],
        targets: &[u32],
        losses: &[f32],
    ) -> Result<(), DatastoreError> {
        let Self { temperatures, nats, .. } = self;
        let shares: [Shares; STEPS] = std::array::from_fn(|step| Shares::new(lambda(step)));
        neighbours.each(cpu, hidden, targets, |found, row, target| {
            let model = -f64::from(losses[row]);
            for (&temperature, nats) in temperatures.iter().zip(nats.iter_mut()) {
                let neighbours = vote(found, temperature, target);
                for (shares, nats) in shares.iter().zip(nats) {
                    *nats -= shares.mix(neighbours, model);
                }
            }
        })?;
        for (&loss, _) in losses.iter().zip(targets).filter(|(_, target)| **target != IGNORE) {
            self.alone += f64::from(loss);
            self.tokens += 1;
        }
        Ok(())
    }

    /// The mixture with the least loss; of equal ones the smallest λ, and then the lowest
    /// temperature. λ = 0 is one of those that are tried, so that it is never worse than the model
    /// alone on this text.
    pub fn best(&self, mixture: Mixture) -> Tuned {
        let each = self.temperatures.iter().zip(&self.nats);
        let all = each.flat_map(|(&temperature, nats)| {
            nats.iter().enumerate().map(move |(step, &nats)| (nats, lambda(step), temperature))
        });
        let order = |a: &(f64, f64, f64), b: &(f64, f64, f64)| {
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
        };
        let tokens = self.tokens.max(1) as f64;
        let best = all.min_by(order).filter(|_| self.tokens > 0);
        let (nats, mixture) = match best {
            Some((nats, lambda, temperature)) => (nats, Mixture { lambda, temperature, ..mixture }),
            None => (0.0, mixture),
        };
        Tuned { mixture, loss: nats / tokens, alone: self.alone / tokens, tokens: self.tokens }
    }
}

fn lambda(step: usize) -> f64 {
    step as f64 / STEPS as f64
}
