//! The embedded tokens of a pass: to read their gradient, to scale them, and to move them by a
//! constant. Adversarial training moves them ([`longhand_kernel::perturbation`]); integrated gradients
//! scale them.

use longhand_kernel::{Buffer, Cpu, elementwise, perturbation};

use super::{Backward, Operation, Pass, Tape, Var, reverse::reversed_row};

pub(super) struct Perturb {
    x: Var,
    /// Whether the rows of each sequence come in reverse.
    reversed: bool,
    pub(super) y: Var,
}

/// What of a sequence is embedded so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Embedded {
    /// Its tokens alone, which adversarial training moves.
    Tokens,
    /// Tokens, features and characters, which integrated gradients scale.
    Whole,
}

/// The treatment of the first sequence that a pass embeds.
#[derive(Default)]
pub(super) struct Perturbation {
    kind: Kind,
    /// Sequences that the pass has embedded; a second stack reads one of them again, in reverse.
    sequences: usize,
}

#[derive(Default)]
enum Kind {
    /// It is read as it is.
    #[default]
    None,
    /// Its gradient is summed over the stacks; empty before the backward pass.
    /// Each sequence is scaled first, if there are factors.
    Watch { scaling: Scaling, embedded: Option<Var>, gradient: Buffer },
    /// r `[T·B, D]` is added to it.
    Add(Buffer),
}

/// y = r + factor·(x − r) for the rows x of each sequence.
#[derive(Clone, Default)]
struct Scaling {
    /// `[B]`: the factor of each sequence; empty where nothing is scaled.
    factors: Vec<f32>,
    /// `[D]`: r, where a factor of 0 leads.
    from: Vec<f32>,
}

impl Pass<'_> {
    /// Keeps the gradient of the embedded tokens of the next sequence, for
    /// [`Pass::begin_perturbed`]. To be called before the pass reads it.
    pub fn watch_embedding(&mut self) {
        self.watch_scaled_embedding(&[], &[]);
    }

    /// As [`Pass::watch_embedding`], of the tokens with their features and characters: the sums x of
    /// each of B sequences are replaced by r + factor·(x − r), for a reference r `[D]`.
    pub fn watch_scaled_embedding(&mut self, factors: &[f32], from: &[f32]) {
        let scaling = Scaling { factors: factors.to_vec(), from: from.to_vec() };
        let kind = Kind::Watch { scaling, embedded: None, gradient: Buffer::default() };
        self.tape.perturbation = Perturbation { kind, sequences: 0 };
    }

    /// The watched tokens, x and g, each `[T·B, D]`: as they were embedded, before they were scaled,
    /// and the gradient with respect to what the blocks read. None before the backward pass.
    pub fn watched_embedding(&self) -> Option<(&[f32], &[f32])> {
        match &self.tape.perturbation.kind {
            Kind::Watch { embedded: Some(x), gradient, .. } if !gradient.is_empty() => {
                Some((self.tape.data(*x), gradient))
            }
            _ => None,
        }
    }

    /// Forgets the pass, of which the backward pass has run, and begins it again, with the same
    /// dropout masks: the first sequence that it embeds is now moved by the perturbation of size
    /// `epsilon` that raises the loss most, to first order ([`perturbation::direction`]). Nothing is
    /// moved if [`Pass::watch_embedding`] was not called, or no gradient came.
    pub fn begin_perturbed(&mut self, epsilon: f32) {
        let tape = &mut *self.tape;
        let kind = match std::mem::take(&mut tape.perturbation.kind) {
            Kind::Watch { embedded: Some(x), mut gradient, .. } if !gradient.is_empty() => {
                let (sequence, width) = (tape.sequence(x, false), tape.width(x));
                let (cpu, values) = (&tape.cpu, tape.data(x));
                perturbation::direction(cpu, epsilon, sequence, width, values, &mut gradient);
                Kind::Add(gradient)
            }
            _ => Kind::None,
        };
        let mode = tape.mode;
        tape.begin(mode);
        tape.perturbation.kind = kind;
    }
}

