//! The `xlstm` package's sLSTM, two heads.
//!
//! A difference of definition that no value here shows: the package takes m = ĩ as long as n is
//! zero in the *whole* batch, ours does so unit by unit, so that a stream which begins beside
//! others that do not is the same as alone.

use longhand_kernel::recurrence::{
    CellKind, Gradients, Input, Kept, OutputGradients, Outputs, Sizes, WeightGradients, Weights,
    backward, forward, saved_len,
};
use longhand_kernel::{Call, Sequence};

use crate::{Case, processors};

const FILE: &[u8] = include_bytes!("slstm.safetensors");
const WEIGHTS: [&str; 3] = ["weight_input", "weight_recurrent", "bias"];

#[test]
fn from_the_empty_state() {
    check("empty");
}

#[test]
fn from_a_given_state() {
    check("carried");
}

fn check(name: &'static str) {
    let case = Case::new(FILE, name);
    let (x, d_y) = (case.values("x"), case.values("d_y"));
    let (shape, hidden) = (case.shape("x"), case.shape("y")[2]);
    let sequence = Sequence::new(shape[0], shape[1]);
    let heads = case.shape("weight_recurrent")[0];
    let sizes = Sizes { cell: CellKind::Slstm, input: shape[2], hidden, heads };
    let [input, recurrent, bias] = WEIGHTS.map(|name| case.values(name));
    let weights = Weights { input: &input, recurrent: &recurrent, biases: [&bias, &[]] };
    let zeros = || vec![0.0; sequence.batch * hidden];
    let before = match name {
        "empty" => [(); 4].map(|()| zeros()),
        _ => ["h0", "c0", "n0", "m0"].map(|name| case.values(name)),
    };
    let state = before.each_ref().map(|state| &state[..]);
    for cpu in processors() {
        let mut y = vec![0.0; d_y.len()];
        let mut next = [(); 4].map(|()| zeros());
        let mut saved = vec![0.0; saved_len(sizes, &sequence)];
        let to = &mut next.each_mut().map(|next| &mut next[..]);
        let call = Call::new(&cpu, sizes, &sequence);
        forward(
            call,
            weights,
            Input::Rows(&x),
            &state,
            Outputs { y: &mut y, next: to, saved: Some(&mut saved) },
        );
        case.check("y", &y);
        for (name, got) in ["h", "c", "n", "m"].into_iter().zip(&next) {
            case.check(name, got);
        }

        let d_next = ["d_h", "d_c", "d_n"].map(|name| case.values(name));
        let d_next = d_next.each_ref().map(|d| &d[..]);
        let mut d_x = vec![0.0; x.len()];
        let mut to = [&input, &recurrent, &bias].map(|weight| vec![0.0; weight.len()]);
        let mut d_state = [(); 4].map(|()| zeros());
        let [to_input, to_recurrent, to_bias] = &mut to;
        let gradients = Gradients {
            weights: WeightGradients {
                input: Some(to_input),
                recurrent: Some(to_recurrent),
                biases: [Some(to_bias), None],
            },
            x: Some(&mut d_x),
            state: Some(&mut d_state.each_mut().map(|d| &mut d[..])),
        };
        let kept = Kept { y: &y, saved: &mut saved };
        let d = OutputGradients { y: &d_y, next: &d_next };
        backward(call, weights, Input::Rows(&x), &state, kept, d, gradients);
        case.check("d_x", &d_x);
        for (name, got) in WEIGHTS.into_iter().zip(&to) {
            case.check(&format!("d_{name}"), got);
        }
        if name != "empty" {
            for (name, got) in ["d_h0", "d_c0", "d_n0", "d_m0"].into_iter().zip(&d_state) {
                case.check(name, got);
            }
        }
    }
}
