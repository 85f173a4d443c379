//! `F.cross_entropy` over a linear layer, `torch.optim.AdamW` and `torch.optim.SGD`.

use longhand_kernel::Cpu;
use longhand_kernel::loss::{self, Gradient, IGNORE, Layer, Size, Targets};
use longhand_kernel::optimizer::{self, AdamW, Sgd};

use crate::{Case, processors};

const LOSS: &[u8] = include_bytes!("loss.safetensors");
const OPTIMIZER: &[u8] = include_bytes!("optimizer.safetensors");

#[test]
fn cross_entropy() {
    let case = Case::new(LOSS, "smoothed");
    let [x, weight, bias] = ["x", "weight", "bias"].map(|name| case.values(name));
    // PyTorch's mark of a row that counts for nothing is −100.
    let ours = |target: u32| if target as i32 == -100 { IGNORE } else { target };
    let targets: Vec<u32> = case.numbers("targets").into_iter().map(ours).collect();
    let counted = targets.iter().filter(|&&target| target != IGNORE).count();
    let shape = case.shape("x");
    let size = Size { rows: shape[0], width: shape[1], vocabulary: bias.len() };
    for cpu in processors() {
        let mut losses = vec![0.0; size.rows];
        let [mut d_x, mut d_weight, mut d_bias] =
            [&x, &weight, &bias].map(|values| vec![0.0; values.len()]);
        let total = loss::cross_entropy(
            &cpu,
            size,
            Layer { x: &x, weight: &weight, bias: Some(&bias) },
            Targets { ids: &targets, smoothing: 0.1 },
            Some(&mut losses),
            Some(Gradient {
                scale: 1.0 / counted as f32,
                x: Some(&mut d_x),
                weight: Some(&mut d_weight),
                bias: Some(&mut d_bias),
            }),
        );
        assert_eq!(total.count, counted);
        case.check("losses", &losses);
        case.check("mean", &[(total.nats / counted as f64) as f32]);
        case.check("d_x", &d_x);
        case.check("d_weight", &d_weight);
        case.check("d_bias", &d_bias);
    }
}

#[test]
fn adamw() {
    steps("adamw", |cpu, step, weights, gradient, [m, v]| {
        let settings = AdamW {
            learning_rate: 0.02,
            beta1: 0.8,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            step: step as u64 + 1,
        };
        optimizer::adamw(cpu, settings, 1.0, gradient, weights, m, v);
    });
}

#[test]
fn momentum() {
    descend("momentum", Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.01, ..plain() });
}

#[test]
fn nesterov() {
    descend("nesterov", Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.01, ..plain() });
}

#[test]
fn plain_descent() {
    descend("plain", plain());
}

fn plain() -> Sgd {
    Sgd { learning_rate: 0.05, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
}

fn descend(name: &'static str, settings: Sgd) {
    steps(name, |cpu, _, weights, gradient, [momentum, _]| {
        let momentum = (settings.momentum != 0.0).then_some(momentum);
        optimizer::sgd(cpu, settings, 1.0, gradient, weights, momentum);
    });
}

/// Takes the steps of a case; `step` gets the weights, the gradient and two buffers of zeros that
/// it may keep things in.
fn steps(name: &'static str, step: impl Fn(&Cpu, usize, &mut [f32], &[f32], [&mut [f32]; 2])) {
    let case = Case::new(OPTIMIZER, name);
    let gradients = case.values("gradients");
    for cpu in processors() {
        let mut weights = case.values("weights");
        let (mut first, mut second) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
        let mut after = Vec::new();
        for (i, gradient) in gradients.chunks(weights.len()).enumerate() {
            step(&cpu, i, &mut weights, gradient, [&mut first, &mut second]);
            after.extend_from_slice(&weights);
        }
        case.check("after", &after);
    }
}