impl Tape {
    /// y = what is embedded of a sequence so far, x, moved where the pass moves that; x itself where
    /// the pass neither moves nor watches it. `reversed` says that x is the last sequence again, in
    /// reverse.
    pub(crate) fn perturb(&mut self, x: Var, reversed: bool, embedded: Embedded) -> Var {
        let begins = !reversed && embedded == Embedded::Tokens;
        self.perturbation.sequences += usize::from(begins);
        let treated = self.perturbation.kind.treats();
        if self.perturbation.sequences != 1 || treated != Some(embedded) {
            return x;
        }
        let mut data = self.cpu.buffers().take(self.data(x).len());
        data.copy_from_slice(self.data(x));
        let (mut needed, width) = (self.needs(x), self.width(x));
        match &mut self.perturbation.kind {
            Kind::None => {}
            Kind::Watch { scaling, embedded, .. } => {
                embedded.get_or_insert(x);
                // A frozen embedding's gradient is wanted as well.
                needed = true;
                scaling.apply(width, &mut data);
            }
            Kind::Add(r) => {
                let r = std::mem::take(r);
                self.add_rows(&r, x, reversed, &mut data);
                self.perturbation.kind = Kind::Add(r);
            }
        }
        let y = self.push(self.span(x), data, width, needed);
        self.record(y, Operation::Perturb(Perturb { x, reversed, y }));
        y
    }

    /// Adds rows to others in the order of the sequence of `like`, or in reverse.
    fn add_rows(&self, rows: &[f32], like: Var, reversed: bool, to: &mut [f32]) {
        if !reversed {
            return elementwise::accumulate(&self.cpu, rows, to);
        }
        let (sequence, width) = (self.sequence(like, false), self.width(like));
        for (row, to) in to.chunks_exact_mut(width).enumerate() {
            let from = reversed_row(&sequence, row) * width;
            to.iter_mut().zip(&rows[from..from + width]).for_each(|(to, from)| *to += from);
        }
    }
}

impl Perturbation {
    /// Forgets the treatment, and returns its memory.
    pub(super) fn clear(&mut self, cpu: &Cpu) {
        match std::mem::take(self).kind {
            Kind::Watch { gradient: buffer, .. } | Kind::Add(buffer) => cpu.buffers().give(buffer),
            Kind::None => {}
        }
    }
}

impl Perturb {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(mut dy) = pass.tape.finish(self.y) else { return };
        let tape = &mut *pass.tape;
        let width = tape.width(self.x);
        if let Kind::Watch { gradient, .. } = &mut tape.perturbation.kind {
            let mut sum = std::mem::take(gradient);
            if sum.is_empty() {
                sum = tape.cpu.zeros(dy.len());
            }
            tape.add_rows(&dy, self.x, self.reversed, &mut sum);
            if let Kind::Watch { gradient, .. } = &mut tape.perturbation.kind {
                *gradient = sum;
            }
        }
        let mut dx = tape.open(self.x);
        if let Some(dx) = &mut dx {
            if let Kind::Watch { scaling, .. } = &tape.perturbation.kind {
                scaling.apply_to_gradient(width, &mut dy);
            }
            elementwise::accumulate(&tape.cpu, &dy, dx);
        }
        tape.close(self.x, dx);
        tape.cpu.buffers().give(dy);
    }
}

impl Kind {
    /// What of a sequence is treated; none where it is read as it is.
    fn treats(&self) -> Option<Embedded> {
        match self {
            Self::None => None,
            Self::Watch { scaling, .. } if !scaling.factors.is_empty() => Some(Embedded::Whole),
            Self::Watch { .. } | Self::Add(_) => Some(Embedded::Tokens),
        }
    }
}

