//! The backward pass of an sLSTM: the one of every cell, and the gradient of its stabiliser, which
//! follows from the others (see [`slstm`](crate::slstm)).

use super::layout::Shape;
use super::{OutputGradients, backward};
use crate::call::Call;
use crate::scratch;
use crate::slstm::Slstm;

/// [`backward::through_time`], and the gradient of the first m: d m = c·d c + n·d n.
pub(super) fn through_time(
    call: Call<Shape>,
    recurrent: &[f32],
    state: &[&[f32]],
    saved: &mut [f32],
    d: OutputGradients,
    d_biases: [Option<&mut [f32]>; 2],
    d_state: Option<&mut [&mut [f32]]>,
) {
    let Call { cpu, sizes: shape, sequence } = call;
    // c and n apart from what their destinations hold, for the gradient of m.
    let len = if d_state.is_some() { sequence.batch * shape.hidden() } else { 0 };
    let (mut d_c, mut d_n) = (scratch::take(cpu, len), scratch::take(cpu, len));
    d_c.fill(0.0);
    d_n.fill(0.0);
    let (d_h, rest) = d_state.and_then(|to| to.split_first_mut()).unzip();
    let mut d_first = d_h.map(|d_h| [&mut **d_h, &mut *d_c, &mut *d_n]);
    backward::through_time::<Slstm>(
        call,
        recurrent,
        state,
        saved,
        d,
        d_biases,
        d_first.as_mut().map(|d| d.as_mut_slice()),
    );
    if let (Some([to_c, to_n, to_m]), [_, c, n, _]) = (rest, state) {
        for i in 0..len {
            to_c[i] += d_c[i];
            to_n[i] += d_n[i];
            to_m[i] += c[i] * d_c[i] + n[i] * d_n[i];
        }
    }
    scratch::give(cpu, d_c);
    scratch::give(cpu, d_n);
}
