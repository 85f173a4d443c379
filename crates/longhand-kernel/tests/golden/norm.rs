//! `F.rms_norm`, `F.layer_norm` and the package's `MultiHeadLayerNorm`.

use longhand_kernel::norm::{self, Gradients, Norm};

use crate::{Case, processors};

const FILE: &[u8] = include_bytes!("norm.safetensors");

#[test]
fn root_mean_square() {
    check("root_mean_square", |width| Norm::root_mean_square(width, 1e-6), false);
}

#[test]
fn layer() {
    check("layer", |width| Norm::layer(width, 1e-5), true);
}

#[test]
fn multi_head() {
    check("multi_head", |width| Norm::multi_head(2, width / 2, 1e-5), false);
}

fn check(name: &'static str, norm: impl Fn(usize) -> Norm, has_bias: bool) {
    let case = Case::new(FILE, name);
    let (x, weight, d_y) = (case.values("x"), case.values("weight"), case.values("d_y"));
    let bias = has_bias.then(|| case.values("bias"));
    let norm = norm(weight.len());
    for cpu in processors() {
        let mut y = vec![0.0; x.len()];
        let mut saved = vec![0.0; norm.saved_len(x.len() / weight.len())];
        norm::forward(&cpu, norm, &x, Some(&weight), bias.as_deref(), &mut y, &mut saved);
        case.check("y", &y);
        let mut d_x = vec![0.0; x.len()];
        let (mut d_weight, mut d_bias) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
        let [to_x, to_weight] = [&mut d_x, &mut d_weight].map(|to| Some(&mut to[..]));
        let to_bias = has_bias.then_some(&mut d_bias[..]);
        let weight = Some(&weight[..]);
        let gradients = Gradients { x: to_x, weight: to_weight, bias: to_bias };
        norm::backward(&cpu, norm, &x, weight, &saved, &d_y, gradients);
        case.check("d_x", &d_x);
        case.check("d_weight", &d_weight);
        if has_bias {
            case.check("d_bias", &d_bias);
        }
    }
}