impl Scaling {
    /// Scales row t·B + b, of `width` numbers, by the factor of sequence b.
    fn apply(&self, width: usize, rows: &mut [f32]) {
        for (row, factor) in rows.chunks_exact_mut(width.max(1)).zip(self.factors.iter().cycle()) {
            for (value, from) in row.iter_mut().zip(&self.from) {
                *value = from + factor * (*value - from);
            }
        }
    }

    /// dx = factor·dy.
    fn apply_to_gradient(&self, width: usize, rows: &mut [f32]) {
        for (row, factor) in rows.chunks_exact_mut(width.max(1)).zip(self.factors.iter().cycle()) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longhand_kernel::Sequence;

    use super::*;
    use crate::{Config, Gradients, LossOptions, Mode, Model, Targets};

    const LENGTHS: [u32; 3] = [5, 2, 4];
    const CONFIG: &str = r#"{
        "model_type": "longhand", "format": 2, "vocab_size": 9, "width": 6, "norm": "none",
        "blocks": [{"long": {"type": "lstm", "hidden": 5}}],
        "heads": [{"type": "classifier", "classes": 3, "pooling": "mean"}]
    }"#;

    fn models() -> [Model; 2] {
        let config = Config::from_json(CONFIG.as_bytes()).unwrap();
        let stacks = CONFIG.replacen('{', r#"{"stacks": "bicausal","#, 1);
        let both = Config::from_json(stacks.as_bytes()).unwrap();
        [config, both].map(|config| Model::new(config, 5).unwrap())
    }

    /// Reads a batch; the summed loss.
    fn read(model: &Model, pass: &mut Pass<'_>, gradients: Option<&mut Gradients>) -> f64 {
        let time = 5;
        let sequence = Sequence { lengths: Some(&LENGTHS), ..Sequence::new(time, LENGTHS.len()) };
        let ids: Vec<u32> = (0..sequence.rows() as u32).map(|i| (i * i + 2) % 9).collect();
        let mut state = model.state(LENGTHS.len());
        let x = model.forward(pass, &ids, &sequence, &mut state).unwrap();
        let gradients = gradients.map(|gradients| (1.0, gradients));
        let options = LossOptions { gradients, ..LossOptions::default() };
        model.loss(pass, x, Targets::Labels(&[0, 2, 1]), options).unwrap().nats
    }

    fn moved(model: &Model, pass: &mut Pass<'_>, r: &[f32]) -> f64 {
        let mut buffer = pass.cpu().buffers().take(r.len());
        buffer.copy_from_slice(r);
        let mode = pass.tape.mode;
        pass.tape.begin(mode);
        pass.tape.perturbation.kind = Kind::Add(buffer);
        read(model, pass, None)
    }

    /// The loss, and the gradient of the embedded tokens.
    fn watched(model: &Model, pass: &mut Pass<'_>) -> (f64, Vec<f32>) {
        let mut gradients = Gradients::new(pass.cpu().clone(), &model.weights);
        pass.watch_embedding();
        let loss = read(model, pass, Some(&mut gradients));
        pass.backward(&model.weights, &mut gradients).unwrap();
        let Kind::Watch { gradient, .. } = &pass.tape.perturbation.kind else { panic!("watched") };
        (loss, gradient.to_vec())
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss_in_the_embedded_tokens() {
        for mut model in models() {
            let mut tape = Tape::new(Arc::new(Cpu::new(2)));
            let mut pass = tape.pass(Mode::Record);
            let (_, g) = watched(&model, &mut pass);
            for seed in 0..4 {
                let u: Vec<f32> =
                    (0..g.len()).map(|i| ((i * 7 + seed * 5) % 11) as f32 - 5.0).collect();
                let step = 1e-3;
                let [above, below] = [step, -step].map(|step: f32| {
                    let r: Vec<f32> = u.iter().map(|u| step * u).collect();
                    moved(&model, &mut pass, &r)
                });
                let slope = (above - below) / (2.0 * f64::from(step));
                let expected: f64 = g.iter().zip(&u).map(|(g, u)| f64::from(g * u)).sum();
                assert!(
                    (slope - expected).abs() < 2e-3 * (1.0 + expected.abs()),
                    "{slope} {expected}"
                );
            }
            // The same of an embedding that is not trained.
            model.weights.regroup(|parameter| crate::Group {
                trainable: parameter.name != "embedding.weight",
                ..parameter.group
            });
            let mut pass = tape.pass(Mode::Record);
            assert_eq!(watched(&model, &mut pass).1, g);
        }
    }

    #[test]
    fn a_scaled_embedding_has_the_gradient_of_its_scaled_values() {
        let factors = [0.5, 1.0, 0.0];
        let from = [0.1, -0.2, 0.3, 0.0, 0.5, -0.4];
        for model in models() {
            let mut tape = Tape::new(Arc::new(Cpu::new(2)));
            let mut pass = tape.pass(Mode::Record);
            let mut gradients = Gradients::new(pass.cpu().clone(), &model.weights);
            let mut at = |factors: &[f32]| {
                pass.begin_perturbed(0.0);
                pass.watch_scaled_embedding(factors, &from);
                let loss = read(&model, &mut pass, Some(&mut gradients));
                pass.backward(&model.weights, &mut gradients).unwrap();
                let (x, g) = pass.watched_embedding().unwrap();
                (loss, x.to_vec(), g.to_vec())
            };
            let (_, x, g) = at(&factors);
            // The slope in the factor of sequence b is the sum of (x − r)·g over its rows.
            for b in 0..3 {
                let step = 1e-3;
                let [above, below] = [step, -step].map(|step| {
                    let mut factors = factors;
                    factors[b] += step;
                    at(&factors).0
                });
                let slope = (above - below) / (2.0 * f64::from(step));
                let rows = x.chunks(6).zip(g.chunks(6)).skip(b).step_by(3);
                let dot = |(x, g): (&[f32], &[f32])| -> f64 {
                    x.iter().zip(g).zip(from).map(|((x, g), r)| f64::from((x - r) * g)).sum()
                };
                let expected: f64 = rows.map(dot).sum();
                assert!((slope - expected).abs() < 2e-3, "{slope} {expected}");
            }
        }
    }

    #[test]
    fn the_perturbation_raises_the_loss_more_than_others_of_its_size() {
        for model in models() {
            let mut tape = Tape::new(Arc::new(Cpu::new(2)));
            let mut pass = tape.pass(Mode::Record);
            let (loss, g) = watched(&model, &mut pass);
            pass.begin_perturbed(0.3);
            let Kind::Add(r) = &pass.tape.perturbation.kind else { panic!("nothing is moved") };
            let r = r.to_vec();
            let raised = read(&model, &mut pass, None);
            // The rise is that of the slope, but for the curvature.
            let expected: f64 = r.iter().zip(&g).map(|(r, g)| f64::from(r * g)).sum();
            let rise = raised - loss;
            assert!((rise / expected - 1.0).abs() < 0.2, "{rise} instead of {expected}");
            let width = r.len() / 15;
            for turn in 1..width {
                // The same numbers in other columns have the same size.
                let row = |row: &[f32]| -> Vec<f32> {
                    let mut row = row.to_vec();
                    row.rotate_right(turn);
                    row
                };
                let other: Vec<f32> = r.chunks_exact(width).flat_map(row).collect();
                assert!(moved(&model, &mut pass, &other) < raised, "{turn}");
            }
            // A pass that is not watched moves nothing, and the next one is as the first.
            pass.begin_perturbed(0.3);
            assert_eq!(read(&model, &mut pass, None), loss);
            assert_eq!(watched(&model, &mut tape.pass(Mode::Record)), (loss, g));
        }
    }
}
