//! The `xlstm` package's mLSTM: its parallel form from the empty state, and its recurrent form from
//! a given one, two heads.
//!
//! A difference that the tolerance hides: in the empty state the package's parallel form has
//! m = −∞ and ours, as its recurrent form, m = 0, which changes h through ε alone.

use longhand_kernel::mlstm::{
    Gradients, Inputs, Kept, Sizes, State, StateMut, backward, forward, saved_len,
};
use longhand_kernel::{Call, Cpu, Sequence};

use crate::{Case, processors};

const FILE: &[u8] = include_bytes!("mlstm.safetensors");
const INPUTS: [&str; 5] = ["q", "k", "v", "i", "f"];
const STATE: [&str; 3] = ["c", "n", "m"];

#[test]
fn parallel_form_from_the_empty_state() {
    let case = Case::new(FILE, "parallel");
    let empty = lengths(&case).map(|len| vec![0.0; len]);
    for cpu in processors() {
        check_forward(&cpu, &case, &empty);
        check_backward(&cpu, &case, &empty, None);
    }
}

#[test]
fn recurrent_form_from_a_given_state() {
    let case = Case::new(FILE, "recurrent");
    let given = STATE.map(|name| case.values(&format!("{name}0")));
    let d_next = STATE.map(|name| case.values(&format!("d_{name}")));
    for cpu in processors() {
        let last = check_forward(&cpu, &case, &given);
        for (name, got) in STATE.into_iter().zip(&last) {
            case.check(name, got);
        }
        let d_state = check_backward(&cpu, &case, &given, Some(&d_next));
        for (name, got) in STATE.into_iter().zip(&d_state) {
            case.check(&format!("d_{name}0"), got);
        }
    }
}

/// Checks the outputs read at once, in chunks and step by step; gives the last state.
fn check_forward(cpu: &Cpu, case: &Case, from: &[Vec<f32>; 3]) -> [Vec<f32>; 3] {
    let ([time, batch], sizes) = shape(case);
    let values = INPUTS.map(|name| case.values(name));
    let mut last = from.clone();
    for chunk in [1, 5, time] {
        last = from.clone();
        let mut y = Vec::new();
        for start in (0..time).step_by(chunk) {
            let sequence = Sequence::new(chunk.min(time - start), batch);
            let part = values.each_ref().map(|values| {
                let row = values.len() / time;
                &values[start * row..(start + sequence.time) * row]
            });
            let mut out = vec![0.0; part[0].len()];
            let mut next = lengths(case).map(|len| vec![0.0; len]);
            let mut saved = vec![0.0; saved_len(sizes, &sequence)];
            let (state, to) = (state(&last), state_mut(&mut next));
            let call = Call::new(cpu, sizes, &sequence);
            forward(call, inputs(part), state, &mut out, to, &mut saved);
            y.extend(out);
            last = next;
        }
        case.check("y", &y);
    }
    last
}

/// Checks the gradients of the inputs; gives those of the first state.
fn check_backward(
    cpu: &Cpu,
    case: &Case,
    from: &[Vec<f32>; 3],
    d_next: Option<&[Vec<f32>; 3]>,
) -> [Vec<f32>; 3] {
    let ([time, batch], sizes) = shape(case);
    let sequence = Sequence::new(time, batch);
    let values = INPUTS.map(|name| case.values(name));
    let inputs = inputs(values.each_ref().map(|values| &values[..]));
    let mut y = vec![0.0; values[0].len()];
    let mut next = lengths(case).map(|len| vec![0.0; len]);
    let mut saved = vec![0.0; saved_len(sizes, &sequence)];
    let to = state_mut(&mut next);
    let call = Call::new(cpu, sizes, &sequence);
    forward(call, inputs, state(from), &mut y, to, &mut saved);
    let mut d_inputs = values.each_ref().map(|values| vec![0.0; values.len()]);
    let mut d_state = lengths(case).map(|len| vec![0.0; len]);
    let [q, k, v, input_gate, forget_gate] = d_inputs.each_mut().map(|to| Some(&mut to[..]));
    let state_gradient = Some(state_mut(&mut d_state));
    let gradients = Gradients { q, k, v, input_gate, forget_gate, state: state_gradient };
    let (d_y, d_next) = (case.values("d_y"), d_next.map(state));
    let kept = Kept { y: &y, saved: &saved };
    backward(call, inputs, state(from), kept, &d_y, d_next, gradients);
    for (name, got) in INPUTS.into_iter().zip(&d_inputs) {
        case.check(&format!("d_{name}"), got);
    }
    d_state
}

/// T and B, and the sizes of the layer.
fn shape(case: &Case) -> ([usize; 2], Sizes) {
    let shape = case.shape("q");
    ([shape[0], shape[1]], Sizes { heads: shape[2], width: shape[3] })
}

/// Elements of C, n and m.
fn lengths(case: &Case) -> [usize; 3] {
    let ([_, batch], Sizes { heads, width }) = shape(case);
    [width * width, width, 1].map(|len| batch * heads * len)
}

fn inputs([q, k, v, input_gate, forget_gate]: [&[f32]; 5]) -> Inputs<'_> {
    Inputs { q, k, v, input_gate, forget_gate }
}

fn state([c, n, m]: &[Vec<f32>; 3]) -> State<'_> {
    State { c, n, m }
}

fn state_mut([c, n, m]: &mut [Vec<f32>; 3]) -> StateMut<'_> {
    StateMut { c, n, m }
}
